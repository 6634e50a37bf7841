"""The whole step of training as one program: replayed as a CUDA graph on a GPU, compiled by torch elsewhere.

Both take the batches of one size, that of a run's first batch; others, an epoch's odd last one for instance, take the
eager step. Which step a batch takes depends on nothing that a resumed run could not know, or makes no difference to
the numbers, so a run that was stopped goes on bit for bit.

* **A graph** is the eager step itself, kernel for kernel, without Python: what it computes are the eager step's own
  bits. After the start, and after a change of what the graph depends on, `EAGER_STEPS` steps are taken eagerly: the
  first makes the optimiser's state and lets the stopper look at autograd's graph, the last is watched for whatever
  waits for the device, which no graph can. Then the step is captured, and replayed from there on. What changes from
  step to step goes through memory that stays where it is: the batch, the learning rates (`LearningRates`), the
  constants of the noise (`Quantise.hold`).
* **A compiled program** rounds otherwise than the eager step does. So there is one for each structure of the noise,
  made when that is first met; what it computes does not depend on which others were made before.
"""

from __future__ import annotations

import abc
import contextlib
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from anabook.training.devices import global_states, set_global_states, untouched
from anabook.training.graphs import CudaGraphs, GraphBackend
from anabook.training.modules import Quantise
from anabook.training.objectives import Objective
from anabook.training.sources import Source, each, leaves
from anabook.training.stopping import Stopper

EAGER_STEPS = 2
"""How many precede a capture; see the module's text."""

OPTIONS = {"realize_reads_threshold": 16}
"""Of torch's compiler. With its own threshold of 4 a normalised tensor, which is computed from five, is written to memory
and read again because a quantiser compares it with more than one threshold."""

Made = tuple[Tensor, Tensor, Any]
"""The loss, the row of the score, and the network's outputs."""


class Work(Protocol):
    """What a step consists of, and what it works on: a `run.Run`."""

    net: nn.Module
    step: torch.optim.Optimizer
    objective: Objective
    scaler: torch.amp.GradScaler
    stopper: Stopper | None
    data: Source
    generators: list[torch.Generator]
    batch: list | None

    def gradients(self, rows: Tensor | None, x: Tensor | None, y: Any) -> Made: ...

    def update(self) -> None: ...

    def autocast(self) -> Any: ...


def captured(run: Work) -> Step:
    """The step of a run: a graph on a GPU, a compiled program elsewhere."""
    device = run.data.device
    return Replayed(run, CudaGraphs(device, run.generators)) if device.type == "cuda" else Compiled(run)


class Step(abc.ABC):
    """A step of training, which is the eager one for batches of another size than the run's first."""

    def __init__(self, run: Work) -> None:
        self.run = run
        self.quantisers = [m for m in run.net.modules() if isinstance(m, Quantise)]
        self.off = False
        self._outputs: Any = None  # of a batch, without their values
        for module in self.quantisers:
            module.hold(True)

    def __call__(self, x: Tensor, y: Any) -> Made:
        batch = _described((x, y))
        if self.run.batch is None:
            self.run.batch = batch
        proving = self.run.stopper is not None and self.run.stopper.proving
        return self.eager(x, y) if self.off or proving or batch != self.run.batch else self.full(x, y)

    def eager(self, x: Tensor, y: Any) -> Made:
        """The step as it is without all this."""
        made = self.run.gradients(None, x, y)
        self.run.update()
        return made

    @abc.abstractmethod
    def full(self, x: Tensor, y: Any) -> Made:
        """The step for a batch of the usual size."""

    def close(self) -> None:
        """Leave the network as it was."""
        for module in self.quantisers:
            module.hold(False)

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        """The network as it was, for somebody who looks at it or copies it."""
        return contextlib.nullcontext()

    def _structure(self) -> tuple:
        return tuple((module.structure, module.std == 0.0) for module in self.quantisers)

    def _check(self, y: Any) -> None:
        self.run.objective.check(self._outputs, y, self.run.data.extremes)


def _warn(why: str) -> None:
    warnings.warn(f"compile=True does nothing here, since {why}: the steps are as without it.", RuntimeWarning, stacklevel=2)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


# A batch ------------------------------------------------------------------------------------------------------------


def _described(batch: Any) -> list:
    """Shapes and types, as a checkpoint holds them."""
    return [f"{t.dtype} {list(t.shape)}" for t in leaves(batch)]


def _without_values(outputs: Any) -> Any:
    return torch.empty_like(outputs, device="meta") if isinstance(outputs, Tensor) else outputs


# A graph ------------------------------------------------------------------------------------------------------------


class LearningRates:
    """Learning rates in memory that a graph reads, in the place of the optimiser's numbers for the time of a step.

    Only torch's Adam and AdamW take them without asking the device for the number; others have theirs captured.
    A scheduler and a checkpoint see plain numbers.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, device: torch.device, used: bool) -> None:
        self.groups = optimiser.param_groups if used and type(optimiser) in (torch.optim.Adam, torch.optim.AdamW) else []
        self.values = [float(group["lr"]) for group in self.groups]
        self.tensors = [torch.tensor(value, device=device) for value in self.values]

    def refresh(self) -> None:
        """Write down what has changed."""
        for i, group in enumerate(self.groups):
            if group["lr"] != self.values[i]:
                self.values[i] = float(group["lr"])
                self.tensors[i].fill_(self.values[i])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        numbers = [group["lr"] for group in self.groups]
        for tensor, group in zip(self.tensors, self.groups):
            group["lr"] = tensor
        try:
            yield
        finally:
            for number, group in zip(numbers, self.groups):
                group["lr"] = number


class Replayed(Step):
    """A step that is captured and then replayed, without Python and without a wait for the device.

    Args:
        run: of which this is the step.
        backend: what captures: CUDA, or a test's stand-in.

    Attributes:
        whole: whether the optimiser is in the graph as well. It is not where it needs a number from the device, as
            some do and loss scaling does, nor where its settings change with every step.
        captures: how often the step was captured.
    """

    def __init__(self, run: Work, backend: GraphBackend) -> None:
        super().__init__(run)
        self.backend, self.captures = backend, 0
        self.whole = not run.scaler.is_enabled() and _can_be_captured(run.step, backend)
        for group in run.step.param_groups if self.whole else ():
            if "capturable" in group:
                group["capturable"] = True
        self.rates = LearningRates(run.step, run.data.device, self.whole and backend.capturable)
        self._depends: tuple = ()
        self._settings: tuple = ()
        self._forget()

    def eager(self, x: Tensor, y: Any) -> Made:
        self.rates.refresh()
        with self.backend.aside(), self.rates.in_place():
            return super().eager(x, y)

    def full(self, x: Tensor, y: Any) -> Made:
        self._look()
        if self._replay is None and self._since < EAGER_STEPS:
            self._since += 1
            with self.backend.watching() if self._since == EAGER_STEPS else contextlib.nullcontext([]) as waits:
                made = self.eager(x, y)
            if waits:
                self._give_up("network or loss wait for the device in every step, which a CUDA graph cannot")
            return made
        self.rates.refresh()
        if self._replay is None:
            self._capture(x, y)
        if self._replay is None:
            return self.eager(x, y)
        self._check(y)
        for kept, part in zip(leaves(self._batch), leaves((x, y))):
            kept.copy_(part)
        self._replay()
        if not self.whole:
            for p, grad in self._gradients:
                p.grad = grad
            with self.rates.in_place():
                self.run.update()
        loss, row = self._results
        return loss.clone(), row.clone(), self._outputs

    def close(self) -> None:
        super().close()
        self._forget()

    def _look(self) -> None:
        """Forget the graph if something that it depends on has changed."""
        stopper = self.run.stopper
        depends = self._structure(), None if stopper is None else stopper.state
        settings = self._read_settings()
        if depends == self._depends and settings != self._settings and self._since < EAGER_STEPS:
            self.whole, settings = False, ()  # they change with every step
        if (depends, settings) != (self._depends, self._settings):
            self._forget()
        self._depends, self._settings = depends, settings

    def _read_settings(self) -> tuple:
        """The optimiser's numbers that a graph of its step holds fast."""
        variable = {"params", "lr"} if self.rates.groups else {"params"}
        groups = self.run.step.param_groups if self.whole else ()
        return tuple((k, v) for g in groups for k, v in g.items() if k not in variable and not isinstance(v, Tensor))

    def _forget(self) -> None:
        self._since = 0  # eager steps since
        self._replay: Callable[[], None] | None = None
        self._batch: Any = None
        self._results: tuple[Tensor, Tensor] = ()  # type: ignore[assignment]
        self._gradients: list[tuple[nn.Parameter, Tensor | None]] = []

    def _capture(self, x: Tensor, y: Any) -> None:
        self._batch = each((x, y), lambda t: t.detach().clone())

        def work() -> Made:
            made = self.run.gradients(None, *self._batch)
            if self.whole:
                self.run.update()
            return made

        try:
            with self.rates.in_place():
                self._replay, (*results, outputs) = self.backend.capture(work)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._give_up(f"the step could not be captured ({_reason(error)})")
            return
        self.captures += 1
        self._results, self._outputs = tuple(results), _without_values(outputs)
        if not self.whole:
            self._gradients = [(p, p.grad) for group in self.run.step.param_groups for p in group["params"]]

    def _give_up(self, why: str) -> None:
        self._forget()
        self.off = True
        _warn(why)


def _can_be_captured(optimiser: torch.optim.Optimizer, backend: GraphBackend) -> bool:
    """Whether a step of the optimiser neither asks the device for a number nor counts in Python."""
    if not type(optimiser).__module__.startswith("torch.optim."):
        return False
    if type(optimiser) is torch.optim.SGD:
        return True
    return backend.capturable and all("capturable" in group for group in optimiser.param_groups)


# A compiled program -------------------------------------------------------------------------------------------------


class _Cut:
    """A hook that detaches a quantiser's output while it is on."""

    on = False
    without_noise = True  # it is on for no other quantisers

    def __call__(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output.detach() if self.on else output


class Compiled(Step):
    """A step whose forward pass, loss and backward pass are compiled by torch; the optimiser's step is eager.

    Where the stopper knows the network's path, what lies below a Dirac quantiser is left out of the program's backward
    pass, as the stopper would. For other networks the program computes the zeros.
    """

    def __init__(self, run: Work) -> None:
        stopper = run.stopper
        unknown = stopper is not None and not stopper.known
        still = unknown and stopper.rule.still
        if still:
            _warn("still=True needs a Sequential of torch's own modules for it")
        super().__init__(run)
        self.off = still
        self.programs: dict[tuple, Callable[..., tuple[Tensor, Tensor]] | None] = {}
        if unknown and not still:
            # It would have steps computed eagerly for a proof, and a run that is resumed other ones than one that is not.
            stopper.turn_off()
        self._cuts = [_Cut() for _ in self.quantisers] if stopper is not None and stopper.known else []
        self._hooks = [module.register_forward_hook(cut) for module, cut in zip(self.quantisers, self._cuts)]

    def full(self, x: Tensor, y: Any) -> Made:
        key = self._structure()
        program = self.programs.get(key)
        if program is not None:
            self._check(y)
            try:
                made = self._gradients(program, x, y)
            except torch._dynamo.exc.TorchDynamoException as error:  # before anything is computed
                return self._instead(key, error, x, y)
        elif key in self.programs:
            return self.eager(x, y)
        else:
            self._try_outputs(x, y)
            before = self._state()
            program = self.programs[key] = self._program()
            try:
                self._gradients(program, x, y)
                self._set_state(*before)
                # Again, since what a forward pass counts in Python would be compiled anew in every step.
                with torch._dynamo.config.patch(error_on_recompile=True):
                    made = self._gradients(program, x, y)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self._set_state(*before)
                return self._instead(key, error, x, y)
        self.run.update()
        return made

    def _instead(self, key: tuple, error: Exception, x: Tensor, y: Any) -> Made:
        """The eager step, from now on wherever the noise has this structure."""
        if None not in self.programs.values():
            _warn(f"torch.compile failed ({_reason(error)})")
        self.programs[key] = None
        return self.eager(x, y)

    def close(self) -> None:
        super().close()
        for hook in self._hooks:
            hook.remove()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        for hook in self._hooks:
            hook.remove()
        try:
            yield
        finally:
            # Under their old names: torch's programs are bound to them.
            for hook, module, cut in zip(self._hooks, self.quantisers, self._cuts):
                module._forward_hooks[hook.id] = cut

    def _program(self) -> Callable[..., tuple[Tensor, Tensor]]:
        net, objective = self.run.net, self.run.objective

        def step(x: Tensor, y: Any) -> tuple[Tensor, Tensor]:
            outputs = net(x)
            loss = objective.function(outputs, y).reshape(())
            return loss, objective.row(loss, outputs, y, len(x))

        # torch.compile keeps its programs, and bounds their number, by code object: each gets one of its own.
        label = f"step_{len(self.programs)}"
        own = types.FunctionType(step.__code__.replace(co_name=label), globals(), label, None, step.__closure__)
        known = {name: value for name, value in OPTIONS.items() if name in torch._inductor.list_options()}
        return torch.compile(own, dynamic=False, fullgraph=True, options=known)

    def _gradients(self, program: Callable[..., tuple[Tensor, Tensor]], x: Tensor, y: Any) -> Made:
        run, stopper = self.run, self.run.stopper
        run.step.zero_grad()
        with contextlib.nullcontext() if stopper is None else stopper.suspended():
            for module, cut in zip(self.quantisers, self._cuts):
                cut.on = module.std == 0.0
            try:
                with run.autocast():
                    loss, row = program(x, y)
                if loss.requires_grad or stopper is None:
                    run.scaler.scale(loss).backward()
            finally:
                silent = [cut for cut in self._cuts if cut.on]
                for cut in silent:
                    cut.on = False
            if silent:
                stopper.rest()
        return loss.detach(), row, self._outputs

    @torch.no_grad()
    def _try_outputs(self, x: Tensor, y: Any) -> None:
        """Say what is wrong with network, loss or targets as the eager step does, before a compiler does."""
        run = self.run
        before = self._state()
        try:
            with untouched(run.data.device), run.autocast():
                outputs = run.net(x)
                run.objective(outputs, y, run.data.extremes)
        finally:
            self._set_state(*before)
        self._outputs = _without_values(outputs)

    def _state(self) -> tuple:
        """What a forward pass changes."""
        buffers = [buffer.clone() for buffer in self.run.net.buffers()]
        return buffers, global_states(self.run.data.device), [g.get_state() for g in self.run.generators]

    @torch.no_grad()
    def _set_state(self, buffers: list[Tensor], states: dict[str, Any], own: list[Tensor]) -> None:
        for buffer, before in zip(self.run.net.buffers(), buffers):
            buffer.copy_(before)
        set_global_states(states, self.run.data.device)
        for generator, state in zip(self.run.generators, own):
            generator.set_state(state)
