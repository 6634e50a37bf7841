"""Write the stills of the figures that readers operate, for paper and for pages without JavaScript; and what the zoo's knows.

python tools/reader_figures.py     book/_static/NAME-still.svg for each name in STILLS, zoo-formulas.js and zoo-rows.js

A still shows a figure at one moment, drawn from the package's numbers; its text, which the page repeats as alternative text,
says the same in words. The same package gives the same files, byte for byte.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import sympy as sp
from sklearn.datasets import load_sample_image
from sympy.printing.jscode import JavascriptCodePrinter

import anabook as ab
from anabook.convergence import log_margin, networks
from anabook.variants import VARIANTS
from anabook.variants.variant import KINDS, Variant

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
INK, LINE, BLUE, RED = "#222832", "#555555", "#0065a4", "#b34700"
SIZE = (340, 190)

Points = Iterable[tuple[float, float]]


def number(value: float) -> str:
    """Three digits, with a true minus."""
    return f"{value:.3g}".replace("-", "−")


class Panel:
    """A picture with axes in a still, the size of the figures' own."""

    def __init__(self, index: int, title: str, x: Sequence[float], y: Sequence[float], axis: float = 0) -> None:
        self.x, self.y, self.left = x, y, index * (SIZE[0] + 20)
        self.parts = [f'<text x="{self.left + 34}" y="14">{title}</text>']
        self.line([(x[0], max(y[0], axis)), (x[1], max(y[0], axis))], LINE, 0.8)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + 34 + across * (SIZE[0] - 44), 20 + SIZE[1] - 22 - up * (SIZE[1] - 32)

    def line(self, points: Points, colour: str, width: float = 2.0, dash: str = "") -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>')

    def area(self, points: Points, colour: str) -> None:
        """Fill what lies within points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.parts.append(f'<polygon points="{path}" fill="{colour}" fill-opacity=".2"/>')

    def dot(self, x: float, y: float, colour: str, radius: float = 5) -> None:
        """Draw a dot."""
        left, top = self.at(x, y)
        self.parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{radius}" fill="{colour}"/>')

    def stair(self, quantiser: ab.Quantiser) -> None:
        """Draw a quantiser's treads."""
        edges = [self.x[0], *quantiser.thresholds, self.x[1]]
        for low, high, level in zip(edges, edges[1:], quantiser.levels):
            self.line([(low, level), (high, level)], INK, 1.4)

    def ticks(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Write numbers on both axes."""
        for x in xs:
            self.parts.append(f'<text x="{self.at(x, 0)[0]:.1f}" y="{SIZE[1] + 16}" text-anchor="middle">{number(x)}</text>')
        for y in ys:
            self.parts.append(
                f'<text x="{self.left + 29}" y="{self.at(0, y)[1] + 4:.1f}" text-anchor="end">{number(y)}</text>'
            )


def document(panels: Sequence[Panel], text: str) -> str:
    """The still with its text."""
    parts = "\n".join(part for panel in panels for part in panel.parts)
    wide = len(panels) * (SIZE[0] + 20) - 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {SIZE[1] + 20}" role="img" font-family="sans-serif" '
        f'font-size="12" fill="{INK}">\n<title>{text}</title>\n{parts}\n</svg>\n'
    )


def curve(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, n: int = 241) -> list[tuple[float, float]]:
    """Points of a function's graph."""
    x = np.linspace(low, high, n)
    return list(zip(x.tolist(), np.asarray(function(x)).tolist()))


def shake() -> tuple[str, str]:
    """The front page's: thirty draws, their average, and the slope."""
    x, std, n = 0.3, 0.2, 30
    quantiser, noise = ab.Quantiser.ternary(), ab.Noise("normal", std=std)
    mean = ab.Regularisation(quantiser, noise)
    places = x - noise.sample(n, 3)
    drawn = quantiser(places)
    stair = Panel(0, "The stair, the draws that fell on it, and their average", (-1.5, 1.5), (-1.3, 1.3))
    stair.ticks((-1, 0, 1), (-1, 0, 1))
    stair.stair(quantiser)
    stair.line(curve(mean, -1.5, 1.5), BLUE)
    for i, (place, level) in enumerate(zip(places.tolist(), drawn.tolist())):
        stair.dot(place, level + 0.045 * (i * 7 % 5 - 2), RED, 2.5)
    stair.line([(-1.5, drawn.mean()), (x, drawn.mean())], RED)
    stair.dot(x, mean(x), BLUE)
    top = float(mean.derivative(0.5))
    slope = Panel(1, "The slope of the average", (-1.5, 1.5), (0, 1.1 * top))
    slope.ticks((-1, -0.5, 0, 0.5, 1), (0, top))
    slope.area([(-1.5, 0), *curve(mean.derivative, -1.5, 1.5), (1.5, 0)], BLUE)
    slope.line(curve(mean.derivative, -1.5, 1.5), BLUE)
    slope.line([(x, 0), (x, mean.derivative(x))], RED)
    slope.dot(x, mean.derivative(x), RED)
    text = (
        f"Left, {n} draws of the input {x} shaken by noise of strength {std} have fallen on the levels 0 and 1 of a stair; their "
        f"average is {drawn.mean():.2f}, that of all draws {mean(x):.2f}. Right, the slope of the average is two hills at the "
        f"jumps of the stair, and {mean.derivative(x):.2f} at the input."
    )
    return document([stair, slope], text), text


def window() -> tuple[str, str]:
    """Chapter 3's: the window around 1.7, the average and its slope."""
    x, h = 1.7, 0.4
    quantiser, noise = ab.Quantiser.linear(bits=2, signed=False, rounding="nearest"), ab.Noise.covering("uniform", h)
    mean, height = ab.Regularisation(quantiser, noise), 1 / (2 * h)
    theta = float(quantiser.thresholds[1])
    density = Panel(0, "The window: the density of the shaken input", (-1, 4), (0, 1.12 * height))
    density.ticks(range(-1, 5), (0, height))
    density.area([(theta, 0), (theta, height), (x + h, height), (x + h, 0)], BLUE)
    density.line([(-1, 0), (x - h, 0), (x - h, height), (x + h, height), (x + h, 0), (4, 0)], BLUE)
    density.line([(theta, 0), (theta, height)], RED)
    density.dot(theta, height, RED)
    stair = Panel(1, "The stair, its average, and (dotted) the slope", (-1, 4), (-0.24, 3.24))
    stair.ticks(range(-1, 5), range(4))
    stair.stair(quantiser)
    stair.line(curve(mean, -1, 4), BLUE)
    stair.line(curve(mean.derivative, -1, 4, 501), RED, 1.5, "2 3")
    stair.dot(x, mean(x), BLUE)
    mass = mean.probabilities(x)
    text = (
        f"Left, the density of the input {x} under uniform noise of half-width {h}, a box; {mass[2]:.2f} of its mass lies beyond "
        f"the threshold {theta:g}, on level 2, and {mass[1]:.2f} on level 1. Right, the stair of four levels and its average, "
        f"which is {mean(x):.2f} at {x} and has slope {mean.derivative(x):.2f} there, the height of the box at the threshold."
    )
    return document([density, stair], text), text


def zoo() -> tuple[str, str]:
    """Chapter 4's: the fast sigmoid at its default."""
    variant = VARIANTS["fast_sigmoid"]
    low, high = variant.window
    rising = Panel(0, "fast_sigmoid: quantiser and surrogate", (low, high), (-0.1, 1.1))
    rising.ticks((-0.2, 0, 0.2), (0, 1))
    rising.stair(variant.quantiser)
    rising.line(curve(variant.surrogate, low, high), BLUE)
    slope = Panel(1, "Its gradient, which here is also the density", (low, high), (0, 1.1))
    slope.ticks((-0.2, 0, 0.2), (0, 1))
    slope.area([(low, 0), *curve(variant.gradient, low, high), (high, 0)], BLUE)
    slope.line(curve(variant.gradient, low, high), BLUE)
    text = (
        f"Left, the Heaviside step and the surrogate of the fast sigmoid at k = {variant.settings['k']:g}: it rises from 0 to "
        f"{variant.mass:g} only, the variant's mass. Right, its gradient, a narrow peak of height {variant.gradient(0.0):g} at "
        "the threshold."
    )
    return document([rising, slope], text), text


def mass() -> tuple[str, str]:
    """Chapter 4's other one: the factors of four layers with the fast sigmoid."""
    m, n = VARIANTS["fast_sigmoid"].mass, 4
    factors = [m ** (n - i) for i in range(n)]
    panel = Panel(0, "Factor of each layer's gradient, as a power of 10", (0.3, n + 0.7), (-5, 1))
    panel.ticks(range(1, n + 1), (0, -2, -4))
    for i, factor in enumerate(factors, 1):
        height = math.log10(factor)
        panel.area([(i - 0.3, 0), (i - 0.3, height), (i + 0.3, height), (i + 0.3, 0)], RED if i == 1 else BLUE)
    listed = ", ".join(number(factor) for factor in factors)
    text = (
        f"Four bars on a logarithmic scale hang from the factor 1: with mass {m:g} the gradients of four layers, from the first "
        f"to the last, are multiplied by {listed}."
    )
    return document([panel], text), text


PHOTO_SOURCE = (
    "from scikit-learn's china.jpg by danielbuechele, licence CC BY 2.0; cut, made smaller and grey. Grey values in base 64."
)


def photo() -> np.ndarray:
    """The photograph of chapter 5, 80 × 120 grey values from 0 to 255: means of 3 × 3 of its points."""
    grey = load_sample_image("china.jpg")[60:300, 150:510].mean(axis=2)
    return np.rint(grey.reshape(80, 3, 120, 3).mean(axis=(1, 3))).astype(np.uint8)


def strategies_picture() -> str:
    """The photograph as a script."""
    pixels = base64.b64encode(photo().tobytes()).decode()
    data = f'  const data = {{ wide: 120, high: 80, pixels: "{pixels}" }};\n'
    return module("anabookStrategiesPicture", PHOTO_SOURCE, data)


def png(levels: np.ndarray, bits: int) -> str:
    """A grey picture of whole numbers below 2^bits as an address, in PNG that is stored and not packed: always the same bytes."""
    ones = np.unpackbits(levels.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(len(levels), -1)
    rows = np.packbits(ones, axis=1)
    raw = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    made = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 0)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(made).decode()}"


def strategies() -> tuple[str, str]:
    """Chapter 5's: the three strategies at the noise that makes the expectation the photograph."""
    quantiser, x = ab.Quantiser([0, 0.5, 1], [0.25, 0.75]), photo() / 255
    grey = ab.Regularisation(quantiser, ab.Noise.covering("uniform", 0.25))
    shown = {
        "Expectation": png(np.rint(grey(x) * 15), 4),
        "Mode": png(np.rint(grey.mode(x) * 3), 2),
        "Random": png(np.rint(grey.sample(x, 0) * 3), 2),
    }
    parts = []
    for i, (name, address) in enumerate(shown.items()):
        parts.append(f'<text x="{360 * i + 4}" y="14">{name}</text>')
        parts.append(f'<image x="{360 * i}" y="20" width="340" height="227" image-rendering="pixelated" href="{address}"/>')
    text = (
        "A photograph of a Chinese temple, three times. The expectation is the photograph itself. In the mode, sky and walls are "
        "flat patches of white, grey and black. In the random draw, shading is made of dots of these three."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 250" role="img" font-family="sans-serif" font-size="14" '
        f'fill="{INK}">\n<title>{text}</title>\n' + "\n".join(parts) + "\n</svg>\n",
        text,
    )


def swap() -> tuple[str, str]:
    """Chapter 7's: the output of network A as λ falls, in both orders of two schedules, with uniform noise."""
    example, exponents = networks.NETWORK_A, ((2, 2), (1, 1))
    falling = np.linspace(0.5, 6, 111)
    outputs, panels = {}, []
    for order, steps in (("good", exponents), ("bad", exponents[::-1])):
        schedules = [log_margin("uniform", *step) for step in steps]
        noises = [networks.noises_at("uniform", schedules, 10.0**-v) for v in falling.tolist()]
        errors = [-networks.chain(1).regularised([0], each[:1]).deviation[0] for each in noises]
        outputs[order] = [example.network.regularised(example.x, each).output[0] for each in noises]
        title = "Layer 0 has the faster schedule" if order == "good" else "Layer 0 has the slower schedule"
        panel = Panel(len(panels), f"{title}: logarithms to base 10", (0.5, 6), (-14.5, 0.5), axis=-14.5)
        panel.ticks(range(1, 7), (0, -4, -8, -12))
        panel.line(zip(falling, np.log10(np.array(errors, dtype=float))), BLUE)
        panel.line(zip(falling, [np.log10(-each[1].mean) for each in noises]), RED, 2, "8 3")
        panels.append(panel)
    last = Panel(2, "Output as λ falls; dotted: the slower first", (0.5, 6), (-0.08, 1.08))
    last.ticks(range(1, 7), (0, 1))
    last.line(zip(falling, outputs["good"]), BLUE)
    last.line(zip(falling, outputs["bad"]), LINE, 2, "2 3")
    panels.append(last)
    text = (
        "Three panels against minus the logarithm of λ, with uniform noise. Left, the error of layer 0 falls with λ² and stays "
        "below the dashed offset of layer 1, which falls with λ. Middle, with the schedules swapped, the error lies above the "
        f"offset. Right, the output rises to 1 in the first case, {outputs['good'][30]:.2f} at λ = 0.01, and is "
        f"{outputs['bad'][30]:.0f} in the second."
    )
    return document(panels, text), text


STILLS: dict[str, Callable[[], tuple[str, str]]] = {
    "shake": shake,
    "window": window,
    "swap": swap,
    "zoo": zoo,
    "strategies": strategies,
    "mass": mass,
}


# The zoo in JavaScript -----------------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[str, Sequence[float]]] = {
    "ste_tern": ("clip", (0.1, 0.3, 0.5, 1, 1.5)),
    "dorefa": ("bits", (1, 2, 3, 4)),
    "pact": ("bits", (1, 2, 3, 4)),
    "spike_count": ("count", (1, 2, 4, 8)),
    "floor_identity": ("bits", (1, 2, 3, 4)),
    "scaled_sigmoid": ("k", (1, 4, 10, 25, 50)),
    "spike_rate_escape": ("k", (0.1, 0.5, 1, 5, 25)),
    "fast_sigmoid": ("k", (1, 2, 5, 10, 25, 50)),
    "q_pseudo_spike": ("q", (1.5, 2, 2.5, 3, 3.5, 10)),
    "multi_gauss": ("h", (0, 0.05, 0.15, 0.3, 0.5)),
    "squarewave_fourier": ("n", (2, 3, 4, 5)),
    "leaky_relu": ("leak", (0, 0.01, 0.1, 0.5, 1)),
    "piecewise_leaky_relu": ("c", (0, 0.01, 0.1, 0.3)),
    "log_tailed_relu": ("alpha", (0, 0.01, 0.1, 0.5)),
}
"""The parameter that readers move, and its values; for other variants the first one, from a tenth to ten times its default."""


class Printer(JavascriptCodePrinter):
    """SymPy's expressions in JavaScript, with the functions that JavaScript lacks by name."""

    def _print_Mod(self, expression: sp.Expr) -> str:
        return "mod({}, {})".format(*map(self._print, expression.args))

    def _print_erf(self, expression: sp.Expr) -> str:
        return f"erf({self._print(expression.args[0])})"


def in_javascript(expression: sp.Expr) -> str:
    """An expression on one line."""
    return " ".join(Printer().doprint(expression).split()).replace("( ", "(").replace(" )", ")")


def moved(variant: Variant) -> tuple[str, Sequence[float]]:
    """The parameter that readers move, and its values; "" for a variant without parameters."""
    if not variant.parameters:
        return "", (0,)
    if variant.name in CHOICES:
        return CHOICES[variant.name]
    name, parameter = next(iter(variant.parameters.items()))
    return name, tuple(float(f"{factor * parameter.default:.3g}") for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10))


def at(variant: Variant, value: float) -> Variant:
    """A variant with one value of the parameter that readers move."""
    name, _ = moved(variant)
    return (
        variant.with_parameters(**{name: int(value) if variant.parameters[name].is_integer else value}) if name else variant
    )


def module(name: str, what: str, body: str) -> str:
    """A script that node can require and a page can load."""
    return (
        f"/* Written by tools/reader_figures.py: {what} */\n"
        f"(function (root) {{\n{body}"
        '  if (typeof module === "object" && module.exports) module.exports = data;\n'
        f'  else root.{name} = data;\n}})(typeof self === "undefined" ? globalThis : self);\n'
    )


def zoo_formulas() -> str:
    """Each variant's density and its primitive as functions of x and the variant's parameters."""
    rows = []
    for variant in VARIANTS.values():
        arguments = ", ".join(["x", *variant.parameters])
        values = moved(variant)[1] if any(not p.is_symbolic for p in variant.parameters.values()) else ()
        made = []
        for formula in ("formula", "primitive_formula"):
            if values:  # a formula of its own for each value
                cases = ", ".join(f"{value}: {in_javascript(getattr(at(variant, value), formula))}" for value in values)
                made.append(f"({arguments}) => ({{ {cases} }})[{moved(variant)[0]}]")
            else:
                made.append(f"({arguments}) => {in_javascript(getattr(variant, formula))}")
        rows.append(f"    {variant.name}: [{made[0]},\n      {made[1]}],\n")
    helpers = (
        '  const kit = typeof module === "object" && module.exports ? require("./figure-kit.js") : root.anabookKit;\n'
        "  const mod = (a, b) => a - b * Math.floor(a / b);\n"
        "  const erf = (t) => 2 * kit.normalCdf(Math.SQRT2 * t) - 1;\n"
    )
    what = "from anabook.variants, each density and its primitive, of x and the variant's parameters."
    return module("anabookZooFormulas", what, f"{helpers}  const data = {{\n{''.join(rows)}  }};\n")


def plain(value: float) -> str:
    """A number as short as JavaScript allows."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.12g}"


def whole(value: float) -> float:
    """A whole number without its fraction."""
    return int(value) if value == int(value) else value


def zoo_rows() -> str:
    """Each variant's source and libraries; and, for each value that readers may choose, its mass, kind, window and quantiser."""
    lines = []
    for variant in VARIANTS.values():
        name, values = moved(variant)
        found = []
        for value in values:
            v = at(variant, value)
            low, high = v.window
            numbers = (value, v.mass, KINDS.index(v.kind), float(f"{low:.4g}"), float(f"{high:.4g}"))
            row = [*map(plain, numbers), str(int(bool(v.natural.get("unbounded"))))]
            if not isinstance(variant.stair, ab.Quantiser):
                row += [f"[{','.join(map(plain, getattr(v.quantiser, key)))}]" for key in ("levels", "thresholds")]
            found.append(f"[{','.join(row)}]")
        libraries = [
            [
                library.path,
                {key: value if isinstance(value, str) else whole(value) for key, value in library.arguments.items()},
            ]
            for library in variant.libraries
            if library.path.startswith(("snntorch", "spikingjelly")) and not library.path.endswith("LSO")  # which raises
        ]
        fixed = {
            "source": variant.reference.text,
            "settings": {key: whole(value) for key, value in variant.settings.items()},
            "moved": name,
            "start": list(values).index(variant.settings[name]) if name else 0,
            "libraries": libraries,
        }
        if isinstance(variant.stair, ab.Quantiser):
            fixed |= {key: [*map(whole, getattr(variant.quantiser, key).tolist())] for key in ("levels", "thresholds")}
        start = json.dumps(fixed, ensure_ascii=False, separators=(",", ":"))[:-1]
        lines.append(f'    {variant.name}: {start},"rows":[{",".join(found)}]}},\n')
    what = (
        "rows of value, mass, kind, window, whether the primitive lacks a natural constant, levels and thresholds that move."
    )
    return module("anabookZooRows", what, f"  const data = {{\n{''.join(lines)}  }};\n")


SCRIPTS: dict[str, Callable[[], str]] = {
    "zoo-formulas": zoo_formulas,
    "zoo-rows": zoo_rows,
    "strategies-picture": strategies_picture,
}


def main() -> None:
    """Write the files."""
    for name, make in STILLS.items():
        drawn, text = make()
        (STATIC / f"{name}-still.svg").write_text(drawn, encoding="utf-8")
        print(f"{name}: {text}")
    for name, write in SCRIPTS.items():
        (STATIC / f"{name}.js").write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
