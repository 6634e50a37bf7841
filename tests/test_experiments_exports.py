"""`anabook export`: the integer network of a run, from its final weights or a checkpoint."""

import shutil
import sys

import numpy as np
import pytest
import torch

from anabook import deploy, training
from anabook.cli import main
from anabook.datasets import standins, store
from anabook.experiments import exports, make, run, shipped, weights
from anabook.experiments.networks import build
from anabook.experiments.parts import parts

SETTINGS = {"width": 1 / 16, "n_train": 100, "unused": 0, "period": 1, "batch_size": 32}


def tiny(unit="uniform-mode-static", fold=0, shrink=4, **changes):
    return make("cifar10-stand-in", unit, fold, **{**SETTINGS, "shrink": shrink, **changes})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with pictures and the final weights of one run on them."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANABOOK_DATA", str(folder))
        store.save(standins.objects(n_train=160, n_test=30))
        run.run(tiny(), weights=folder / "weights")
        yield folder


def sentence(capsys, *words):
    """What a command that fails says."""
    assert main(["export", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("anabook: ") and said.err.count("\n") == 1 and "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_whole_numbers_stand_for_what_the_run_trained_on(stored, shrink):
    """Images made smaller are averages; times the number of pixels averaged they are whole, and mean and std fit to that."""
    config = tiny(shrink=shrink)
    given, held_out = exports.integers(config), parts(config).held_out
    whole = held_out.inputs.numpy() * float(given.times)
    assert (whole == np.rint(whole)).all() and 0 <= whole.min() and whole.max() <= given.high
    assert given.shape == held_out.inputs.shape[1:] and (given.times, given.high) == (shrink**2, 255 * shrink**2)
    ours = (whole - given.mean) / given.std
    theirs = torch.cat([x for x, _ in held_out]).numpy()
    assert np.abs(ours - theirs).max() < 1e-5


def test_a_run_is_exported_and_computes_what_the_run_computed(stored, tmp_path, capsys):
    pytest.importorskip("onnx", reason="ONNX models need onnx: pip install 'anabook[deploy]'")
    config = tiny()
    words = [config.key, "--onnx", tmp_path / "a/net.onnx", "--npz", tmp_path / "b/net.npz", "--c", tmp_path / "c"]
    assert main(["export", *map(str, words)]) == 0
    out = capsys.readouterr().out
    assert "IntegerNetwork of 3×8×8 integers from 0 to 4080" in out
    for file in ("a/net.onnx", "b/net.npz", "c/network.h", "c/network.c"):
        path = tmp_path / file
        assert f"{config.label}: {path}, {path.stat().st_size:,} bytes" in out
    ints = deploy.load(tmp_path / "b/net.npz")
    net, held_out = weights.load(config, stored / "weights"), parts(config).held_out
    whole = (held_out.inputs.numpy() * 16).astype(np.int64)
    found = deploy.compare(net, ints, whole)
    assert found.equal and found.elements > 10_000
    session = pytest.importorskip("onnxruntime").InferenceSession(
        str(tmp_path / "a/net.onnx"), providers=["CPUExecutionProvider"]
    )
    (given,) = session.run(None, {"input": whole.astype(np.uint16)})
    assert np.allclose(given, ints(whole), rtol=1e-12, atol=1e-12) and given.shape == (len(whole), 10)


def test_the_file_of_weights_and_given_statistics_do_without_store_and_data(stored, tmp_path, monkeypatch, capsys):
    config = tiny()
    given = exports.integers(config)
    copied = tmp_path / "mine.npz"
    shutil.copy(weights.path_in(stored / "weights", config), copied)
    expected = exports.export(config.key, npz=tmp_path / "one.npz")[1]
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "empty"))
    words = [copied, "--npz", tmp_path / "two.npz", f"--mean={given.mean / 16!r}", f"--std={given.std / 16!r}", "--report"]
    assert main(["export", *map(str, words)]) == 0
    assert "Horowitz" in capsys.readouterr().out
    assert main(["export", str(copied), "--c", str(tmp_path / "c"), *map(str, words[-3:])]) == 0
    said = capsys.readouterr().out
    assert "in flash" in said or "The size of the C code was not measured: there is no" in said
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert main(["export", str(copied), "--c", str(tmp_path / "c"), *map(str, words[-3:])]) == 0
    said = capsys.readouterr().out
    assert "Horowitz" in said and "The size of the C code was not measured: there is no C compiler cc, gcc, clang" in said
    assert deploy.load(tmp_path / "two.npz") == expected == deploy.load(tmp_path / "one.npz")
    assert "anabook data" in sentence(capsys, copied, "--npz", tmp_path / "three.npz")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["mine.npz", "one.npz", "two.npz"]


def test_a_checkpoint_needs_the_config_of_its_run(stored, tmp_path, capsys):
    config, file = tiny("uniform-mode-partition-homogeneous"), tmp_path / "run.pt"
    run.run(config, checkpoint=file, keep=True)
    sweep = tmp_path / "sweep.toml"
    lines = [f"{name} = {value}" for name, value in SETTINGS.items()] + ["shrink = 4"]
    sweep.write_text(f'data = "cifar10-stand-in"\nunits = ["{config.unit}"]\nfolds = [0]\n[settings]\n' + "\n".join(lines))
    target = tmp_path / "net.npz"
    assert main(["export", str(file), "--config", str(sweep), "--npz", str(target)]) == 0
    capsys.readouterr()
    net = build(config)
    net.load_state_dict(torch.load(file, weights_only=True)["network"])
    ints, given = deploy.load(target), exports.integers(config)
    x = np.random.default_rng(0).integers(0, given.high + 1, (20, *given.shape))
    assert deploy.compare(training.deploy(net), ints, x).equal
    target.unlink()
    assert "does not say which network it is of: name its config with --config" in sentence(capsys, file, "--npz", target)
    for change in (["--fold", "1"], ["period=2"], ["--unit", "uniform-mode-static"]):
        said = sentence(capsys, file, "--config", sweep, *change, "--npz", target)
        assert "is of another run than cifar10-stand-in" in said
    assert not target.exists()


def test_what_is_no_quantised_run_is_refused(stored, tmp_path, capsys):
    target = tmp_path / "net.npz"
    for unit, why in (("float", "is a network in float"), ("ste", "is a baseline with quantisers of its own")):
        config = tiny(unit)
        file = weights.save(build(config), config, tmp_path)
        assert why in sentence(capsys, file, "--npz", target)
    nothing = "0123456789abcdef"
    said = sentence(capsys, nothing, "--npz", target)
    assert f"there are no weights of the run {nothing!r}" in said and f"of 1 runs, such as {tiny().key}." in said
    assert "of 0 runs." in sentence(capsys, nothing, "--npz", target, "--weights", tmp_path / "none")
    assert "is no file, and no key of a run either" in sentence(capsys, "vgg", "--npz", target)
    for name, content in (("a.npz", b"nonsense"), ("b.pt", b"nonsense"), ("c.npz", b"")):
        (tmp_path / name).write_bytes(content)
        assert "that can be read" in sentence(capsys, tmp_path / name, "--npz", target)
    foreign = weights.path_in(stored / "weights", tiny("uniform-random-static"))
    shutil.copy(weights.path_in(stored / "weights", tiny()), foreign)
    assert "holds the weights of another run" in sentence(capsys, foreign.stem, "--npz", target)
    foreign.unlink()
    assert not target.exists()


def test_options_that_do_not_fit_together_are_refused(stored, tmp_path, capsys):
    key, target = tiny().key, tmp_path / "net.npz"
    assert "there is nothing to write" in sentence(capsys, key)
    assert "--packed is about ONNX models" in sentence(capsys, key, "--npz", target, "--packed")
    assert "mean and std belong together" in sentence(capsys, key, "--npz", target, "--mean", "120")
    assert "std must be finite and greater than 0" in sentence(capsys, key, "--npz", target, "--mean=1", "--std=0")
    assert "--config is for checkpoints" in sentence(capsys, key, "--npz", target, "--config", _config(tmp_path))
    for words in (["--fold", "1"], ["--unit", "float"], ["period=2"]):
        assert "name it with --config" in sentence(capsys, key, "--npz", target, *words)
    (tmp_path / "file").write_text("")
    assert "cannot write to the folder" in sentence(capsys, key, "--npz", tmp_path / "file" / "net.npz")
    assert "net.onnx" in sentence(capsys, key, "--onnx", _folder(tmp_path / "net.onnx"))
    assert not target.exists()


@pytest.mark.parametrize("command, missing", [("export", "RUN"), ("train", "CONFIG")])
def test_only_what_is_required_is_asked_for(command, missing, capsys):
    with pytest.raises(SystemExit):
        main([command])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"the following arguments are required: {missing}")


def _config(folder):
    (folder / "some.toml").write_text('data = "cifar10-stand-in"\nunits = ["uniform-mode-static"]\n')
    return folder / "some.toml"


def _folder(path):
    path.mkdir()
    return path


def test_without_onnx_the_sentence_says_what_to_install(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = sentence(capsys, tiny().key, "--onnx", tmp_path / "net.onnx", "--npz", tmp_path / "net.npz")
    assert said.count("pip install") == 1 and "anabook[deploy]" in said
    assert not list(tmp_path.iterdir())


def test_packed_models_are_smaller(stored, tmp_path, capsys):
    pytest.importorskip("onnx", reason="ONNX models need onnx: pip install 'anabook[deploy]'")
    sizes = []
    for words in ([], ["--packed"]):
        target = tmp_path / f"net{len(words)}.onnx"
        assert main(["export", tiny().key, "--onnx", str(target), *words]) == 0
        sizes.append(target.stat().st_size)
    n = sum(layer.weights for layer in exports.export(tiny().key, npz=tmp_path / "net.npz")[1].layers)
    assert sizes[0] - sizes[1] > n / 2


def test_runs_whose_weights_come_along_are_exported_by_their_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "empty"))
    runs = [file for file in sorted((shipped.folder() / "weights").glob("*.npz")) if file.stem != "digits"]
    assert len(runs) == 2
    for file in runs:
        target = tmp_path / file.name
        assert main(["export", file.stem, "--npz", str(target), "--mean", "120", "--std", "60"]) == 0
        config, net = weights.read(file)
        ints = deploy.load(target)
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"{config.label}: ")
        x = np.random.default_rng(0).integers(0, ints.input.high + 1, (3, *ints.input.shape))
        assert deploy.compare(net, ints, x).equal


def test_nothing_is_written_over_the_run_or_over_each_other(tmp_path, capsys):
    """Refused before the first file is written."""
    run = weights.save(build(tiny()), tiny(), tmp_path)
    whole, given = run.read_bytes(), ("--mean", 120, "--std", 64)
    (tmp_path / "folder").mkdir()
    (tmp_path / "c/network.h").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    both = tmp_path / "both"
    for words, why in (
        (("--npz", run), "--npz would write over what the run is read from"),
        (("--npz", tmp_path / "folder" / ".." / run.name), "--npz would write over what the run is read from"),
        (("--onnx", both, "--npz", both), "--npz would write over the file of --onnx"),
        (("--npz", tmp_path / "new.npz", "--onnx", tmp_path / "folder"), "which is a folder"),
        (("--npz", tmp_path / "new.npz", "--c", tmp_path / "c"), "--c cannot write"),
    ):
        assert why in sentence(capsys, run, *words, *given)
        assert run.read_bytes() == whole and sorted(tmp_path.rglob("*")) == before
    said = sentence(capsys, tiny().key, "--weights", tmp_path, "--npz", run, *given)
    assert "what the run is read from" in said and run.read_bytes() == whole
