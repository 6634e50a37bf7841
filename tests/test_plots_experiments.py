"""Figures and tables of recorded runs show what `results` computes, and say which data it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anabook import plots
from anabook.experiments import claims, design, make, records, results, tables

ROOT = Path(__file__).resolve().parents[1]
TITLE = "cifar10 (differs from the official archive)"


def line(unit, fold, rng, data="cifar10", title=TITLE, **settings):
    c = make(data, unit, fold, **settings)
    curve = np.round(np.linspace(0.1, 0.3 + 0.2 * rng.random(), c.epochs) + 0.02 * rng.random(c.epochs), 4).tolist()
    return {
        "record": "run",
        "key": c.key,
        "status": "done",
        "config": c.as_dict(),
        "size": c.size,
        "seconds": 10.0,
        "provenance": {"title": title, "kind": "differs"},
        "measured_on": "validation",
        "accuracy": curve[-1],
        "loss": 1.0,
        "curves": {
            "accuracy": curve,
            "noisy_accuracy": [0.9 * each for each in curve],
            "train_loss": curve,
            "train_accuracy": curve,
            "loss": curve,
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    for unit in design.select(["figures", "dynamic-mean", "baselines"], "cifar10"):
        for fold in range(1 if "dynamic-mean" in unit else 3):
            records.append(path / "cifar10-scaled.jsonl", line(unit, fold, rng))
    return path


@pytest.fixture(scope="module")
def runs(folder):
    return results.select(results.load(folder), "cifar10")


@pytest.fixture(autouse=True)
def fresh_figures():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def drawn(ax, label):
    (found,) = [each for each in ax.lines if each.get_label() == label]
    return found


def expected(runs, unit, quantity="accuracy"):
    return 100 * results.curves(runs[runs["unit"] == unit], quantity).mean(0)


def test_static_curves_are_means_over_folds_and_bands_go_from_the_worst_to_the_best(runs):
    random, mode = plots.static_curves(runs).axes  # in the order of the paper's figures 1a and 1b
    for ax, strategy in ((mode, "mode"), (random, "random")):
        assert ax.get_title() == strategy and len(ax.collections) == 4
        for noise in design.Family:
            assert np.allclose(drawn(ax, str(noise)).get_ydata(), expected(runs, f"{noise}-{strategy}-static"))
    folds = 100 * results.curves(runs[runs["unit"] == "uniform-mode-static"])
    band = mode.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(folds.min()) and band.max() == pytest.approx(folds.max())


@pytest.mark.parametrize(
    ("mean", "quantity"), [("static", "accuracy"), ("dynamic", "accuracy"), ("dynamic", "noisy_accuracy")]
)
def test_each_strategy_has_its_panel_with_eight_schedules_and_static_noise_as_reference(runs, mean, quantity):
    figure = plots.strategy_curves(runs, mean=mean, quantity=quantity)
    assert ("with noise" in figure.axes[0].get_ylabel()) == (quantity == "noisy_accuracy")
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in panels] == ["expectation", "random", "mode"]
    ending = "-dynamic-mean" if mean == "dynamic" else ""
    same_folds = runs[runs["fold"] < 1] if mean == "dynamic" else runs
    for ax, strategy, reference in zip(panels, ("expectation", "random", "mode"), ("mode", "random", "mode")):
        assert np.allclose(
            drawn(ax, "static noise").get_ydata(), expected(same_folds, f"uniform-{reference}-static", quantity)
        )
        for interval in design.Interval:
            for law in design.PowerLaw:
                unit = f"uniform-{strategy}-{interval.replace('_', '-')}-{law}{ending}"
                assert np.allclose(
                    drawn(ax, f"{interval.replace('_', ' ')}, {law}").get_ydata(), expected(runs, unit, quantity)
                )


def test_curves_of_another_quantity_are_refused(runs):
    with pytest.raises(ValueError, match="quantity must be one of 'accuracy', 'noisy_accuracy', not 'loss'"):
        plots.strategy_curves(runs, quantity="loss")


def test_lines_are_told_apart_without_colour(runs):
    for ax in (ax for name in ("strategies", "noises") for ax in plots.EXPERIMENT_FIGURES[name](runs).axes if ax.axison):
        looks = [
            (each.get_marker(), each.get_markerfacecolor() == "white")
            for each in ax.lines
            if not each.get_label().startswith("_")
        ]
        assert len(looks) >= 8 and len(looks) == len(set(looks))
    looks = [
        (each.get_marker(), each.get_linestyle())
        for each in plots.static_curves(runs).axes[0].lines
        if not each.get_label().startswith("_")
    ]
    assert len(looks) == len(set(looks)) == 4


@pytest.mark.parametrize("name", ["static", "strategies", "noises", "dynamic-mean"])
def test_the_drop_of_the_learning_rate_is_marked_in_every_panel(runs, name):
    for ax in plots.EXPERIMENT_FIGURES[name](runs).axes:
        if ax.axison:
            (vertical,) = [each for each in ax.lines if len(set(each.get_xdata())) == 1 and len(each.get_xdata()) == 2]
            assert vertical.get_xdata()[0] == make("cifar10", "float").drop


@pytest.mark.parametrize("name", plots.EXPERIMENT_FIGURES)
def test_every_figure_names_data_size_and_number_of_folds(runs, name):
    figure = plots.EXPERIMENT_FIGURES[name](runs)
    titles = [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]
    folds = {"dynamic-mean": "1 fold", "claims": "up to 3 folds"}.get(name, "3 folds")
    assert f"{TITLE}, scaled, {folds}" in titles


def test_dots_at_the_end_are_the_means_of_the_summary(runs):
    (ax,) = plots.final_accuracies(runs).axes
    rows = [label.get_text() for label in ax.get_yticklabels()]
    summary = results.summary(runs).set_index("unit")["mean"]
    points = {
        (each.get_color(), round(each.get_ydata()[0], 2)): each.get_xdata()[0]
        for each in ax.lines
        if each.get_marker() in "o^sD"
    }
    for place, (strategy, look) in enumerate(plots.STRATEGY_LINES.items()):
        row = rows.index("partition, homogeneous") + 0.24 * (place - 1)
        assert points[look["color"], round(row, 2)] == pytest.approx(
            100 * summary[f"uniform-{strategy}-partition-homogeneous"]
        )
    assert points[plots.COLOURS["quantiser"], rows.index("float")] == pytest.approx(100 * summary["float"])


@pytest.fixture(scope="module")
def more(folder, tmp_path_factory):
    """The same runs, some with a period twice as long, and some on another data set."""
    path, rng = tmp_path_factory.mktemp("more"), np.random.default_rng(1)
    lines = (folder / "cifar10-scaled.jsonl").read_text()
    (path / "cifar10-scaled.jsonl").write_text(lines)
    for fold in range(2):
        for unit in (
            "uniform-mode-static",
            "uniform-mode-partition-homogeneous",
            "uniform-mode-partition-homogeneous-dynamic-mean",
        ):
            records.append(path / "longer.jsonl", line(unit, fold, rng, period=6))
        for unit in design.select(["uniform-mode-*", "uniform-random-static"], "cifar10"):
            records.append(path / "other.jsonl", line(unit, fold, rng, "svhn-stand-in", "svhn (stand-in)"))
    return path


def test_units_are_compared_across_data_sets_by_their_means(runs, more):
    other = results.select(results.load(more), "svhn-stand-in")
    (ax,) = plots.order(runs, other).axes
    assert ax.get_xlabel().startswith(TITLE) and ax.get_ylabel().startswith("svhn (stand-in)")
    static = [unit for unit in other["unit"].unique() if "dynamic-mean" not in unit]
    shown = sorted((x, y) for each in ax.lines for x, y in zip(each.get_xdata(), each.get_ydata()))
    means = [results.summary(frame).set_index("unit")["mean"] for frame in (runs, other)]
    assert np.allclose(shown, sorted((100 * means[0][unit], 100 * means[1][unit]) for unit in static))
    (hollow,) = [each for each in ax.lines if each.get_label() == "random, static noise"]
    assert hollow.get_markerfacecolor() == "white" and len(hollow.get_xdata()) == 1
    with pytest.raises(ValueError, match="no unit with logistic noise"):
        plots.order(runs, other, noise="logistic")


def test_sizes_are_compared_in_periods(more):
    frame = results.load(more).query("task == 'cifar10'")
    sizes = {"scaled": "period 3", make("cifar10", "float", period=6).size: "period 6"}
    figure = plots.size_curves(frame, sizes)
    assert [ax.get_title() for ax in figure.axes] == [
        "period 3\n1 to 3 folds",
        "period 6\n2 folds",
    ] and TITLE == figure.get_suptitle()
    for ax, (size, epochs) in zip(figure.axes, zip(sizes, (30, 60))):
        labels = [each.get_label() for each in ax.lines if not each.get_label().startswith("_")]
        assert len(labels) == 3 and len({each.get_marker() for each in ax.lines[:3]}) == 3
        curve = drawn(ax, "uniform mode static")
        assert np.allclose(curve.get_ydata(), expected(frame[frame["size"] == size], "uniform-mode-static"))
        assert curve.get_xdata()[-1] == 10 and len(curve.get_xdata()) == epochs
        assert ax.lines[-1].get_xdata()[0] == 8
    with pytest.raises(ValueError, match="two sizes or more"):
        plots.size_curves(frame[frame["size"] == "scaled"])


def test_the_command_draws_order_and_sizes_where_there_are_any(more, tmp_path):
    done = figures("--results", more, "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    extra = {"cifar10-sizes.png", "svhn-stand-in-order.png"}
    assert extra <= {path.name for path in tmp_path.iterdir()}
    assert not {"cifar10-order.png", "svhn-stand-in-sizes.png"} & {path.name for path in tmp_path.iterdir()}


def test_effects_are_those_that_decide_the_verdicts(runs):
    verdicts = claims.judge_all(runs, "cifar10")
    measured = [v for v in verdicts if v.deciding is not None]
    (ax,) = plots.effects(verdicts).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [v.deciding.contrast.name for v in measured]
    marks = {each.get_ydata()[0]: each for each in ax.lines if len(each.get_xdata()) == 1}
    for row, v in enumerate(measured):
        assert marks[row].get_xdata()[0] == pytest.approx(100 * v.effect.mean)
        said = v.verdict if v.verdict == v.alone else f"{v.alone} alone"
        assert marks[row].get_marker() == plots.VERDICT_MARKERS[said]["marker"]
        assert (marks[row].get_markerfacecolor() == "white") == ("markerfacecolor" in plots.VERDICT_MARKERS[said])


def test_the_colours_are_the_papers_in_shades_that_can_be_told_apart():
    noises = {name: plots.COLOURS[name] for name in ("uniform", "triangular", "normal", "logistic")}
    assert noises == dict(zip(noises, (plots.PAPER[name] for name in ("blue", "green", "red", "yellow"))))
    intervals = {name: plots.INTERVAL_LINES[name]["color"] for name in ("same_start", "same_end", "partition", "overlapped")}
    assert intervals == dict(zip(intervals, (plots.PAPER[name] for name in ("green", "red", "yellow", "blue"))))
    for colour in [*plots.PAPER.values(), *(look["color"] for look in plots.VERDICT_MARKERS.values())]:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        assert 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) >= 3, colour


def test_progressive_is_dotted_and_homogeneous_is_continuous(runs):
    for ax in (ax for ax in plots.strategy_curves(runs).axes if ax.axison):
        for interval in ("partition", "same start", "same end", "overlapped"):
            assert drawn(ax, f"{interval}, homogeneous").get_linestyle() == "-"
            assert drawn(ax, f"{interval}, progressive").get_linestyle() == "--", "matplotlib's word for any dashes"
            dash = drawn(ax, f"{interval}, progressive")._unscaled_dash_pattern[1]
            assert max(dash) < 2, "dots"


def test_sizes_side_by_side_show_every_unit_in_the_order_of_the_last_size(more):
    frame = results.load(more).query("task == 'cifar10'")
    other = make("cifar10", "float", period=6).size
    figure = plots.size_order(frame, {"scaled": "period 3", other: "period 6"})
    left, right = figure.axes
    assert [ax.get_title() for ax in (left, right)] == ["period 3\n1 to 3 folds", "period 6\n2 folds"]
    rows = [label.get_text() for label in left.get_yticklabels()]
    means = frame[frame["size"] == other].groupby("unit")["accuracy"].mean().sort_values(ascending=False)
    assert rows == [unit.removeprefix("uniform-").replace("-", " ") for unit in means.index]
    for ax, size in ((left, "scaled"), (right, other)):
        found = [each for each in ax.lines if len(each.get_xdata()) == 1 and each.get_marker() in "os^D"]
        part = frame[frame["size"] == size].groupby("unit")["accuracy"].mean()
        for unit, row in zip(means.index, range(len(rows))):
            assert any(
                each.get_ydata()[0] == row and each.get_xdata()[0] == pytest.approx(100 * part[unit]) for each in found
            )
    with pytest.raises(ValueError, match="two sizes or more"):
        plots.size_order(frame[frame["size"] == "scaled"])


def test_more_units_than_can_be_told_apart_are_refused_and_not_left_out(folder, tmp_path):
    rng = np.random.default_rng(0)
    for unit in design.select(["uniform-mode-*"], "cifar10"):
        records.append(tmp_path / "a.jsonl", line(unit, 0, rng))
        records.append(tmp_path / "b.jsonl", line(unit, 0, rng, period=6))
    with pytest.raises(ValueError, match="at most 7 units can be told apart, not 9"):
        plots.size_curves(results.load(tmp_path))


def test_a_table_has_the_texts_of_the_summary_and_a_dash_where_nothing_was_run(runs):
    uniform = runs[(runs["noise"] == "uniform") & (runs["mean"] == "static")]
    table = tables.accuracies(uniform)
    assert table.header == ("schedule", "expectation", "mode", "random")
    found = {
        row.unit: results.Estimate(row.mean, row.low, row.high, row.std, row.n)
        for row in results.summary(uniform).itertuples(index=False)
    }
    for first, *cells in table.rows:
        for strategy, cell in zip(table.header[1:], cells):
            unit = f"uniform-{strategy}-{first.replace(' ', '-')}"
            assert cell == (str(found[unit]) if unit in found else tables.NOT_RUN)
    assert table.rows[0][:2] == ("static", tables.NOT_RUN) and len(table.rows) == 9
    assert table.caption.startswith(f"{TITLE}, scaled, validation, 3 folds")


def test_units_that_would_share_a_cell_are_refused(runs):
    with pytest.raises(ValueError, match="several units share schedule and strategy"):
        tables.accuracies(runs)
    with pytest.raises(ValueError, match="columns must be one of"):
        tables.accuracies(runs, columns="interval")


def test_the_table_of_claims_has_statement_effect_and_verdict_of_each(runs):
    verdicts = claims.judge_all(runs, "cifar10")
    table = tables.verdicts(verdicts)
    assert [row[0] for row in table.rows] == [v.claim.statement for v in verdicts]
    for row, v in zip(table.rows, verdicts):
        assert row[2] == claims.points(v.effect) and row[4] == tables.verdict_in_words(v)
        assert row[3] == ("< 0.001" if v.adjusted < 0.001 else f"{v.adjusted:.{3 if v.adjusted < 0.1 else 2}f}")
        (contrast,) = [f.contrast for f in v.findings if f.contrast.name == row[1]]
        if contrast.beyond is None:
            assert claims.points(results.paired(runs, contrast.first, contrast.second, contrast.measure)) == row[2]


def test_a_table_as_html_has_caption_and_headers_and_escapes_its_texts():
    text = tables.Table("a < b", ("x", "y"), (("1", "<2>"),))._repr_html_()
    assert (
        "<caption" in text and 'scope="col"' in text and 'scope="row"' in text and "&lt;2&gt;" in text and "a &lt; b" in text
    )


def figures(*words):
    return subprocess.run([sys.executable, "tools/figures.py", *map(str, words)], cwd=ROOT, capture_output=True, text=True)


def test_one_command_writes_every_figure_from_the_recorded_lines(folder, tmp_path):
    done = figures("--results", folder, "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"cifar10-{name}.png" for name in plots.EXPERIMENT_FIGURES}
    assert all(plt.imread(path).std() > 0.05 for path in tmp_path.iterdir())
    assert len(re.findall(r"\.png", done.stdout)) == len(plots.EXPERIMENT_FIGURES)


@pytest.mark.parametrize(
    ("words", "says"), [(["cifar11"], "Did you mean 'cifar10'"), (["--size", "paper"], "no runs of size 'paper'")]
)
def test_a_wrong_name_gets_one_sentence(folder, words, says):
    done = figures("--results", folder, *words)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
