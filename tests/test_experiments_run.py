"""Single runs and sweeps: what is recorded, what is repeated bit for bit, and what survives when processes die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from anabook import Quantiser, _files, training
from anabook.cli import main
from anabook.datasets import standins, store
from anabook.experiments import make, records, results, sweep
from anabook.experiments import run as runs
from anabook.experiments.networks import StraightThrough, build
from anabook.experiments.run import attempt, run

TINY = {"width": 1 / 32, "shrink": 4, "n_train": 60, "period": 1, "batch_size": 32}


@pytest.fixture(scope="session")
def data_store(tmp_path_factory):
    """A store with a small stand-in for SVHN and one for speech."""
    folder = tmp_path_factory.mktemp("store")
    old, os.environ["ANABOOK_DATA"] = os.environ.get("ANABOOK_DATA"), str(folder)
    store.save(standins.house_numbers(200, 50))
    rng = np.random.default_rng(0)
    words = store.Dataset(
        "gsc-stand-in",
        rng.integers(0, 256, (120, 1, 49, 10), np.uint8),
        np.arange(120) % 12,
        np.zeros(120, np.uint8),
        np.arange(120) // 12,
        tuple(map(str, range(12))),
        store.Provenance("stand-in", "random bytes", "-", "-"),
    )
    store.save(words)
    if old is None:
        del os.environ["ANABOOK_DATA"]
    else:
        os.environ["ANABOOK_DATA"] = old
    return folder


@pytest.fixture(autouse=True)
def in_the_store(data_store, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(data_store))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def tiny(unit="uniform-mode-static", fold=0, **changes):
    return make("svhn-stand-in", unit, fold, **{**TINY, **changes})


def test_a_run_is_recorded_with_all_that_it_depends_on():
    record = run(tiny())
    assert json.loads(json.dumps(record)) == record
    assert record["key"] == tiny().key and record["config"] == tiny().as_dict() and record["status"] == "done"
    assert record["provenance"]["kind"] == "stand-in" and "stand-in" in record["provenance"]["title"]
    assert {len(curve) for curve in record["curves"].values()} == {10}
    assert record["accuracy"] == pytest.approx(record["curves"]["accuracy"][-1], abs=1e-4)
    assert record["examples"] == {"training": 48, "held_out": 12}
    assert set(record["versions"]) >= {"python", "torch", "numpy", "anabook"} and record["machine"]["threads"] >= 1


def test_a_run_is_the_same_each_time_and_differs_between_folds_and_seeds():
    numbers = [
        {k: r[k] for k in ("curves", "accuracy", "loss")}
        for r in (run(tiny()), run(tiny()), run(tiny(fold=1)), run(tiny(seed=1)))
    ]
    assert numbers[0] == numbers[1] and numbers[0] != numbers[2] and numbers[0] != numbers[3]


@pytest.mark.parametrize(
    "unit",
    [
        "normal-expectation-partition-progressive",
        "triangular-mode-overlapped-homogeneous-dynamic-mean-only",
        "logistic-random-same-start-homogeneous-dynamic-mean",
        "float",
        "ste",
        "identity",
    ],
)
def test_units_of_all_kinds_run(unit):
    record = run(tiny(unit))
    assert record["status"] == "done" and ("noisy_accuracy" in record["curves"]) == (unit.count("-") > 0)


def test_annealed_networks_end_without_noise_and_static_ones_keep_it():
    record = run(tiny("uniform-random-partition-homogeneous"))
    assert record["curves"]["noisy_accuracy"][-3:] == record["curves"]["accuracy"][-3:]
    record = run(tiny("uniform-random-static", n_train=200, seed=3))
    assert record["curves"]["noisy_accuracy"] != record["curves"]["accuracy"]


def test_a_schedule_of_ones_own_runs():
    own = {"noise": "normal", "strategy": "mode", "interval": [[i / 2, i / 2 + 1] for i in range(7)]}
    assert run(tiny("mine", own=own))["config"]["own"]["interval"][6] == [3.0, 4.0]
    records = [run(tiny("mine", own={"noise": noise})) for noise in ("uniform", "laplace", "3/4*(1 - t**2) on [-1, 1]")]
    assert len({record["key"] for record in records}) == len({str(record["curves"]) for record in records}) == 3


def test_speech_runs_through_its_network():
    record = run(make("gsc-stand-in", "uniform-mode-static", 1, width=0.1, period=1))
    assert record["status"] == "done" and len(record["curves"]["loss"]) == 12


def test_the_test_set_is_measured_once_at_the_end_and_only_on_request():
    record = run(tiny(fold=None))
    assert record["measured_on"] == "test" and record["examples"] == {"training": 60, "held_out": 50}
    assert "accuracy" not in record["curves"] and 0 <= record["accuracy"] <= 1


def test_without_a_test_set_the_test_run_says_so():
    record = attempt(make("gsc-stand-in", "float", None, width=0.1).as_dict())
    assert record["status"] == "failed" and "has no official test set" in record["error"]


def test_more_examples_than_there_are_are_refused():
    with pytest.raises(ValueError, match="n_train is 1000, but 'svhn-stand-in' has 200 training examples"):
        run(tiny(n_train=1000))


def test_runs_share_the_initial_weights_of_their_fold():
    first, second = (build_of(unit).state_dict() for unit in ("uniform-mode-static", "logistic-random-static"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def build_of(unit):
    torch.manual_seed(0)
    return build(tiny(unit))


def test_the_straight_through_baseline_has_the_clipped_gradient():
    x = torch.tensor([-1.2, -1.0, -0.7, -0.5, 0.2, 0.5, 0.99, 1.5], requires_grad=True)
    y = StraightThrough(Quantiser.ternary(), clip=True)(x)
    y.backward(torch.arange(1.0, 9.0))
    assert y.tolist() == [-1, -1, -1, 0, 0, 1, 1, 1]
    assert x.grad[[0, 7]].tolist() == [0, 0] and x.grad[2:7].tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("clip", [True, False])
def test_the_straight_through_baseline_returns_levels_to_the_last_bit(clip):
    quantiser = Quantiser.linear(bits=4, signed=True, quantum=0.07, rounding="nearest")
    x = torch.empty(4096).uniform_(-3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    levels = set(torch.tensor(quantiser.levels, dtype=torch.float32).tolist())
    assert set(StraightThrough(quantiser, clip)(x).tolist()) == levels


def test_static_uniform_noise_with_the_mode_has_the_gradients_of_the_straight_through_estimator():
    nets = [build_of(unit).double().train() for unit in ("uniform-mode-static", "ste")]
    training.initialise_near_thresholds(nets[0], 0)
    training.set_noise(nets[0], tiny().schedule(), 0)
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 3, 8, 8, generator=rng, dtype=torch.float64), torch.randint(10, (64,), generator=rng)
    losses = [torch.nn.functional.cross_entropy(net(x), y) for net in nets]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    for (name, ours), theirs in zip(nets[0].named_parameters(), nets[1].parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-9, msg=name)
    assert float(next(nets[0].parameters()).grad.abs().max()) > 0


def test_a_run_that_is_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    whole = run(tiny(period=2))
    path = tmp_path / "run.pt"
    evaluate, count = training.run.score_of, iter(range(100))

    def dying(*arguments):
        if next(count) == 11:  # two evaluations an epoch
            raise RuntimeError("the power is gone")
        return evaluate(*arguments)

    monkeypatch.setattr(training.run, "score_of", dying)
    with pytest.raises(RuntimeError, match="power"):
        run(tiny(period=2), checkpoint=path)
    monkeypatch.setattr(training.run, "score_of", evaluate)
    assert path.exists()
    assert run(tiny(period=2), checkpoint=path)["curves"] == whole["curves"]
    assert not path.exists()


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"channels_last": True}])
def test_precision_and_channels_last_reach_the_training_and_nothing_else(changes, monkeypatch):
    asked, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *args, **how: asked.append(how) or fit(*args, **how))
    record, plain = run(tiny(**changes)), run(tiny())
    assert {name: asked[0][name] for name in changes} == changes
    assert (asked[1]["precision"], asked[1]["channels_last"]) == (None, False)
    assert record["config"] == {**plain["config"], **changes} and record["key"] != plain["key"]
    if "precision" in changes:
        assert record["curves"]["train_loss"] != plain["curves"]["train_loss"]
    first, second = record["curves"]["train_loss"][0], plain["curves"]["train_loss"][0]
    assert first == pytest.approx(second, rel=0.1)


def test_a_run_in_bfloat16_goes_on_from_its_checkpoint_and_not_from_that_of_another_precision(tmp_path, monkeypatch):
    config = tiny(precision="bfloat16", channels_last=True)
    whole, path = run(config), tmp_path / "run.pt"
    evaluate, count = training.run.score_of, iter(range(100))

    def dying(*arguments):
        if next(count) == 11:
            raise RuntimeError("the power is gone")
        return evaluate(*arguments)

    monkeypatch.setattr(training.run, "score_of", dying)
    with pytest.raises(RuntimeError, match="power"):
        run(config, checkpoint=path)
    monkeypatch.setattr(training.run, "score_of", evaluate)
    with pytest.raises(ValueError, match="is from another config"):
        run(tiny(channels_last=True), checkpoint=path)
    assert run(config, checkpoint=path)["curves"] == whole["curves"]


def test_runs_of_another_precision_are_a_size_of_their_own_at_the_command_line(tmp_path, capsys):
    file, folder = str(sweep_file(tmp_path, units='["float"]', folds="[0]")), ["--results", str(tmp_path)]
    fast = ["settings.precision=bfloat16", "settings.channels_last=true"]
    assert main(["train", file, *folder]) == main(["train", file, *fast, *folder]) == 0
    capsys.readouterr()
    assert main(["sweep", file, *fast, *folder]) == 0
    assert "all 1 runs are recorded already" in capsys.readouterr().err
    assert main(["results", *folder]) == 0
    listed = capsys.readouterr().out
    assert listed.count("1 units, 1 runs (size=scaled width=0.03125 shrink=4 n_train=60 period=1") == 2
    assert listed.count("precision=bfloat16 channels_last=true)") == 1
    frame = results.load(tmp_path)
    assert sorted(frame["precision"]) == ["bfloat16", "float32"]
    with pytest.raises(ValueError, match="runs of different size are not averaged"):
        results.summary(frame)


def test_a_sweep_deletes_a_checkpoint_only_when_its_run_is_recorded(tmp_path, monkeypatch):
    config, append = tiny("float", lr=0.5), records.append
    whole = run(config)["curves"]
    arguments = {"executor": ThreadPoolExecutor(1), "checkpoints": tmp_path / "checkpoints", "report": lambda _: None}
    monkeypatch.setattr(records, "append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sweep.sweep([config], tmp_path, **arguments)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"{config.key}.pt"]
    monkeypatch.setattr(records, "append", append)
    monkeypatch.setattr(training.run.Run, "_train_epoch", lambda *_: pytest.fail("nothing is left to train"))
    assert sweep.sweep([config], tmp_path, **arguments) == (1, 0)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert records.read([sweep.results_file(config, tmp_path)]).records[config.key]["curves"] == whole


def test_a_sweep_records_each_run_once(tmp_path):
    configs = [tiny(unit, fold) for fold in (0, 1) for unit in ("uniform-mode-static", "float")]
    lines = []
    assert sweep.sweep(configs, tmp_path, executor=ThreadPoolExecutor(1), report=lines.append) == (4, 0)
    assert sweep.sweep([*configs, tiny("ste")], tmp_path, executor=ThreadPoolExecutor(1), report=lines.append) == (1, 0)
    found = records.read([sweep.results_file(configs[0], tmp_path)]).records
    assert set(found) == {c.key for c in (*configs, tiny("ste"))}
    assert lines[0].startswith("4 runs to do, 0 recorded already, 1 at a time") and lines[6].startswith(
        "1 runs to do, 4 recorded"
    )
    assert sweep.sweep(configs, tmp_path, report=lines.append) == (0, 0) and "recorded already" in lines[-1]


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    bad, good = tiny("float", n_train=1000, lr=2.0), tiny("float", lr=2.0)
    assert sweep.sweep([bad, good], tmp_path, executor=ThreadPoolExecutor(1), report=lambda _: None) == (1, 1)
    failed = records.read([sweep.results_file(bad, tmp_path)]).records[bad.key]
    assert failed["status"] == "failed" and failed["error"].startswith("ValueError: n_train is 1000")
    assert [c.key for c in sweep.plan([bad, good], tmp_path).todo] == [bad.key]


def test_plans_estimate_from_like_runs(tmp_path):
    first, second, other = tiny(fold=0), tiny(fold=1), tiny("float")
    assert sweep.plan([first], tmp_path).estimate(2) is None
    records.append(sweep.results_file(first, tmp_path), {**run(first), "seconds": 7.0})
    plan = sweep.plan([first, second, other], tmp_path)
    assert (plan.done, len(plan.todo), plan.estimate(1), plan.estimate(2)) == (1, 2, 14.0, 7.0)


def test_plans_do_not_share_one_run_among_workers():
    configs = [tiny(fold=i) for i in range(3)]
    plan = sweep.Plan(configs, 0, {c.key: s for c, s in zip(configs, (60.0, 10.0, 10.0))})
    assert (plan.estimate(1), plan.estimate(2), plan.estimate(8)) == (80.0, 60.0, 60.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"workers": 0}, "workers must be an integer at least 1, not 0"),
        ({"slots": 0, "executor": ThreadPoolExecutor(1)}, "slots must be an integer at least 1, not 0"),
        ({"devices": ["nonexistent"]}, "device must name one of torch's devices, .*, not 'nonexistent'"),
        ({"devices": ["cpu", "cuda:99"]}, "cuda:99 was asked for"),
        ({"devices": []}, "devices must name at least one"),
    ],
)
def test_sweeps_refuse_what_the_machine_has_not_before_anything_runs(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sweep.sweep([tiny()], tmp_path / "results", report=lambda _: None, **options)
    assert not (tmp_path / "results").exists()


def test_an_executor_that_takes_no_more_runs_is_said_and_blamed_on_no_run(tmp_path):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ValueError, match="the executor takes no more runs .*shutdown"):
        sweep.sweep([tiny()], tmp_path, executor=executor, report=lambda _: None)
    assert not list(tmp_path.glob("*.jsonl"))


def test_an_executors_workers_can_be_told_and_what_it_gives_up_is_recorded(tmp_path):
    class GivesUp(Executor):
        def submit(self, function, *arguments):
            future = Future()
            future.set_exception(CancelledError())
            return future

    lines = []
    assert sweep.sweep([tiny()], tmp_path, executor=GivesUp(), workers=3, report=lines.append) == (0, 1)
    assert "3 at a time" in lines[0]
    assert "CancelledError: the executor gave the run up" in lines[1]


def test_a_failed_run_says_why_though_its_device_is_not_there():
    failed = attempt(tiny().as_dict(), device="cuda:99")
    assert "cuda:99 was asked for" in failed["error"] and failed["machine"]["device"] == "cuda:99"


def test_local_processes_survive_the_death_of_one(tmp_path):
    configs = [tiny(fold=i, period=2) for i in range(4)]
    killed = []

    def kill_one(text):
        if text.startswith("[1/") and not killed:
            workers = subprocess.run(
                ["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], capture_output=True, text=True
            ).stdout.split()
            killed.append(int(workers[0]))
            os.kill(killed[0], signal.SIGKILL)

    assert sweep.sweep(configs, tmp_path, workers=2, report=kill_one) == (4, 0)
    assert killed and len(records.read([sweep.results_file(configs[0], tmp_path)]).records) == 4


def test_a_run_that_kills_its_process_each_time_is_recorded_as_failed(tmp_path, monkeypatch):
    # An optimiser step that ends the process, in the child, where nothing of this test's can be patched: a plugin does it.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nimport sys\nif any('spawn_main' in a for a in sys.orig_argv):\n"
        "    import anabook.experiments.run as r\n    old = r.build\n"
        "    def build(config):\n        if config.unit == 'identity':\n            os._exit(1)\n        return old(config)\n    r.build = build\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}")
    configs = [tiny("identity"), tiny("float"), tiny("ste")]
    assert sweep.sweep(configs, tmp_path, workers=2, report=lambda _: None) == (2, 1)
    failed = records.read([sweep.results_file(configs[0], tmp_path)]).records[configs[0].key]
    assert failed["status"] == "failed" and "died" in failed["error"]


def sweep_file(tmp_path, units='["float", "ste"]', folds="[0, 1, 2]", **changes):
    settings = "\n".join(f"{k} = {v}" for k, v in {**TINY, **changes}.items())
    path = tmp_path / "sweep.toml"
    path.write_text(f'data = "svhn-stand-in"\nunits = {units}\nfolds = {folds}\n[settings]\n{settings}\n')
    return path


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path):
    command = [
        sys.executable,
        "-m",
        "anabook.cli",
        "sweep",
        str(sweep_file(tmp_path)),
        "--workers",
        "1",
        "--results",
        str(tmp_path),
    ]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    [file] = wait_for(lambda: list(tmp_path.glob("*.jsonl")))
    wait_for(lambda: len(file.read_text().splitlines()) >= 2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = file.read_text().splitlines()
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    after = file.read_text().splitlines()
    assert after[: len(before)] == before and len(after) == len({json.loads(text)["key"] for text in after}) == 6
    assert f"{6 - len(before)} runs to do, {len(before)} recorded already" in second.stderr


def test_an_interruption_ends_a_sweep_and_its_processes_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "anabook.cli", "sweep", str(sweep_file(tmp_path, period=200)), "--workers", "2"]
    pipes = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  tests run in the background ignore it
    process = subprocess.Popen([*command, "--results", str(tmp_path)], preexec_fn=heard, **pipes)
    assert "6 runs to do" in process.stderr.readline()
    children = wait_for(lambda: len(found := spawned_by(process.pid)) == 2 and found)
    time.sleep(0.3)  # they are about to load what they need
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    assert process.communicate(timeout=60)[1] == "anabook: interrupted; nothing half-written was left behind.\n"
    assert process.returncode == 130 and not any(Path(f"/proc/{child}").exists() for child in children)
    assert not list(tmp_path.glob("*.jsonl"))


def spawned_by(process):
    command = ["pgrep", "-P", str(process), "-f", "spawn_main"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(28, "No space left on device"), "(No space left on device)"),
        (None, "(another process has been writing there for 0 seconds, and is likely stopped)"),
    ],
)
def test_a_run_that_cannot_be_recorded_is_named_with_its_file(tmp_path, capsys, monkeypatch, error, says):
    config, replacing = tiny("float"), _files.replacing
    monkeypatch.setattr(sweep, "_Local", lambda *_: sweep._Remote(ThreadPoolExecutor(1), 1, sweep._Places(), "cpu", print))
    monkeypatch.setattr(runs, "run", lambda *_, **__: records.failure(config, "x"))
    monkeypatch.setattr(_files, "_LONGEST", 0.2)
    if error is not None:
        monkeypatch.setattr(_files, "replacing", lambda *_: (_ for _ in ()).throw(error))
    words = ["sweep", str(sweep_file(tmp_path, units='["float"]', folds="[0]")), "--results", str(tmp_path)]
    with _files.locked(sweep.results_file(config, tmp_path)) if error is None else contextlib.nullcontext():
        assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[1].startswith(
        f"anabook: the run {config.label} cannot be recorded in {str(sweep.results_file(config, tmp_path))!r}"
    )
    assert says in said[1] and said[1].endswith("the same sweep goes on.") and len(said) == 2
    monkeypatch.setattr(_files, "replacing", replacing)
    assert main(words) == 1 and len(list(tmp_path.glob("*.jsonl"))) == 1


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_a_dask_cluster_finishes_a_sweep_though_a_worker_is_killed(tmp_path):
    pytest.importorskip("distributed")
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(tmp_path / "scheduler.json"),
        ],
        stderr=subprocess.DEVNULL,
    )
    workers = []
    try:
        wait_for(lambda: (tmp_path / "scheduler.json").exists() and (tmp_path / "scheduler.json").stat().st_size)
        address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
        workers = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "distributed.cli.dask_worker",
                    address,
                    "--nthreads",
                    "1",
                    "--no-nanny",
                    "--no-dashboard",
                    "--local-directory",
                    str(tmp_path / f"worker{i}"),
                ],
                stderr=subprocess.DEVNULL,
            )
            for i in range(2)
        ]
        configs = [tiny(fold=i, period=2) for i in range(5)]

        def kill_one(text):
            if text.startswith("[1/"):
                workers[0].kill()

        with sweep.cluster(address, timeout=60) as (executor, _):
            executor._client.wait_for_workers(2, timeout=120)
            assert sweep.sweep(configs, tmp_path, executor=executor, slots=4, report=kill_one) == (5, 0)
        assert workers[0].wait() != 0
        assert len(records.read([sweep.results_file(configs[0], tmp_path)]).records) == 5
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_a_cluster_without_workers_says_so():
    distributed = pytest.importorskip("distributed")
    empty = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, host="127.0.0.1", protocol="tcp")
    with empty, pytest.raises(ValueError, match="has no workers"), sweep.cluster(empty.scheduler_address, timeout=1):
        pass


def test_a_cluster_that_cannot_be_reached_is_named():
    pytest.importorskip("distributed")
    with (
        pytest.raises(ValueError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
        sweep.cluster("tcp://127.0.0.1:9", timeout=1),
    ):
        pass


def test_workers_share_the_cores_threads():
    assert sweep.default_workers(["cuda:0", "cuda:1"]) == 2
    pool = sweep._Local(sweep.default_workers() * 2, ["cpu"], sweep._Places())
    try:
        assert pool.pool.submit(torch.get_num_threads).result() == 1
    finally:
        pool.close()


def test_the_threads_of_a_process_can_be_set():
    pool = sweep._Local(1, ["cpu"], sweep._Places(), threads=3)
    try:
        assert pool.pool.submit(torch.get_num_threads).result() == 3
    finally:
        pool.close()
    with pytest.raises(ValueError, match="threads must be an integer at least 1, not 0"):
        sweep.sweep([tiny()], "nowhere", threads=0, report=lambda _: None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["sweep"], "sweep needs a CONFIG"),
        (["sweep", "nowhere.toml"], "cannot read the config"),
        (["sweep", "FILE", 'units=["uniform-mode-statc"]'], "did you mean 'uniform-mode-static'"),
        (["sweep", "FILE", "data=svhn"], "run `anabook data svhn`"),
        (["sweep", "FILE", "--workers", "0"], "--workers must be at least 1"),
        (["train", "FILE", "--unit", "flaot"], "did you mean 'float'"),
        (["train", "FILE", "--fold", "9"], "fold must be an integer from 0 to 4"),
        (["train", "FILE", "--device", "cuda:99"], "cuda:99 was asked for"),
        (["train", "FILE", "--fold", "-1"], "fold must be an integer from 0 to 4, not -1"),
        (["train", "FILE", "folds=[]"], "folds must hold at least one entry"),
        (["train", "FILE", "lr=1e30"], "the loss became nan"),
        (
            ["train", "FILE", "settings.precision=half"],
            "precision must be one of 'float32', 'bfloat16', 'float16', not 'half'",
        ),
        (["sweep", "FILE", "settings.channels_last=yes"], "channels_last must be true or false, not 'yes'"),
        (["train", "FILE", "--checkpoint", "FILE/x.pt"], "cannot write to the folder"),
        (["sweep", "FILE", "--checkpoints", "FILE"], "cannot write to the folder"),
        (["sweep", "FILE", "--devices", "nonexistent"], "not 'nonexistent'"),
        (
            ["sweep", "FILE", "--cluster", "tcp://127.0.0.1:9", "--workers", "2"],
            "--workers is of this machine",
        ),
        (["results", "--results", "nowhere"], "there are no results at 'nowhere'"),
        (["results", "--results", "EMPTY"], "no finished run is recorded in"),
        (["results", "cifar10", "--claims", "--results", "EMPTY"], "no finished run is recorded in"),
        (["results", "cifar10", "--claims", "--test", "--results", "EMPTY"], "leave out --test"),
    ],
)
def test_mistakes_at_the_command_line_get_one_sentence(tmp_path, capsys, arguments, message):
    file = str(sweep_file(tmp_path, units='["float"]', folds="[0]"))
    (tmp_path / "empty").mkdir()
    arguments = [a.replace("FILE", file).replace("EMPTY", str(tmp_path / "empty")) for a in arguments]
    assert main(arguments + (["--results", str(tmp_path)] if "results" not in arguments[0] else [])) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("arguments", [["train"], ["sweep", "--workers", "1"]])
def test_results_that_cannot_be_written_are_refused_before_anything_runs(tmp_path, capsys, arguments, monkeypatch):
    monkeypatch.setattr(runs, "run", lambda *_, **__: pytest.fail("it ran"))
    file = str(sweep_file(tmp_path, units='["float"]', folds="[0]"))
    assert main([arguments[0], file, *arguments[1:], "--results", file]) == 2
    assert capsys.readouterr().err == f"anabook: cannot write to the folder {file!r}: File exists.\n"


def test_overrides_may_stand_before_and_after_options(tmp_path, capsys):
    file, folder = str(sweep_file(tmp_path)), ["--results", str(tmp_path)]
    for words in (
        ["folds=[0]", "--dry-run", *folder],
        ["--dry-run", *folder, "folds=[0]"],
        ["--dry-run", "folds=[0]", *folder],
    ):
        assert main(["sweep", file, *words]) == 0
        assert "2 runs to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", file, "--dry-run", "--flods=[0]"])
    assert "unrecognized arguments: --flods=[0]" in capsys.readouterr().err


def test_the_command_line_trains_sweeps_and_tells(tmp_path, capsys):
    file, folder = str(sweep_file(tmp_path, folds="[0, 1]")), ["--results", str(tmp_path)]
    assert main(["sweep", file, "--dry-run", *folder]) == 0
    assert "4 runs to do (no like run is recorded to judge from), 0 recorded already." in capsys.readouterr().out
    assert main(["train", file, "--unit", "float", "--fold", "1", *folder]) == 0
    assert "on validation data" in capsys.readouterr().out
    assert main(["train", file, "--unit", "float", "--fold", "1", *folder]) == 0
    assert "recorded already" in capsys.readouterr().out
    assert main(["sweep", file, "--workers", "1", *folder]) == 0
    assert "3 runs finished, 0 failed" in capsys.readouterr().err
    size = tiny().size
    assert main(["results", *folder]) == 0
    assert f"svhn-stand-in, {size}, validation: 2 units, 4 runs" in capsys.readouterr().out
    assert main(["results", "svhn-stand-in", "--size", size, *folder]) == 0
    assert capsys.readouterr().out.count("n = 2") == 2
    assert main(["results", "svhn-stand-in", "--size", size, "--claims", *folder]) == 0
    said = capsys.readouterr().out
    assert "noise-negligible-mode: no data" in said and "mode-above-random" not in said  # of CIFAR-10 alone
    assert main(["results", "svhn-stand-in", "--size", size, "--csv", *folder]) == 0
    assert capsys.readouterr().out.startswith("unit,n,mean,std,low,high\n")


def test_threads_of_the_caller_are_left_alone_by_interruptions(tmp_path):
    # Runs in threads of an executor must not touch signal handlers.
    done = []
    thread = threading.Thread(target=lambda: done.append(attempt(tiny().as_dict())))
    thread.start()
    thread.join()
    assert done[0]["status"] == "done"


def test_the_revision_is_that_of_the_repository():
    revision = runs.revision()
    assert revision is None or revision.rstrip("+").isalnum()
