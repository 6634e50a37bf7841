"""The stochastic quantiser as a torch module, differentiable through the derivative of its expectation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

from anabook import laws
from anabook._validate import choice, real
from anabook.laws import FAMILIES, Law
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.training import kernels
from anabook.training._calls import Call, DualQuantisation, Quantisation
from anabook.training._mode_stair import mode_stair
from anabook.training._modes import forward_mode, transforming, undisturbed
from anabook.training._ops import FLOATS, PLAIN, compute_dtype
from anabook.training._plans import Plan
from anabook.training.learned import Learned

if TYPE_CHECKING:
    from anabook.symbolic import Density
    from anabook.variants import Variant

_CPU = torch.device("cpu")
_OWN = ("_plans", "_law", "_kind", "_rounded", "_held")  # what a copy makes anew, or starts without
_OF_LEARNED = ("scale", "quantum_gradient", "gradient_scale")


class Quantise(nn.Module):
    """The stochastic quantiser σ(x − ν), element by element, with noise ν of mean α and standard deviation β.

    While training, the forward pass follows the strategy and the backward pass multiplies by the derivative of the
    expectation, Σ_k (Δ_k/β) f0((x − θ_k − α)/β), whatever the strategy. In evaluation mode (`eval()`) the noise is
    gone altogether: the output is σ(x) and the gradient 0. With std = 0, or smaller than the float type can hold, the
    noise is Dirac at its mean: σ(x − α), gradient 0.

    Input and output: a tensor of float16, bfloat16, float32 or float64, any shape and device; the output has the same
    shape, type and device. The 16-bit types are computed in float32. NaN stays NaN.

    The module has no parameters and adds nothing to a state dict: quantiser, family and strategy are set in code like
    the rest of an architecture, and the noise is a function of the epoch that a schedule sets. It works on every device
    of torch's, also on those without float64, and under torch's transformations: `torch.func`, forward-mode
    derivatives, `torch.compile`, `torch.export`, `torch.fx` (which it is a leaf of), gradient checkpointing. Large tensors
    go through compiled kernels; `kernels.compiling` says from which size on.

    Args:
        quantiser: a `Quantiser`.
        noise: "uniform", "triangular", "normal", "logistic", a `Law` or a density of your own: an
            `anabook.symbolic.Density` with a finite standard deviation. Its shape is what counts; mean and std are set
            here. Or a `Noise`, or a variant of the zoo (`anabook.variants.VARIANTS`): these bring their own mean and std.
        strategy: what the forward pass gives while training: "expectation" E[σ(x − ν)]; "mode", the most probable
            level (the higher one at a tie); "random", one draw, independent for each element. A variant that is no
            probability has the mode only: σ(x − α), as it was published, and its density for a slope.
        mean: α; by default 0, or that of a `Noise` or a variant. For a law without a mean it is the place of its 0, for
            one that is no probability what it is moved by.
        std: β ≥ 0; by default that of a `Noise` or a variant. Else the noise spans half the smallest step to either side
            of its mean (the wider side of a lopsided density), with at least 95 % of its mass, as at the start in the
            code of the paper's authors. For a law without a standard deviation it is the scale.
        generator: a `torch.Generator` for the draws of "random"; by default torch's global one (`torch.manual_seed`),
            which alone goes with gradient checkpointing.
        quantum: "learned" gives a `Learned` around the `Quantise`: ε·q(x/ε) with a quantum ε that is a parameter. None
            leaves the quantum that the quantiser has.
        scale, quantum_gradient, gradient_scale: for a learned quantum, see `Learned`.

    Raises:
        TypeError: a quantiser that is not a `Quantiser`; in the call, a tensor of another type.
        ValueError: unknown family or strategy, non-finite mean, negative or non-finite std; a density with parameters
            left, without a standard deviation, or with functions that torch lacks; another strategy than the mode for a
            variant that is no probability.

    Example:
        >>> m = Quantise(Quantiser.ternary(), noise="uniform", strategy="mode")
        >>> x = torch.tensor([-0.8, 0.3, 1.5], requires_grad=True)
        >>> m(x).sum().backward()
        >>> x.grad
        tensor([1., 1., 0.])
    """

    _held = False
    _averages = False

    def __new__(cls, *args: Any, quantum: str | None = None, **kwargs: Any) -> Any:
        own = {name: kwargs.pop(name) for name in _OF_LEARNED if name in kwargs}
        if quantum is not None:
            choice(quantum, ("learned",), "quantum")
            return Learned(cls(*args, **kwargs), **own)
        if own:
            raise ValueError(f"{next(iter(own))} is for a learned quantum: pass quantum='learned', or leave it out.")
        return super().__new__(cls)

    def __init__(
        self,
        quantiser: Quantiser,
        noise: str | Law | Noise | Density | Variant = "uniform",
        strategy: str = "mode",
        mean: float | None = None,
        std: float | None = None,
        generator: torch.Generator | None = None,
        *,
        quantum: str | None = None,
        scale: Tensor | float = 1.0,
        quantum_gradient: str = "value",
        gradient_scale: str | float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(quantiser, Quantiser):
            raise TypeError(f"quantiser must be a Quantiser, not {quantiser!r}.")
        self.quantiser = quantiser
        self.strategy = choice(strategy, kernels.STRATEGIES, "strategy")
        self.noise = noise
        self._law, self._kind = _law_of(noise, self.strategy)
        self.generator = generator
        self.layer: int | None = None
        own = _own_noise(noise)
        mean = own[0] if mean is None else mean
        std = (self.covering_std() if own[1] is None else own[1]) if std is None else std
        self._mean, self._std = real(mean, "mean"), real(std, "std", minimum=0.0)
        self._rounded = undisturbed(lambda: _roundings(quantiser))
        self._plans: dict[tuple[bool, torch.dtype, torch.device], Plan] = {}
        self._move(_default_device())

    @property
    def levels(self) -> Tensor:
        """The K levels in float64, on the module's device (on the CPU where that has no float64)."""
        return _on_device(self.quantiser.levels, self._device)

    @property
    def thresholds(self) -> Tensor:
        """The K − 1 thresholds in float64, on the module's device (on the CPU where that has no float64)."""
        return _on_device(self.quantiser.thresholds, self._device)

    @property
    def mean(self) -> float:
        """α, the noise's mean."""
        return self._mean

    @property
    def std(self) -> float:
        """β, the noise's standard deviation."""
        return self._std

    def covering_std(self, half_width: float | None = None) -> float:
        """The standard deviation with which the noise spans a half-width, or has at least 95 % of its mass within it.

        Args:
            half_width: greater than 0; by default half the smallest step of the quantiser.
        """
        if half_width is None:
            half_width = float(self.quantiser.steps.min()) / 2
        return self._law.covering(real(half_width, "half_width", above=0.0))

    def set_noise(self, mean: float, std: float) -> None:
        """Set the noise's mean α and standard deviation β ≥ 0, as plain finite numbers."""
        mean, std = real(mean, "mean"), real(std, "std", minimum=0.0)
        if (mean, std) == (self._mean, self._std):
            return
        devices = {device for *_, device in self._plans}

        def make() -> dict:
            made = _placed({True: self._recipes(mean, std)}, devices)
            return {key: plan.written_to(self._plans.get(key)) for key, plan in made.items()} if self._held else made

        self._plans.update(undisturbed(make))
        self._mean, self._std = mean, std

    def hold(self, held: bool) -> None:
        """Whether `set_noise` writes to the constants' own memory, for a graph; so never between the two passes."""
        self._held = held

    @property
    def structure(self) -> tuple:
        """What a program made of calls under noise depends on, beside the values of the constants."""
        return tuple((*key, plan.structure) for key, plan in self._plans.items() if key[0])

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or type(x) not in PLAIN or transforming() or forward_mode():
            return self._forward_watched(x)
        plan = self._plans.get((self.training, x.dtype, x.device))
        if plan is None:
            return self._forward_watched(x)
        keys = self.keys(x.device) if plan.kernel in kernels.DRAWING else None
        if x.requires_grad and torch.is_grad_enabled():
            return Call.apply(x, plan, keys)
        return plan.forwards(x, keys)

    def _forward_watched(self, x: Tensor) -> Tensor:
        """The same where something watches or transforms the call, or for what comes for the first time."""
        if not isinstance(x, Tensor) or x.dtype not in FLOATS:
            return self._as_leaf(x)
        plan = self._plans.get((self.training, x.dtype, x.device))
        if plan is None or isinstance(x, FakeTensor):
            plan = self._other_plan(x)
        if plan.backward is None and not torch.compiler.is_compiling() and transforming():
            # The function itself, whose derivative is 0 anyway: tracers can save it, every transformation takes it.
            return kernels.run(plan.kernel, x, plan.constants, static=plan.static)
        keys = self.keys(x.device) if plan.kernel in kernels.DRAWING else None
        function = DualQuantisation if forward_mode() else Quantisation
        return function.apply(x, plan.constants, plan.backward, keys, plan.kernel, plan.static, plan.slope)

    def average(self, x: Tensor) -> Tensor:
        """E[σ(x − ν)] under the present noise, whatever the strategy, without a gradient; see `need_average`."""
        plan = self.plan(x.dtype, x.device)
        if plan is None or isinstance(x, FakeTensor):
            plan = self._other_plan(x)
        if plan.backward is None:
            return kernels.run(plan.kernel, x, plan.constants, static=plan.static)
        return kernels.run("expected", x, plan.backward, static=plan.slope)

    def need_average(self) -> None:
        """Make `average` ready.

        Raises:
            ValueError: the noise is no probability.
        """
        self._averages = True
        self._law, self._kind = _law_of(self.noise, self.strategy, averages=True)
        self._move(self._device)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight

    def extra_repr(self) -> str:
        layer = "" if self.layer is None else f", layer={self.layer}"
        return (
            f"{self.quantiser!r}, noise={self.noise!r}, strategy={self.strategy!r}, "
            f"mean={self._mean:.4g}, std={self._std:.4g}{layer}"
        )

    def plan(self, dtype: torch.dtype, device: torch.device) -> Plan | None:
        """What a call comes to in a float type on a device, if it was met before."""
        return self._plans.get((self.training, dtype, device))

    def keys(self, device: torch.device) -> Tensor:
        """Three random integers, which fix the draws of a call."""
        if self.generator is not None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0:
            raise RuntimeError(
                "a Quantise with a generator of its own is run again within a backward pass, as gradient "
                "checkpointing does, and would draw other numbers than before: leave its generator out, "
                "since checkpointing sets torch's global one back."
            )
        return torch.randint(-(2**31), 2**31, (3,), dtype=torch.int32, device=device, generator=self.generator)

    def _as_leaf(self, x: object) -> fx.Proxy:
        """What a symbolic trace records of a call: the module as a whole, as it does with torch's own.

        Raises:
            TypeError: x comes from no such trace, and is no tensor that can be quantised.
        """
        if isinstance(x, fx.Proxy):
            if not isinstance(x.tracer, fx.Tracer) or x.tracer.root is self:
                raise TypeError("a Quantise is traced as a part of a network: put it into a torch.nn.Sequential.")
            return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})
        got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__}"
        raise TypeError(f"Quantise works on tensors of float16, bfloat16, float32 or float64, not on {got}.")

    def _other_plan(self, x: Tensor) -> Plan:
        """The plan for a tensor without values, or for one on a device that was not met before."""
        kind = self.training, x.dtype
        if isinstance(x, FakeTensor) and not torch.compiler.is_compiling():
            with x.fake_mode:  # as constants written down in the call would be
                return self._plans[*kind, _CPU].with_constants(lambda c: torch.ops.aten.lift_fresh_copy(c).to(x.device))
        if (*kind, x.device) not in self._plans:
            if torch.compiler.is_compiling():
                return self._plans[*kind, _CPU].with_constants(lambda c: c.to(x.device))
            self._plan_for(x.device)
        return self._plans[*kind, x.device]

    def _recipes(self, mean: float, std: float) -> dict[torch.dtype, Plan]:
        return _recipes(self.quantiser, self._rounded, self._law, self._kind, self.strategy, mean, std)

    def _plan_for(self, device: torch.device) -> None:
        """Make all constants for a device, for evaluation and for training in every float type.

        Before they are needed: made by a call they would be what a transformation or a tracer around it makes of them;
        and a program compiled around the module finds constants, not the search for them.
        """

        def make() -> dict:
            recipes = {False: _recipes(self.quantiser, self._rounded), True: self._recipes(self._mean, self._std)}
            return _placed(recipes, [device])

        self._plans.update(undisturbed(make))

    def _move(self, device: torch.device) -> None:
        """Forget the constants on other devices; stay on the CPU where a device is not to be had on this machine."""
        self._plans, self._device = {}, device
        self._plan_for(_CPU)
        try:
            if device != _CPU:
                self._plan_for(device)
        except (RuntimeError, AssertionError):
            self._device = _CPU

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantise:
        # Constants are no buffers: net.half() would round a threshold such as 0.07 for good, and net.to(device) would
        # fail where a device has no float64. So the device is asked for, and nothing else is changed.
        super()._apply(function, recurse)
        device = _moved(function, self._device)
        if device != self._device:
            self._move(device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._law, self._kind = _law_of(self.noise, self.strategy, self._averages)
        self._rounded = undisturbed(lambda: _roundings(self.quantiser))
        self._move(self.__dict__.get("_device", _CPU))


_OF_INIT = inspect.signature(Quantise.__init__)
Quantise.__signature__ = _OF_INIT.replace(  # type: ignore[attr-defined]  # what help() and the API page show
    parameters=list(_OF_INIT.parameters.values())[1:], return_annotation=inspect.Signature.empty
)


def _default_device() -> torch.device:
    try:
        return torch.get_default_device()
    except (RuntimeError, AssertionError):  # a device that this machine lacks
        return _CPU


def _moved(function: Callable[[Tensor], Tensor], device: torch.device) -> torch.device:
    """Where a function of `Module._apply` puts a tensor of this device."""

    def probe(device: torch.device) -> torch.device:
        return function(torch.empty(1, dtype=torch.uint8, device=device)).device

    try:
        return undisturbed(lambda: probe(device))
    except (RuntimeError, AssertionError):
        # Nothing can be copied from the meta device, but there is nothing to copy; and fake tensors go to any device.
        return probe(_CPU)


def _on_device(values: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.float64, device=_CPU)
    try:
        return tensor.to(device)
    except (TypeError, RuntimeError):
        return tensor


def _law_of(noise: Any, strategy: str, averages: bool = False) -> tuple[Law, kernels.Kind]:
    """The law of a noise, and what the kernels take for it: a family's name, the law, or the functions of a density."""
    law = laws.placed(noise)[0]
    if strategy != "mode" and not law.is_probability:
        whose = getattr(noise, "name", law.name)
        raise ValueError(
            f"the strategy for {whose} must be 'mode', not {strategy!r}, which needs a noise: {law.why_no_noise}."
        )
    if averages and not law.is_probability:
        raise ValueError(
            f"quantum_gradient for {getattr(noise, 'name', law.name)} must be 'value', not 'expectation', which needs a noise: "
            f"{law.why_no_noise}."
        )
    if FAMILIES.get(law.name) is law:
        return law, law.name
    density = getattr(law, "exact", None)
    if density is None:
        return law, law
    from anabook.training._densities import torch_density  # sympy is loaded for a density alone

    def make() -> kernels.Kind:
        with torch.device(_CPU):
            functions = torch_density(density)
            if averages or strategy != "mode":
                functions.prepare_tails()
        return functions

    return law, undisturbed(make)


def _own_noise(noise: Any) -> tuple[float, float | None]:
    """The mean and the standard deviation that a noise comes with; None for what comes as a shape."""
    if isinstance(noise, Noise) or hasattr(noise, "as_noise"):
        return laws.placed(noise)[1:]
    return 0.0, None


# Constants ----------------------------------------------------------------------------------------------------------


def _roundings(quantiser: Quantiser) -> dict[torch.dtype, np.ndarray]:
    """The thresholds as each float type holds them, in float64; the same array for types that are computed alike."""
    exact = torch.tensor(quantiser.thresholds, device=_CPU)
    held: dict[torch.dtype, np.ndarray] = {}
    for dtype in reversed(FLOATS):
        values = exact.to(dtype).double().numpy()
        alike = held.get(compute_dtype(dtype), values)
        held[dtype] = alike if np.array_equal(alike, values) else values
    return held


_PASSES = {"expectation": "expected", "random": "drawn"}
"""The forward pass under noise; the mode has a stair of its own and `quantised`."""


def _recipes(
    quantiser: Quantiser,
    rounded: dict[torch.dtype, np.ndarray],
    law: Law | None = None,
    kind: kernels.Kind | None = None,
    strategy: str = "mode",
    mean: float = 0.0,
    std: float = 0.0,
) -> dict[torch.dtype, Plan]:
    """A plan for each float type, its constants still arrays; the same object for types with the same constants.

    Args:
        quantiser, rounded: the quantiser, and its thresholds as each type holds them.
        law, kind, strategy, mean, std: of the noise; there is none by default.
    """
    levels, thresholds = quantiser.levels, quantiser.thresholds
    shift, scale = mean, std
    if law is not None and (law is kind or isinstance(kind, str)):  # else standardised already
        scale = std / law.unit
        shift = mean - scale * law.origin
    noise: dict[torch.dtype, tuple] = {}
    for wide in (torch.float32, torch.float64):
        if scale >= torch.finfo(wide).tiny:
            layout, values = kernels.layout_of(levels, thresholds, wide, kind, scale, shift)
            noise[wide] = (layout, kind), values
    stairs: dict[bool, tuple] = {False: (levels, thresholds, 0.0)}
    if noise and strategy == "mode":
        stairs[True] = _mode(quantiser, law, std)

    def recipe(wide: torch.dtype, held: np.ndarray) -> Plan:
        static, values = noise.get(wide, ((), None))
        if static and strategy != "mode":
            return Plan(_PASSES[strategy], static, values, static, values, (values[0] == 0, values[0] == 0))
        stair, starts, offset = stairs[wide in noise]
        if stair is levels or np.array_equal(stair, levels):
            # Rounded to x's own type first, as Quantiser does: a threshold stored in that type is hit exactly.
            starts = np.where(starts == thresholds, held, starts)
        layout, constants = kernels.layout_of(stair, starts, wide, mean=mean + offset)
        return Plan(
            "quantised", (layout,), constants, static, values, (constants[0] == 0, values is not None and values[0] == 0)
        )

    made: dict[tuple, Plan] = {}
    for dtype, held in rounded.items():
        alike = compute_dtype(dtype), id(held)
        made[dtype] = made[alike] = made.get(alike) or recipe(alike[0], held)
    return {dtype: made[dtype] for dtype in rounded}


def _placed(recipes: dict[bool, dict[torch.dtype, Plan]], devices: Iterable[torch.device]) -> dict:
    """Plans with tensors for constants, by mode, float type and device: cast on the CPU, then moved.

    Each recipe gets tensors of its own, two where both passes need the same: a program that is being compiled must not
    meet one twice in a call.
    """
    placed = {}
    for device in devices:
        for training, kinds in recipes.items():
            made: dict[int, Plan] = {}
            for dtype, recipe in kinds.items():
                double = dtype == torch.float64
                kind = np.float64 if double else np.float32
                try:
                    if id(recipe) not in made:
                        made[id(recipe)] = recipe.with_constants(lambda c: torch.from_numpy(c.astype(kind)).to(device))
                except (TypeError, RuntimeError):
                    if not double:
                        raise
                    continue  # a device without float64
                placed[training, dtype, device] = made[id(recipe)]
    return placed


def _mode(quantiser: Quantiser, law: Law, std: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The stair that the mode is under noise of mean 0: its levels, where they start, and an offset of these.

    Where there is no probability there is no most probable level, and the quantiser is left as it is.
    """
    if not law.is_probability:
        return quantiser.levels, quantiser.thresholds, 0.0
    if law.log_concave:
        return quantiser.levels, Regularisation(quantiser, Noise(law, 0.0, std)).mode_thresholds(), 0.0
    return mode_stair(law, quantiser, std)
