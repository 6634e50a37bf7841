"""From a float network to a quantised one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from anabook.quantisers import Quantiser
from anabook.training.assignment import Quantisers, quantises_any
from anabook.training.conversion import Converted, Plan, converted
from anabook.training.grouping import ACTIVATIONS, check_arguments, copied, part_activations
from anabook.training.learned import settings_of
from anabook.training.planning import plan_places
from anabook.training.report import report
from anabook.training.sites import functions_as_modules, put_places

if TYPE_CHECKING:
    from anabook.laws import Law
    from anabook.noise import Noise
    from anabook.symbolic import Density
    from anabook.variants import Variant


def quantise(
    net: nn.Module,
    weights: Quantisers = None,
    activations: Quantisers = None,
    *,
    noise: str | Law | Noise | Density | Variant = "uniform",
    strategy: str = "mode",
    keep: Iterable[str] = ("last",),
    swap: tuple[type[nn.Module], ...] = ACTIVATIONS,
    example: Any = None,
    scales: Mapping[str, Tensor] | None = None,
    quantum: str | Mapping[str, str] | None = None,
    quantum_gradient: str | Mapping[str, str] = "value",
    gradient_scale: Any = None,
    before: Quantiser | None = None,
    summands: Quantiser | None = None,
) -> nn.Module:
    """A copy of a float network with stochastic quantisers on its weights and in place of its activations.

    * Each weight of a linear, (transposed) convolution, attention or recurrent layer gets a `Quantise` through
      `torch.nn.utils.parametrize`; its present value becomes the latent weight, and a saved state dict is plain torch.
      Biases, normalisation layers, embeddings and parameters of your own stay in float.
    * Every activation of a type in `swap` is replaced by a `Quantise`, which takes over the forward and backward hooks of
      a module. A function such as `torch.nn.functional.relu` or a method such as `x.relu()` becomes a module first: the
      program of the module that calls it is read (by `torch.fx`), changed and put back.
    * With `before`, what else comes to quantised weights gets a quantiser, too: behind a bottleneck or a LayerNorm, for
      example. With `summands`, so does what is added to levels or to other sums, so that a residual addition adds levels.

    Layers are numbered from 0 at the input: each weighted module opens a layer, the activations up to the next one
    belong to it, and what comes before the first joins layer 0. Layers in which nothing is quantised get no number.
    The order is that of the forward pass, read off the network's program (by `torch.fx`) or off one pass on an
    `example` input; a program that cannot be read needs one. Modules that evaluation does not use stay in float.

    An activation module that is used at several places gets a quantiser for each layer in which it is used (see
    `PerCall`). What stays in float although it was to be quantised is named in a warning; `report` lists all.

    **Bits per layer.** A mapping as `weights` or `activations` gives each module a quantiser by its name. Its keys are, in
    any mixture: a name (as in `net.named_modules()`; a container stands for all inside); a pattern of whole names with
    `*`, `?` and `[…]` as in `fnmatch`, where `*` matches dots too, so that "layer1.*" is all inside `layer1`; "first" and
    "last", the first and the last weighted module and the activations that follow it. Its values are quantisers, or None
    or "float" for what stays in float. The first key that matches decides, so special cases come first and "*" last; a
    key behind others that match all that it does is refused. What no key matches stays in float, with the warning above.

    Args:
        net: the float network; it is not changed.
        weights: quantiser of the weights, or a mapping; None leaves them in float.
        activations: quantiser of the features, or a mapping; None leaves the activations as they are.
        noise, strategy: as for `Quantise`, which chooses the initial std too.
        keep: names of modules to leave in float (as in `net.named_modules()`; a container stands for all inside), of weights
            such as "attention.in_proj_weight" where a module has several, or
            "first" and "last" for the first and last weighted module. An activation that follows a kept last module
            stays as well: it shapes the network's output, not a feature. What a mapping says of a name without
            wildcards, or of "first" and "last", counts more.
        swap: the activation types to replace.
        example: an input (or a tuple of inputs) for one forward pass in evaluation mode, which finds the order.
        scales: a factor of the quantum for each weighted module and activation by its name, as `calibrate` finds
            them for a pretrained network; those without one keep the quantum of the quantiser. See `Scaled`. For an
            activation that several layers share, "NAME.quantisers.0" and so on are its places, NAME is all of them.
        quantum: "learned" makes the quanta parameters, which start from `scales` or from 1 (see `Learned`): one for each
            activation, and for each weight one for the layer, or for each channel where its scale is so. With a mapping
            such as {"activations": "learned"} those of the weights, or of the activations, alone. None leaves all fixed.
        quantum_gradient, gradient_scale: of learned quanta, as for `Learned`; each also as a mapping from "weights" and
            "activations".
        before: quantiser for what comes to a quantised weight and holds other numbers than levels, their sums and averages;
            not for the network's own input. It needs levels of both signs, as what it rounds has.
        summands: quantiser for each summand of an addition of two tensors that holds other numbers. With the quantum of
            `activations`, and `scales` from `calibrate` with the same `summands`, all that is added has one quantum,
            which an integer network needs; where it is learned, it is one parameter of all the quantisers. The same holds
            for levels that are concatenated and then summed by one weight.

    LSQ is uniform noise, the mode, and learned quanta, with the start and the gradient scale of its authors::

        scales = calibrate(net, x, fine, unsigned, rule="lsq")
        net = quantise(net, fine, unsigned, scales=scales, quantum="learned", gradient_scale="lsq")
        fit(net, data, schedule=None, epochs=…)  # the noise stays as it is, at half a quantum to either side

    Returns:
        The quantised copy, each part in the training or evaluation mode of the original.

    Raises:
        ValueError: nothing to quantise, an unknown name in `keep`, a key that matches nothing, an order that cannot be
            read without an example, an activation that the forward pass does not call where it was put, a network
            quantised already.
        TypeError: arguments of a wrong type.

    Example:
        >>> from anabook import Quantiser, models
        >>> net = quantise(models.mlp(8, (6, 6)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> net.fc1_act.quantiser, net.fc1_act.layer
        (Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5]), 0)

        Eight bits in the first and in the last layer, ternary weights and four bits elsewhere:

        >>> eight, four = (Quantiser.linear(bits, rounding="nearest") for bits in (8, 4))
        >>> net = quantise(
        ...     models.mlp(8, (6, 6)),
        ...     weights={"first": eight, "last": eight, "*": Quantiser.ternary()},
        ...     activations={"fc1_act": eight, "*": four},
        ... )
        >>> print(report(net))
        layer  operation      weight                       input
        0      fc1 (Linear)   8 bits {-128, -127, …, 127}  float: the network's input
        1      fc2 (Linear)   {-1, 0, 1}                   8 bits {-128, -127, …, 127}
        2      last (Linear)  8 bits {-128, -127, …, 127}  4 bits {-8, -7, …, 7}
    """
    check_arguments(net, weights, activations, swap)
    quanta = settings_of(quantum, quantum_gradient, gradient_scale)
    _check_places(activations, before, summands)
    net = copied(net)
    part_activations(net, swap)
    unread = functions_as_modules(net, swap) if quantises_any(activations) else {}
    plan = Plan()
    if before is not None or summands is not None:
        plan = plan_places(net, weights, activations, before, summands, keep=keep, swap=swap, example=example, unread=unread)
        unread = {**plan.unread, **unread}
        put_places(net, before is not None, summands is not None, only=plan.quantisers)
    done = converted(
        net,
        weights,
        activations,
        noise=noise,
        strategy=strategy,
        keep=keep,
        swap=swap,
        example=example,
        scales=scales,
        quanta=quanta,
        plan=plan,
        unread=unread,
    )
    _warn_of_floats(done, quantises_any(weights), quantises_any(activations), example, unread)
    return done.net


def _check_places(activations: Quantisers, before: Any, summands: Any) -> None:
    for what, value in (("before", before), ("summands", summands)):
        if value is not None and not isinstance(value, Quantiser):
            raise TypeError(f"{what} must be a Quantiser or None, not {value!r}.")
    if isinstance(activations, Quantiser) and summands is not None:
        quantum, wanted = float(summands.steps.min()), float(activations.steps.min())
        if quantum != wanted:
            raise ValueError(
                f"summands must have the quantum of activations, {wanted:g}, not {quantum:g}, since their levels are added up."
            )


def _warn_of_floats(done: Converted, weights: bool, activations: bool, example: Any, unread: dict[str, str]) -> None:
    """Name what stays in float though neither `keep` nor the network's input says so."""

    def asked_for(name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in done.kept)

    everything = report(done.net, example)
    floats = [o for o in everything.floats if not asked_for(o.name)]
    in_weight = [o.name for o in floats if weights and o.weight_is_float]
    in_input = [
        o.name
        for o in floats
        if activations
        and o.input_is_float
        and o.name not in done.first
        and not (o.takes_the_networks_input or asked_for(o.source))
    ]
    parts = [
        f"the {what}{'s' if len(names) > 1 else ''} of {_listing(names)}"
        for what, names in (("weight", in_weight), ("input", in_input))
        if names
    ]
    verb = "stays" if len(in_weight) + len(in_input) == 1 else "stay"
    said = [f"{' and '.join(parts)} {verb} in float"] if parts else []
    if unread and in_input:
        name, why = next(iter(unread.items()))
        what = f"{name!r}" if name else f"this {type(done.net).__name__}"
        said.append(
            f"the program of {what}{f' (and {len(unread) - 1} more)' if len(unread) > 1 else ''} cannot be rewritten ({why}), so "
            "functions and additions in it stay what they are"
        )
    if example is None and activations:
        hidden = [o.name for o in everything if not o.known and not o.unused and not asked_for(o.name)]
        if hidden:
            said.append(
                f"what {_listing(hidden)} {'is' if len(hidden) == 1 else 'are'} applied to is not known without example=x"
            )
    if said:
        warnings.warn(f"{'; '.join(said)}; training.report(net) lists every weighted operation.", UserWarning, stacklevel=3)


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
