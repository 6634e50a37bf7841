"""Configs: what a run depends on, as one frozen value; and the small TOML files that describe sweeps."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anabook._files import digest
from anabook._validate import choice, integer, real, unknown
from anabook._validate import path as path_at
from anabook.datasets import store
from anabook.experiments import design, own_networks, shipped
from anabook.experiments.own import custom, noise_of
from anabook.experiments.tasks import NETWORKS, SIZES, TASKS, Task
from anabook.noise import Noise
from anabook.schedules import Schedule

QUANTA: dict[str, float] = {network.name: network.quantum for network in NETWORKS.values()}
"""The quantum of weights and features of each network, by its name."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""What a run may multiply in; weights, noise and what is measured stay in float32."""

_WHICH_RUN = ("data", "unit", "fold", "seed", "own")
"""The fields of a config that say which run it is; the others are its settings, which named sizes fill in."""

_MEASURED = ("unused",)
"""The fields that change nothing of a run but what is measured when it has ended: keys and sizes are without them."""

_TABLES = ("own", "own_network")
"""The fields that are tables, held as pairs."""

_NO_SETTING = (*_WHICH_RUN, *_MEASURED)

_ALWAYS_WRITTEN = ("n_folds",)
"""Fields with a default that keys and records hold all the same: the runs that are recorded have it in their keys."""


@dataclass(frozen=True)
class Config:
    """Everything that the numbers of a run depend on, but for versions and machine.

    Keys and records hold what differs from the defaults, so that runs recorded before a field was added are found as they
    were. A new field therefore needs a default that means what was done before it, and no default ever changes.

    Attributes:
        data: the data set's name in the store.
        unit: the name of a unit of the design, of a baseline, or of a schedule of one's own.
        fold: which fold is held out to validate on, from 0; None trains on the whole training part and measures the
            official test set once, at the end.
        seed: of weights, order and noise, together with the fold. Runs of one fold and seed start alike.
        width: factor of all numbers of channels.
        shrink: images are averaged over blocks of so many pixels squared.
        n_train: how many examples of the training part are used, the held-out fold included; 0 for all.
        period: epochs in which one layer is annealed; n quantised layers give (n + 3)·period epochs.
        batch_size, lr: of Adam; the learning rate is divided by ten after (n + 1)·period epochs.
        augmentation: a key of `datasets.store.AUGMENTATIONS`.
        n_folds: into how many folds the training part is split.
        own: a schedule of one's own for `unit`: see `custom`.
        own_network: what is known of a network or a data set of one's own: see `own_networks.described`.
        precision: one of `PRECISIONS`; the lower two are mixed precision, as in `training.fit`.
        channels_last: the order in memory that graphics cards are fast with; results differ by rounding.
        unused: on how many training examples at most, of those that `n_train` leaves out, the trained network is measured
            at the end; they are the same for all units and folds. 0 for none. It is not part of the key.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "uniform-mode-static", fold=1)
        >>> config.epochs, config.n_layers, config.size
        (30, 7, 'scaled')
    """

    data: str
    unit: str
    fold: int | None
    seed: int
    width: float
    shrink: int
    n_train: int
    period: int
    batch_size: int
    lr: float
    augmentation: str
    n_folds: int = 5
    own: tuple[tuple[str, Any], ...] | None = None
    precision: str = "float32"
    channels_last: bool = False
    unused: int = 0
    own_network: tuple[tuple[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        fix = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        if self.own_network is None:
            choice(self.data, TASKS, "data")
        fix("n_folds", integer(self.n_folds, "n_folds", minimum=2))
        if self.fold is not None:
            fix("fold", integer(self.fold, "fold", minimum=0, maximum=self.n_folds - 1))
        for name, minimum in (("seed", 0), ("shrink", 1), ("n_train", 0), ("period", 1), ("batch_size", 1), ("unused", 0)):
            fix(name, integer(getattr(self, name), name, minimum=minimum))
        for name in ("width", "lr"):
            fix(name, real(getattr(self, name), name, above=0.0))
        choice(self.augmentation, store.AUGMENTATIONS, "augmentation")
        choice(self.precision, PRECISIONS, "precision")
        if not isinstance(self.channels_last, bool):  # TOML's spelling: a sweep's file and the command line have it
            raise TypeError(f"channels_last must be true or false, not {self.channels_last!r}.")
        if self.shrink not in (allowed := self.task.network.shrinks):
            if len(allowed) == 1:
                raise ValueError(f"shrink must be 1 for {self.data!r}: only images can be made smaller, not {self.shrink}.")
            if self.own_network is not None:
                raise ValueError(
                    f"shrink must be one of {', '.join(map(str, allowed))} for {self.data!r}, not {self.shrink}."
                )
            raise ValueError(f"shrink must be 1, 2 or 4, so that 32 pixels can be halved three times, not {self.shrink}.")
        if self.own is not None:
            self.schedule()  # refuses what does not fit the network
        elif self.unit not in design.BASELINES:
            design.unit(self.unit)

    @property
    def task(self) -> Task:
        """The data set's row."""
        return TASKS[self.data] if self.own_network is None else own_networks.task_of(self.data, self.own_network)

    @property
    def network(self) -> str:
        """ "vgg" or "dscnn", or the dotted name of one of your own."""
        return self.task.network.name

    @property
    def n_layers(self) -> int:
        """The number of quantised layers."""
        return self.task.network.n_layers

    @property
    def n_turns(self) -> int:
        """How many turns they take: as many as there are layers, or blocks of layers in a network of one's own."""
        return self.task.network.n_turns

    @property
    def epochs(self) -> int:
        """(n + 3)·period, for n turns."""
        return (self.n_turns + 3) * self.period

    @property
    def drop(self) -> int:
        """The epoch from which on the learning rate is a tenth: (n + 1)·period."""
        return (self.n_turns + 1) * self.period

    @property
    def size(self) -> str:
        """The name of the size; "custom-…" with a hash where a setting differs from every named one."""
        for name in SIZES:
            if not self._changes(name):
                return name
        return "custom-" + digest({name: value for name, value in self.as_dict().items() if name not in _NO_SETTING})[:6]

    @property
    def overrides(self) -> str:
        """What a command line says for this size: the nearest named one, and what is changed of it."""
        sizes = SIZES if self.data in TASKS else ("scaled",)  # for a data set of one's own both are the same
        changes, name = min(((self._changes(name), name) for name in sizes), key=lambda found: len(found[0]))
        if self.own_network is not None:
            del changes["own_network"]
            changes = own_networks.words(dict(self.own_network)) | changes
        words = [f"{key}={str(v).lower() if isinstance(v, bool) else v}" for key, v in changes.items()]  # TOML's true
        return shlex.join([f"size={name}", *words])

    def _changes(self, size: str) -> dict[str, Any]:
        """The settings that differ from a named size's."""
        ours = {name: value for name, value in self.as_dict().items() if name not in _NO_SETTING}
        named = _worth_writing(type(self), {"n_folds": Config.n_folds, **self.task.size(size)})
        named = {name: value for name, value in named.items() if name not in _MEASURED}
        return {name: getattr(self, name) for name in {**ours, **named} if ours.get(name) != named.get(name)}

    @property
    def start(self) -> int:
        """The seed that weights, order and noise begin with: the same for all units of a fold."""
        return self.seed * 1000 + (999 if self.fold is None else self.fold)

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits by which a recorded run is found again."""
        return digest({name: value for name, value in self.as_dict().items() if name not in _MEASURED})[:16]

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as numbers, text and lists: what is written to a record."""
        values = _worth_writing(type(self), {f.name: getattr(self, f.name) for f in fields(self)})
        for name in _TABLES:
            if getattr(self, name) is not None:
                values[name] = {key: _lists(value) for key, value in getattr(self, name)}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The config of a record."""
        values = dict(values)
        for name in _TABLES:
            if values.get(name) is not None:
                values[name] = _pairs(values[name])
        unknown(values, [f.name for f in fields(cls)], "config")
        return cls(**values)

    @property
    def label(self) -> str:
        """For people: data, unit and fold."""
        return f"{self.data} {self.unit} " + ("test" if self.fold is None else f"fold {self.fold}")

    def schedule(self) -> Schedule | None:
        """The noise of each layer in each epoch; None for baselines."""
        if self.unit in design.BASELINES and self.own is None:
            return None
        if self.own is not None:
            settings = custom(self.unit, dict(self.own), self.n_turns)
        else:
            u = design.unit(self.unit)
            settings = {
                "noise": u.noise,
                "mean": u.mean,
                "std": u.std,
                "interval": str(u.interval or "partition"),
                "power_law": str(u.power_law or "homogeneous"),
            }
        quantum = self.task.network.quantum
        return Schedule.periodic(
            self.n_layers,
            self.period,
            settings["interval"],
            power_law=settings["power_law"],
            mean0=0.0 if settings["mean"] == "static" else settings.get("mean0", -0.5) * quantum,
            std0=Noise.covering(noise_of(str(settings["noise"])), half_width=settings.get("half_width", 0.5) * quantum).std,
            static_mean=settings["mean"] == "static",
            static_std=settings["std"] == "static",
            blocks=self.task.network.turns if self.n_turns < self.n_layers else None,
        )

    def quantisation(self) -> tuple[Any, str] | None:
        """The noise, as `noise_of` gives it, and the strategy; None for baselines."""
        if self.own is not None:
            own = custom(self.unit, dict(self.own), self.n_turns)
            return noise_of(own["noise"]), own["strategy"]
        if self.unit in design.BASELINES:
            return None
        u = design.unit(self.unit)
        return str(u.noise), str(u.strategy)


def _worth_writing(kind: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of fields without those that equal their fields' defaults, but for `_ALWAYS_WRITTEN`."""
    defaults = {f.name: f.default for f in fields(kind) if f.name not in _ALWAYS_WRITTEN}  # MISSING equals no value
    return {name: value for name, value in values.items() if name in _ALWAYS_WRITTEN or value != defaults[name]}


SETTINGS: tuple[str, ...] = tuple(f.name for f in fields(Config) if f.name not in (*_WHICH_RUN, *_TABLES))
"""What a sweep's file and `make` may change of a named size."""


def of_size(data: str, size: str) -> dict[str, Any]:
    """What a named size means for a data set: `width`, `shrink`, `n_train`, `period`, `batch_size`, `lr`, `augmentation`.

    Example:
        >>> of_size("gsc12", "scaled")
        {'augmentation': 'none', 'width': 0.5, 'shrink': 1, 'n_train': 0, 'period': 2, 'batch_size': 256, 'lr': 0.01}
    """
    choice(data, TASKS, "data")
    choice(size, SIZES, "size")
    return TASKS[data].size(size)


def make(data: str, unit: str, fold: int | None = 0, size: str = "scaled", seed: int = 0, **overrides: Any) -> Config:
    """A config of a named size, with single settings changed.

    Args:
        data: the data set's name; stand-ins say so in theirs.
        unit: of the design, or a baseline.
        fold: as for `Config`.
        size: "paper" or "scaled".
        seed: as for `Config`.
        overrides: `width`, `shrink`, `n_train`, `period`, `batch_size`, `lr`, `augmentation`, `n_folds`, `precision`,
            `channels_last`, `unused`, `own`, `own_network`.

    Raises:
        ValueError, TypeError: an unknown name (with the nearest), or a value out of bounds.

    Example:
        >>> make("cifar10", "uniform-mode-static", period=6).size
        'custom-5ca5e0'
    """
    unknown(overrides, [*SETTINGS, *_TABLES], "overrides")
    for name in _TABLES:
        if isinstance(overrides.get(name), Mapping):
            overrides[name] = _pairs(overrides[name])
    own_network = overrides.get("own_network")
    if own_network is None:
        sized = of_size(data, size)
    else:
        sized = own_networks.task_of(data, own_network).size(choice(size, SIZES, "size"))
    return Config(data, unit, fold, seed, **{**sized, **overrides})


_KEYS = {
    "data": "cifar10",
    "size": "scaled",
    "units": ["figures"],
    "folds": [0],
    "seeds": [0],
    "settings": {},
    "schedules": {},
    "network": "",
    "quantisation": {},
}


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a sweep's TOML file and apply `key=value` overrides to it.

    The file's keys: `data`; `size`; `units` (names, patterns, groups); `folds` (numbers, or "test"); `seeds`; a table
    `settings` of changes to the size; a table `schedules` of schedules of one's own. All have defaults. `network` names a
    network of one's own, "package.module:function", and a table `quantisation` says how it is quantised (see
    `own_networks.QUANTISATION`); with it `data` may be a data set of one's own in the store.

    Args:
        path: of the file; those of the book, data/sweeps/NAME.toml, are found from any folder.
        overrides: for example "folds=[0,1,2]" or "settings.period=10"; values are written as in TOML, and plain words
            are text.

    Returns:
        The keys with their values.

    Raises:
        ValueError: no such file, no TOML, an unknown key (with the nearest).

    Example:
        >>> read("data/sweeps/cifar10.toml")["data"]
        'cifar10'
    """
    path = shipped.sweep(path_at(path, "the config"))
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of some systems begin a file with a byte order mark
    except OSError as error:
        raise ValueError(f"cannot read the config {str(path)!r}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"the config {str(path)!r} is not a text file in UTF-8.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the config {str(path)!r} is not TOML: {error}.") from None
    for override in overrides:
        _override(values, override)
    unknown(values, _KEYS, f"the config {path.name!r}")
    for name, default in _KEYS.items():
        if name in values and not isinstance(values[name], type(default)):
            raise ValueError(f"{name} must be a {_WORDS[type(default)]} in the config, not {values[name]!r}.")
    return {**_KEYS, **values}


def expand(values: Mapping[str, Any]) -> list[Config]:
    """The configs of a sweep: each unit on each fold with each seed; seeds outermost, then folds.

    So a sweep that is cut short has all units on the first folds.

    Raises:
        ValueError, TypeError: a name that is not known, a value out of bounds, or nothing to do.

    Example:
        >>> sweep = read("data/sweeps/cifar10.toml", ["units=['uniform-mode-static']", "folds=[0, 1]"])
        >>> [config.label for config in expand(sweep)]
        ['cifar10 uniform-mode-static fold 0', 'cifar10 uniform-mode-static fold 1']
    """
    data, own = values["data"], values["schedules"]
    choice(values["size"], SIZES, "size")
    unknown(values["settings"], SETTINGS, "settings")
    network = _own_network(values)
    for name, schedule in own.items():
        if not isinstance(schedule, dict):
            raise ValueError(f"schedules.{name} must be a table, not {schedule!r}.")
    for name in ("units", "folds", "seeds"):
        if not values[name]:
            raise ValueError(f"{name} must hold at least one entry, not {values[name]!r}.")
    named = [name for name in values["units"] if not isinstance(name, str) or name not in own]
    chosen = list(design.select(named, data if data in TASKS else None)) if named else []
    chosen += [name for name in values["units"] if name in own]
    folds = [_fold(fold) for fold in values["folds"]]
    return [
        make(
            data,
            name,
            fold,
            values["size"],
            seed,
            **values["settings"],
            **({"own": own[name]} if name in own else {}),
            **({} if network is None else {"own_network": network}),
        )
        for seed in values["seeds"]
        for fold in folds
        for name in chosen
    ]


def _own_network(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a sweep says of a network or a data set of one's own; None for those of the book."""
    data, network, settings = values["data"], values.get("network", ""), values["settings"]
    quantisation = values.get("quantisation", {})
    if not network:
        if data not in TASKS and data in store.names():
            raise ValueError(
                f"{data!r} is a data set of your own, so the config must name a network for it, as in "
                'network = "package:function".'
            )
        choice(data, TASKS, "data")
        if quantisation:
            raise ValueError('quantisation is for a network of your own: name it, as in network = "package:function".')
        return None
    found = own_networks.described(
        data, network, quantisation, width=settings.get("width"), shrink=settings.get("shrink"), size=values["size"]
    )
    if data not in TASKS and any(fold != "test" for fold in values["folds"]):
        own_networks.check_folds(data, settings.get("n_folds", Config.n_folds))
    return found


_WORDS = {str: "text", list: "list", dict: "table"}


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ValueError(f"an override must read key=value, not {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = name.strip().split(".")
    if not tables:
        unknown([last], [*_KEYS, *SETTINGS], f"the override {override!r}")
    if not tables and last in SETTINGS:
        tables = ["settings"]
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"{override!r} cannot be applied: {table!r} is no table.")
    values[last] = value


def _fold(fold: Any) -> int | None:
    if fold == "test":
        return None
    if isinstance(fold, str):
        raise ValueError(f'folds must be numbers or "test", not {fold!r}.')
    return fold


def _pairs(table: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _tuples(value)) for name, value in sorted(table.items()))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, (list, tuple)) else value
