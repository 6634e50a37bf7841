"""CIFAR-10 and SVHN from miniature archives in their official formats, and from hostile ones."""

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import CIFAR10, SVHN

from anabook import cli
from anabook.datasets import images, prepare, store

N = 20


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))


def md5_of(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar(folder):
    """The six batches and the meta file, as the official archive has them: pickles of protocol 2."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        pixels = rng.integers(0, 256, (N, 3072), dtype=np.uint8)
        keys = ("data", "labels", "batch_label", "filenames")
        values = (pixels, rng.integers(0, 10, N).tolist(), name, [f"{i}.png" for i in range(N)])
        (folder / name).write_bytes(pickle.dumps(dict(zip(keys, values)), protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(images.CIFAR10_CLASSES)}, protocol=2))
    return folder


def write_svhn(folder):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        pixels = rng.integers(0, 256, (32, 32, 3, N), dtype=np.uint8)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": rng.integers(1, 11, (N, 1)).astype(np.uint8)})
    return folder


def as_official(monkeypatch, folder):
    """Make torchvision take these files for the official ones."""
    for what in ("train_list", "test_list"):
        rows = [[name, md5_of(folder / name)] for name, _ in getattr(CIFAR10, what)]
        monkeypatch.setattr(CIFAR10, what, rows)
    monkeypatch.setitem(CIFAR10.meta, "md5", md5_of(folder / "batches.meta"))


def tarred(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="cifar-10-batches-py")
    return path


@pytest.mark.parametrize("form", ["folder", "around", "archive"])
def test_cifar10_is_read_as_torchvision_reads_it(tmp_path, monkeypatch, form):
    folder = write_cifar(tmp_path / "data" / "cifar-10-batches-py")
    as_official(monkeypatch, folder)
    source = {"folder": folder, "around": folder.parent, "archive": tarred(folder, tmp_path / "c.tar.gz")}[form]
    data = images.cifar10(source)
    assert data.provenance.kind == "official" and data.title == "cifar10"
    for part, train in (("train", True), ("test", False)):
        theirs = CIFAR10(folder.parent, train=train)
        inputs, labels = data.part(part)
        assert np.array_equal(inputs.transpose(0, 2, 3, 1), theirs.data)
        assert labels.tolist() == theirs.targets
    assert data.classes == tuple(theirs.classes)


def test_cifar10_that_differs_says_so_for_ever(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    prepare.prepare("cifar10", folder, note="a reconstruction")
    stored = store.load("cifar10")
    assert stored.provenance.kind == "differs" and stored.provenance.note == "a reconstruction"
    assert stored.title == "cifar10 (differs from the official archive)"
    assert stored.provenance.checksums["test_batch"] == f"md5:{md5_of(folder / 'test_batch')}"


def test_svhn_is_read_as_torchvision_reads_it(tmp_path, monkeypatch):
    folder = write_svhn(tmp_path / "svhn")
    assert images.svhn(folder).provenance.kind == "differs"
    for part in ("train", "test"):
        url, name, _ = SVHN.split_list[part]
        monkeypatch.setitem(SVHN.split_list, part, [url, name, md5_of(folder / name)])
    data = images.svhn(folder)
    assert data.provenance.kind == "official"
    for part in ("train", "test"):
        theirs = SVHN(folder, part)
        inputs, labels = data.part(part)
        assert np.array_equal(inputs, theirs.data) and np.array_equal(labels, theirs.labels)
    assert data.labels.min() >= 0 and data.labels.max() <= 9


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    mark = tmp_path / "ran"
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Hostile(f"touch {mark}"), "labels": []}))
    with pytest.raises(
        store.DatasetError, match=r"data_batch_3 is refused: it should hold arrays only, and has the name (posix|nt).system"
    ):
        images.cifar10(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}),
        lambda: pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}),
        lambda: pickle.dumps([1, 2]),
    ],
)
def test_a_batch_of_another_form_is_refused(tmp_path, make):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    (folder / "test_batch").write_bytes(make())
    with pytest.raises(store.DatasetError, match="test_batch is no batch of CIFAR-10"):
        images.cifar10(folder)


@pytest.mark.parametrize("labels", [[0], [0, 10], [0, -1], "ab", None])
def test_labels_that_cannot_be_are_refused(tmp_path, labels):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": labels}))
    with pytest.raises(store.DatasetError, match="test_batch should hold 2 labels from 0 to 9, one for each image"):
        images.cifar10(folder)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_a_truncated_batch_is_called_damaged(tmp_path, name):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(store.DatasetError, match=f"{name} is (damaged|refused)"):
        images.cifar10(folder)


def test_a_truncated_archive_gets_one_sentence(tmp_path):
    path = tarred(write_cifar(tmp_path / "c"), tmp_path / "c.tar.gz")
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(store.DatasetError, match="c.tar.gz is truncated or no tar archive"):
        images.cifar10(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 8])
def test_a_file_that_is_no_archive_gets_one_sentence(tmp_path, content):
    (tmp_path / "c.tar.gz").write_bytes(content)
    with pytest.raises(store.DatasetError) as caught:
        images.cifar10(tmp_path / "c.tar.gz")
    assert "\n" not in str(caught.value) and "c.tar.gz" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("../evil", tarfile.REGTYPE, "points outside the archive"),
        ("/evil", tarfile.REGTYPE, "points outside the archive"),
        ("a/../../evil", tarfile.REGTYPE, "points outside the archive"),
        ("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "is a link or a device"),
        ("cifar-10-batches-py/data_batch_1", tarfile.LNKTYPE, "is a link or a device"),
        ("cifar-10-batches-py/pipe", tarfile.FIFOTYPE, "is a link or a device"),
    ],
)
def test_an_archive_that_reaches_outside_is_refused_and_nothing_is_touched(tmp_path, name, kind, says):
    inside = tmp_path / "inside"
    inside.mkdir()
    with tarfile.open(inside / "c.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        member.size = 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"evil"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(store.DatasetError, match=says):
        images.cifar10(inside / "c.tar")
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_and_repeated_files_are_named(tmp_path):
    folder = write_cifar(tmp_path / "a" / "cifar-10-batches-py")
    (folder / "data_batch_5").unlink()
    with pytest.raises(store.DatasetError, match="is not CIFAR-10: it has no data_batch_5"):
        images.cifar10(folder)
    with pytest.raises(store.DatasetError, match="there is no file or folder"):
        images.cifar10(tmp_path / "nowhere")
    write_cifar(tmp_path / "b" / "one")
    write_cifar(tmp_path / "b" / "two")
    with pytest.raises(store.DatasetError, match="holds data_batch_1 twice"):
        images.cifar10(tmp_path / "b")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no matlab file"),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: savemat(path, {"X": np.zeros((32, 32, 3, 2)), "y": np.ones(2)}),
        lambda path: savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.zeros(2)}),
        lambda path: savemat(path, {"y": np.ones(2)}),
    ],
)
def test_a_mat_file_of_another_form_gets_one_sentence(tmp_path, make):
    folder = write_svhn(tmp_path / "svhn")
    make(folder / "test_32x32.mat")
    with pytest.raises(store.DatasetError, match="test_32x32.mat") as caught:
        images.svhn(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_without_a_network_the_way_out_is_named(name, monkeypatch):
    import urllib.request

    def away(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", away)
    with pytest.raises(store.DatasetError, match=f"{name} could not be downloaded .* run `anabook data {name} --from PATH`"):
        prepare.prepare(name)
    assert store.names() == []


def test_the_command_prepares_lists_and_verifies(tmp_path, capsys):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    assert cli.main(["data", "cifar10", "--from", str(folder), "--note", "made for a test"]) == 0
    assert "100 train, 20 test examples of shape 3×32×32" in capsys.readouterr().out
    assert cli.main(["data"]) == 0
    listing = capsys.readouterr().out
    assert "differs" in listing and "made for a test" in listing and "svhn" in listing
    assert cli.main(["data", "--verify"]) == 0
    assert "cifar10: every array is as it was prepared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "cifar-10"], "Did you mean 'cifar10'"),
        (["data", "cifar10", "--from", "nowhere"], "there is no file or folder 'nowhere'"),
        (["data", "--from", "x"], "--from needs the NAME of a data set"),
        (["data", "svhn-stand-in", "--from", "x"], "is generated, so it takes no files"),
        (["data", "svhn", "--verify"], "'svhn' is not prepared: run `anabook data svhn`"),
    ],
)
def test_what_the_user_gets_wrong_ends_with_code_2_and_no_traceback(arguments, says, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error and error.count("\n") == 1


def test_a_missing_library_is_named_with_what_to_install(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert cli.main(["data", "cifar10", "--from", "."]) == 2
    error = capsys.readouterr().err
    assert "torchvision" in error and "pip install 'anabook[training,speech]'" in error and error.count("\n") == 1
