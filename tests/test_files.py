"""Files that are written whole or not at all, locks that end with their process, and digests."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

from anabook import _files


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_with_its_folder_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    _files.write_text(path, "first\n")
    _files.write_text(path, "zwölf\r\n", mode=0o644)
    assert path.read_bytes() == "zwölf\r\n".encode()
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of other systems are not asked for")
def test_permissions_are_the_owners_unless_others_are_asked_for(tmp_path):
    _files.write_bytes(tmp_path / "own", b"")
    _files.write_bytes(tmp_path / "shared", b"", mode=0o644)
    assert (mode_of(tmp_path / "own"), mode_of(tmp_path / "shared")) == (0o600, 0o644)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_while_writing_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), _files.replacing(path) as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_fails_while_taking_the_name_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("busy")))
    with pytest.raises(OSError, match="busy"):
        _files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["file"]


HOLDER = """
import pathlib, sys, time
from anabook import _files
path = pathlib.Path(sys.argv[1])
with _files.locked(path):
    path.with_name(sys.argv[2]).touch()
    time.sleep(60)
"""


def appears(path, seconds):
    """Whether a file is there before so many seconds are over."""
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return path.exists()


def test_a_lock_waits_for_its_holder_and_goes_with_it(tmp_path):
    path = tmp_path / "file"
    hold = lambda name: subprocess.Popen([sys.executable, "-c", HOLDER, str(path), name])  # noqa: E731
    holder, waiting = hold("first"), None
    try:
        assert appears(tmp_path / "first", 30)
        waiting = hold("second")
        assert not appears(tmp_path / "second", 2) and waiting.poll() is None
        holder.kill()
        assert appears(tmp_path / "second", 30)
    finally:
        for process in filter(None, (holder, waiting)):
            process.kill()
            process.wait()
    with _files.locked(path):  # the file of a killed holder is still there, and holds nobody up
        assert (tmp_path / ".file.lock").is_file()


def test_a_folder_is_tried_without_leaving_anything(tmp_path):
    _files.try_to_write(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError):  # noqa: PT011
        _files.try_to_write(tmp_path / "file")


def test_digests_are_those_that_records_and_checkpoints_have_always_had():
    assert _files.digest_bytes(b"ab", b"c") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert _files.digest({"b": [1, 2.5], "a": None}) == _files.digest({"a": None, "b": (1, 2.5)})
    assert _files.digest([None, "x"]) == _files.digest_bytes(b'[null, "x"]')
