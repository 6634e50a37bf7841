"""The tool that executes the notebooks: in place, the same bytes twice, and never half."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "notebooks.py"


def notebook(path, *sources):
    cells = [nbformat.v4.new_markdown_cell("# A title"), *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def run(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True)


def test_a_notebook_is_executed_in_place_and_the_second_time_unchanged(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "x = 6 * 7\nprint(x)", "x")
    assert run(path).returncode == 0
    first = path.read_bytes()
    read = nbformat.read(path, 4)
    assert [cell.execution_count for cell in read.cells[1:]] == [1, 2]
    assert read.cells[1].outputs[0].text == "42\n" and read.cells[2].outputs[0].data["text/plain"] == "42"
    assert read.metadata.kernelspec.name == "python3" and "execution" not in read.cells[1].metadata
    assert "unchanged" in run(path).stdout
    assert path.read_bytes() == first


def test_an_error_names_notebook_and_cell_and_leaves_the_file_as_it_was(tmp_path):
    path = notebook(tmp_path / "broken.ipynb", "1 + 1", "raise RuntimeError('planted')")
    before = path.read_bytes()
    done = run(path)
    assert done.returncode == 1 and "broken.ipynb, cell 3" in done.stderr and "planted" in done.stderr
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_notebooks_run_in_their_own_folder(tmp_path):
    (tmp_path / "neighbour.txt").write_text("here")
    path = notebook(tmp_path / "a.ipynb", "print(open('neighbour.txt').read())")
    assert run(path).returncode == 0
    assert nbformat.read(path, 4).cells[1].outputs[0].text == "here\n"


@pytest.mark.parametrize("name", ["nowhere.ipynb", "text.txt"])
def test_a_bad_path_gets_one_sentence_and_code_2(tmp_path, name):
    (tmp_path / "text.txt").write_text("")
    done = run(tmp_path / name)
    assert done.returncode == 2 and name in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
