"""The store: written whole or not at all, the same bytes twice, honest about where data come from."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from anabook.datasets import store


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))


def made_up(n=60, name="toy-stand-in", groups=False, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    split = np.where(np.arange(n) < 45, 0, 2).astype(np.uint8)
    group = rng.integers(0, 9, n) if groups else np.full(n, -1)
    provenance = store.Provenance("stand-in", "random bytes", "none", "nobody", parameters={"seed": seed})
    inputs = rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    return store.Dataset(name, inputs, labels.astype(np.int64), split, group.astype(np.int64), ("a", "b", "c"), provenance)


@pytest.mark.parametrize("mmap", [False, True])
def test_what_is_saved_is_what_is_loaded(mmap):
    original = made_up()
    store.save(original)
    loaded = store.load("toy-stand-in", mmap=mmap)
    assert isinstance(loaded.inputs, np.memmap) == mmap
    for what in ("inputs", "labels", "split", "group"):
        assert np.array_equal(getattr(loaded, what), getattr(original, what))
        assert getattr(loaded, what).dtype == getattr(original, what).dtype
    assert loaded.classes == original.classes
    assert loaded.provenance.parameters == {"seed": 0} and loaded.provenance.versions["numpy"] == np.__version__
    assert store.names() == ["toy-stand-in"]


def test_a_mapped_array_cannot_change_the_store():
    store.save(made_up())
    with pytest.raises(ValueError, match="read-only"):
        store.load("toy-stand-in", mmap=True).inputs[0] = 0


def test_preparing_twice_gives_identical_bytes(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = store.save(made_up())
    first = path.read_bytes()
    path.unlink()
    assert store.save(made_up()).read_bytes() == first
    assert store.describe("toy-stand-in")["provenance"]["date"] == "2023-11-14"


def test_preparing_the_same_again_keeps_the_day_of_the_first_time(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = store.save(made_up()).read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    assert store.save(made_up()).read_bytes() == first
    assert store.save(made_up(seed=1)).read_bytes() != first


def test_killing_the_writer_leaves_no_half_file(tmp_path):
    script = textwrap.dedent("""
        import os, signal, numpy as np
        from anabook.datasets import store
        def die(path, **arrays):
            path.write(b"half"); path.flush(); os.kill(os.getpid(), signal.SIGKILL)
        np.savez = die
        one = np.zeros(1, np.int64)
        store.save(store.Dataset("x", one, one, one.astype("u1"), one, ("a",), store.Provenance("stand-in", "", "", "")))
    """)
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ}, cwd=os.getcwd())
    assert done.returncode == -signal.SIGKILL
    assert store.names() == []
    with pytest.raises(store.NotPrepared, match="there is no data set 'x'"):
        store.load("x")
    store.save(made_up())
    assert store.names() == ["toy-stand-in"]


def test_a_full_disk_gets_one_sentence_and_leaves_nothing(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(store.DatasetError, match=r"cannot write .*toy-stand-in.npz: No space left on device\."):
        store.save(made_up())
    assert list(store.directory().iterdir()) == []


def test_a_store_that_is_a_file_gets_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "file"))
    with pytest.raises(store.DatasetError, match="cannot write"):
        store.save(made_up())


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_truncated_file_is_called_damaged(keep):
    path = store.save(made_up(name="svhn-stand-in"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(store.DatasetError, match="is damaged .* run `anabook data svhn-stand-in` again"):
        store.load("svhn-stand-in")


def test_verify_finds_a_changed_byte():
    path = store.save(made_up())
    store.verify("toy-stand-in")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("inputs.npy").header_offset + 600
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(store.DatasetError, match="is damaged"):
        store.verify("toy-stand-in")


def test_parts_and_counts_follow_the_split():
    data = made_up()
    assert len(data.train[0]) == len(data.train[1]) == 45 and len(data.test[0]) == 15
    assert data.counts() == {"a": 20, "b": 20, "c": 20} and data.counts("test") == {"a": 5, "b": 5, "c": 5}
    assert len(data.part("validation")[0]) == 0
    assert repr(data) == "Dataset('toy-stand-in': 45 train, 15 test examples of shape 3×4×4, 3 classes)"


@pytest.mark.parametrize(("kind", "says"), [("official", ""), ("differs", "differs"), ("unverified", "not verified")])
def test_what_is_not_official_says_so_in_its_title(kind, says):
    data = made_up(name="toy")
    provenance = store.Provenance(kind, "somewhere", "none", "nobody")
    titled = store.Dataset("toy", data.inputs, data.labels, data.split, data.group, data.classes, provenance)
    assert titled.title == "toy" if not says else says in titled.title


def test_subsets_are_nested_stratified_and_keep_the_test_part():
    data = made_up(n=900)
    data = store.Dataset(
        "t",
        data.inputs,
        data.labels,
        np.where(np.arange(900) < 600, 0, 2).astype("u1"),
        data.group,
        data.classes,
        data.provenance,
    )
    previous = set()
    for n in (3, 30, 33, 300, 600):
        part = store.subset(data, n)
        keys = {row.tobytes() for row in part.train[0]}
        assert len(part.train[0]) == n and previous <= keys
        counts = list(part.counts("train").values())
        assert max(counts) - min(counts) <= 1
        assert np.array_equal(part.test[0], data.test[0])
        previous = keys


def test_folds_partition_the_training_part():
    data = made_up()
    seen = np.concatenate([validate for _, validate in store.folds(data)])
    assert sorted(seen.tolist()) == list(range(45))
    for train, validate in store.folds(data):
        assert not set(train) & set(validate)
        assert np.bincount(data.train[1][validate]).tolist() == [3, 3, 3]


def test_folds_keep_groups_together():
    data = made_up(n=200, groups=True)
    group = data.group[data.split == 0]
    for train, validate in store.folds(data):
        assert not set(group[train]) & set(group[validate])


def test_folds_are_the_same_on_every_machine():
    import hashlib

    def digest(data):
        text = "|".join(",".join(map(str, validate.tolist())) for _, validate in store.folds(data))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    assert digest(made_up()) == "59ab2785aedb42a9"
    assert digest(made_up(groups=True)) == "013754ed6e224cc8"


def test_the_store_is_where_the_variable_says_or_in_the_project(tmp_path, monkeypatch):
    assert store.directory() == tmp_path / "store"
    monkeypatch.delenv("ANABOOK_DATA")
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "book").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path / "project" / "book")
    assert store.directory() == (tmp_path / "project" / "data" / "cache").resolve()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda d: store.load("cifar10"), store.NotPrepared, "'cifar10' is not prepared: run `anabook data cifar10`"),
        (lambda d: d.part("dev"), ValueError, "part must be one of 'train', 'validation', 'test', not 'dev'"),
        (lambda d: store.subset(d, 2), ValueError, "n_train must be an integer from 3 to 45, not 2"),
        (lambda d: store.subset(d, 46), ValueError, "n_train must be an integer from 3 to 45, not 46"),
        (lambda d: store.folds(d, 1), ValueError, "n_folds must be an integer at least 2, not 1"),
        (lambda d: store.Provenance("real", "", "", ""), ValueError, "kind must be one of 'official', 'differs'"),
        (
            lambda d: store.Dataset("x", d.inputs, d.labels[:3], d.split, d.group, d.classes, d.provenance),
            ValueError,
            "must have one length, not 60, 3, 60 and 60",
        ),
    ],
)
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make(made_up())
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("number", "reason"), [(errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")])
def test_a_read_only_store_is_found_out_before_the_download(monkeypatch, number, reason):
    import tempfile

    from anabook.datasets import images, prepare

    def refuse(*args, **kwargs):
        raise OSError(number, reason)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(images, "cifar10", lambda *args: pytest.fail("the download was started"))
    with pytest.raises(store.DatasetError, match=f"cannot write to the store .*: {reason}"):
        prepare.prepare("cifar10")
