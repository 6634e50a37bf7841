"""The package with nothing else from the repository: what is recorded comes along, and what is new goes to its user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from anabook import check, cli
from anabook.experiments import config, make, records, results, shipped, sweep

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "data" / "results"
CHAPTERS = (
    "00-start-here",
    "04-zoo",
    "05-strategies",
    "09-algorithm-1",
    "10-the-experiment",
    "11-cifar10",
    "12-svhn",
    "13-speech",
    "14-stopping",
    "16-which-estimator",
    "17-finite-noise",
    "claims-ledger",
    "the-data",
    "what-annealing-optimises",
)


def quietly(*command, **options):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder with the installed package: a wheel that was built from a source distribution, itself built from a clone's files."""
    place = tmp_path_factory.mktemp("package")
    clone = place / "clone"
    shutil.copytree(ROOT / "anabook", clone / "anabook", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    shutil.copytree(ROOT / "data", clone / "data", ignore=shutil.ignore_patterns("cache", ".*"))
    (clone / "book").mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "book/exercises.toml"):
        shutil.copy(ROOT / name, clone / name)
    (clone / "data" / "results" / "._cifar10-scaled.jsonl").write_bytes(b"\x00\x05\x16\x07")
    quietly("-c", f"from setuptools import build_meta; build_meta.build_sdist({str(place)!r})", cwd=clone)
    with tarfile.open(next(place.glob("*.tar.gz"))) as archive:
        archive.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    quietly(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", place / "wheels")
    (wheel,) = (place / "wheels").iterdir()
    quietly(*pip, "install", wheel, "--no-deps", "--no-index", "--target", place / "site")
    shutil.rmtree(clone)
    return place / "site"


@pytest.fixture
def elsewhere(installed, tmp_path):
    """Runs Python with the installed package, in an empty folder, without the repository on the path."""

    def run(*command, **variables):
        blank = {name: value for name, value in os.environ.items() if name not in ("ANABOOK_RESULTS", "ANABOOK_DATA")}
        return quietly(
            *command, cwd=tmp_path, env={**blank, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", **variables}
        )

    run.folder = tmp_path
    return run


def test_an_installed_package_finds_every_recorded_run(elsewhere):
    code = """
        import json, anabook
        from anabook.experiments import results, shipped
        frame = results.load()
        found = {task: len(results.select(frame, task)) for task in ("cifar10", "gsc12", "svhn-stand-in")}
        print(json.dumps([anabook.__file__, len(frame), found, sorted(frame["key"]), frame.attrs["set_aside"],
                          shipped.path("ledger.toml").read_text(encoding="utf-8")]))
    """
    file, n, found, keys, set_aside, ledger = json.loads(elsewhere("-c", textwrap.dedent(code)).stdout)
    frame = results.load(RECORDED)
    assert not Path(file).is_relative_to(ROOT) and n == len(frame) > 700 and keys == sorted(frame["key"])
    assert found == {task: len(results.select(frame, task)) for task in found} and set_aside == []
    assert ledger == (ROOT / "data" / "ledger.toml").read_text(encoding="utf-8")
    assert list(elsewhere.folder.iterdir()) == []


def test_the_installed_command_line_says_the_same_as_in_the_repository(elsewhere, capsys):
    calls = [["results"], ["results", "cifar10"], ["results", "cifar10", "--claims"], ["results", "--claims"]]
    for words in calls:
        assert cli.main([*words, "--results", str(RECORDED)]) == 0
    expected = capsys.readouterr().out
    said = elsewhere("-c", f"from anabook.cli import main\nfor words in {calls}:\n    assert main(words) == 0").stdout
    assert said == expected and "n = 5" in said and "mode-above-random: supported" in said


def test_an_installed_package_tells_type_checkers_that_it_is_typed(installed):
    assert (installed / "anabook" / "py.typed").is_file()


def test_the_sweeps_of_the_book_are_found_from_any_folder_and_their_runs_count_as_done(elsewhere):
    done = elsewhere("-m", "anabook.cli", "sweep", "data/sweeps/cifar10.toml", "--dry-run")
    configs = config.expand(config.read(ROOT / "data" / "sweeps" / "cifar10.toml"))
    plan = sweep.plan(configs, RECORDED)
    assert plan.done and f"{len(plan.todo)} runs to do" in done.stdout and f"{plan.done} recorded already" in done.stdout


def test_an_installed_package_checks_the_answers_of_every_exercise(elsewhere):
    code = """
        import json
        from anabook import check
        print(json.dumps([check.__file__, list(check.EXERCISES), repr(check.check("ex-noise-2", 0.2)), repr(check.EXERCISES)]))
    """
    file, labels, said, entries = json.loads(elsewhere("-c", textwrap.dedent(code)).stdout)
    assert not Path(file).is_relative_to(ROOT) and labels == list(check.EXERCISES) and entries == repr(check.EXERCISES)
    assert said == repr(check.check("ex-noise-2", 0.2)) and said.startswith("Not yet: ")


RUNNER = '''
import ast, builtins, contextlib, io, json, sys, warnings
import matplotlib; matplotlib.use("Agg")
warnings.simplefilter("error", UserWarning)
loads = ("estimators.lines(", "results.load(", "shipped.path(", "results.select(", "records.read(")

def run(path):
    """Imports, and whatever reads recorded runs or is made of nothing but what was read; how many statements read them."""
    bound, read = {}, 0
    for cell in json.load(open(path, encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        for node in ast.parse("".join(cell["source"])).body:
            names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
            needed = {n.id for n in names if isinstance(n.ctx, ast.Load)} - stored - set(dir(builtins))
            reads = isinstance(node, ast.Assign) and any(call in ast.unparse(node) for call in loads)
            made = isinstance(node, ast.Assign) and needed & bound.keys() & set(bound.get("_read", ())) and needed <= bound.keys()
            if isinstance(node, (ast.Import, ast.ImportFrom)) or (reads and needed <= bound.keys()) or made:
                exec(compile(ast.Module([node], []), path, "exec"), bound)
                bound["_read"] = {*bound.get("_read", ()), *(stored if reads or made else ())}
                read += reads
    return read

with contextlib.redirect_stdout(io.StringIO()):
    found = {path: run(path) for path in sys.argv[1:]}
print(json.dumps(found))
'''


def test_downloaded_chapters_read_the_recorded_runs_without_the_repository(elsewhere):
    for name in CHAPTERS:
        shutil.copy(ROOT / "book" / f"{name}.ipynb", elsewhere.folder)
    found = json.loads(elsewhere("-c", RUNNER, *(f"{name}.ipynb" for name in CHAPTERS)).stdout)
    assert set(found) == {f"{name}.ipynb" for name in CHAPTERS} and min(found.values()) >= 1 and sum(found.values()) >= 15, (
        found
    )


def test_no_page_looks_for_the_repository_around_the_package():
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            assert cell["cell_type"] != "code" or ("__file__" not in source and "results.folder()" not in source), path.name


def test_in_the_repository_the_recorded_runs_are_read_where_they_are_kept(monkeypatch, tmp_path):
    assert shipped.folder() == ROOT / "data" and not (ROOT / "anabook" / "_data").exists()
    monkeypatch.delenv("ANABOOK_RESULTS", raising=False)
    monkeypatch.chdir(ROOT)
    assert results.folder() == RECORDED and results.others() == []
    monkeypatch.chdir(tmp_path)
    assert results.folder() == tmp_path / "data" / "results" and results.others() == [RECORDED]
    assert len(results.load()) == len(results.load(RECORDED))
    assert config.read("data/sweeps/cifar10.toml") == config.read(ROOT / "data" / "sweeps" / "cifar10.toml")
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_reads_no_recorded_runs():
    code = "import sys, anabook; print([name for name in sys.modules if name.startswith('anabook.exp')], anabook.Noise)"
    assert quietly("-c", code, cwd=ROOT).stdout.startswith("[] ")


# --- runs of one's own beside those that came along ----------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of one's own; and a run that came with the package, as its record."""
    monkeypatch.delenv("ANABOOK_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    c = make("cifar10", "uniform-mode-static", 0)
    return c, records.read([RECORDED / "cifar10-scaled.jsonl"]).records[c.key]


def test_a_repeated_run_counts_in_place_of_the_one_that_came_along_and_that_is_said(own):
    c, record = own
    records.append(results.folder() / "cifar10-scaled.jsonl", {**record, "accuracy": 0.123})
    with pytest.warns(
        UserWarning, match=f"the run {c.key} .cifar10 uniform-mode-static fold 0. that comes with anabook: set aside"
    ):
        frame = results.load()
    assert frame.set_index("key").loc[c.key, "accuracy"] == 0.123 and len(frame) == len(results.load(RECORDED))


def test_the_same_line_in_both_places_is_one_run_and_nothing_is_said(own, recwarn):
    _, record = own
    records.append(results.folder() / "cifar10-scaled.jsonl", record)
    assert len(results.load()) == len(results.load(RECORDED)) and not recwarn.list


def test_a_run_of_ones_own_that_failed_does_not_hide_the_one_that_came_along(own, recwarn):
    c, record = own
    records.append(results.folder() / "cifar10-scaled.jsonl", records.failure(c, "ValueError: no"))
    frame = results.load(failed=True).set_index("key")
    assert frame.loc[c.key, "accuracy"] == record["accuracy"] and not recwarn.list


def test_a_folder_that_is_named_is_read_alone(own):
    _, record = own
    records.append(Path("mine") / "cifar10-scaled.jsonl", record)
    assert len(results.load("mine")) == 1


def test_a_sweep_skips_what_came_along_and_writes_only_into_its_own_folder(own, capsys):
    c, _ = own
    before = {path: path.stat().st_mtime_ns for path in RECORDED.iterdir()}
    assert sweep.sweep([c], results.folder(), also=results.others(), report=print) == (0, 0)
    assert "all 1 runs are recorded already" in capsys.readouterr().out
    assert len(sweep.plan([c], results.folder()).todo) == 1, "without the others it is to be done"
    assert {path: path.stat().st_mtime_ns for path in RECORDED.iterdir()} == before and not Path("data").exists()


def test_hidden_files_beside_results_are_passed_over(own, recwarn):
    _, record = own
    records.append(Path("mine") / "cifar10-scaled.jsonl", record)
    (Path("mine") / "._cifar10-scaled.jsonl").write_bytes(b"\x00\x05\x16\x07\n\x00\n")
    (Path("mine") / "folder.jsonl").mkdir()
    assert len(results.load("mine")) == 1 and not recwarn.list


@pytest.mark.parametrize(
    "name", ["results/intervalls.jsonl", "../pyproject.toml", "results/../ledger.toml", "cache/cifar10.npz", ""]
)
def test_what_does_not_come_along_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"no {name!r} comes with anabook") as caught:
        shipped.path(name)
    assert name != "results/intervalls.jsonl" or "did you mean 'results/intervals.jsonl'?" in str(caught.value)
