"""Quantise under what torch can switch on around it: constants, exports, traces, transformations, devices."""

import contextlib
import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import sympy as sp
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from anabook import Quantiser, training
from anabook.symbolic import Density
from anabook.symbolic import x as symbol
from anabook.training import Quantise, kernels

FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64
TERNARY = Quantiser.ternary()
FINE = Quantiser.linear(4, quantum=0.07)  # no threshold of which a 16-bit type holds
PARABOLA = Density(sp.Rational(3, 4) * (1 - symbol**2), symbol, (-1, 1))
X = torch.linspace(-1.5, 1.5, 42).reshape(7, 6)
every_strategy = pytest.mark.parametrize("strategy", kernels.STRATEGIES)
every_dtype = pytest.mark.parametrize("dtype", FLOATS)
CPU = torch.device("cpu")


def network(strategy="mode", quantiser=TERNARY):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    net = training.quantise(net, quantiser, quantiser, strategy=strategy, keep=())
    for p in net.parameters():
        p.data.mul_(2.0)
    return net


def step(module, x):
    """Forward and backward pass with the same draws each time."""
    x = x.detach().clone().requires_grad_()
    torch.manual_seed(5)
    out = module(x)
    out.sum().backward()
    return out.detach(), x.grad


def trains_like(module, other):
    """Whether both give the same numbers in training and evaluation, in every float type."""
    for training_ in (True, False):
        for dtype in FLOATS:
            mine, its = (step(m.train(training_), X.to(dtype)) for m in (module, other))
            assert all(type(t) is torch.Tensor for t in mine)
            assert torch.equal(mine[0], its[0]) and torch.equal(mine[1], its[1])
    return True


# What is on when constants are made ---------------------------------------------------------------------------------


@contextlib.contextmanager
def default_device_meta():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


AROUND = {
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "a device as context": lambda: torch.device("meta"),
    "a default device": default_device_meta,
    "fake tensors": FakeTensorMode,
    "a counter of operations": lambda: FlopCounterMode(display=False),
}


def under(name, act):
    """`act` within a context of torch, or within a transformation."""
    made = []
    if name in AROUND:
        with AROUND[name]():
            return act()

    def within(v):
        made.append(act())
        return (v * v).sum()

    {
        "grad": grad(within),
        "vmap": vmap(within),
        "jvp": lambda v: jvp(within, (v,), (v,)),
        "trace": lambda v: torch.jit.trace(within, (v,), check_trace=False),
        "make_fx": make_fx(within),
    }[name](X)
    return made[0]


def call_first(module):
    module(torch.zeros(3))


ACTIONS = {
    "new noise": lambda m: m.set_noise(0.125, 0.21),
    "a copy": copy.deepcopy,
    "a pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "other types": lambda m: m.double().half().float(),
    "another device": lambda m: m.to("meta").to("cpu"),
}


@pytest.mark.parametrize("name", [*AROUND, "grad", "vmap", "jvp", "trace", "make_fx"])
@pytest.mark.parametrize("action", ["a new module", *ACTIONS])
def test_constants_made_under_anything_serve_training_afterwards(name, action):
    for strategy, noise in [("mode", "uniform"), ("expectation", "logistic"), ("random", PARABOLA)]:

        def make():
            return Quantise(FINE, noise, strategy, mean=0.03125)

        plain = make()
        if action == "a new module":
            changed = under(name, make)
        else:
            module = make()
            changed = under(name, lambda: ACTIONS[action](module)) or module
            plain = ACTIONS[action](plain) or plain
        assert trains_like(changed, plain)


@pytest.mark.parametrize("name", ["inference mode", "no grad", "autocast", "a counter of operations", "a device as context"])
@every_strategy
def test_a_first_call_under_anything_leaves_later_steps_as_they_are(name, strategy):
    module = Quantise(FINE, "normal", strategy)
    with AROUND[name]():
        for dtype in FLOATS:
            module(X.to(dtype))
    assert trains_like(module, Quantise(FINE, "normal", strategy))


TRANSFORMED = {
    "grad": lambda m, x: grad(lambda v: m(v).sum())(x),
    "grad of grad": lambda m, x: grad(lambda v: grad(lambda w: m(w).sum())(v).sum())(x),
    "vmap": lambda m, x: vmap(m, randomness="different")(x),
    "jvp": lambda m, x: jvp(m, (x,), (x,)),
    "trace": lambda m, x: make_fx(m)(x),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@every_strategy
@every_dtype
def test_a_first_call_within_a_transformation_works_and_leaves_later_steps_as_they_are(name, strategy, dtype):
    module = Quantise(FINE, "logistic", strategy)
    TRANSFORMED[name](module, X.to(dtype))
    assert trains_like(module, Quantise(FINE, "logistic", strategy))


@pytest.mark.parametrize(
    "dtype, strategy", [(torch.float16, "random"), (torch.bfloat16, "mode"), (torch.float64, "expectation")]
)
def test_a_first_call_within_a_users_own_compilation_works_in_every_float_type(dtype, strategy):
    torch._dynamo.reset()
    module = Quantise(FINE, "logistic", strategy)
    out, slope = step(torch.compile(module, backend="eager", fullgraph=True), X.to(dtype))
    expected, expected_slope = step(Quantise(FINE, "logistic", strategy), X.to(dtype))
    assert torch.equal(out, expected) and torch.equal(slope, expected_slope) and slope.any()
    assert trains_like(module, Quantise(FINE, "logistic", strategy))


@every_strategy
@every_dtype
@pytest.mark.parametrize("training_", [True, False])
def test_fake_tensors_pass_through_and_leave_later_steps_as_they_are(strategy, dtype, training_):
    module = Quantise(FINE, "normal", strategy).train(training_)
    for mode in (FakeTensorMode(), FakeTensorMode(allow_non_fake_inputs=True)):
        with mode:
            x = torch.empty(7, 6, dtype=dtype, requires_grad=True)
            out = module(x)
            out.sum().backward()
        assert out.shape == x.grad.shape == (7, 6) and out.dtype == x.grad.dtype == dtype
    for tracing in ("fake", "symbolic"):
        program = make_fx(module, tracing_mode=tracing)(X.to(dtype))
        if strategy != "random" or not training_:
            assert torch.equal(program(X.to(dtype)), module(X.to(dtype)))
    assert trains_like(module, Quantise(FINE, "normal", strategy))


def test_noise_set_within_a_transformation_reaches_a_program_compiled_before():
    torch._dynamo.reset()
    module = nn.Sequential(Quantise(FINE, "normal"))
    program = torch.compile(module, backend="eager", fullgraph=True)
    dtypes = torch.float32, torch.bfloat16
    for dtype in dtypes:  # each compiled before the module itself saw the type
        torch.testing.assert_close(step(program, X.to(dtype)), step(module, X.to(dtype)))
    with torch.inference_mode():
        module[0].set_noise(0.02, 0.01)
    for dtype in dtypes:
        torch.testing.assert_close(step(program, X.to(dtype)), step(module, X.to(dtype)))


# Exports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strict, deployed, quantiser, strategy",
    [
        (True, True, TERNARY, "mode"),
        (True, False, TERNARY, "mode"),
        (False, True, FINE, "random"),
        (False, False, FINE, "expectation"),
    ],
)
def test_a_fresh_network_is_exported_as_it_computes(strict, deployed, quantiser, strategy):
    expected = training.deploy(network(strategy, quantiser))(X)
    net = network(strategy, quantiser).eval()
    if deployed:
        net = training.deploy(net)
    program = torch.export.export(net, (X,), strict=strict)
    assert torch.equal(program.module()(X), expected)
    tensors = [*program.state_dict.values(), *program.constants.values()]
    integers = set() if deployed else {(torch.int64, CPU)}  # the mark of a quantised network
    assert {(t.dtype, t.device) for t in tensors} == {(torch.float32, CPU), *integers}
    assert all(type(t) in (torch.Tensor, nn.Parameter) for t in tensors)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert torch.equal(torch.export.load(file).module()(X), expected)
    assert trains_like(net[1], Quantise(quantiser, strategy=strategy, std=net[1].std))


def test_an_export_takes_batches_of_any_size():
    net = training.deploy(network())
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert torch.equal(program.module()(X[:3]), net(X[:3]))


@pytest.mark.parametrize("quantiser", [TERNARY, FINE], ids=["ternary", "fine"])
def test_a_traced_network_can_be_saved_and_computes_the_same(quantiser):
    net = training.deploy(network(quantiser=quantiser))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced, file = torch.jit.trace(net, (X,)), io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        assert torch.equal(torch.jit.load(file)(X), net(X))
    assert trains_like(net[1], Quantise(quantiser, std=0.0))


@pytest.mark.parametrize("quantiser", [TERNARY, FINE], ids=["ternary", "fine"])
def test_a_fresh_network_goes_to_onnx_and_computes_the_same_there(quantiser, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net = training.deploy(network(quantiser=quantiser))
    torch.onnx.export(net, (X,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    out = session.run(None, {session.get_inputs()[0].name: X.numpy()})[0]
    np.testing.assert_allclose(out, net(X).detach().numpy(), rtol=1e-6, atol=1e-6)


# Symbolic traces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
def test_a_symbolic_trace_has_the_quantiser_as_one_module(scaled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    scales = training.calibrate(net, X, TERNARY, TERNARY) if scaled else None
    net = training.quantise(net, TERNARY, TERNARY, keep=(), scales=scales)
    for each in (net, training.deploy(net)):
        traced = torch.fx.symbolic_trace(each)
        called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
        leaves = [name for name in called if isinstance(each.get_submodule(name), Quantise)]
        assert leaves == ["1.quantise" if scaled else "1"]
        mine, its = step(traced, X), step(each, X)
        assert torch.equal(mine[0], its[0]) and torch.equal(mine[1], its[1])
        for mode in (False, True):
            assert torch.equal(traced.train(mode)(X), each.train(mode)(X))


def test_noise_set_after_a_symbolic_trace_reaches_the_traced_network():
    net = network("expectation")
    traced = torch.fx.symbolic_trace(net)
    training.set_noise(traced, lambda layer, t: (0.1, 0.4), 0)
    training.set_noise(net, lambda layer, t: (0.1, 0.4), 0)
    assert torch.equal(traced(X), net(X)) and not torch.equal(traced(X), network("expectation")(X))


def test_features_behind_a_quantiser_are_extracted_by_its_name():
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    net = network()
    assert "1" in extraction.get_graph_node_names(net)[0]
    features = extraction.create_feature_extractor(net, ["1", "3"])(X)
    assert torch.equal(features["1"], net[:2](X)) and torch.equal(features["3"], net[:4](X))


def test_a_symbolic_trace_of_the_quantiser_alone_says_what_to_do():
    with pytest.raises(TypeError, match=r"^a Quantise is traced as a part of a network: put it into a torch\.nn\."):
        torch.fx.symbolic_trace(Quantise(TERNARY))
    assert torch.equal(torch.fx.symbolic_trace(nn.Sequential(Quantise(TERNARY)))(X), Quantise(TERNARY)(X))


# Forward-mode derivatives -------------------------------------------------------------------------------------------


@every_strategy
@every_dtype
@pytest.mark.parametrize("quantiser", [TERNARY, FINE], ids=["ternary", "fine"])
@pytest.mark.parametrize("std", [None, 0.0])
def test_forward_mode_gives_the_slope_times_the_tangent(strategy, dtype, quantiser, std):
    module, x = Quantise(quantiser, "normal", strategy, mean=0.01, std=std), X.to(dtype)
    tangent = torch.linspace(-3, 2, x.numel()).reshape(x.shape).to(dtype)
    out, slope = step(module, x)
    with torch.enable_grad():
        by_hand = x.clone().requires_grad_()
        torch.manual_seed(5)
        module(by_hand).backward(tangent)
    for found in (lambda: jvp(module, (x,), (tangent,)), lambda: dual(module, x, tangent)):
        torch.manual_seed(5)
        value, derivative = found()
        assert torch.equal(value, out) and torch.equal(derivative, by_hand.grad)
    assert std == 0.0 or slope.abs().max() > 0.5


def dual(module, x, tangent):
    with forward_ad.dual_level():
        return tuple(forward_ad.unpack_dual(module(forward_ad.make_dual(x, tangent))))


@pytest.mark.parametrize("strategy", ["expectation", "mode"])
def test_jacobians_forwards_and_backwards_are_the_same(strategy):
    module, x = Quantise(FINE, "logistic", strategy, std=0.05), X[3].double()
    assert torch.equal(jacfwd(module)(x), jacrev(module)(x))
    assert torch.equal(vmap(jacfwd(module))(X.double()), vmap(jacrev(module))(X.double()))
    one_by_one = torch.stack([jvp(module, (row,), (row,))[1] for row in X.double()])
    assert torch.equal(vmap(lambda v: jvp(module, (v,), (v,))[1])(X.double()), one_by_one)


@pytest.mark.parametrize("size", [None, 1])
def test_forward_over_reverse_gives_second_derivatives(size):
    module, x = Quantise(FINE, "logistic", "expectation", std=0.05), X[3].double()
    by_hand = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(module(by_hand).sum(), by_hand, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), by_hand)
    assert second.abs().max() > 0.5
    with kernels.compiling(size):
        torch.testing.assert_close(hessian(lambda v: module(v).sum())(x).diagonal(), second)
        with forward_ad.dual_level():
            point = forward_ad.make_dual(x.clone().requires_grad_(), torch.ones_like(x))
            (slope,) = torch.autograd.grad(module(point).sum(), point)
            tangent = forward_ad.unpack_dual(slope).tangent
        torch.testing.assert_close(tangent, second)


def test_forward_mode_goes_through_quantised_weights():
    net = network("expectation")
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    tangents = {name: torch.ones_like(p) for name, p in parameters.items()}
    _, forwards = jvp(lambda p: functional_call(net, p, X).sum(), (parameters,), (tangents,))
    backwards = grad(lambda p: functional_call(net, p, X).sum())(parameters)
    torch.testing.assert_close(forwards, sum(g.sum() for g in backwards.values()))
    assert forwards != 0


# Watchers and the kernels' compiler ---------------------------------------------------------------------------------


WATCHERS = {
    "a counter of operations": lambda m, x: under("a counter of operations", lambda: step(m, x)),
    "a trace": lambda m, x: torch.jit.trace(m.eval(), (x,)),
    "a graph": lambda m, x: make_fx(m)(x),
    "an export": lambda m, x: torch.export.export(nn.Sequential(m).eval(), (x,), strict=False),
    "inference mode": lambda m, x: under("inference mode", lambda: m(x)),
    "dual numbers": lambda m, x: dual(m, x, x),
}


@pytest.mark.parametrize("name", WATCHERS)
def test_whatever_watches_a_call_leaves_the_compiled_kernels_in_use(name):
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        module = Quantise(TERNARY, "uniform", "mode")
        WATCHERS[name](module, X)
        assert not kernels._broken
        mine = step(module.train(), X)
    with kernels.compiling(None):
        assert all(torch.equal(a, b) for a, b in zip(mine, step(Quantise(TERNARY), X)))


# Devices ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_float64(monkeypatch):
    """The meta device stands in for one without float64, which refuses it as MPS does."""
    move = torch.Tensor.to

    def to(self, *args, **kwargs):
        moved = move(self, *args, **kwargs)
        if moved.device.type == "meta" and moved.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the framework doesn't support it.")
        return moved

    monkeypatch.setattr(torch.Tensor, "to", to)


@every_strategy
@pytest.mark.parametrize("training_", [True, False])
def test_a_device_without_float64_is_as_good_as_any(strategy, training_, no_float64):
    module = Quantise(FINE, "normal", strategy).train(training_).to("meta")
    for again in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.half(), module.float()):
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            x = torch.empty(3, dtype=dtype, device="meta", requires_grad=True)
            out = again(x)
            out.sum().backward()
            assert out.device == x.grad.device == x.device and out.dtype == x.grad.dtype == dtype
        again.set_noise(0.0, 0.01)
    assert np.array_equal(module.levels.numpy(), FINE.levels) and module.levels.dtype == torch.float64
    assert np.array_equal(module.thresholds.numpy(), FINE.thresholds)
    assert module.levels.to(device="meta", dtype=torch.float32).shape == (16,)


def test_a_quantised_network_moves_to_a_device_without_float64(no_float64):
    net = network().to("meta")
    assert net(torch.empty(2, 6, device="meta")).shape == (2, 2)
    training.set_noise(net, lambda layer, t: (0.0, 0.1), 0)
    assert net(torch.empty(2, 6, device="meta")).shape == (2, 2)


def test_a_network_made_without_memory_trains_once_it_has_some():
    with torch.device("meta"):
        net = training.quantise(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), TERNARY, TERNARY, keep=())
    net.to_empty(device="cpu")
    for p in net.parameters():
        nn.init.uniform_(p, -1, 1, generator=torch.Generator().manual_seed(0))
    assert step(net, X)[1].abs().sum() > 0 and trains_like(net[1], Quantise(TERNARY))


def test_levels_and_thresholds_follow_the_device_and_are_no_buffers():
    module = Quantise(FINE)
    assert not list(module.buffers()) and module.levels.device == module.thresholds.device == CPU
    module.to("meta")
    assert module.levels.device.type == module.thresholds.device.type == "meta"
    module.half().to("cpu").double()
    assert np.array_equal(module.levels.numpy(), FINE.levels)
    assert np.array_equal(module.thresholds.numpy(), FINE.thresholds)


def test_inputs_on_another_device_than_the_module_are_taken_where_they_are():
    module = Quantise(TERNARY, "normal", "expectation")
    assert module(torch.empty(3, device="meta")).device.type == "meta"
    module.set_noise(0.1, 0.2)
    assert module(torch.empty(3, device="meta")).device.type == "meta"
    assert trains_like(module, Quantise(TERNARY, "normal", "expectation", 0.1, 0.2))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_are_refused_with_one_sentence(dtype):
    with pytest.raises(TypeError, match=rf"^Quantise works on tensors of float16, .*, not on a tensor of {dtype}\.$"):
        Quantise(TERNARY)(torch.zeros(2).to(dtype))
