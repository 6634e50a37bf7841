"""The interactive figure's JavaScript computes what the package computes."""

import re
from pathlib import Path

import numpy as np
import pytest
from figure_helpers import THEMES, browser, computed, page_with, style_of

from anabook import Noise, Quantiser, Regularisation
from anabook.convergence import networks
from anabook.noise import FAMILIES
from anabook.schedules import INTERVALS, POWER_LAWS, Schedule

SCRIPT = Path(__file__).resolve().parents[1] / "book" / "_static" / "schedules.js"
KIT = SCRIPT.with_name("figure-kit.js")
QUANTISERS = {"ternary": Quantiser.ternary(), "heaviside": Quantiser.heaviside()}


def evaluate(body: str, data: object) -> object:
    """The value of a JavaScript function body of (api, data), in node or else in a browser."""
    return computed(body, data, {"kit": KIT, "api": SCRIPT}, ("anabookKit", "anabookSchedules"))


def test_the_figures_schedules_are_the_packages():
    times = np.linspace(-20, 400, 211)
    cases, expected = [], []
    for interval in INTERVALS:
        for law in POWER_LAWS:
            for layers in (1, 2, 7):
                for mean0, static in ((0.0, True), (-0.5, False), (-0.5, True)):
                    end = 50 * layers
                    cases.append(
                        {
                            "layers": layers,
                            "interval": interval,
                            "powerLaw": law,
                            "start": 0,
                            "end": end,
                            "mean0": mean0,
                            "staticMean": static,
                            "std0": 0.2887,
                        }
                    )
                    s = Schedule(layers, interval, law, 0, end, mean0, 0.2887, static)
                    expected.append([[*zip(*map(np.ndarray.tolist, s(layer, times)))] for layer in range(layers)])
    body = """return data.cases.map(c => Array.from({length: c.layers}, (_, layer) =>
        data.times.map(t => { const n = api.noiseAt(c, layer, t); return [n.mean, n.std]; })));"""
    found = evaluate(body, {"cases": cases, "times": times.tolist()})
    assert len(found) == 72
    for one, other in zip(found, expected):
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-12, atol=1e-15)


def test_the_figures_laws_regularisations_and_derivatives_are_the_packages():
    # Positions that are no ends of a support: there the uniform density jumps, and rounding would decide.
    x = np.linspace(-1.4937, 1.5011, 223)
    cases = [
        {"family": family, "quantiser": quantiser, "mean": mean, "std": std}
        for family in FAMILIES
        for quantiser in QUANTISERS
        for mean in (0.0, -0.5, 0.37)
        for std in (0.0, 0.003, 0.11, 0.2887, 1.0)
    ]
    body = """return data.cases.map(c => data.x.map(x => {
        const q = api.QUANTISERS[c.quantiser];
        const f = api.density(c.family, c.mean, c.std, x);
        return [api.expectation(q, c.family, c.mean, c.std, x), api.derivative(q, c.family, c.mean, c.std, x),
                Number.isFinite(f) ? f : -1];
    }));"""
    found = np.array(evaluate(body, {"cases": cases, "x": x.tolist()}))
    assert found.shape == (120, 223, 3)
    for case, values in zip(cases, found):
        noise = Noise(case["family"], case["mean"], case["std"])
        law = Regularisation(QUANTISERS[case["quantiser"]], noise)
        np.testing.assert_allclose(values[:, 0], law(x), rtol=0, atol=1e-12)
        np.testing.assert_allclose(values[:, 1], law.derivative(x), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(values[:, 2], noise.pdf(x), rtol=1e-12, atol=1e-12)


def test_the_figures_normal_law_keeps_its_digits_in_the_tails():
    t = np.concatenate([np.linspace(-12, 12, 481), [-3.0, 3.0, -2.9999999, -30.0]])
    found = np.array(evaluate("return data.map(t => api.FAMILIES.normal.cdf(t));", t.tolist()))
    np.testing.assert_allclose(found, Noise("normal").cdf(t), rtol=1e-12)


def test_the_figures_chain_is_the_packages_network():
    cases, expected = [], []
    for family in FAMILIES:
        for interval in INTERVALS:
            for law, layers, mean0, weight in (
                ("homogeneous", 3, -0.5, 1),
                ("progressive", 4, -0.5, 4),
                ("homogeneous", 2, 0.0, 16),
            ):
                s = Schedule(layers, interval, law, 0, 50 * layers, mean0, 0.25, mean0 == 0)
                given = {"layers": layers, "interval": interval, "powerLaw": law, "start": 0, "end": 50 * layers}
                for t in (0, 40, 77, 50 * layers - 1, 50 * layers):
                    noises = [Noise(family, *s(layer, t)) for layer in range(layers)]
                    found = networks.chain(layers, weight=weight).regularised([0], noises)
                    expected.append([-float(d[0]) for d in found.deviations])
                    settings = {**given, "mean0": mean0, "staticMean": mean0 == 0, "std0": 0.25}
                    cases.append({"settings": settings, "family": family, "weight": weight, "t": t})
    body = "return data.map(c => api.chain(c.settings, c.family, c.weight, c.t));"
    rows = evaluate(body, cases)
    assert len(rows) == 240
    for case, row, errors in zip(cases, rows, expected):
        np.testing.assert_allclose([unit["error"] for unit in row], errors, rtol=1e-9, atol=1e-15)
        arriving = [0.0, *(case["weight"] * unit["error"] for unit in row[:-1])]
        assert [unit["arriving"] for unit in row] == arriving
        assert all(unit["offset"] == -unit["mean"] for unit in row)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_peak_falls_between_the_places_that_are_drawn(family):
    """The tallest drawn value of a density is its peak, however narrow the noise."""
    stds = (0.3, 0.01, 1e-4, 1e-7)
    body = """return data.stds.map(std => {
        const xs = api.positions(-1.5, 1.5, [data.mean], std);
        return [Math.max(...xs.map(x => api.density(data.family, data.mean, std, x))),
                api.peak(api.QUANTISERS.ternary, data.family, data.mean, std)];
    });"""
    found = evaluate(body, {"family": family, "mean": -0.3217, "stds": stds})
    for std, (tallest, steepest) in zip(stds, found):
        noise = Noise(family, -0.3217, std)
        assert tallest == pytest.approx(noise.pdf(-0.3217), rel=1e-12)
        dense = np.linspace(-2, 2, 40001) if std > 0.1 else np.array([-0.8217, 0.1783])
        assert steepest == pytest.approx(Regularisation(QUANTISERS["ternary"], noise).derivative(dense).max(), rel=1e-4)


def test_the_figure_starts_with_the_experiments_noise():
    found = evaluate("return api.INITIAL_STD;", None)
    assert found == pytest.approx({family: Noise.covering(family, 0.5).std for family in FAMILIES}, rel=1e-12)
    quantisers = evaluate("return api.QUANTISERS;", None)
    for name, quantiser in QUANTISERS.items():
        assert quantisers[name] == {"levels": quantiser.levels.tolist(), "thresholds": quantiser.thresholds.tolist()}


def test_the_figure_asks_for_nothing_from_elsewhere():
    source = SCRIPT.read_text(encoding="utf-8") + SCRIPT.with_suffix(".css").read_text(encoding="utf-8")
    assert "://" not in source and SCRIPT.stat().st_size < 20_000
    assert not any(call in source for call in ("fetch(", "XMLHttpRequest", "import(", "@import", "url("))


# What a reader's browser makes of it


@pytest.fixture(scope="module")
def page():
    with browser() as window:
        page = window.new_page(viewport={"width": 390, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        show(page, "light")
        yield page
        assert not errors


def show(page, theme):
    style = style_of("figure-kit", "schedules")
    page.set_content(page_with(theme, "Schedules", style, '<div class="fk-figure schedule-figure"></div>'))
    page.add_script_tag(path=KIT)
    page.add_script_tag(path=SCRIPT)


def test_the_keyboard_moves_time_and_the_numbers_shown_are_the_schedules(page):
    page.get_by_label("Decay intervals").select_option("same_end")
    page.get_by_label("Power law").select_option("progressive")
    page.get_by_label("Mean", exact=True).select_option("fading")
    page.get_by_label("Time", exact=True).focus()
    page.keyboard.press("End")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    s = Schedule.periodic(
        3, 50, "same_end", power_law="progressive", mean0=-0.5, static_mean=False, std0=Noise.covering("uniform", 0.5).std
    )
    shown = page.locator(".sf-values").all_inner_texts()
    assert len(shown) == 3
    for layer, text in enumerate(shown):
        mean, std = s(layer, 120)
        numbers = [float(v) for v in re.findall(r"(?:mean|std) (\S+),", text.replace("−", "-"))]
        # Three decimals, and of small numbers three digits: a std that is there is not shown as 0.
        assert numbers == [float(f"{v:.3f}" if abs(v) >= 0.1 else f"{v:.3g}") for v in (mean, std)]


def test_the_numbers_on_the_axes_are_whole(page):
    page.get_by_label("Noise", exact=True).select_option("normal")
    page.get_by_label("Decay intervals").select_option("same_end")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for back in (0, 3, 6):
            page.get_by_label("Time", exact=True).focus()
            page.keyboard.press("End")
            for _ in range(back):
                page.keyboard.press("ArrowLeft")
            cut = page.evaluate(
                """() => [...document.querySelectorAll('.sf-tick')].filter((tick) => {
                    const [text, picture] = [tick, tick.closest('svg')].map((each) => each.getBoundingClientRect());
                    return text.left < picture.left - 0.5 || text.right > picture.right + 0.5;
                }).map((tick) => tick.textContent)"""
            )
            assert cut == []


def test_slopes_are_not_counted_twice_where_two_supports_meet(page):
    show(page, "light")
    page.get_by_label("Mean", exact=True).select_option("fading")
    s = Schedule.periodic(3, 50, mean0=-0.5, static_mean=False, std0=Noise.covering("uniform", 0.5).std)
    inside = np.linspace(-1.4, 1.4, 1013)
    for layer, text in enumerate(page.locator(".sf-values").all_inner_texts()):
        mean, std = s(layer, 25)
        slope = Regularisation(QUANTISERS["ternary"], Noise("uniform", mean=mean, std=std)).derivative(inside).max()
        assert text.endswith(f"steepest slope {slope:.3f}")


@pytest.mark.parametrize("theme", THEMES)
def test_the_figure_fits_a_phone_and_breaks_no_rule_of_accessibility(page, theme):
    from axe_playwright_python.sync_playwright import Axe

    show(page, theme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".schedule-figure svg[role=img]").count() >= 9
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in Axe().run(page).response["violations"]] == []


def test_axes_carry_the_numbers_of_what_is_drawn(page):
    """The density's axis ends at its peak, and says so, also where the noise is narrow."""
    show(page, "light")
    page.get_by_label("Mean", exact=True).select_option("fading")
    page.get_by_label("Noise", exact=True).select_option("logistic")
    page.get_by_label("Time", exact=True).fill("49")
    peak = float(
        Noise("logistic", std=Schedule.periodic(3, 50, std0=Noise.covering("logistic", 0.5).std)(0, 49)[1]).pdf(0.0)
    )
    panel = page.get_by_label("Noise of layer 0")
    ticks = panel.locator("text").all_text_contents()
    assert ticks[:4] == ["−1", "0", "1", "0"] and float(ticks[4]) == pytest.approx(peak, rel=5e-3) and peak > 1000
    top = min(float(point.split(",")[1]) for point in panel.locator("polyline").get_attribute("points").split())
    assert 8 <= top <= 16  # the frame begins at 8, and the peak is drawn just below it
    for role in ("Noise", "Regularisation", "Derivative"):
        texts = page.get_by_label(f"{role} {'of' if role == 'Noise' else 'in'} layer 0").locator("text").all_text_contents()
        assert {"−1", "0", "1"} <= set(texts)


def test_the_race_shown_is_the_networks(page):
    show(page, "light")
    page.get_by_label("Decay intervals").select_option("same_end")
    page.get_by_label("Mean", exact=True).select_option("fading")
    page.get_by_label("Noise", exact=True).select_option("normal")
    page.get_by_label("Weight").select_option("4")
    page.get_by_label("Time", exact=True).fill("75")
    s = Schedule.periodic(3, 50, "same_end", mean0=-0.5, static_mean=False, std0=Noise.covering("normal", 0.5).std)
    noises = [Noise("normal", *s(layer, 75)) for layer in range(3)]
    errors = [-float(d[0]) for d in networks.chain(3, weight=4).regularised([0], noises).deviations]
    shown = page.locator(".sf-race").all_inner_texts()
    for text, noise, arriving, error in zip(shown, noises, [0, *(4 * e for e in errors[:-1])], errors, strict=True):
        assert text == f"arrives {arriving:.3g}, offset {-noise.mean:.3g}, passes on {error:.3g}"
    assert page.get_by_label("Time", exact=True).get_attribute("aria-valuetext") == "epoch 75 of 150"
