"""Links to the source: the lines are those that define what the package's pages describe, and only where a repository is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ROOT / "book" / "_ext"
sys.path.append(str(EXTENSIONS))

import anabook_site  # noqa: E402
import anabook_source  # noqa: E402

URL = "https://github.example.org/people/anabook"
DEFINED = {
    ("anabook.quantisers", "Quantiser"): r"class Quantiser\b",
    ("anabook.quantisers", "Quantiser.ternary"): r"def ternary\b",
    ("anabook.quantisers", "Quantiser.__call__"): r"def __call__\b",
    ("anabook.noise", "Noise.covering"): r"def covering\b",
    ("anabook.symbolic", "regularise"): r"def regularise\b",
    ("anabook.training", "quantise"): r"def quantise\b",
    ("anabook.training", "Quantise"): r"class Quantise\b",
    ("anabook.check", "check"): r"def check\b",
    ("anabook.check", "grade"): r"def grade\b",
    ("anabook.convergence.verdicts", "CONDITIONS"): r"CONDITIONS\b",
    ("anabook.variants", "VARIANTS"): r"VARIANTS\b",
}


@pytest.mark.parametrize("said", DEFINED, ids=lambda said: ".".join(said))
def test_the_lines_are_those_of_the_definition(said):
    file, first, last = anabook_source.lines_of(*said)
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert file.parts[0] == "anabook" and 1 <= first <= last <= len(lines)
    assert re.search(DEFINED[said], "\n".join(lines[first - 1 : min(last, first + 8)]))


def test_nothing_of_other_packages_and_nothing_that_is_not_there():
    assert anabook_source.lines_of("anabook.quantisers", "np") is None
    assert anabook_source.lines_of("anabook.quantisers", "Quantiser.nothing") is None


@pytest.mark.parametrize(
    "host, expected",
    [
        ("github", "/blob/v1/anabook/a.py#L3-L9"),
        ("gitlab", "/-/blob/v1/anabook/a.py#L3-9"),
        ("bitbucket", "/src/v1/anabook/a.py#lines-3:9"),
    ],
)
def test_addresses_have_the_form_of_their_host(host, expected):
    url = f"https://{host}.example.org/o/n"
    assert anabook_source.address(anabook_site.Repository(url, "v1", host), Path("anabook/a.py"), 3, 9) == url + expected


def test_without_a_repository_there_is_no_link(monkeypatch):
    monkeypatch.delenv("ANABOOK_REPOSITORY", raising=False)
    assert anabook_site.repository() is None
    assert anabook_source.resolve("py", {"module": "anabook.quantisers", "fullname": "Quantiser"}) is None


@pytest.mark.parametrize("url", ["github.com/o/n", "https://example.org/o/n", "https://github.com/n"])
def test_an_address_that_is_none_of_a_repository_is_refused(monkeypatch, url):
    monkeypatch.setenv("ANABOOK_REPOSITORY", url)
    with pytest.raises(ConfigError, match=re.escape(repr(url))):
        anabook_site.repository()


PAGE = "The package\n===========\n\n.. automodule:: anabook.quantisers\n   :members:\n"
SETTINGS = (
    f"import sys\nsys.path[:0] = [{str(EXTENSIONS)!r}, {str(ROOT)!r}]\nproject = 'a part'\nhtml_theme = 'basic'\n"
    "extensions = ['sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'anabook_source']\n"
)


def test_a_built_page_has_the_links_and_loses_them_with_the_repository(tmp_path):
    (tmp_path / "conf.py").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "index.rst").write_text(PAGE, encoding="utf-8")
    pages = []
    for variables in ({"ANABOOK_REPOSITORY": URL, "ANABOOK_BRANCH": "v1"}, {}, {"ANABOOK_REPOSITORY": URL + ".git"}):
        bare = {name: value for name, value in os.environ.items() if not name.startswith("ANABOOK_")}
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
        done = subprocess.run(command, env={**bare, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        pages.append((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    with_branch, without, on_main = (re.findall(rf'href="({re.escape(URL)}[^"]*)"', page) for page in pages)
    assert without == [] and len(with_branch) == len(on_main) >= 10
    assert all(re.fullmatch(r".*/blob/v1/anabook/quantisers\.py#L\d+-L\d+", link) for link in with_branch)
    assert all("/blob/main/" in link for link in on_main)
