"""The house: what is imported when, what the README promises, and what every chapter must have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
LISTED = [page for part in TOC["parts"] for chapter in part["chapters"] for page in (chapter, *chapter.get("sections", ()))]
PAGES = [TOC["root"], *(page["file"] for page in LISTED)]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
UNNUMBERED = ("the-data.ipynb", "what-annealing-optimises.ipynb")
CHAPTERS = [path for path in NOTEBOOKS if path.name[0].isdigit() or path.name in UNNUMBERED]
THEORY = (
    "quantisers",
    "namespaces",
    "laws",
    "noise",
    "regularisation",
    "variants",
    "symbolic",
    "schedules",
    "convergence",
    "convergence.conditions",
    "convergence.networks",
    "convergence.finite_noise",
    "check",
    "plots",
)


def loaded_after(code: str) -> set[str]:
    """The top-level modules that are loaded after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def prose(path: Path) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")


def outputs(path: Path) -> list[tuple[dict, dict]]:
    return [(cell, output) for cell in cells(path) for output in cell.get("outputs", [])]


by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
by_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def test_importing_anabook_brings_neither_torch_nor_sympy_nor_matplotlib():
    assert not loaded_after("import anabook") & {"torch", "torchvision", "sympy", "matplotlib", "sklearn", "pandas"}


# What others wrote is loaded once; then each module is the first of anabook's in a process of its own.
ALONE = """
import importlib, os, sys
import matplotlib.pyplot, mpmath, numpy, scipy.integrate, scipy.stats, sympy
for module in sys.argv[1:]:
    if not (child := os.fork()):
        importlib.import_module(f"anabook.{module}")
        print(module, "torch" in sys.modules, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"anabook.{module} does not load")
"""


@pytest.fixture(scope="module")
def brings_torch() -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", ALONE, *THEORY], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize("module", THEORY)
def test_the_theory_side_never_imports_torch(brings_torch, module):
    assert brings_torch[module] == "False"


def test_every_submodule_loads_when_it_is_first_used():
    import anabook

    for name in anabook._SUBMODULES:
        assert getattr(anabook, name).__name__ == f"anabook.{name}"
    with pytest.raises(AttributeError, match="module 'anabook' has no attribute 'quantizers'"):
        anabook.quantizers  # noqa: B018


def test_public_names_are_british():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "anabook").rglob("*.py"))
    names = re.findall(r"^(?:class|def|    def) ([A-Za-z]\w*)", source, flags=re.M)
    american = [
        name
        for name in names
        if re.search(r"(quanti|regulari|normali|initiali|optimi|synchroni)z|color(?!map)|behavior", name)
    ]
    assert len(names) > 200 and american == []


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


# Stands in for tensorboard, which the tests do not install: what the example does with it is written down.
BOARD = """
import sys, types
class SummaryWriter:
    def __init__(self, folder): self.seen = []
    def __enter__(self): return self
    def __exit__(self, *_): print(len(self.seen), "scalars")
    def add_scalar(self, tag, value, step): self.seen.append((str(tag), float(value), int(step)))
sys.modules["torch.utils.tensorboard"] = types.SimpleNamespace(SummaryWriter=SummaryWriter)
"""


@pytest.mark.parametrize("number", range(6))
def test_the_examples_of_the_readme_run(number, tmp_path):
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) == 6
    if number == 5:
        pytest.importorskip("onnxruntime", reason="this example needs onnxruntime: pip install 'anabook[deploy]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", BOARD * (number == 3) + blocks[number]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert done.stdout.startswith("[-0.") and "Piecewise" in done.stdout
    elif number == 1:
        assert float(done.stdout.split("%")[0]) > 80
    elif number == 2:
        assert done.stdout.splitlines()[-1] == "True" and "layer4.1.conv2 (Conv2d)" in done.stdout
    elif number == 4:
        assert "8 bits {-128, -127, …, 127}" in done.stdout and done.stdout.count("(8, ") == 2
        heads = [part.strip() for part in done.stdout.splitlines()[-6].split("  ") if part.strip()]
        assert heads == ["t", *(f"{each}: mean, std" for each in ("layer 0", "layers 1–4", "layers 5–6", "layer 7"))]
    elif number == 5:
        assert "IntegerNetwork of 8×8 integers from 0 to 16" in done.stdout and "Horowitz" in done.stdout
        last = done.stdout.splitlines()[-1]
        assert set(last.strip("[]").split(", ")) == {"True"} and last.count("True") == 5
    else:
        assert done.stdout == "70 scalars\n"  # five epochs: number, three losses, three accuracies, lr, …, two layers
        assert len((tmp_path / "history.csv").read_text().splitlines()) == 6


def test_the_readme_names_make_targets_and_files_that_exist():
    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    for target in re.findall(r"make (\w+)", readme):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:tools|data|book|tests)/[\w./-]+)`", readme):
        assert (ROOT / name).exists() or name == "data/cache", name


def test_ci_runs_the_readmes_test_command():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines.index("make lint") < lines.index("make test")
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(" ".join(re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.M)).split())
    named = set(re.findall(r"^([a-z][\w-]*):", makefile, flags=re.M))
    done = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT)
    listed = re.findall(r"^  make ([\w-]+) +\S", done.stdout, flags=re.M)
    assert set(listed) == named == phony and len(listed) == len(named)


def test_pre_commit_runs_the_versions_that_are_pinned():
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [source["repo"] for source in settings["repos"]] == ["local"], "nothing is downloaded beside requirements.txt"
    commands = [hook["entry"] for hook in settings["repos"][0]["hooks"]]
    assert [command for command in commands if "ruff" in command] == [".venv/bin/ruff check --fix", ".venv/bin/ruff format"]


def test_what_the_package_needs_is_pinned_for_the_book():
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    canonical = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [each for extra in project["optional-dependencies"].values() for each in extra]
    missing = {re.split(r"[<>=!~ ]", each)[0].lower() for each in wanted} - canonical
    assert not missing
    assert (pins["torch"], pins["torchvision"]) == ("2.15.0", "0.29.2")
    assert not any("://" in line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())


def test_the_citation_file_cites_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Spallanzani", "Leonardi", "Benini"]
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_every_page_is_in_the_table_of_contents_and_the_other_way_round():
    found = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for suffix in ("ipynb", "md")
        for path in (ROOT / "book").glob(f"*.{suffix}")
    }
    assert found == set(PAGES) and len(PAGES) == len(set(PAGES))


@by_chapter
def test_a_chapter_says_what_will_be_learnt_and_what_is_needed(path):
    text = prose(path)
    assert "What you will learn" in text and "**Prerequisites" in text
    assert text.lstrip().startswith("(ch-"), "a chapter starts with its label"
    goals = text.split("What you will learn", 1)[1].split("\n:::", 1)[0]
    assert 3 <= len(re.findall(r"^\* ", goals, flags=re.M)) <= 7


@by_chapter
def test_a_chapter_has_four_exercises_each_followed_by_its_solution(path):
    text = prose(path)
    asked = re.findall(r":::+\{exercise\}.*?:label: ([\w-]+)", text, flags=re.S)
    solved = re.findall(r":::+\{solution(?:-start)?\} ([\w-]+)", text)
    assert len(asked) >= 4 and solved == asked


@by_chapter
def test_a_chapter_ends_with_a_summary_and_references(path):
    headings = re.findall(r"^## (.*)$", prose(path), flags=re.M)
    assert headings[-2:] == ["Summary", "References and further reading"]
    assert "{cite" in prose(path).split("## References and further reading")[1]


@by_name
def test_every_stored_figure_has_a_caption_and_alternative_text(path):
    for cell, output in outputs(path):
        if "image/png" in output.get("data", {}):
            settings = cell["metadata"].get("mystnb", {})
            assert len(settings.get("image", {}).get("alt", "")) > 40, "".join(cell["source"])[:80]
            assert len(settings.get("figure", {}).get("caption", "")) > 20, "".join(cell["source"])[:80]


@by_name
def test_stored_outputs_hold_no_error_warning_widget_or_drawing_that_changes(path):
    for cell, output in outputs(path):
        where = "".join(cell["source"])[:80]
        assert output.get("name") != "stderr", where
        assert output["output_type"] != "error", where
        kinds = set(output.get("data", {}))
        assert not any("widget" in kind or "plotly" in kind for kind in kinds), where
        drawing = "".join(output.get("data", {}).get("image/svg+xml", []))
        assert not drawing or (drawing.startswith("<svg ") and "image/png" not in kinds), where
        assert not re.search(r"<dc:date>|<metadata>|\d{4}-\d\d-\d\dT\d\d", drawing), where
        text = "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
        assert not re.search(r"0x[0-9a-f]{6,}|/home/|/tmp/|site-packages|Warning:", text), where


@by_name
def test_every_code_cell_was_executed_and_none_ends_with_a_semicolon(path):
    for number, cell in enumerate(cells(path)):
        source = "".join(cell.get("source", "")).rstrip()
        if cell["cell_type"] == "code" and source:
            assert cell["execution_count"] is not None, number
            assert not source.endswith(";"), number


@by_name
def test_numbers_that_are_not_compared_are_held_by_assertions_in_the_next_cell(path):
    """What a training gives may differ between machines: such a cell says so, and a hidden one says by how much."""
    found = cells(path)
    for cell, following in zip(found, [*found[1:], {}]):
        tags = cell["metadata"].get("tags", [])
        assert not {"nbval-skip", "nbval-raises-exception", "raises-exception", "skip-execution"} & set(tags)
        if "nbval-ignore-output" in tags:
            where = "".join(cell["source"])[:80]
            assert following.get("cell_type") == "code" and following["metadata"].get("tags") == ["remove-cell"], where
            assert re.search(r"^ *assert ", "".join(following["source"]), flags=re.M) and not following["outputs"], where


@by_name
def test_code_cells_are_short_enough_to_see_whole(path):
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code" and "hide-input" not in cell["metadata"].get("tags", []):
            assert len("".join(cell["source"]).strip().splitlines()) <= 30, (number, "".join(cell["source"])[:80])


@by_name
def test_code_fits_its_box_at_the_width_of_a_small_desktop(path):
    """94 letters of code fit beside the contents at 1280 px, and 85 in a solution: tests/browser measures the boxes."""
    columns = 88
    for number, cell in enumerate(cells(path)):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for directive in re.findall(r"\{(solution-start|solution-end)\}", source):
                columns = 84 if directive == "solution-start" else 88
        elif "remove-cell" not in cell["metadata"].get("tags", []):
            assert max(map(len, source.splitlines()), default=0) <= columns, (number, source[:80])


def test_files_of_the_package_hold_one_idea():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "anabook").rglob("*.py")}
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > 500}
    assert len(lines) > 80 and set(long) <= {"anabook/variants/catalogue.py"}, long  # the catalogue is data
