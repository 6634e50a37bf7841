"""Sweeps on a Dask cluster of this machine, with cards that are stand-ins: who trains where, and what dies without harm.

Nothing is trained here. In the workers, stand-ins take the place of the module that trains, of `nvidia-smi`, and, where a
test says so, of dask-cuda: they tell what a process saw at the moment at which it would have loaded torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from anabook import cli
from anabook.experiments import cards, make, records, sweep
from anabook.experiments import run as runs
from anabook.experiments.clusters import ExecutorLost

pytest.importorskip("distributed")

# In a worker: what stands in for `anabook.experiments.run`, and takes note of the process's variable as torch would.
TRAINS = """
import json, os, sys, time
from pathlib import Path
SEEN = getattr(sys.modules.get("torch"), "SEEN", os.environ.get("CUDA_VISIBLE_DEVICES"))
RECORDED = {"status": "done", "accuracy": 0.5, "seconds": 0.1, "provenance": {}}
def use(device):
    pass
def attempt(values, device, threads, checkpoint, weights):
    from anabook.experiments.config import Config
    config = Config.from_dict(values)
    if os.environ.get("WAITS"):
        Path(os.environ["WAITS"], f"{os.getpid()}-{config.key}").touch()
        while config.fold and not Path(os.environ["WAITS"], "go").exists():
            time.sleep(0.02)
    elif os.environ.get("MEET"):  # nobody is done before so many processes have begun
        Path(os.environ["MEET"], str(os.getpid())).touch()
        end = time.monotonic() + 60
        while len(os.listdir(os.environ["MEET"])) < 2 and time.monotonic() < end:
            time.sleep(0.02)
    told = {"device": device, "seen": SEEN, "now": os.environ.get("CUDA_VISIBLE_DEVICES"), "process": os.getpid(),
            "torch": "torch" in sys.modules, "checkpoint": checkpoint}
    return {"record": "run", "key": config.key, "config": values, "size": config.size, "told": told,
            "curves": {"accuracy": [0.5] * config.epochs}, **RECORDED}
"""
INSTEAD = """
import importlib.abc, importlib.machinery, os, sys, types
if os.environ.get("DASK_CUDA"):
    sys.modules["dask_cuda"] = types.ModuleType("dask_cuda")
class Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == os.environ.get("MISSING"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "anabook.experiments.run" or (name == "torch" and os.environ.get("NO_TORCH")):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        if module.__name__ == "torch":
            module.SEEN, module.set_num_threads = os.environ.get("CUDA_VISIBLE_DEVICES"), lambda n: None
            return
        exec(open(os.path.join(os.path.dirname(__file__), "trains.py")).read(), module.__dict__)
sys.meta_path.insert(0, Instead())
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with two cards, for whatever process is started on it."""
    stand_ins = tmp_path / "stand-ins"
    stand_ins.mkdir()
    (stand_ins / "trains.py").write_text(TRAINS)
    (stand_ins / "sitecustomize.py").write_text(INSTEAD)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{stand_ins}{os.pathsep}{Path(__file__).parents[1]}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cards, "_taken", {})
    cards._present.cache_clear()
    with_cards(tmp_path, monkeypatch, "GPU 0: A Card (UUID: GPU-aa)\nGPU 1: A Card (UUID: GPU-bb)\n")
    yield
    cards._present.cache_clear()


def with_cards(tmp_path, monkeypatch, said):
    program = tmp_path / "stand-ins" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@contextlib.contextmanager
def dask(tmp_path, *workers):
    """A scheduler and its workers: for each, arguments and environment. Gives the address and the processes."""
    processes, file = [], tmp_path / "scheduler.json"
    file.unlink(missing_ok=True)

    def start(what, *words, **environment):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        log = (tmp_path / f"{what}{len(processes)}.log").open("wb")
        processes.append(subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **environment}))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        for i, (words, environment) in enumerate(workers):
            place = ["--local-directory", str(tmp_path / f"worker{i}")]
            nanny = [] if "--nanny" in words else ["--no-nanny"]
            start("worker", "--scheduler-file", str(file), "--nthreads", "1", *nanny, *place, *words, **environment)
        wait_for(lambda: file.exists() and file.stat().st_size)
        address = json.loads(file.read_text())["address"]
        wait_for(lambda: sum("Registered to" in log.read_text() for log in tmp_path.glob("worker*.log")) == len(workers))
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def meeting(tmp_path, monkeypatch):
    """Runs last until two processes have begun one."""
    place = tmp_path / "meeting"
    place.mkdir()
    monkeypatch.setenv("MEET", str(place))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def tiny(fold, **changes):
    return make("svhn-stand-in", "float", fold, width=1 / 32, shrink=4, n_train=60, period=1, n_folds=50, **changes)


def sweep_file(tmp_path, n=6):
    path = tmp_path / "sweep.toml"
    path.write_text(
        f'data = "svhn-stand-in"\nunits = ["float"]\nfolds = {list(range(n))}\n[settings]\n'
        "width = 0.03125\nshrink = 4\nn_train = 60\nperiod = 1\nn_folds = 50\n"
    )
    return str(path)


def recorded(tmp_path):
    files = list((tmp_path / "results").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def swept(tmp_path, address, n=6, *words):
    return cli.main(["sweep", sweep_file(tmp_path, n), "--results", str(tmp_path / "results"), "--cluster", address, *words])


def of_processes(told):
    """What each process saw when it would have loaded torch, and that it was the same in all its runs."""
    seen = {(each["process"], each["seen"], each["now"], each["device"]) for each in told}
    assert len(seen) == len({each["process"] for each in told}) and not any(each["torch"] for each in told)
    return sorted((before, device) for _, before, now, device in seen if before == now)


GPU = ["--resources", "GPU=1"]


def test_each_worker_of_a_cluster_has_a_card_of_its_own_before_torch_is_loaded(tmp_path, meeting):
    with dask(tmp_path, (GPU, {}), (GPU, {}), ([], {})) as (address, _):
        assert swept(tmp_path, address, 8, "--device", "cuda", "--checkpoints", str(tmp_path / "runs")) == 0
        told = [record["told"] for record in recorded(tmp_path)]
        assert len(told) == 8 and of_processes(told) == [("0", "cuda"), ("1", "cuda")]
        assert all(Path(each["checkpoint"]).is_absolute() for each in told)
        # A second sweep finds the same processes, which keep their cards.
        assert swept(tmp_path, address, 12, "--device", "cuda") == 0
        again = [record["told"] for record in recorded(tmp_path)]
        assert len(again) == 12 and of_processes(again) == [("0", "cuda"), ("1", "cuda")]


def test_cards_that_were_given_to_workers_are_respected(tmp_path, meeting):
    theirs = [{"CUDA_VISIBLE_DEVICES": "GPU-bb"}, {"CUDA_VISIBLE_DEVICES": "1,0", "DASK_CUDA": "1"}]
    with dask(tmp_path, ([], theirs[0]), ([], theirs[1]), ([], {})) as (address, _):
        with sweep.cluster(address, device="cuda") as (_, workers):
            assert workers == 2
        assert swept(tmp_path, address, 8, "--device", "cuda", "--dry-run") == 0
        assert swept(tmp_path, address, 8, "--device", "cuda") == 0
    told = [record["told"] for record in recorded(tmp_path)]
    assert of_processes(told) == [("1,0", "cuda"), ("GPU-bb", "cuda")]


def test_without_a_card_there_is_one_sentence_and_nothing_is_recorded(tmp_path, capsys):
    with dask(tmp_path, ([], {"CUDA_VISIBLE_DEVICES": ""})) as (address, _):
        assert swept(tmp_path, address, 2, "--device", "cuda") == 2
        said = capsys.readouterr().err
        assert "offers a graphics card: start one for each card" in said and said.count("\n") == 1
        assert swept(tmp_path, address, 2) == 0  # on its processors it runs as ever
    assert [record["told"]["device"] for record in recorded(tmp_path)] == ["cpu"] * 2


def test_a_worker_that_cannot_load_the_package_is_named_before_its_first_run_would_end_it(tmp_path, capsys):
    with dask(tmp_path, (GPU, {"MISSING": "anabook"})) as (address, processes):
        assert swept(tmp_path, address, 3, "--device", "cuda") == 2
        assert processes[1].poll() is None
    said = capsys.readouterr().err
    assert "cannot load anabook (No module named 'anabook'): install anabook[training,cluster] there" in said
    assert said.count("\n") == 1 and recorded(tmp_path) == []


@pytest.mark.parametrize(
    "error, says",
    [
        (ValueError("torch finds no CUDA device."), "can take no runs: torch finds no CUDA device."),
        (ImportError("No module named 'torch'"), r"cannot load what runs need \(No module named 'torch'\)"),
    ],
)
def test_a_worker_that_can_train_nothing_ends_the_sweep_and_is_blamed_on_no_run(tmp_path, monkeypatch, error, says):
    def use(device):
        raise error

    monkeypatch.setattr(runs, "use", use)
    monkeypatch.setattr(cards, "visible", list)
    with pytest.raises(ValueError, match=says), ThreadPoolExecutor(1) as executor:
        sweep.sweep([tiny(0), tiny(1)], tmp_path / "results", executor=executor, devices=["cuda"], report=lambda _: None)
    assert recorded(tmp_path) == []


def test_when_the_scheduler_dies_nothing_is_recorded_of_the_runs_in_progress_and_the_next_sweep_makes_them(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("WAITS", str(tmp_path))
    workers = [(GPU, {}), (GPU, {})]
    with dask(tmp_path, *workers) as (address, processes):

        def kill():
            wait_for(lambda: recorded(tmp_path) and len(list(tmp_path.glob("*-*"))) >= 3)
            processes[0].send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        begun = time.monotonic()
        assert swept(tmp_path, address, 6, "--device", "cuda") == 2
        assert time.monotonic() - begun < 60
        killer.join()
    said = capfd.readouterr().err
    assert f"anabook: the Dask scheduler at {address!r} is gone, and with it 4 runs that it had taken" in said
    assert "Traceback" not in said and "FAILED" not in said
    assert [(r["config"]["fold"], r["status"]) for r in recorded(tmp_path)] == [(0, "done")]
    (tmp_path / "go").touch()
    with dask(tmp_path, *workers) as (address, _):
        assert swept(tmp_path, address, 6, "--device", "cuda") == 0
    assert sorted(r["config"]["fold"] for r in recorded(tmp_path)) == list(range(6))
    assert "5 runs to do, 1 recorded already" in capfd.readouterr().err


def test_a_cluster_that_loses_its_last_worker_says_so_and_the_sweep_goes_on_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_PATIENCE", 0.3)
    monkeypatch.setenv("WAITS", str(tmp_path))
    lines = []
    with dask(tmp_path, (GPU, {})) as (address, processes), sweep.cluster(address, device="cuda") as (executor, workers):

        def report(line):
            lines.append(line)
            if line.startswith("[1/"):
                processes[1].kill()
                (tmp_path / "go").touch()
            if "no worker left that offers a graphics card: runs wait" in line:
                words = ["--scheduler-file", str(tmp_path / "scheduler.json"), "--nthreads", "1", "--no-nanny", *GPU]
                processes.append(
                    subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *words, "--no-dashboard"])
                )

        sweep.sweep(
            [tiny(i) for i in range(3)],
            tmp_path / "results",
            executor=executor,
            workers=workers,
            devices=["cuda"],
            report=report,
        )
    assert [r["status"] for r in recorded(tmp_path)] == ["done"] * 3
    assert len([line for line in lines if "no worker left" in line]) == 1


def test_what_was_finished_when_an_executor_gives_up_is_recorded_first(tmp_path):
    class Gone:
        def __init__(self):
            self.futures = []

        def submit(self, function, values, *rest):
            self.futures.append(Future())
            if len(self.futures) == 3:
                self.futures[0].cancel(), self.futures[0].set_running_or_notify_cancel()
                self.futures[1].set_exception(ValueError("the run's own"))
                self.futures[2].set_result({**records.failure(tiny(2), ""), "status": "done", "accuracy": 0.5, "curves": {}})
            return self.futures[-1]

    with pytest.raises(ExecutorLost, match="gave up 1 run that it had taken: nothing is recorded of it"):
        sweep.sweep([tiny(i) for i in range(3)], tmp_path / "results", executor=Gone(), slots=3, report=lambda _: None)
    assert [(r["config"]["fold"], r["status"]) for r in recorded(tmp_path)] == [(2, "done"), (1, "failed")]


def test_local_processes_have_a_card_each_before_torch_is_loaded(tmp_path, monkeypatch, meeting):
    monkeypatch.setenv("NO_TORCH", "1")
    monkeypatch.setattr(sweep, "check_prepared", lambda _: None)
    monkeypatch.setattr(sweep, "check_devices", lambda _: None)
    lines = []
    sweep.sweep([tiny(i) for i in range(6)], tmp_path / "results", devices=["cuda"], report=lines.append)
    told = [record["told"] for record in recorded(tmp_path)]
    assert "2 at a time" in lines[0] and {each["torch"] for each in told} == {True}
    assert of_processes([{**each, "torch": False} for each in told]) == [("0", "cuda"), ("1", "cuda")]


def test_processes_share_cards_evenly_and_a_card_is_free_again_when_its_process_is_killed():
    assert sweep.default_workers(["cuda"]) == 2 and sweep.default_workers(["cuda:0"]) == 1
    assert sorted(Counter(take_in_processes("cuda", "cuda", "cuda")).values()) == [1, 2]
    assert take_in_processes("cuda", "cuda:1") == ["cuda 0 False", "cuda 1 False"]


def take_in_processes(*devices):
    """The device, CUDA_VISIBLE_DEVICES and whether torch is loaded, of processes that live at the same time."""
    code = (
        "import os, sys\nfrom anabook.experiments import cards\nprint(cards.take(sys.argv[1]), "
        "os.environ.get('CUDA_VISIBLE_DEVICES'), 'torch' in sys.modules, flush=True)\ninput()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code, device], **pipes) for device in devices]
    said = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.kill()
        process.communicate()
    return said


@pytest.mark.parametrize(
    "variable, cards_there",
    [(None, ["0", "1"]), ("", []), ("-1", []), ("1", ["1"]), (" GPU-bb , GPU-aa", ["GPU-bb", "GPU-aa"]), ("1,-1,0", ["1"])],
)
def test_the_cards_of_a_process_are_those_that_its_variable_leaves(monkeypatch, variable, cards_there):
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert cards.visible() == cards_there


def test_parts_of_a_divided_card_are_cards(tmp_path, monkeypatch):
    part = "  MIG 3g.40gb     Device  {}: (UUID: MIG-{})\n"
    said = "GPU 0: A Card (UUID: GPU-aa)\n" + part.format(0, "cc") + part.format(1, "dd") + "GPU 1: A Card (UUID: GPU-bb)\n"
    with_cards(tmp_path, monkeypatch, said)
    assert cards.visible() == ["MIG-cc", "MIG-dd", "1"]


def test_a_machine_that_does_not_tell_its_cards_is_left_to_torch(tmp_path, monkeypatch):
    (tmp_path / "stand-ins" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert cards.visible() == [] and cards.take("cuda") == "cuda" and cards.take("cuda:1") == "cuda:1"
    assert sweep.default_workers(["cuda"]) == 1 and "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_sweep_says_which_devices_an_executor_takes(tmp_path, capsys):
    with pytest.raises(ValueError, match="with an executor, devices must be one name without a number, .* not 'cuda:0'"):
        sweep.sweep([tiny(0)], tmp_path, executor=ThreadPoolExecutor(1), devices=["cuda:0"], report=lambda _: None)
    words = ["sweep", sweep_file(tmp_path), "--cluster", "tcp://127.0.0.1:9", "--devices", "cuda:0", "cuda:1"]
    assert cli.main(words) == 2
    assert "--devices cuda:0 cuda:1 names cards of this machine" in capsys.readouterr().err


def test_runs_in_one_process_take_turns(tmp_path, monkeypatch):
    inside, most = [], []

    def attempt(values, *_):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return records.failure(tiny(values["fold"]), "no")

    monkeypatch.setattr(runs, "attempt", attempt)
    with ThreadPoolExecutor(4) as executor:
        configs = [tiny(i) for i in range(8)]
        assert sweep.sweep(configs, tmp_path / "results", executor=executor, report=lambda _: None) == (0, 8)
    assert max(most) == 1
