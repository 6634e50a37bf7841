"""Draw the site's own pictures from the package's numbers: the logo, the favicon and the picture of the README.

python tools/pictures.py        writes book/_static/logo.svg, favicon.svg and overview.png
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from anabook import Noise, Quantiser, Regularisation, plots

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
STAIR, CURVE = "#8392a7", "#d2691e"  # both stand out on white and on near-black


def path_of(x: np.ndarray, y: np.ndarray, size: float, margin: float) -> str:
    """An SVG path through the points of [-1.5, 1.5] × [-1, 1], in a square of ``size`` with a ``margin``."""
    across = margin + (x + 1.5) / 3.0 * (size - 2 * margin)
    down = size - margin - (y + 1.0) / 2.0 * (size - 2 * margin)
    return "M" + " L".join(f"{a:.2f},{d:.2f}" for a, d in zip(across, down))


def mark(size: float, stroke: float, label: str) -> str:
    """A ternary staircase and its regularisation by normal noise, as an SVG document."""
    quantiser = Quantiser.ternary()
    smooth = Regularisation(quantiser, Noise("normal", std=0.2))
    x = np.linspace(-1.5, 1.5, 61)
    stair_x, stair_y = [-1.5], [quantiser.levels[0]]
    for threshold, low, high in zip(quantiser.thresholds, quantiser.levels[:-1], quantiser.levels[1:]):
        stair_x += [threshold, threshold]
        stair_y += [low, high]
    stair = path_of(np.array([*stair_x, 1.5]), np.array([*stair_y, quantiser.levels[-1]]), size, stroke)
    curve = path_of(x, smooth(x), size, stroke)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size:g} {size:g}" role="img">\n'
        f"<title>{label}</title>\n"
        f'<g fill="none" stroke-linecap="round" stroke-linejoin="round" stroke-width="{stroke:g}">\n'
        f'<path stroke="{STAIR}" d="{stair}"/>\n'
        f'<path stroke="{CURVE}" d="{curve}"/>\n'
        "</g>\n</svg>\n"
    )


def overview(path: Path) -> None:
    """The README's picture: one quantiser, its expectation under less and less noise, and the derivatives."""
    plots.use_style()
    quantiser = Quantiser.ternary()
    x = plots.grid(-1.6, 1.6, 1601)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.5))
    plots.staircase(quantiser, x, left, linewidth=1.4, label="the quantiser")
    for std, colour, dashes in zip((0.4, 0.2, 0.1), plots.CYCLE, ("-", (0, (6, 2)), (0, (1.5, 1.5)))):
        regularisation = Regularisation(quantiser, Noise("normal", std=std))
        line = {"color": colour, "linestyle": dashes, "label": f"noise of std {std}"}
        left.plot(x, regularisation(x), **line)
        right.plot(x, regularisation.derivative(x), **line)
    left.set(title="what the next layer sees, on average", xlabel="$x$", yticks=[-1, 0, 1])
    right.set(title="what the gradient is multiplied with", xlabel="$x$", ylim=(0, None))
    left.legend(loc="upper left")
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Write the three files."""
    STATIC.mkdir(parents=True, exist_ok=True)
    (STATIC / "logo.svg").write_text(
        mark(64, 4, "A staircase and the smooth curve that noise makes of it"), encoding="utf-8"
    )
    (STATIC / "favicon.svg").write_text(mark(32, 3.4, "A staircase smoothed by noise"), encoding="utf-8")
    overview(STATIC / "overview.png")


if __name__ == "__main__":
    main()
