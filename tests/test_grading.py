"""Grading: right answers count, wrong ones do not, and nothing that a notebook does hurts anybody."""

import csv
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from anabook import cli
from anabook.check import as_toml, exercise, fences, grade, grading

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these fences")
CHECK = "from anabook.check import check\n"
OWN = {
    "ex-sum": exercise("ex-sum", 4, "count again."),
    "ex-word": exercise("ex-word", "floor", "compare.", options=("floor", "nearest")),
    "ex-function": exercise("ex-function", lambda x: x * x, "square.", decimals=3, points=[(1,), (2,)]),
    "ex-row": exercise("ex-row", [0.5, 1.5], "halves.", decimals=2),
}


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("\n".join(as_toml(label, entry) for label, entry in OWN.items()))
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handed-in").mkdir()
    return tmp_path / "handed-in"


def hand_in(path, *cells):
    path.parent.mkdir(exist_ok=True)
    content = {"nbformat": 4, "cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    path.write_text(json.dumps(content))
    return path


def only(folder, own, **limits):
    (one,) = grade(folder, exercises=own, **{"seconds": 120, **limits})
    return one


def snapshot(folder):
    return {path: (path.read_bytes() if path.is_file() else None) for path in sorted(folder.rglob("*"))}


def test_each_answer_gets_its_mark_and_the_last_call_counts(folder, own):
    hand_in(
        folder / "anna.ipynb",
        "%matplotlib inline\n!pip install anabook\nimport anabook\nfrom anabook.check import check",
        'check("ex-sum", 5)\ncheck("ex-sum", 2 + 2)',
        'check("ex-word", "Nearest"); check("ex-row", ...)',
        'def square(x):\n    return x**2\nanabook.check.check("ex-function", square)',
        'check("ex-nobody-knows", 1)',
    )
    one = only(folder, own)
    assert one.student == "anna"
    assert one.marks == {"ex-sum": "right", "ex-word": "wrong", "ex-row": "blank", "ex-function": "right"}
    assert one.note.startswith("cell 5 raised ValueError: no answer is on file for 'ex-nobody-knows'")


def test_a_cell_that_fails_does_not_stop_those_after_it(folder, own):
    hand_in(
        folder / "ben.ipynb",
        CHECK + 'check("ex-word", "floor")',
        "def broken(:",
        "import sys\nsys.exit('enough')",
        "class Sly(Exception):\n    def __str__(self):\n        raise SystemExit\nraise Sly",
        'check("ex-sum", 4); display(1)',
    )
    one = only(folder, own)
    assert one.marks == {"ex-word": "right", "ex-sum": "right"}
    assert one.note == "cell 2 is not Python (line 1: invalid syntax)."


@pytest.mark.parametrize(
    ("cell", "note"),
    [
        ("while True:\n    pass", "it did not end within 6 seconds, in cell 2."),
        ("import os\nos._exit(0)", "it ended itself, in cell 2."),
        ("import os\nos._exit(7)", "it ended itself with exit code 7, in cell 2."),
        ("raise BaseException", "cell 2 raised BaseException."),
        ("many = bytearray(200 * 2**30)", "cell 2 raised MemoryError."),
    ],
)
def test_what_came_before_a_violent_end_is_kept(folder, own, cell, note):
    hand_in(folder / "carl.ipynb", CHECK + 'check("ex-sum", 4)', cell)
    one = only(folder, own, seconds=6 if "while" in cell else 120)
    assert (one.marks, one.note) == ({"ex-sum": "right"}, note)


def test_a_process_that_is_stopped_before_it_tells_anything_has_a_row_and_the_others_go_on(folder, own):
    for student in ("anna", "ben"):
        hand_in(folder / f"{student}.ipynb", CHECK + 'check("ex-sum", 4)')
    results = grade(folder, exercises=own, seconds=0.001)
    assert [(one.student, one.marks, one.held) for one in results] == [("anna", {}, ()), ("ben", {}, ())]
    assert {one.note for one in results} == {"it could not be started: it did not end within 0.001 seconds."}


def test_a_process_that_cannot_start_has_a_row_that_says_how_it_ended(folder, own, monkeypatch):
    hand_in(folder / "anna.ipynb", CHECK + 'check("ex-sum", 4)')
    for start, said in (("raise SystemExit(3)", "it ended itself with exit code 3"), ("pass", "it ended itself")):
        monkeypatch.setattr(grading, "_START", start)
        assert only(folder, own).note == f"it could not be started: {said}."


def test_memory_is_limited_in_small_pieces_too(folder, own):
    hand_in(folder / "dora.ipynb", "kept = []\nwhile True:\n    kept.append(bytearray(2**26))")
    assert only(folder, own, memory=1).note == "cell 1 raised MemoryError."


def test_nothing_outside_the_copy_is_changed_and_nothing_in_the_folder_is_read(folder, own, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does with the folder that one stands in
    monkeypatch.syspath_prepend(folder)
    (folder / "json.py").write_text("raise SystemExit")
    (tmp_path / "precious").mkdir()
    precious = tmp_path / "precious" / "file.txt"
    precious.write_text("keep")
    other = hand_in(folder / "emma.ipynb", CHECK + 'check("ex-sum", 4)')
    attempts = [
        f"os.remove({str(precious)!r})",
        f"open({str(precious)!r}, 'w')",
        f"open({str(precious)!r}, 'r+b')",
        f"os.rename({str(precious)!r}, 'mine')",
        f"os.mkdir({str(tmp_path / 'new')!r})",
        f"os.truncate({str(precious)!r}, 0)",
        f"os.symlink('a', {str(tmp_path / 'link')!r})",
        f"__import__('shutil').rmtree({str(tmp_path / 'precious')!r})",
        f"open({str(folder / 'emma.ipynb')!r})",
        f"open({str(folder / 'frank.ipynb')!r}, 'a')",
        "os.system('true')",
        "__import__('subprocess').run(['true'])",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
    ]
    tries = "\n".join(
        f"try:\n    {attempt}\nexcept PermissionError:\n    refused += 1\nexcept BaseException as error:\n    others.append(error)"
        for attempt in attempts
    )
    hand_in(
        folder / "frank.ipynb",
        "import os\nrefused, others = 0, []\nfor name in os.listdir('.'):\n    if os.path.isfile(name):\n        os.remove(name)",
        tries,
        f"open('mine.txt', 'w').write('a')\nassert refused == {len(attempts)}, (refused, others)",
        CHECK + 'check("ex-sum", 4)',
    )
    before = snapshot(tmp_path)
    one = grade(folder, exercises=own, seconds=120)[1]
    assert (one.student, one.marks, one.note) == ("frank", {"ex-sum": "right"}, "")
    assert snapshot(tmp_path) == before and other.is_file()


def test_there_is_no_network_and_the_environment_is_not_seen(folder, own, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_LECTURER", "42")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        hand_in(
            folder / "gina.ipynb",
            "import os, socket\nassert 'A_SECRET_OF_THE_LECTURER' not in os.environ",
            f"try:\n    socket.create_connection(('127.0.0.1', {port}))\nexcept PermissionError as error:\n    print(error)\n"
            "else:\n    raise AssertionError",
            "import urllib.request\ntry:\n    urllib.request.urlopen('http://example.org')\nexcept OSError:\n    pass\n"
            "else:\n    raise AssertionError",
        )
        assert only(folder, own).note == ""
        with pytest.raises(TimeoutError):
            server.accept()


@LINUX
def test_linux_itself_refuses_what_goes_around_python(folder, own, tmp_path):
    """Through C, where Python's audit hook sees nothing."""
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    hand_in(
        folder / "hugo.ipynb",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)",
        f"assert libc.unlink({os.fsencode(precious)!r}) == -1 and ctypes.get_errno() in (1, 13), ctypes.get_errno()",
        "assert libc.unlink(b'hugo.ipynb') == 0",
        f"assert libc.open({os.fsencode(precious)!r}, 1) == -1",
        "import socket, struct\ns = socket.socket()\n"
        "address = struct.pack('=HH4s8x', socket.AF_INET, socket.htons(9), socket.inet_aton('127.0.0.1'))\n"
        "assert libc.connect(s.fileno(), address, 16) == -1 and ctypes.get_errno() in (1, 13, 101), ctypes.get_errno()",
    )
    one = only(folder, own)
    if "files" not in one.held or "network" not in one.held:
        pytest.skip(f"this system only holds {one.held}")
    assert one.note == "" and precious.read_text() == "keep"


@LINUX
def test_processes_that_a_notebook_gets_started_die_with_it(folder, own, tmp_path):
    hand_in(
        folder / "ida.ipynb",
        "import ctypes, os\npid = ctypes.CDLL(None).fork()\nif pid == 0:\n    while True:\n        pass",
        f"{CHECK}check('ex-row', [pid, 0])\nos._exit(0)",
    )
    seen = []
    reading = grading._read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "_read", lambda *given: seen.extend(given[2]) or reading(*given))
        only(folder, own)
    (pid,) = [int(message["said"][0]) for message in seen if "said" in message]
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")


def test_marks_cannot_be_forged_by_changing_check_or_writing_lines(folder, own):
    """What is told to the process that grades are answers, and it judges them itself."""
    forged = [
        {"label": "ex-sum", "said": "right"},
        {"label": "ex-sum", "said": [10**400]},
        {"label": "ex-sum", "said": [float("inf")]},
        {"label": "ex-function", "said": [1.0]},
        {"label": "ex-word", "said": [4]},
        {"label": ["ex-row"], "right": True},
        {"cell": "7", "held": 3, "error": 4},
        [1, 2],
    ]
    lines = "".join(json.dumps(line) + "\n" for line in forged) + "[" * 10_000 + "\n\x00\xff{\n"
    hand_in(
        folder / "jan.ipynb",
        "import anabook.check as c\nc.check.__code__\nc.Reply.__bool__ = lambda self: True\n"
        "c.checker._judge_numbers = c.checker.judge = lambda *a: c.Reply(True, '')\nc.check('ex-row', [1, 1])",
        f"import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, {lines!r}.encode('latin-1'))\n"
        "    except OSError:\n        pass",
    )
    one = only(folder, own)
    assert set(one.marks.values()) == {"wrong"} and {"ex-row", "ex-sum", "ex-function", "ex-word"} == set(one.marks)


def test_many_tries_are_told_and_a_flood_is_stopped(folder, own):
    hand_in(folder / "kim.ipynb", CHECK + "for n in range(30):\n    if check('ex-sum', n) and n > 28:\n        break")
    hand_in(folder / "leo.ipynb", CHECK + "while True:\n    check('ex-row', [1 / 3, 2 / 3])")
    kim, leo = grade(folder, exercises=own, seconds=120)
    assert kim.note == "ex-sum was checked 30 times." and kim.marks == {"ex-sum": "wrong"}
    assert leo.note.startswith("it called check so often that it was stopped, in cell 1.")


def test_what_is_no_notebook_gets_a_row_and_a_sentence(folder, own):
    (folder / "a.ipynb").write_bytes(b"\x00\x01PNG")
    (folder / "b.ipynb").write_text('{"worksheets": []}')
    (folder / "c.ipynb").write_text("[" * 100_000)
    (folder / "d.ipynb").write_text('{"cells": [{"cell_type": "code", "source": 3}]}')
    (folder / "e.pdf").write_text("essay")
    (folder / "f.ipynb").symlink_to(own)
    os.mkfifo(folder / "g.ipynb")
    (folder / "h").mkdir()
    (folder / "i.ipynb").write_text("{}")
    (folder / ".hidden.ipynb").write_text("{}")
    assert {one.student: one.note for one in grade(folder, exercises=own)} == {
        "a": "this is not a notebook: it is not JSON.",
        "b": "this notebook has a format older than 4: open it in Jupyter and save it again.",
        "c": "this is not a notebook: it is not JSON.",
        "d": "this is not a notebook: the source of cell 1 is not text.",
        "e": "this is not a notebook (.ipynb).",
        "f": "this is a link or a device, not a file.",
        "g": "this is a link or a device, not a file.",
        "h": "there is no notebook (.ipynb) in this folder.",
        "i": "this is not a notebook: it has no list of cells.",
    }


def test_the_command_writes_a_table_and_a_csv_file(folder, own, tmp_path, capsys):
    hand_in(folder / "Mia" / "one.ipynb", CHECK + "import helper\ncheck('ex-sum', helper.four)")
    (folder / "Mia" / "helper.py").write_text("four = 4")
    hand_in(
        folder / "=cmd()" / "one.ipynb", CHECK + "check('ex-sum', 3); check('ex-start-2', ...)\nraise OSError('\\x1b[2J')"
    )
    target = tmp_path / "out.csv"
    command = ["grade", str(folder), "--csv", str(target), "--exercises", str(own), "--seconds", "120"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "Mia" in out and "ex-sum" in out and "\x1b" not in out and "no network" in out
    with open(target, encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["Mia"]["ex-sum"] == "right" and rows["Mia"]["right"] == "1" and rows["Mia"]["ex-start-2"] == ""
    assert rows["'=cmd()"]["ex-sum"] == "wrong" and rows["'=cmd()"]["ex-start-2"] == "blank"
    assert rows["'=cmd()"]["note"].startswith("cell 1 raised OSError:")
    grading.check_target(target, folder)  # a second time is allowed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "the folder to grade must be a folder with notebooks, not 'nowhere'."),
        (["empty"], "the folder 'empty' has no notebook (.ipynb) in it, and no folder with one."),
        (["full", "--seconds", "0"], "seconds must be finite and greater than 0, not 0.0."),
        (["full", "--seconds", "nan"], "seconds must be finite and greater than 0, not nan."),
        (["full", "--memory", "0.1"], "memory must be finite and at least 0.5, not 0.1."),
        (
            ["full", "--csv", "full/marks.csv"],
            "the CSV file 'full/marks.csv' would be written into the folder that is graded",
        ),
        (["full", "--csv", "none/marks.csv"], "the CSV file must be a file in a folder that exists, not 'none/marks.csv'."),
        (["full", "--csv", "letter.txt"], "'letter.txt' exists and was not written by this command: choose another file."),
        (["full", "--exercises", "letter.txt"], "the exercises "),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    hand_in(tmp_path / "full" / "a.ipynb", "1")
    (tmp_path / "letter.txt").write_text("Dear all")
    assert cli.main(["grade", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"anabook: {sentence}") and said.count("\n") == 1
    assert (tmp_path / "letter.txt").read_text() == "Dear all" and not (tmp_path / "grades.csv").exists()


def test_python_alone_refuses_files_where_the_system_cannot(folder, own, tmp_path, monkeypatch):
    """As on a system without Landlock and without namespaces."""
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    copy = tmp_path / "python"
    copy.mkdir()
    source = Path(fences.__file__).read_text().replace('sys.platform == "linux"', "False")
    assert source != Path(fences.__file__).read_text()
    (copy / "weaker.py").write_text(source)
    start = grading._START.replace(
        "from anabook.check import runner",
        f"sys.path.append({str(copy)!r}); import weaker; from anabook.check import runner; runner.fences = weaker",
    )
    monkeypatch.setattr(grading, "_START", start)
    hand_in(
        folder / "nina.ipynb",
        "import os, socket, tempfile\nrefused = 0\nopen('mine', 'w').write('a'); os.remove('mine'); os.mkdir('sub')",
        *(
            f"try:\n    {attempt}\nexcept PermissionError:\n    refused += 1"
            for attempt in (
                f"os.remove({str(precious)!r})",
                f"open({str(precious)!r}, 'a')",
                f"os.open({str(precious)!r}, os.O_TRUNC | os.O_WRONLY)",
                f"os.rename({str(precious)!r}, 'x')",
                f"os.rename('x', {str(precious)!r})",
                "socket.create_connection(('127.0.0.1', 9))",
            )
        ),
        "assert refused == 6, refused",
    )
    one = only(folder, own)
    assert (one.note, one.held) == ("", ()) and precious.read_text() == "keep"
