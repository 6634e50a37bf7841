"""The step of training as one program: compiled on a CPU, captured on a GPU, and the capture rehearsed without one."""

import contextlib
import copy
import functools
import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from anabook import Quantiser, Schedule, models, training
from anabook.training import Quantise, captured, checkpoint

TERNARY = Quantiser.ternary()
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
SGD = functools.partial(torch.optim.SGD, momentum=0.9, foreach=True)


def data(n=70, device=None):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, 6, generator=generator)
    return x, (x[:, :3].sum(1) > 0).long() + (x[:, 3] > 0.5).long()


def network(strategy="mode", hidden=(8, 7), **options):
    torch.manual_seed(0)
    return training.quantise(models.mlp(6, hidden, n_classes=3), TERNARY, TERNARY, strategy=strategy, **options)


def schedule(n_layers=2):
    return Schedule.periodic(n_layers=n_layers, period=1, interval="partition", std0=0.2887)


def fit(net, *, compile=True, epochs=4, **options):
    options = {"batch_size": 32, "lr": 0.01, "seed": 1, "initialise": "near_thresholds", "progress": False} | options
    options.setdefault("optimiser", SGD)
    plan = options.pop("schedule", schedule())
    return training.fit(net, options.pop("data", None) or data(), plan, epochs=epochs, compile=compile, **options)


def weights(net):
    return {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    pass


def resumed(make, path, monkeypatch, kill_at, **options):
    """The weights of a run that was killed after so many steps, with a checkpoint after each, and taken up again."""
    from anabook.training.run import Run

    update, done = Run.save, []

    def save(self):
        update(self)
        done.append(None)
        if len(done) == kill_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save)
        with pytest.raises(Killed):
            fit(make(), checkpoint=path, checkpoint_steps=1, **options)
    net = make()
    fit(net, checkpoint=path, checkpoint_steps=1, **options)
    return weights(net)


# A graph, rehearsed on the CPU --------------------------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """Writes down each operation with the memory that it reads and writes, as a CUDA graph does."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = function(*args, **(kwargs or {}))
        if function.namespace == "aten":
            self.entries.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def play(self):
        for function, args, kwargs, out in self.entries:
            made = function(*args, **kwargs)
            old, new = ([t] if isinstance(t, torch.Tensor) else list(t or ()) for t in (out, made))
            for kept, t in zip(old, new):
                if isinstance(t, torch.Tensor) and t.data_ptr() != kept.data_ptr() and t.numel():
                    kept.copy_(t)


class Rehearsal:
    """In the place of CUDA: what is captured is done on the spot and undone, then repeated without any Python of its own."""

    capturable = False

    def __init__(self, owners):
        self.owners, self.replays, self.eager, self.waits = owners, 0, 0, []

    @contextlib.contextmanager
    def aside(self):
        self.eager += 1
        yield

    @contextlib.contextmanager
    def watching(self):
        yield self.waits

    def capture(self, work):
        net, optimiser = self.owners
        state = [t for group in optimiser.state.values() for t in group.values() if isinstance(t, torch.Tensor)]
        tensors = [*net.parameters(), *net.buffers(), *state]
        before, random = [t.detach().clone() for t in tensors], torch.get_rng_state()
        try:
            with Tape() as tape:
                results = work()
        finally:
            with torch.no_grad():
                for t, old in zip(tensors, before):
                    t.copy_(old)
            torch.set_rng_state(random)
        assert len(state) == sum(isinstance(t, torch.Tensor) for group in optimiser.state.values() for t in group.values())

        def replay():
            self.replays += 1
            tape.play()

        return replay, results


@pytest.fixture
def rehearsed(monkeypatch):
    """Steps are captured as on a GPU; the list has each run's step."""
    steps = []

    def make(run):
        steps.append(captured.Replayed(run, Rehearsal((run.net, run.step))))
        return steps[-1]

    monkeypatch.setattr(sys.modules["anabook.training.fit"], "captured", make)
    return steps


@pytest.mark.parametrize("strategy", ["mode", "expectation", "random"])
@pytest.mark.parametrize("optimiser", [SGD, torch.optim.Adam], ids=["whole", "halves"])
def test_replayed_steps_give_the_eager_weights_bit_for_bit(strategy, optimiser, rehearsed):
    eager, net = network(strategy), network(strategy)
    expected = fit(eager, compile=False, optimiser=optimiser, epochs=6, data=data(200))
    history = fit(net, optimiser=optimiser, epochs=6, data=data(200))
    assert same(weights(net), weights(eager))
    assert [(e.train, e.stopped) for e in history] == [(e.train, e.stopped) for e in expected]
    (step,) = rehearsed
    assert step.whole is (optimiser is SGD) and not step.off
    # 6 full batches and an odd one in each epoch. A layer falls silent in epochs 1, 2: three captures.
    assert step.captures == 3
    assert step.backend.eager == 6 + 3 * captured.EAGER_STEPS
    assert step.backend.replays == 36 - 3 * captured.EAGER_STEPS


def test_replayed_steps_learn_the_quanta_and_keep_them_positive(rehearsed):
    nets = [network(quantum="learned", gradient_scale=30.0) for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, epochs=2, data=data(200), optimiser=SGD, lr=0.05)
    (step,) = rehearsed
    assert step.whole and step.captures == 2 and step.backend.replays > 4
    assert same(*map(weights, nets))
    quanta = torch.cat([q.detach().flatten() for q in training.learned_quanta(nets[1]).values()])
    assert (quanta > 0).all() and (quanta < 0.5).any()  # some were kept from becoming negative


@pytest.mark.parametrize("noise_every", ["epoch", "iteration"])
def test_noise_that_shrinks_within_a_layout_is_written_in_place(noise_every, rehearsed):
    nets = [network("expectation") for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(
            net, compile=compile, schedule=lambda layer, t: (0.1 / (t + 1), 0.3 / (t + 1)), noise_every=noise_every,
            data=data(200), epochs=3,
        )  # fmt: skip
    assert same(*map(weights, nets))
    assert rehearsed[0].captures == 1 and rehearsed[0].backend.replays == 18 - captured.EAGER_STEPS


def test_a_layout_that_changes_is_captured_anew(rehearsed):
    # 8 bits: a noise that reaches fewer thresholds has a narrower window.
    many = Quantiser.linear(8, quantum=0.05)
    nets = []
    for compile in (False, True):
        torch.manual_seed(0)
        nets.append(training.quantise(models.mlp(6, (8,), n_classes=3), TERNARY, many, strategy="expectation"))
        fit(
            nets[-1], compile=compile, schedule=lambda layer, t: (0.0, 0.2 / 3**t), data=data(200), epochs=3,
        )  # fmt: skip
    assert same(*map(weights, nets))
    assert rehearsed[0].captures == 3


@pytest.mark.parametrize("kill_at", [3, 6, 7, 9])
def test_a_captured_run_that_was_killed_goes_on_bit_for_bit(kill_at, rehearsed, tmp_path, monkeypatch):
    net = network("random")
    fit(net, data=data(150))
    assert same(resumed(lambda: network("random"), tmp_path / "run", monkeypatch, kill_at, data=data(150)), weights(net))


@pytest.mark.parametrize("every", ["epoch", "iteration"])
@pytest.mark.parametrize(
    "optimiser, scheduler",
    [
        (SGD, functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)),
        (SGD, functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=40)),
        (torch.optim.Adam, functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)),
    ],
    ids=["exponential", "one cycle", "Adam"],
)
def test_learning_rates_reach_the_captured_step(optimiser, scheduler, every, rehearsed):
    nets = [network() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(
            net, compile=compile, optimiser=optimiser, scheduler=scheduler, scheduler_every=every, schedule=None,
            data=data(224), epochs=4,
        )  # fmt: skip
    assert same(*map(weights, nets))
    # What changes with every step is left out of the graph, what changes with an epoch is captured again.
    step = rehearsed[0]
    assert step.whole is (optimiser is SGD and every == "epoch")
    assert step.captures == (4 if step.whole else 1)


def test_a_function_of_the_epoch_gives_the_rate(rehearsed):
    nets = [network() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, lr=lambda epoch: 0.1 / (epoch + 1), schedule=None, data=data(160))
    assert same(*map(weights, nets)) and rehearsed[0].captures == 4


def test_what_waits_for_the_device_runs_eagerly_with_one_warning(rehearsed, monkeypatch):
    monkeypatch.setattr(Rehearsal, "watching", lambda self: contextlib.nullcontext(["called a synchronizing operation"]))
    nets = [network() for _ in range(2)]
    fit(nets[0], compile=False)
    with pytest.warns(RuntimeWarning, match="compile=True does nothing here, since network or loss wait") as caught:
        fit(nets[1])
    assert same(*map(weights, nets)) and rehearsed[0].captures == 0
    assert sum("compile=True" in str(w.message) for w in caught) == 1


def test_a_capture_that_fails_leaves_the_eager_step(rehearsed):
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * outputs.detach().max().clamp(1, 2).item()

    nets = [network() for _ in range(2)]
    fit(nets[0], compile=False, loss=loss)
    with pytest.warns(RuntimeWarning, match="could not be captured .operation not permitted"):
        fit(nets[1], loss=loss)
    assert same(*map(weights, nets))


def test_labels_are_checked_in_replayed_steps(rehearsed):
    x, y = data(320)
    batches = [(x[i : i + 32], y[i : i + 32].clone()) for i in range(0, 320, 32)]
    batches[-1][1][0] = 7
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        fit(network(), data=batches, schedule=None)


def test_a_network_that_proves_its_cuts_is_captured_after_the_proof(rehearsed):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = models.mlp(6, (8, 7), n_classes=3)

        def forward(self, x):
            return self.part(x)

    nets = []
    for compile in (False, True):
        torch.manual_seed(0)
        nets.append(training.quantise(Own(), TERNARY, TERNARY))
        fit(nets[-1], compile=compile, data=data(250))
    assert same(*map(weights, nets)) and rehearsed[0].captures == 3


@pytest.mark.parametrize("rule", [False, training.Stopping(still=True)], ids=["stop=False", "still"])
def test_every_rule_of_stopping_is_captured(rule, rehearsed):
    nets = [network() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, stop=rule, data=data(200))
    assert same(*map(weights, nets)) and rehearsed[0].backend.replays > 0


def test_dictionaries_of_targets_are_copied_to_the_graph(rehearsed):
    def loss(outputs, targets):
        return (targets["weight"] * nn.functional.cross_entropy(outputs, targets["class"], reduction="none")).mean()

    x, y = data(160)
    batches = [(x[i : i + 32], {"class": y[i : i + 32], "weight": torch.linspace(0, 1, 32) * i}) for i in range(0, 160, 32)]
    nets = [network() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, data=batches, loss=loss)
    assert same(*map(weights, nets)) and rehearsed[0].captures == 3


def test_the_noise_is_free_again_after_a_run(rehearsed):
    net = network()
    fit(net, epochs=1)
    module = next(m for m in net.modules() if isinstance(m, Quantise))
    plans = dict(module._plans)
    module.set_noise(0.0, 0.123)
    changed = [key for key in plans if key[0]]
    assert changed and all(module._plans[key].constants is not plans[key].constants for key in changed)


def test_loss_scaling_stays_outside_of_the_graph(rehearsed):
    nets = [network() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, precision="float16", data=data(200))
    assert same(*map(weights, nets)) and rehearsed[0].captures == 3 and not rehearsed[0].whole


# A compiled program -------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch):
    """Programs are traced as ever, and run without a compiler for C++, whose work takes seconds; the list has the steps."""
    steps = []
    torch_compile = torch.compile

    def compile(function, **settings):
        del settings["options"]
        return torch_compile(function, backend="aot_eager", **settings)

    def make(run):
        steps.append(captured.Compiled(run))
        return steps[-1]

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(sys.modules["anabook.training.fit"], "captured", make)
    return steps


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("strategy, layers", [("mode", 2), ("expectation", 1), ("random", 1)])
def test_compiled_steps_give_the_eager_weights_up_to_roundings(strategy, layers, traced):
    eager, net, again = (network(strategy, (8, 7)[:layers]).double() for _ in range(3))
    plan = schedule(layers)
    expected = fit(eager, compile=False, schedule=plan)
    before = graphs()
    history = fit(net, schedule=plan)
    # One program for each set of silent layers: none, the first, both.
    assert None not in traced[0].programs.values() and len(traced[0].programs) == graphs() - before == layers + 1
    for name, t in weights(net).items():
        torch.testing.assert_close(t, weights(eager)[name], msg=name)
    assert [e.stopped for e in history] == [e.stopped for e in expected]
    fit(again, schedule=plan)
    assert same(weights(again), weights(net))


def test_a_compiled_run_that_was_killed_goes_on_bit_for_bit(traced, tmp_path, monkeypatch):
    def make():
        return network("random", (8,))

    net, options = make(), {"schedule": schedule(1), "epochs": 2}
    fit(net, **options)
    # Three steps and an epoch's end are written in each epoch: in the middle of the first, at its end, after the last.
    for kill_at in (2, 4, 7):
        assert same(resumed(make, tmp_path / f"{kill_at}", monkeypatch, kill_at, **options), weights(net))


@pytest.mark.parametrize("optimiser", [SGD, torch.optim.Adam], ids=["SGD", "Adam"])
def test_noise_and_rates_that_change_compile_nothing_new(optimiser, traced):
    before = graphs()
    nets = [network(hidden=(8,)).double() for _ in range(2)]
    for net, compile in zip(nets, (False, True)):
        fit(
            net, compile=compile, optimiser=optimiser, schedule=lambda layer, t: (0.1 / (t + 1), 0.3 / (t + 1)),
            noise_every="iteration", lr=lambda epoch: 0.02 / (epoch + 1),
        )  # fmt: skip
    assert graphs() == before + 1
    for name, t in weights(nets[0]).items():
        torch.testing.assert_close(t, weights(nets[1])[name], msg=name)


@pytest.mark.parametrize("rule", [False, training.Stopping(still=True)], ids=["stop=False", "still"])
def test_compiled_steps_keep_to_the_rule_of_stopping(rule, traced):
    nets = [network(hidden=(8,)).double() for _ in range(2)]
    optimiser = functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1)
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, stop=rule, optimiser=optimiser, lr=0.1, schedule=schedule(1), epochs=3)
    for name, t in weights(nets[0]).items():
        torch.testing.assert_close(t, weights(nets[1])[name], msg=name)


def test_a_network_of_ones_own_is_compiled_without_cuts(traced):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.spare = models.mlp(6, (8,), n_classes=3), nn.Linear(2, 2)

        def forward(self, x):
            return self.part(x)

    nets = []
    for compile in (False, True):
        torch.manual_seed(0)
        nets.append(training.quantise(Own(), TERNARY, TERNARY, keep=("part.last", "spare")).double())
        optimiser = functools.partial(torch.optim.SGD, weight_decay=0.1)
        fit(nets[-1], compile=compile, schedule=schedule(1), optimiser=optimiser, epochs=3)
    for name, t in weights(nets[0]).items():
        torch.testing.assert_close(t, weights(nets[1])[name], msg=name)
    assert None not in traced[0].programs.values() and len(traced[0].programs) == 2
    with pytest.warns(RuntimeWarning, match="still=True needs a Sequential"):
        fit(nets[1], schedule=schedule(1), stop=training.Stopping(still=True), epochs=1)


def test_what_cannot_be_compiled_runs_eagerly_with_one_warning(traced):
    def loss(outputs, targets):
        torch._dynamo.graph_break()
        return nn.functional.cross_entropy(outputs, targets)

    nets = [network("random") for _ in range(2)]
    fit(nets[0], compile=False, loss=loss)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(nets[1], loss=loss)
    assert same(*map(weights, nets))
    assert sum("compile=True does nothing here, since torch.compile failed" in str(w.message) for w in caught) == 1


def test_mistakes_are_named_as_by_the_eager_step(traced):
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(ValueError, match="labels must be from 0 to 2"):
            fit(network(), data=(x, y + 5))
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            fit(network(), data=(x[:, :5], y))


class Own(nn.Module):
    """A network whose path nobody knows; while training it has two outputs."""

    def __init__(self, outputs=1):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)
        self.outputs = outputs

    def forward(self, x):
        out = self.last(self.relu(self.first(x)))
        return (out, out) if self.outputs == 2 and self.training else out


def own(outputs=1):
    torch.manual_seed(0)
    return training.quantise(Own(outputs), TERNARY, TERNARY)


def test_a_network_of_ones_own_takes_no_step_eagerly_when_it_is_taken_up(traced, tmp_path, monkeypatch):
    eager, whole, steps = [], [], captured.Compiled.eager
    full = captured.Compiled.full
    monkeypatch.setattr(captured.Compiled, "eager", lambda self, *given: eager.append(1) or steps(self, *given))
    monkeypatch.setattr(captured.Compiled, "full", lambda self, *given: whole.append(1) or full(self, *given))
    options = {"schedule": schedule(1), "epochs": 3, "drop_last": True}
    fit(own(), **options)
    assert len(whole) == 6 and not eager  # each of them
    whole.clear()
    # The last step is taken anew, with all noise gone.
    resumed(own, tmp_path / "file", monkeypatch, 8, **options)
    assert len(whole) == 6 and not eager


def test_outputs_may_be_others_while_training(traced):
    def both(outputs, y):
        return sum(nn.functional.cross_entropy(out, y) for out in outputs)

    nets = own(2).double(), own(2).double()
    for net, compile in zip(nets, (False, True)):
        fit(net, compile=compile, loss=both, schedule=schedule(1))
    for name, t in weights(nets[0]).items():
        torch.testing.assert_close(t, weights(nets[1])[name], msg=name)


def test_a_copy_made_in_a_callback_is_free_of_the_run(traced):
    copies, before = [], graphs()
    net = network(hidden=(8,))
    fit(net, schedule=lambda layer, t: (0.0, 0.3), callback=lambda epoch, net: copies.append(copy.deepcopy(net)))
    assert graphs() == before + 1
    for each in copies[0], net:
        for module in each.modules():
            assert not (module._forward_hooks or isinstance(module, Quantise) and module._held)


def test_a_warning_that_is_an_error_leaves_the_network_free(traced):
    net = own()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeWarning, match="still=True"):
            fit(net, stop=training.Stopping(still=True), schedule=schedule(1))
    for module in net.modules():
        assert not (module._forward_hooks or module._forward_pre_hooks or isinstance(module, Quantise) and module._held)


def test_compiled_by_torch_in_earnest():
    nets = [network("mode", (8,)) for _ in range(3)]
    for net, compile in zip(nets, (False, True, True)):
        fit(net, compile=compile, schedule=None, epochs=2)
    assert same(weights(nets[1]), weights(nets[2]))
    for name, t in weights(nets[0]).items():
        torch.testing.assert_close(t, weights(nets[1])[name], msg=name, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_training_goes_on_with_one_warning(tmp_path):
    program = """
import warnings
import torch
from torch import nn
from anabook import training
x = torch.randn(16, 4)
def trained(compile):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    training.fit(net, (x, (x[:, 0] > 0).long()), None, epochs=3, batch_size=8, compile=compile, progress=False)
    return list(net.state_dict().values())
eager = trained(False)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = trained(True)
assert all(map(torch.equal, eager, compiled))
print(sum("torch.compile failed" in str(w.message) for w in caught))
"""
    environment = {**os.environ, "CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "1", done.stderr[-2000:]


# Arguments ----------------------------------------------------------------------------------------------------------


class Counting(torch.nn.Module):
    """A network that keeps count of its calls in Python."""

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


def test_a_forward_pass_that_counts_in_python_takes_the_eager_steps():
    eager, counting = network(), Counting(network())
    fit(eager, compile=False)
    with pytest.warns(RuntimeWarning, match="compile=True does nothing here, since torch.compile failed"):
        fit(counting)
    assert same(weights(counting.net), {name.removeprefix("net."): t for name, t in weights(eager).items()})


def test_compile_is_refused_where_it_cannot_be_meant():
    with pytest.raises(TypeError, match="compile must be True or False"):
        fit(network(), compile="yes")
    with pytest.raises(ValueError, match="compile=True needs a network that is not compiled"):
        fit(torch.compile(models.mlp(6)), schedule=None, initialise=None)
    with pytest.raises(ValueError, match="features cannot be cached where the steps are compiled"):
        fit(network(), stop=training.Stopping(cache=True))


def test_a_checkpoint_from_before_is_one_without_compilation(tmp_path):
    path = tmp_path / "run"
    fit(network(), compile=False, epochs=1, checkpoint=path)
    state = checkpoint.load(path)
    del state["config"]["compile"], state["batch"]
    state["config_hash"] = checkpoint.config_hash(state["config"])
    checkpoint.save(path, state)
    assert len(fit(network(), compile=False, epochs=2, checkpoint=path)) == 2
    with pytest.raises(ValueError, match="its compile is False, not True"):
        fit(network(), epochs=2, checkpoint=path)


# On a GPU -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """The steps of the runs, captured by CUDA."""
    made, make = [], captured.captured

    def kept(run):
        made.append(make(run))
        return made[-1]

    monkeypatch.setattr(sys.modules["anabook.training.fit"], "captured", kept)
    return made


GPU_CASES = {
    "Adam": {"optimiser": torch.optim.Adam},
    "AdamW, rates": {"optimiser": torch.optim.AdamW, "lr": lambda epoch: 0.02 / (epoch + 1)},
    "NAdam": {"optimiser": torch.optim.NAdam},
    "Adagrad, in halves": {"optimiser": torch.optim.Adagrad},
    "SGD, rates": {"lr": lambda epoch: 0.02 / (epoch + 1)},
    "noise every iteration": {"optimiser": torch.optim.Adam, "noise_every": "iteration"},
    "one cycle": {
        "optimiser": torch.optim.Adam,
        "scheduler": functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=100),
        "scheduler_every": "iteration",
    },
    "bfloat16": {"optimiser": torch.optim.Adam, "precision": "bfloat16"},
    "float16": {"optimiser": torch.optim.Adam, "precision": "float16"},
    "still": {"optimiser": torch.optim.Adam, "stop": training.Stopping(still=True)},
    "stop=False": {"optimiser": torch.optim.Adam, "stop": False},
}


def on_cuda(strategy="mode", own=False):
    """A network of convolutions with a dropout; its quantisers with generators of their own, if asked for."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    net = training.quantise(net, TERNARY, TERNARY, strategy=strategy).cuda()
    for number, module in enumerate(m for m in net.modules() if isinstance(m, Quantise)):
        module.generator = torch.Generator("cuda").manual_seed(number) if own else None
    return net


@on_gpu
@pytest.mark.parametrize("strategy", ["mode", "expectation", "random"])
@pytest.mark.parametrize("case", GPU_CASES)
def test_cuda_replays_give_the_eager_weights_bit_for_bit(case, strategy, steps, monkeypatch):
    nets = [on_cuda(strategy) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fit(nets[0], data=data(410), **GPU_CASES[case])
        with monkeypatch.context() as patch:
            patch.setattr(captured, "EAGER_STEPS", 10**9)
            fit(nets[1], data=data(410), **GPU_CASES[case])
    assert steps[0].captures >= 3 and steps[1].captures == 0
    assert same(*map(weights, nets))


@on_gpu
@pytest.mark.parametrize("own", [False, True], ids=["global generator", "generators of one's own"])
def test_cuda_draws_go_on_in_replays_as_in_eager_steps(own, steps, monkeypatch):
    nets = [on_cuda("random", own) for _ in range(2)]
    fit(nets[0], data=data(410))
    monkeypatch.setattr(captured, "EAGER_STEPS", 10**9)
    fit(nets[1], data=data(410))
    assert steps[0].captures == 3 and same(*map(weights, nets))


@on_gpu
@pytest.mark.parametrize("kill_at", [3, 9, 13, 14, 20])
@pytest.mark.parametrize("own", [False, True], ids=["global generator", "generators of one's own"])
def test_a_cuda_run_that_was_killed_goes_on_bit_for_bit(own, kill_at, tmp_path, monkeypatch):
    options = {"data": data(410), "optimiser": torch.optim.Adam}
    net = on_cuda("random", own)
    fit(net, **options)
    assert same(resumed(lambda: on_cuda("random", own), tmp_path / "run", monkeypatch, kill_at, **options), weights(net))


@on_gpu
@pytest.mark.parametrize("optimiser", [SGD, torch.optim.Adam], ids=["SGD", "Adam"])
def test_no_replayed_step_waits_for_the_gpu(optimiser, steps, monkeypatch):
    from anabook.training.run import Run

    step, watched = Run._step, []

    def strict(self, rows, x, y):
        if self.captured._replay is None:
            return step(self, rows, x, y)
        watched.append(None)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(self, rows, x, y)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Run, "_step", strict)
    fit(on_cuda("random"), data=data(320), schedule=None, optimiser=optimiser)
    assert len(watched) > 30 and steps[0].captures == 1


@on_gpu
def test_a_loss_that_waits_for_the_gpu_is_named_and_left_alone(steps):
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * outputs.detach().max().clamp(1, 2).item()

    nets = [on_cuda("random") for _ in range(2)]
    fit(nets[0], compile=False, loss=loss)
    with pytest.warns(RuntimeWarning, match="network or loss wait for the device"):
        fit(nets[1], loss=loss)
    assert same(*map(weights, nets)) and steps[0].captures == 0
