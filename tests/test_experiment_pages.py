"""The chapters of the experiments show, to the digit, what the committed runs say; and they say which data it is."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from scipy import stats

from anabook import plots
from anabook.experiments import claims, results, tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
NAMES = {"cifar10": "11-cifar10", "svhn-stand-in": "12-svhn", "gsc12": "13-speech"}
PAGES = {task: path for task, name in NAMES.items() if (path := ROOT / "book" / f"{name}.ipynb").exists()}
JUDGED = [task for task in PAGES if "stand-in" not in task]
"""The data sets whose claims a page judges; made-up pictures decide nothing that the paper says."""


def pytest_generate_tests(metafunc):
    if "task" in metafunc.fixturenames:
        metafunc.parametrize("task", JUDGED)


class TableReader(HTMLParser):
    """Caption and rows of one table."""

    def __init__(self, text):
        super().__init__()
        self.caption, self.rows, self._inside = "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, text):
        if self._inside == "caption":
            self.caption += text
        elif self._inside in ("td", "th"):
            self.rows[-1][-1] += text


def cells(task):
    return json.loads(PAGES[task].read_text(encoding="utf-8"))["cells"]


def shown(task):
    """All tables of a page."""
    found = []
    for cell in cells(task):
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                found.append(TableReader("".join(output["data"]["text/html"])))
    return found


def printed(task):
    return "".join("".join(output.get("text", "")) for cell in cells(task) for output in cell.get("outputs", []))


def recorded(task, measure="fold"):
    """The validation runs, read without the package: (size, unit) → (seed, fold) → accuracy on the fold, or "unused".

    The latter is NaN for a run that was not measured on examples in no fold.
    """
    lines = [
        record
        for path in sorted(RESULTS.glob(f"{task}-*.jsonl"))
        for record in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        if record.get("record") == "run" and record["status"] == "done" and record["config"]["fold"] is not None
    ]
    found = {}
    for record in lines:
        config = record["config"]
        accuracy = record["accuracy"] if measure == "fold" else record.get("unused", {}).get("accuracy", np.nan)
        found.setdefault((record["size"], config["unit"]), {})[config["seed"], config["fold"]] = accuracy
    return found


def text_of(values):
    """Mean and 95 % interval in per cent, by the textbook."""
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    # In this order, since a mean of 45.25 exactly must round to the same side.
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}]"


def measure_of(table, task):
    """What a table's caption says that it shows, if that is the sharpest that all runs in it have."""
    said = "unused" if "unused accuracy in %" in table.caption else "fold"
    (size,) = re.findall(r", (scaled|paper|custom-\w+), ", table.caption)
    sharp = recorded(task, "unused")
    shown_here = [sharp[size, unit] for unit, text in units_of(table) if text != tables.NOT_RUN]
    assert (said == "unused") == all(not np.isnan(list(runs.values())).any() for runs in shown_here), table.caption
    return said


def units_of(table):
    """The unit of each cell of a table of accuracies, from its headings."""
    _, *columns = table.rows[0]
    for first, *texts in table.rows[1:]:
        name = first.replace(" ", "-")
        for column, text in zip(columns, texts):
            head = table.rows[0][0]
            if head == "unit":
                yield name, text
                break
            if (head, column) in {("noise", "mode"), ("noise", "random")}:
                yield f"{name}-{column}-static", text
            elif column in plots.DASHES:
                yield f"{column}-expectation-{name}", text
            else:
                yield f"uniform-{column}-{name}", text


def test_every_recorded_data_set_has_its_page():
    assert set(results.load(RESULTS).query("size == 'scaled'")["task"]) == set(PAGES)


def test_accuracies_on_the_page_are_those_of_the_committed_runs_to_the_digit(task):
    compared = 0
    for table in shown(task):
        if "accuracy in %" not in table.caption or ", test," in table.caption:
            continue
        runs = recorded(task, measure_of(table, task))
        (size,) = re.findall(r", (scaled|paper|custom-\w+), ", table.caption)
        for unit, text in units_of(table):
            if text == tables.NOT_RUN:
                assert (size, unit) not in runs
            else:
                assert text == text_of(list(runs[size, unit].values())), (unit, table.caption)
                compared += 1
    assert compared >= 35


def test_accuracies_on_the_page_are_those_that_anabook_results_prints(task, capsys):
    from anabook import cli

    said = {}
    for part, measure in (("fold", "accuracy"), ("unused", "unused_accuracy")):
        if part == "unused" and np.isnan([a for runs in recorded(task, "unused").values() for a in runs.values()]).all():
            continue
        assert cli.main(["results", task, "--results", str(RESULTS), "--measure", measure]) == 0
        for line in capsys.readouterr().out.splitlines()[1:]:
            said[part, line.split()[0]] = line[58:].split("  n =")[0].strip()
    checked = [
        text == said[measure_of(table, task), unit]
        for table in shown(task)
        if "scaled, validation" in table.caption
        for unit, text in units_of(table)
        if text != tables.NOT_RUN
    ]
    assert all(checked) and len(checked) >= 35


def test_what_chapters_say_of_the_shape_of_the_noise_holds_of_the_recorded_runs():
    statement = "under the mode and the expectation the families end within two points of each other, the expectation averaged over schedules"
    pages = [(RESULTS.parents[1] / "book" / f"{name}.ipynb").read_text(encoding="utf-8") for name in ("02-noise", "04-zoo")]
    assert all(statement in page for page in pages)
    families = ("uniform", "triangular", "normal", "logistic")
    sharp = {unit: runs for (size, unit), runs in recorded("cifar10", "unused").items() if size == "scaled"}
    schedules = [
        f"{interval}-{law}"
        for interval in ("partition", "same-start", "same-end", "overlapped")
        for law in ("homogeneous", "progressive")
    ]
    ends = {}
    for strategy, rest in (("mode", ["static"]), ("expectation", schedules), ("random", ["static"])):
        for family in families:
            folds = [list(sharp[f"{family}-{strategy}-{each}"].values())[:3] for each in rest]
            ends[strategy, family] = 100 * np.mean(folds)
    for strategy in ("mode", "expectation"):
        reached = [ends[strategy, family] for family in families]
        assert max(reached) - min(reached) < 2
    assert max(families, key=lambda family: ends["mode", family]) == "uniform"
    assert ends["random", "triangular"] - ends["random", "uniform"] > 2


PANELS = {
    "cifar10": {"1a": "random", "1b": "mode", "2a": "expectation", "3a": "random", "3b": "mode"},
    "svhn": {"4a": "random", "4b": "mode", "5a": "expectation", "5b": "random", "5c": "mode"},
    "gsc12": {"6a": "random", "6b": "mode", "7a": "expectation", "7b": "random", "7c": "mode"},
}
"""The strategy of each panel of the paper's with uniform noise in it, by its captions; 1, 4 and 6 are static, the rest annealed."""
DRAWN_BY = {
    "1": "static_curves",
    "6": "static_curves",
    "2": "strategy_curves",
    "3": "strategy_curves",
    "7": "strategy_curves",
}


def test_a_caption_that_cites_panels_of_the_paper_cites_those_of_its_data_strategies_and_schedules(task):
    cited = {}
    for cell in cells(task):
        caption = cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption", "")
        if "cf. the paper" not in caption:
            continue
        words = re.search(r"cf\. the paper's Fig\. (.+?)[.:](?: |$)", caption)[1]
        draw = re.search(r"plots\.(\w+)\(", "".join(cell["source"]))[1]
        if words == "2a to 2d":  # one strategy, a panel for each noise
            assert (
                task == "cifar10"
                and draw == "noise_curves"
                and caption.startswith("Expectation on")
                and "four noises" in caption
            )
            cited |= dict.fromkeys(("2b", "2c", "2d"), "expectation")
            continue
        found = dict(re.findall(r"(\d[a-d]) \((\w+)\)", words))
        assert found and len(found) == len(re.findall(r"\d[a-d]", words)), caption
        assert all(PANELS[task][panel] == strategy for panel, strategy in found.items()), caption
        assert {DRAWN_BY[panel[0]] for panel in found} == {draw}, caption
        assert caption.startswith("Static noise on" if draw == "static_curves" else "Annealing uniform noise on")
        order = re.findall(r"\((\w+)\)", words)
        assert order == [name for name in ("expectation", "random", "mode") if name in order], (
            "in the order of the paper's panels"
        )
        cited |= found
    assert set(cited) == set(PANELS[task]) | ({"2b", "2c", "2d"} if task == "cifar10" else set())


def test_verdicts_on_the_page_are_those_of_the_committed_runs(task):
    (table,) = [table for table in shown(task) if "what is claimed" in table.caption]
    expected = tables.verdicts(claims.judge_all(results.load(RESULTS), task))
    assert table.caption == expected.caption
    assert [tuple(row) for row in table.rows] == [expected.header, *expected.rows]


def test_the_number_of_folds_and_runs_on_the_page_is_right(task):
    runs = {unit: folds for (size, unit), folds in recorded(task).items() if size == "scaled"}
    low, high = (f(len(folds) for folds in runs.values()) for f in (min, max))
    total = sum(map(len, runs.values()))
    words = f"{high} folds" if low == high else f"{low} to {high} folds"
    assert f"{len(runs)} units, {total} runs; each unit on {words} of 5" in printed(task)
    for table in shown(task):
        if "scaled, validation" in table.caption:
            counts = {len(runs[unit]) for unit, text in units_of(table) if text != tables.NOT_RUN}
            low, high = min(counts), max(counts)
            folds = f"{high} fold{'s' * (high > 1)}" if low == high else f"{low} to {high} folds"
            assert f", {folds}:" in table.caption


def test_every_table_and_every_figure_of_runs_names_the_data_as_recorded(task):
    title = results.select(results.load(RESULTS), task)["data"].iloc[0]
    assert f"data: {title}" in printed(task)
    captions = [table.caption for table in shown(task)]
    assert len(captions) >= 4 and all(caption.startswith(title) for caption in captions)
    words = {"cifar10": "differs from the official archive", "gsc12": "local files, not verified"}[task]
    figures = [
        cell
        for cell in cells(task)
        if re.search(r"^(plots\.\w+_curves|plots\.final|plots\.effects)", "".join(cell["source"]), re.M)
    ]
    assert len(figures) >= 4
    for cell in figures:
        assert words in cell["metadata"]["mystnb"]["figure"]["caption"]


def test_the_figures_of_the_page_are_those_of_the_documented_command(task):
    called = set(
        re.findall(
            r"plots\.(\w+_curves|final_accuracies|effects|size_order|order)\(",
            "".join("".join(c["source"]) for c in cells(task)),
        )
    )
    own = {"cifar10": {"noise_curves", "size_curves", "size_order"}}.get(task, set())
    assert called == {"static_curves", "strategy_curves", "final_accuracies", "effects"} | own
    assert f"python tools/figures.py {task}" in "".join("".join(cell["source"]) for cell in cells(task))


def test_the_test_set_is_used_for_the_two_units_that_validation_picked_and_no_other(task):
    frame = results.load(RESULTS)
    tested = frame[(frame["task"] == task) & (frame["measured_on"] == "test") & (frame["size"] == "scaled")]
    if task == "gsc12":
        assert not len(tested) and "no official test set" in " ".join("".join(cell["source"]) for cell in cells(task))
        return
    assert len(tested) == 2
    (names,) = re.findall(r"^picked: (.*)$", printed(task), flags=re.M)
    assert set(names.split(", ")) == set(tested["unit"])
    for unit, group in tested.groupby("unit"):
        assert re.search(rf"{unit.replace('-', ' ')} +{re.escape(text_of(group['accuracy'].tolist()))}", printed(task))


def test_both_sizes_stand_side_by_side_to_the_digit():
    (table,) = [table for table in shown("cifar10") if "both sizes" in table.caption]
    small, wide = (
        {unit: folds for (size, unit), folds in recorded("cifar10", "fold").items() if size == wanted}
        for wanted in ("scaled", "custom-f741af")
    )
    assert len(wide) == len(table.rows) - 1 == 9
    for unit, scaled_text, wide_text in table.rows[1:]:
        name = unit.replace(" ", "-")
        assert scaled_text == text_of(list(small[name].values())) and wide_text == text_of(list(wide[name].values()))
    order = [float(row[2]) for row in table.rows[1:]]
    assert order == sorted(order, reverse=True)


def test_what_carried_over_to_the_papers_width_is_computed():
    wide = {
        unit.removeprefix("uniform-").removesuffix("-homogeneous"): 100 * accuracy
        for (size, unit), runs in recorded("cifar10", "fold").items()
        for accuracy in runs.values()
        if size == "custom-f741af"
    }
    ends = {s: recorded("cifar10", "fold")["scaled", f"uniform-{s}-static"] for s in ("mode", "random")}
    scaled = 100 * np.mean([ends["mode"][key] - ends["random"][key] for key in ends["mode"]])
    for name, found in (("scaled", scaled), ("paper's width", wide["mode-static"] - wide["random-static"])):
        assert re.search(rf"{name}:? {found:+.1f} points".replace("+", r"\+"), printed("cifar10"))


# --- the chapter on SVHN, which has no runs on SVHN ------------------------------------------------------------------------


UNIT_OF = {
    "float": "float",
    "static": "uniform-mode-static",
    "partition": "uniform-mode-partition-homogeneous",
    "same start": "uniform-mode-same-start-homogeneous",
    "same end": "uniform-mode-same-end-homogeneous",
}
SHORT = tuple(UNIT_OF)[1:]


def lines_of(name):
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def inks_of(record):
    """One ink or two: of a study's case, or as the origin of an older line says."""
    if "inks" in record["config"]:
        return record["config"]["inks"]
    return "one" if "always lighter" in record["provenance"]["source"] else "two"


def races():
    """Caption's beginning → (inks, unit) → the curve of each fold in per cent, read without the package."""
    stand_in = [r for r in lines_of("svhn-stand-in-scaled") if r["measured_on"] == "validation"]
    sources = {
        "MNIST, 5,000 digits": [(inks_of(r), r) for r in lines_of("mnist")],
        "svhn-stand-in": [*((inks_of(r), r) for r in lines_of("inks")), *(("mixed", r) for r in stand_in)],
    }
    found = {}
    for name, runs in sources.items():
        for inks, record in sorted(runs, key=lambda run: run[1]["config"]["fold"]):
            curve = 100 * np.array(record["curves"]["accuracy"])
            found.setdefault(name, {}).setdefault((inks, record["config"]["unit"]), []).append(curve)
    return found


def test_the_page_on_svhn_shows_no_verdict_and_no_accuracy_that_could_be_taken_for_one_on_svhn():
    captions = [table.caption for table in shown("svhn-stand-in")]
    assert [caption.split(", validation")[0] for caption in captions] == ["MNIST, 5,000 digits", "svhn-stand-in"]
    text = " ".join("".join(cell["source"]) for cell in cells("svhn-stand-in"))
    assert "**nothing on this page was measured on SVHN**" in text and "claims.judge" not in text
    assert not re.search(r"accurac\w+ (?:on|for|of) SVHN", text)
    assert not list(RESULTS.glob("svhn-scaled*")), "there are runs on SVHN itself: let the page show them"


def test_the_tables_of_the_page_on_svhn_are_the_recorded_curves_to_the_digit():
    for table, (name, found) in zip(shown("svhn-stand-in"), races().items(), strict=True):
        assert table.caption.startswith(name) and f", {max(map(len, found.values()))} folds:" in table.caption
        compared = 0
        for first, *texts in table.rows[1:]:
            for head, text in zip(table.rows[0][1:], texts, strict=True):
                what, inks = head.split(", ")
                named = {unit for each, unit in found if each == inks and unit == UNIT_OF[first]}
                if text in ("not run", tables.NOT_RUN):
                    assert not named
                    continue
                curves = found[inks, *named]
                share = 30 if name.startswith("MNIST") else 15
                first_above = [next((str(i) for i, a in enumerate(curve, 1) if a > share), "–") for curve in curves]
                expected = " ".join(first_above) if what == "above" else text_of([curve[-1] / 100 for curve in curves])
                assert text == expected, (name, first, head)
                compared += 1
        assert compared == {"MNIST, 5,000 digits": 20, "svhn-stand-in": 26}[name]


def test_what_the_page_on_svhn_says_of_the_real_digits():
    found = {case: np.array(curves) for case, curves in races()["MNIST, 5,000 digits"].items()}
    order = [UNIT_OF[name] for name in SHORT]
    ends = {case: curves[:, -1].mean() for case, curves in found.items()}
    waits = {case: np.array([np.argmax(curve > 30) + 1 for curve in curves]) for case, curves in found.items()}
    assert all((curves.max(1) > 30).all() for curves in found.values())
    for inks in ("one", "two"):
        assert ends[inks, "float"] > ends[inks, order[0]]
        assert all(ends[inks, first] > ends[inks, second] for first, second in zip(order, order[1:])), inks
    for unit in order:
        assert max(waits["one", unit]) <= 4 and 1 <= np.mean(waits["two", unit] - waits["one", unit]) <= 2, (unit, waits)
        assert ends["one", unit] > ends["two", unit] + 4, unit
    assert max(waits["two", "float"]) == 1 and 0 < ends["one", "float"] - ends["two", "float"] < 2
    for case in (("one", order[1]), ("two", order[1])):
        assert set(waits[case]) <= {2, 3, 4}, "partition quantises its first layer at the end of epoch 3"
    # Same end climbs nearly as high as static noise has by then, and forgets, with either number of inks.
    for inks in ("one", "two"):
        static, falling = found[inks, order[0]].mean(0), found[inks, order[3]].mean(0)
        best = int(falling.argmax())
        assert falling[best] > 0.8 * static[best] and falling[-1] < falling[best] - 10
    differences = re.findall(
        r"^(.*?) +([+-][\d.]+) points, ([+-][\d.]+) to ([+-][\d.]+)$", printed("svhn-stand-in"), flags=re.M
    )
    assert len(differences) == 11
    pairs = {f"{inks}: {a} − {b}": (inks, a, inks, b) for inks in ("one", "two") for a, b in zip(SHORT, SHORT[1:])}
    pairs |= {f"{name}: one ink − two": ("one", name, "two", name) for name in ("float", *SHORT)}
    for name, *numbers in differences:
        one, first, two, second = pairs.pop(name)
        values = found[one, UNIT_OF[first]][:, -1] - found[two, UNIT_OF[second]][:, -1]
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        expected = [values.mean(), values.mean() - half, values.mean() + half]
        assert np.allclose([float(number) for number in numbers], expected, atol=0.051), name
    assert not pairs


def test_the_stand_ins_test_part_was_used_for_the_two_units_that_validation_picked():
    frame = results.load(RESULTS)
    tested = frame[(frame["task"] == "svhn-stand-in") & (frame["measured_on"] == "test") & (frame["size"] == "scaled")]
    assert set(tested["unit"]) == set(results.picked(results.select(frame, "svhn-stand-in"))) and len(tested) == 2
