"""The empirical claims as data: the paper's, about the data that it makes them about, and our own."""

from __future__ import annotations

import itertools

from anabook.experiments import design
from anabook.experiments.claim import Claim, Contrast

CIFAR, SVHN, GSC = ("cifar10",), ("svhn",), ("gsc12", "gsc")
ALL = (*CIFAR, *SVHN, *GSC)
NOISES = ("triangular", "normal", "logistic")
STRATEGIES = ("expectation", "random", "mode")
WORDS = {"partition": "partition", "same_start": "same start", "same_end": "same end", "overlapped": "overlapped"}


def static(strategy: str, noise: str = "uniform") -> str:
    """The unit whose noise never changes.

    Example:
        >>> static("mode")
        'uniform-mode-static'
    """
    return design.Unit(noise, strategy, design.Mean.STATIC, design.Std.STATIC).name


def annealed(strategy: str, *intervals: str, law: str | None = None, noise: str = "uniform") -> tuple[str, ...]:
    """The annealed units with a static mean, with these intervals; with both power laws unless one is named.

    Example:
        >>> annealed("mode", "partition")
        ('uniform-mode-partition-homogeneous', 'uniform-mode-partition-progressive')
    """
    return tuple(
        unit.name
        for unit in design.units()
        if (unit.noise, unit.strategy, unit.mean, unit.std) == (noise, strategy, "static", "dynamic")
        and unit.interval in intervals
        and law in (None, unit.power_law)
    )


def _compared(strategy: str, first: str, second: str, noise: str = "uniform") -> Contrast:
    """Two intervals, averaged over the power laws."""
    name = f"{strategy}: {WORDS[first]} − {WORDS[second]}" + (f", {noise}" if noise != "uniform" else "")
    return Contrast(name, annealed(strategy, first, noise=noise), annealed(strategy, second, noise=noise))


def _worst(strategy: str, noise: str = "uniform") -> tuple[Contrast, ...]:
    return tuple(_compared(strategy, other, "same_end", noise) for other in ("partition", "same_start", "overlapped"))


def _best(strategy: str, noise: str = "uniform") -> tuple[Contrast, ...]:
    return tuple(
        _compared(strategy, good, bad, noise) for good in ("partition", "same_start") for bad in ("same_end", "overlapped")
    )


def _coherent(strategy: str, place: str, words: str) -> Claim:
    """What the paper says of the intervals on speech, where it names none but partition."""
    return Claim(
        f"{strategy}-coherent-intervals",
        f"{words}, the decay intervals that are more coherent with Theorem 2 end higher (on speech the paper names partition "
        "only; same start as we read “more coherent”, from B.1).",
        place,
        GSC,
        "above",
        _best(strategy),
    )


def _laws(noise: str = "uniform") -> Contrast:
    good = ("partition", "same_start")
    return Contrast(
        "expectation: homogeneous − progressive" + (f", {noise}" if noise != "uniform" else ""),
        annealed("expectation", *good, law="homogeneous", noise=noise),
        annealed("expectation", *good, law="progressive", noise=noise),
    )


def _below_static(noise: str) -> tuple[Contrast, ...]:
    of_noise = f", {noise}" if noise != "uniform" else ""
    return tuple(
        Contrast(
            f"static mode − expectation {WORDS[name]}{of_noise}",
            static("mode", noise),
            annealed("expectation", name, noise=noise),
        )
        for name in ("partition", "same_start")
    )


def _shape(strategy: str, measure: str = "final") -> tuple[Contrast, ...]:
    early = {"early": ", first period"}.get(measure, "")
    return tuple(
        Contrast(f"{strategy}{early}: {noise} − uniform", static(strategy, noise), static(strategy), measure)
        for noise in NOISES
    )


def _scatter(strategy: str, first: str, second: str) -> Contrast:
    return Contrast(f"{strategy}: scatter of {first} ÷ {second}", static(strategy, first), static(strategy, second))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "mode-above-random",
        "With static noise, the mode gives somewhat higher accuracy than random sampling.",
        "section 4.2, Fig. 1",
        CIFAR,
        "above",
        tuple(
            Contrast(f"{noise}: mode − random", static("mode", noise), static("random", noise))
            for noise in ("uniform", *NOISES)
        ),
        paper="about 86 % against 82 %",
    ),
    Claim(
        "noise-negligible-mode",
        "With static noise and the mode, the type of noise hardly matters.",
        "section 4.2, Fig. 1b; B.1, Fig. 4b; B.2, Fig. 6b",
        ALL,
        "level",
        _shape("mode"),
        margin=0.02,
    ),
    Claim(
        "uniform-behind-when-random",
        "With static noise and random sampling, uniform noise is slightly worse than the others.",
        "section 4.2, Fig. 1a",
        CIFAR,
        "above",
        _shape("random"),
    ),
    Claim(
        "noise-negligible-expectation",
        "Under expectation, too, the type of noise has no major impact.",
        "section 4.2, Fig. 2",
        CIFAR,
        "level",
        tuple(
            Contrast(
                f"expectation: {noise} − uniform",
                annealed("expectation", *WORDS, noise=noise),
                annealed("expectation", *WORDS),
            )
            for noise in NOISES
        ),
        margin=0.02,
    ),
    Claim(
        "expectation-partition-or-same-start",
        "Under expectation, partition and same start are the best decay intervals.",
        "section 4.2, Fig. 2a; B.1, Fig. 5a",
        (*CIFAR, *SVHN),
        "above",
        _best("expectation"),
        paper="CIFAR-10: about 79 % for both",
    ),
    Claim(
        "homogeneous-above-progressive",
        "Under expectation, homogeneous decay is slightly better than progressive decay, for partition and same start.",
        "section 4.2, Fig. 2a",
        CIFAR,
        "above",
        (_laws(),),
    ),
    Claim(
        "same-end-worst-expectation",
        "Under expectation, same end is the worst decay interval.",
        "section 4.2, Fig. 2a; B.1, Fig. 5a; B.2, Fig. 7a",
        ALL,
        "above",
        _worst("expectation"),
    ),
    Claim(
        "same-end-worst-random",
        "With random sampling, same end is the worst decay interval.",
        "section 4.2, Fig. 3a; B.1, Fig. 5b; B.2, Fig. 7b",
        ALL,
        "above",
        _worst("random"),
    ),
    Claim(
        "same-end-worst-mode",
        "With the mode, same end is the worst decay interval.",
        "B.1, Fig. 5c; B.2, Fig. 7c",
        (*SVHN, *GSC),
        "above",
        _worst("mode"),
    ),
    Claim(
        "random-partition-above-expectation",
        "Partition can be 4 % better with random sampling (than with the expectation, as we read it).",
        "section 4.2, Fig. 3a",
        CIFAR,
        "by",
        (
            Contrast(
                "partition: random − expectation", annealed("random", "partition"), annealed("expectation", "partition")
            ),
        ),
        margin=0.02,
        paper="4 %",
    ),
    Claim(
        "mode-partition-level-with-static",
        "Before the learning rate drops, partition with the mode is level with static noise and the mode.",
        "section 4.2, Fig. 3b",
        CIFAR,
        "level",
        (
            Contrast(
                "mode, before the drop: partition − static",
                *(annealed("mode", "partition", law="homogeneous"), static("mode")),
                measure="before_drop",
            ),
        ),
        margin=0.02,
    ),
    Claim(
        "static-ahead-after-drop",
        "Static noise with the mode ends slightly ahead of partition with the mode, and gains more when the learning rate drops.",
        "section 4.2, Fig. 3b",
        CIFAR,
        "above",
        tuple(
            Contrast(name, static("mode"), annealed("mode", "partition", law="homogeneous"), measure)
            for name, measure in (
                ("mode: static − partition", "final"),
                ("mode, gain at the drop: static − partition", "drop_gain"),
            )
        ),
    ),
    Claim(
        "static-mode-is-ste",
        "Static noise is the straight-through estimator (with uniform noise and the mode, the one with clipping: ours).",
        "section 4.1",
        ALL,
        "level",
        (Contrast("static mode − STE by hand", static("mode"), "ste"),),
        margin=0.02,
    ),
    Claim(
        "mode-gains-more-at-drop",
        "With static noise, the mode gains more than random sampling when the learning rate drops: a part of its lead.",
        "section 4.2, Fig. 1",
        CIFAR,
        "above",
        tuple(
            Contrast(
                f"{noise}, gain at the drop: mode − random", static("mode", noise), static("random", noise), "drop_gain"
            )
            for noise in ("uniform", *NOISES)
        ),
    ),
    Claim(
        "expectation-below-static",
        "The best annealed units under expectation are well below static noise with the mode.",
        "section 4.2, Figs. 1b and 2a",
        CIFAR,
        "by",
        _below_static("uniform"),
        margin=0.02,
        paper="7 %",
    ),
    Claim(
        "other-noises-partition-or-same-start",
        "Under expectation, partition and same start are the best for triangular, normal and logistic noise, too.",
        "section 4.2, Figs. 2b to 2d",
        CIFAR,
        "above",
        tuple(contrast for noise in NOISES for contrast in _best("expectation", noise)),
    ),
    Claim(
        "other-noises-homogeneous",
        "Homogeneous decay is slightly better than progressive decay for triangular, normal and logistic noise, too.",
        "section 4.2, Figs. 2b to 2d",
        CIFAR,
        "above",
        tuple(map(_laws, NOISES)),
    ),
    Claim(
        "other-noises-same-end-worst",
        "Under expectation, same end is the worst for triangular, normal and logistic noise, too.",
        "section 4.2, Figs. 2b to 2d",
        CIFAR,
        "above",
        tuple(contrast for noise in NOISES for contrast in _worst("expectation", noise)),
    ),
    Claim(
        "random-mitigates-same-end",
        "Random sampling seems to mitigate what same end costs: it ends above that under expectation, and nearer to partition.",
        "section 4.2, Fig. 3a",
        CIFAR,
        "above",
        (
            Contrast("same end: random − expectation", annealed("random", "same_end"), annealed("expectation", "same_end")),
            Contrast(
                "partition − same end: expectation − random",
                annealed("expectation", "partition"),
                annealed("expectation", "same_end"),
                beyond=(annealed("random", "partition"), annealed("random", "same_end")),
            ),
        ),
    ),
    Claim(
        "late-early-layers-cost-much",
        "To anneal the earlier layers after the later ones (same end) costs much (under every strategy, as we read it).",
        "section 5, Figs. 2 and 3",
        CIFAR,
        "by",
        tuple(_compared(strategy, "partition", "same_end") for strategy in STRATEGIES),
        margin=0.02,
        paper="“huge”",
    ),
    Claim(
        "noise-negligible-random",
        "With static noise and random sampling, all types of noise end at about the same accuracy.",
        "B.1, Fig. 4a; B.2, Fig. 6a",
        (*SVHN, *GSC),
        "level",
        _shape("random"),
        margin=0.02,
    ),
    Claim(
        "uniform-random-slow-early",
        "With random sampling, uniform noise seems slightly worse than the others in the earlier epochs.",
        "B.1, Fig. 4a",
        SVHN,
        "above",
        _shape("random", "early"),
    ),
    Claim(
        "random-partition-or-same-start",
        "With random sampling, partition and same start are the best decay intervals.",
        "B.1, Fig. 5b",
        SVHN,
        "above",
        _best("random"),
    ),
    Claim(
        "mode-partition-or-same-start",
        "With the mode, partition and same start are the best decay intervals.",
        "B.1, Fig. 5c",
        SVHN,
        "above",
        _best("mode"),
    ),
    Claim(
        "triangular-varies-least",
        "With static noise, accuracies under triangular noise vary less than under the others (between folds, as we read it).",
        "B.2, Fig. 6",
        GSC,
        "varies more",
        tuple(
            _scatter(strategy, noise, "triangular")
            for strategy in ("random", "mode")
            for noise in ("uniform", "normal", "logistic")
        ),
    ),
    Claim(
        "uniform-varies-most",
        "With static noise, accuracies under uniform noise vary more than under the others (between folds, as we read it).",
        "B.2, Fig. 6",
        GSC,
        "varies more",
        tuple(_scatter(strategy, "uniform", noise) for strategy in ("random", "mode") for noise in NOISES),
    ),
    Claim(
        "partition-ends-level-with-static",
        "Partition can end about level with static noise (judged with the mode).",
        "B.2, Figs. 6 and 7",
        GSC,
        "level",
        (Contrast("mode: partition − static", annealed("mode", "partition", law="homogeneous"), static("mode")),),
        margin=0.02,
    ),
    Claim(
        "static-mode-ahead-of-all",
        "Static noise with the mode ends ahead of partition and of same start, under every strategy.",
        "",
        ALL,
        "above",
        tuple(
            Contrast(
                f"static mode − {strategy} {WORDS[interval]}",
                *(static("mode"), annealed(strategy, interval, law="homogeneous")),
            )
            for strategy in STRATEGIES
            for interval in ("partition", "same_start")
        ),
    ),
    _coherent("expectation", "B.2, Fig. 7a", "Under expectation"),
    _coherent("random", "B.2, Fig. 7b", "With random sampling"),
    _coherent("mode", "B.2, Fig. 7c", "With the mode"),
    Claim(
        "others-level-when-random",
        "With static noise and random sampling, triangular, normal and logistic noise hardly differ (uniform is the exception).",
        "section 4.2, Fig. 1a",
        CIFAR,
        "level",
        tuple(
            Contrast(f"random: {first} − {second}", static("random", first), static("random", second))
            for first, second in itertools.combinations(NOISES, 2)
        ),
        margin=0.02,
    ),
    Claim(
        "other-noises-below-static",
        "The best annealed units under expectation are well below static noise with the mode for triangular, normal and "
        "logistic noise, too.",
        "section 4.2, Figs. 1b and 2b to 2d",
        CIFAR,
        "by",
        tuple(contrast for noise in NOISES for contrast in _below_static(noise)),
        margin=0.02,
    ),
)
"""The claims, each new one at the end: pages refer to them by their numbers."""
