"""Files that the package did not make: what systems leave in folders, what lies in the store and is no data set, and homes."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from test_datasets_images import write_cifar
from test_datasets_speech import wav, write_full_archive, write_test_archive
from test_datasets_store import made_up

from anabook import cli
from anabook.datasets import images, prepare, sources, speech, store

LITTER = (
    "{folder}/._00000001_nohash_4.wav",
    "{folder}/.DS_Store",
    "{folder}/Thumbs.db",
    "{folder}/desktop.ini",
    "__MACOSX/{folder}/00000001_nohash_4.wav",
    ".Trashes/{folder}/00000009_nohash_4.wav",
    "@eaDir/{folder}/00000008_nohash_4.wav",
)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))


def with_litter(folder, names=LITTER, inside="left"):
    """The folder with what macOS, Windows and network drives leave in it; none of it can be read as data."""
    for name in names:
        path = folder / name.format(folder=inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    return folder


def packed(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=".")
    return path


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize(("write", "read"), [(write_test_archive, speech.gsc12), (write_full_archive, speech.gsc)])
def test_what_systems_leave_in_folders_changes_no_speech_data_set(tmp_path, write, read, form):
    clean = read(write(tmp_path / "clean"))
    source = with_litter(write(tmp_path / "littered"))
    found = read(packed(source, tmp_path / "set.tar.gz") if form == "archive" else source)
    for what in ("inputs", "labels", "split", "group"):
        assert np.array_equal(getattr(found, what), getattr(clean, what)), what


def test_background_noise_may_lie_beside_hidden_files(tmp_path):
    folder = write_full_archive(tmp_path / "full")
    clean = speech.gsc(folder)
    (folder / "_background_noise_" / "._hum0.wav").write_bytes(b"\x00\x05\x16\x07")
    assert np.array_equal(speech.gsc(folder).inputs, clean.inputs)


def test_hidden_copies_of_batches_are_no_second_copy(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    clean = images.cifar10(folder)
    for place in ("__MACOSX", ".Trash-0"):
        (folder / place).mkdir()
        (folder / place / "data_batch_1").write_bytes((folder / "data_batch_1").read_bytes())
    assert np.array_equal(images.cifar10(folder).inputs, clean.inputs)


def test_a_set_may_lie_in_a_hidden_folder(tmp_path):
    assert len(speech.gsc12(write_test_archive(tmp_path / ".hidden" / "set")).labels) == 36


def test_underscores_and_inner_dots_are_no_litter():
    for name in ("_background_noise_/hum.wav", "a/b.c/d.wav", "yes/1_nohash_0.wav"):
        assert not sources.is_litter(PurePosixPath(name))


def test_an_archive_that_points_outside_is_refused_though_the_member_is_hidden(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        link = tarfile.TarInfo(".hidden")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(store.DatasetError, match="is a link or a device"):
        speech.gsc12(tmp_path / "set.tar")


@pytest.mark.parametrize(
    ("data", "why"), [(b"", "it is empty"), (b"RIFF", "it ends too early"), (wav(np.zeros(9))[:30], "it ends too early")]
)
def test_a_clip_that_cannot_be_read_says_why_and_never_in_empty_brackets(data, why):
    with pytest.raises(store.DatasetError, match=rf"^yes/a.wav is no wav file that can be read \({why}\)\.$"):
        speech.read_clip(data, "yes/a.wav")


def test_no_reader_shows_the_empty_message_of_an_exception(monkeypatch, tmp_path):
    def silent(*_, **__):
        raise MemoryError

    monkeypatch.setattr(sources._ArraysOnly, "load", silent)
    with pytest.raises(store.DatasetError, match=r"^batch is damaged \(MemoryError\)\.$"):
        sources.unpickle_arrays(b"", "batch")
    monkeypatch.setattr("scipy.io.loadmat", silent)
    with pytest.raises(store.DatasetError, match=r"can be read \(MemoryError\)\.$"):
        images._svhn_part("train_32x32.mat", b"")
    with (
        pytest.raises(store.DatasetError, match=r"could not be downloaded \(OSError: OSError\); with"),
        sources.explain_failed_download("svhn"),
    ):
        raise OSError


# --- what lies in the store and is no data set -------------------------------------------------------------------------


def saved_arrays(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def a_record(text):
    one = np.zeros(1, np.int64)
    return saved_arrays(record=np.frombuffer(text.encode(), np.uint8), inputs=one, labels=one, split=one, group=one)


FOREIGN = {
    "text": (b"no archive at all", "is damaged"),
    "empty": (b"", "is damaged"),
    "somebody-elses": (saved_arrays(a=np.zeros(3)), "is no data set of this store"),
    "pickled": (saved_arrays(record=np.array([{"name": 1}], dtype=object)), "is damaged"),
    "no-json": (a_record("hello"), "is damaged"),
    "a-list": (a_record("[1, 2]"), "its record lacks name, classes, provenance, sha256"),
    "half-a-record": (a_record('{"name": "half", "classes": []}'), "its record lacks provenance, sha256"),
    "other-provenance": (
        a_record('{"name": "o", "classes": [], "sha256": {}, "provenance": {"where": "here"}}'),
        "is damaged",
    ),
}


@pytest.fixture
def mixed():
    """A store with one good data set, and with everything of `FOREIGN`, a folder and hidden files beside it."""
    path = store.save(made_up(name="svhn-stand-in"))
    for name, (data, _) in FOREIGN.items():
        (path.parent / f"{name}.npz").write_bytes(data)
    whole = path.read_bytes()
    (path.parent / "gsc.npz").write_bytes(whole[: len(whole) // 2])
    (path.parent / "a-folder.npz").mkdir()
    (path.parent / "._svhn-stand-in.npz").write_bytes(b"\x00\x05\x16\x07")
    return path.parent


def test_the_list_of_data_sets_names_damaged_and_foreign_files_and_goes_on(mixed, capsys):
    assert cli.main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert "stand-in, 2" in row["svhn-stand-in"] and "random bytes" in row["svhn-stand-in"]
    for name, (_, says) in FOREIGN.items():
        assert "cannot be used: " in row[name] and says in row[name] and "move it" in row[name]
    assert "is damaged" in row["gsc"] and "delete it and run `anabook data gsc` again" in row["gsc"]
    assert not [line for line in lines if "a-folder" in line or "._" in line]
    assert "cifar10" in row and "photographs" in row["cifar10"]


def test_verifying_everything_names_each_bad_file_and_goes_on(mixed, capsys):
    assert cli.main(["data", "--verify"]) == 2
    said = capsys.readouterr()
    assert said.out == "svhn-stand-in: every array is as it was prepared.\n"
    assert said.err.count("\n") == len(FOREIGN) + 1 == said.err.count("anabook: ") and "Traceback" not in said.err


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_loading_a_foreign_file_gets_one_sentence_and_no_command_that_fails(mixed, name, mmap):
    with pytest.raises(store.DatasetError) as caught:
        store.load(name, mmap=mmap)
    text = str(caught.value)
    assert FOREIGN[name][1] in text and f"{name}.npz" in text and f"anabook data {name}" not in text and "\n" not in text
    assert "()" not in text


def test_objects_among_the_arrays_are_never_unpickled(tmp_path):
    path = store.save(made_up(name="svhn-stand-in"))
    with np.load(path) as good:
        arrays = dict(good)
    np.savez(path, **{**arrays, "inputs": np.array([print] * 60, dtype=object)})
    for mmap in (False, True):
        with pytest.raises(store.DatasetError, match="is damaged .*delete it and run `anabook data svhn-stand-in` again"):
            store.load("svhn-stand-in", mmap=mmap)


def test_arrays_of_other_lengths_are_called_damaged():
    path = store.save(made_up(name="svhn-stand-in"))
    with np.load(path) as good:
        arrays = dict(good)
    np.savez(path, **{**arrays, "labels": arrays["labels"][:9]})
    with pytest.raises(store.DatasetError, match="is damaged .inputs, labels, split and group must have one length"):
        store.load("svhn-stand-in")


def test_compressed_arrays_are_read_rather_than_mapped():
    original = made_up()
    path = store.save(original)
    with np.load(path) as good:
        arrays = dict(good)
    np.savez_compressed(path, **arrays)
    assert np.array_equal(store.load("toy-stand-in", mmap=True).inputs, original.inputs)


def test_a_folder_named_as_a_data_set_is_called_a_folder(mixed):
    with pytest.raises(store.DatasetError, match="a-folder.npz is a folder, not the file of a data set"):
        store.load("a-folder")


def test_a_file_that_may_not_be_read_is_named_with_the_reason(mixed, monkeypatch, capsys):
    real = zipfile.ZipFile

    def refusing(path, *rest):
        if Path(path).name == "gsc.npz":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest)

    monkeypatch.setattr(zipfile, "ZipFile", refusing)
    assert cli.main(["data"]) == 0
    assert "gsc.npz: Permission denied." in capsys.readouterr().out


def test_a_store_that_is_no_folder_or_may_not_be_read_is_said_and_not_called_empty(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "file"))
    assert cli.main(["data"]) == 2
    assert capsys.readouterr().err == f"anabook: cannot read the store {tmp_path / 'file'}: Not a directory.\n"
    monkeypatch.setattr(os, "scandir", lambda _: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(store.DatasetError, match="cannot read the store .*: Permission denied"):
        store.names()


# --- names and homes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar", "'cifar10'"),
        ("CIFAR-10", "'cifar10'"),
        ("svnh", "'svhn'"),
        ("gsc-standin", "'gsc-stand-in'"),
        ("speech", "'gsc12'"),
        ("toy", "'toy-stand-in'"),
    ],
)
def test_a_name_that_is_no_data_sets_gets_the_nearest_and_no_command_that_fails(name, hint):
    store.save(made_up())
    with pytest.raises(store.NotPrepared, match=rf"there is no data set '{name}' \(did you mean {hint}\?\)") as caught:
        store.load(name)
    assert f"`anabook data {name}`" not in str(caught.value)


@pytest.mark.parametrize("name", prepare.RECIPES)
def test_every_data_set_that_can_be_prepared_is_recommended_by_the_command_that_does_it(name):
    with pytest.raises(store.NotPrepared, match=f"^'{name}' is not prepared: run `anabook data {name}`"):
        store.load(name)


def test_the_digits_are_not_in_the_store_and_the_message_says_how_to_get_them():
    with pytest.raises(store.NotPrepared, match=r"call anabook.datasets.digits\(\)"):
        store.load("digits")


def test_names_are_no_paths(tmp_path):
    store.save(made_up())
    (tmp_path / "secret.npz").write_bytes(b"")
    with pytest.raises(store.NotPrepared, match="there is no data set '../secret'"):
        store.load("../secret")
    with pytest.raises(TypeError, match="by its name in the store, not 3"):
        store.load(3)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and a working folder elsewhere, in which no folder named ~ may appear."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_in_the_home_folder_is_in_the_home_folder(home, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", "~/x")
    assert store.save(made_up()) == home / "x" / "toy-stand-in.npz"
    assert store.names() == ["toy-stand-in"]


def test_sources_in_the_home_folder_are_found(home, capsys):
    write_test_archive(home / "set")
    assert cli.main(["data", "gsc12", "--from", "~/set"]) == 0
    assert len(speech.gsc12("~/set").labels) == 36
    write_cifar(home / "cifar-10-batches-py")
    assert len(images.cifar10("~/cifar-10-batches-py").labels) == 120


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (3, TypeError, "source must be a path, as text or as a pathlib.Path, not 3"),
        (b"set", TypeError, "source must be a path"),
        ("", ValueError, "source must be a path without null characters and not empty, not ''"),
        ("a\0b", ValueError, "source must be a path without null characters"),
        ("~nobody-of-this-name/set", ValueError, "the home folder that '~nobody-of-this-name/set' begins with is not known"),
    ],
)
def test_what_is_no_path_gets_one_sentence(value, error, says):
    for read in (images.cifar10, images.svhn, speech.gsc12, speech.gsc, lambda source: prepare.prepare("svhn", source)):
        with pytest.raises(error) as caught:
            read(value)
        assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_list_of_recipes_needs_no_extra():
    import subprocess
    import sys

    blocked = "import sys; sys.modules.update(dict.fromkeys(('tqdm', 'torch', 'librosa', 'sklearn', 'pandas')))\n"
    code = blocked + "from anabook.cli import main; raise SystemExit(main(['data']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "photographs" in done.stdout, done.stderr


def test_stand_ins_still_refuse_files():
    with pytest.raises(store.DatasetError, match="is generated, so it takes no files"):
        prepare.prepare("svhn-stand-in", "somewhere")
