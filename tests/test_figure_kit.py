"""The figures of figure-kit.js: their JavaScript computes what the package computes, and readers of all kinds can use them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from figure_helpers import STATIC, THEMES, computed, page_with, still_of, style_of

from anabook import Noise, Quantiser, Regularisation
from anabook.convergence import log_margin, log_margin_converges, networks
from anabook.noise import FAMILIES
from anabook.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
STAIRS = {
    "heaviside": Quantiser.heaviside(),
    "ternary": Quantiser.ternary(),
    "four": Quantiser.linear(bits=2, signed=False, rounding="nearest"),
}
PLACES = {
    "shake": "index.md",
    "window": "03-regularisations.ipynb",
    "swap": "07-counterexamples.ipynb",
    "zoo": "04-zoo.ipynb",
    "strategies": "05-strategies.ipynb",
    "mass": "04-zoo.ipynb",
}
"""The page of each figure."""
SCRIPTS = {
    "shake": ("shake",),
    "window": ("window",),
    "swap": ("swap",),
    "zoo": ("zoo-formulas", "zoo-rows", "zoo"),
    "strategies": ("strategies-picture", "strategies"),
    "mass": ("zoo-rows", "mass"),
}
"""The scripts of each figure, beside figure-kit.js."""

spec = importlib.util.spec_from_file_location("reader_figures", ROOT / "tools" / "reader_figures.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def evaluate(body: str, data: object, **scripts: str) -> object:
    """The value of a JavaScript function body of (kit, …, data), in node or else in a browser."""
    names = {"kit": "figure-kit", **scripts}
    paths = {name: STATIC / f"{file}.js" for name, file in names.items()}
    known = ["anabookKit", *(f"anabook{file.title().replace('-', '')}" for file in scripts.values())]
    return computed(body, data, paths, known)


def page_source(name: str) -> str:
    """The Markdown around a figure, in its page."""
    path = ROOT / "book" / PLACES[name]
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, 4).cells
    (source,) = [cell.source for cell in cells if f'"fk-figure {name}-figure"' in cell.source]
    return source


# What the kit computes


def test_averages_slopes_and_probabilities_are_the_packages():
    # Positions that are no ends of a support: there the uniform density jumps, and rounding would decide.
    x = np.linspace(-1.4937, 3.5011, 223)
    cases = [[family, stair, std] for family in FAMILIES for stair in STAIRS for std in (0.02, 0.11, 0.2887, 1.0)]
    body = """return data.cases.map(([family, stair, std]) => data.x.map(x => {
        const q = kit.QUANTISERS[stair];
        return [kit.expectation(q, family, std, x), kit.slope(q, family, std, x), ...kit.probabilities(q, family, std, x)];
    }));"""
    found = evaluate(body, {"cases": cases, "x": x.tolist()})
    assert len(found) == 48
    for (family, stair, std), rows in zip(cases, found):
        mean, values = Regularisation(STAIRS[stair], Noise(family, std=std)), np.array(rows)
        np.testing.assert_allclose(values[:, 0], mean(x), rtol=0, atol=1e-12)
        np.testing.assert_allclose(values[:, 1], mean.derivative(x), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(values[:, 2:], mean.probabilities(x), rtol=0, atol=1e-12)
    stairs = evaluate("return kit.QUANTISERS;", None)
    for name, stair in STAIRS.items():
        assert stairs[name] == {"levels": stair.levels.tolist(), "thresholds": stair.thresholds.tolist()}


def test_slopes_at_the_very_edges_of_uniform_noise_are_the_packages():
    """Places and widths in steps of the sliders, where (x − θ)/std and the end of the support differ by roundings."""
    x = [round(0.05 * i - 1, 2) for i in range(101)]
    widths = [round(0.05 * i, 2) for i in range(1, 25)]
    body = """return data.widths.map(h => data.x.map(x =>
        kit.slope(kit.QUANTISERS.four, "uniform", h * kit.COVERING.uniform, x)));"""
    for h, found in zip(widths, evaluate(body, {"x": x, "widths": widths}), strict=True):
        mean = Regularisation(STAIRS["four"], Noise("uniform", std=h / np.sqrt(3)))
        np.testing.assert_allclose(found, mean.derivative(np.array(x)), rtol=1e-12)


def test_the_half_widths_are_the_packages():
    expected = {family: Noise.covering(family, 1.0).std for family in FAMILIES}
    assert evaluate("return kit.COVERING;", None) == pytest.approx(expected, rel=1e-12)


def test_levels_and_quantiles_are_the_packages():
    x = np.concatenate([np.linspace(-2, 4, 301), [-0.5, 0.5, 1.5, 0.0]])
    body = "return data.x.map(x => kit.QUANTISERS[data.stair].levels[kit.levelAt(kit.QUANTISERS[data.stair], x)]);"
    for name, stair in STAIRS.items():
        np.testing.assert_array_equal(evaluate(body, {"x": x.tolist(), "stair": name}), stair(x))
    u = np.concatenate([np.linspace(0.001, 0.999, 101), [1e-9, 1 - 1e-9]])
    for family in FAMILIES:
        found = evaluate("return data.u.map(u => kit.quantile(data.family, u));", {"u": u.tolist(), "family": family})
        np.testing.assert_allclose(found, Noise(family).icdf(u), rtol=0, atol=1e-6)  # where the density is small
        np.testing.assert_allclose(Noise(family).cdf(np.array(found)), u, rtol=0, atol=1e-13)


def test_the_generator_is_uniform_and_repeats_itself():
    body = "const r = kit.generator(data), s = kit.generator(data); return Array.from({length: 20000}, () => [r(), s()]);"
    found = np.array(evaluate(body, 5))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    counts = np.histogram(found[:, 0], bins=20, range=(0, 1))[0]
    assert counts.sum() == 20000 and ((counts - 1000) ** 2 / 1000).sum() < 45.3  # χ² of 19 degrees, one in a thousand
    assert abs(np.corrcoef(found[1:, 0], found[:-1, 0])[0, 1]) < 4 / np.sqrt(20000)


def test_numbers_are_written_with_a_true_minus_and_zero_without_one():
    body = "return [...data.map(v => kit.fixed(v)), ...data.map(v => kit.brief(v))];"
    values = [-1.239, 0.004, -0.004, 0, 12345, -0.0001, 0.00002]
    assert evaluate(body, values) == [
        *("−1.24", "0.00", "0.00", "0.00", "12345.00", "0.00", "0.00"),
        *("−1.24", "0.004", "−0.004", "0", "1.23e4", "−0.0001", "2.00e−5"),
    ]


# The files


@pytest.mark.parametrize("name", PLACES)
def test_the_files_are_those_that_the_tool_writes_and_the_page_repeats_their_text(name):
    drawn, text = tool.STILLS[name]()
    assert (STATIC / f"{name}-still.svg").read_text(encoding="utf-8") == drawn
    source = page_source(name)
    assert f'src="../_static/{name}-still.svg" alt="{text}"' in source
    for file in ("figure-kit.css", "figure-kit.js", *(f"{script}.js" for script in SCRIPTS[name])):
        assert f'"../_static/{file}"' in source


def test_each_file_is_small_and_asks_for_nothing_from_elsewhere():
    stills = [f"{name}-still.svg" for name in PLACES]
    files = ["figure-kit.js", "figure-kit.css", *stills, *(f"{each}.js" for scripts in SCRIPTS.values() for each in scripts)]
    for name in files:
        source = (STATIC / name).read_text(encoding="utf-8")
        assert len(source.encode()) < 20_000, name
        assert {word for word in re.split("[\"'`]", source) if "://" in word} <= {"http://www.w3.org/2000/svg"}
        assert not any(
            call in source for call in ("fetch(", "XMLHttpRequest", "import(", "@import", "url(", "innerHTML", "eval(")
        )


# What a reader's browser makes of them


def show(page, name, theme="light", scripts=True):
    still, style = still_of(name), style_of("figure-kit")
    image = f'<img src="{still}" alt="{tool.STILLS[name]()[1]}" style="max-width: 100%">'
    figure = f'<div class="fk-figure {name}-figure" role="group" aria-label="Interactive figure">{image}</div>'
    page.set_content(page_with(theme, "Figure", style, figure))
    for script in ("figure-kit", *SCRIPTS[name]) if scripts else ():
        page.add_script_tag(path=STATIC / f"{script}.js")


def read(page):
    """The numbers under a figure, with a plain minus."""
    return page.locator(".fk-read").inner_text().replace("−", "-")


def set_slider(page, label, value):
    page.get_by_label(label, exact=True).fill(str(value))


def numbers(text):
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text.replace("−", "-"))]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PLACES)
def test_a_figure_fits_and_breaks_no_rule_of_accessibility(page, name, theme):
    from axe_playwright_python.sync_playwright import Axe

    show(page, name, theme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("[role=status]").count() == 1
    assert page.locator(".fk-live :is(svg, canvas)[role=img]").count() >= 1
    sizes = page.eval_on_selector_all("button, select, input", "all => all.map(b => b.getBoundingClientRect().height)")
    assert min(sizes) >= 24
    assert page.evaluate("document.getAnimations().length") == 0
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in Axe().run(page).response["violations"]] == []


@pytest.mark.parametrize("name", PLACES)
def test_paper_and_readers_without_javascript_get_the_still(page, name):
    show(page, name)
    still = page.locator(f".{name}-figure img")
    assert not still.is_visible() and page.locator(".fk-live").is_visible()
    page.emulate_media(media="print")
    assert still.is_visible() and not page.locator(".fk-live").is_visible()
    page.emulate_media(media="screen")
    show(page, name, scripts=False)
    assert page.locator(f".{name}-figure img").is_visible()


def drag(page, picture, start, end):
    """Draw along a picture, from one part of its width to another: a finger on a phone, else the mouse."""
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    y = box["y"] + box["height"] / 2
    first, last = (box["x"] + part * box["width"] for part in (start, end))
    if page.evaluate("navigator.maxTouchPoints") == 0:
        page.mouse.move(first, y)
        page.mouse.down()
        page.mouse.move(last, y, steps=4)
        page.mouse.up()
        return
    session = page.context.new_cdp_session(page)
    for kind, x in (("touchStart", first), ("touchMove", (first + last) / 2), ("touchMove", last), ("touchEnd", None)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if x is None else [{"x": x, "y": y}]})


def shaken(x, std):
    return Regularisation(STAIRS["ternary"], Noise("normal", std=std)), x


def test_draws_fall_and_their_average_comes_near_the_exact_one(page):
    show(page, "shake")
    assert page.get_by_role("button", name="Shake").count() == 0  # who prefers less motion has the other buttons
    assert read(page).startswith("No draw yet")
    page.get_by_label("Input x").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    mean, at = shaken(0.5, 0.2)
    assert f"all draws is {mean(at):.2f}, its slope {mean.derivative(at):.2f}." in read(page)
    page.get_by_role("button", name="One draw").press("Enter")
    assert re.match(r"1 draw: average (0|1)\.00\.", read(page))
    for _ in range(4):
        page.get_by_role("button", name="100 draws").click()
    count, average, *_ = numbers(read(page))
    assert count == 401 and abs(average - mean(at)) < 4 * 0.5 / np.sqrt(count)
    assert page.locator(".fk-drawn").count() == 120
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('401 draws')")
    set_slider(page, "Noise", 0.02)
    assert read(page).startswith("No draw yet") and f"slope {shaken(0.5, 0.02)[0].derivative(0.5):.2f}." in read(page)
    drag(page, page.locator(".fk-drag"), 0.5, 0.9)
    assert float(page.get_by_label("Input x").input_value()) > 1


def test_draws_fall_by_themselves_until_they_are_stopped(window):
    page = window.new_page()
    show(page, "shake")
    page.get_by_role("button", name="Shake").click()
    page.wait_for_function("document.querySelectorAll('.fk-drawn').length >= 3")
    page.get_by_role("button", name="Stop").click()
    before = read(page)
    page.wait_for_timeout(400)
    assert read(page) == before and page.get_by_role("button", name="Shake").is_visible()
    page.close()


def test_what_the_front_page_says_to_try_is_so():
    text = " ".join(page_source("shake").split())
    for x, std in ((0.5, 0.2), (0.0, 0.2), (0.5, 0.02)):
        assert f"{shaken(x, std)[0].derivative(x):.2f}" in text
    assert shaken(0.0, 0.02)[0].derivative(0.0) < 1e-100
    assert shaken(0.5, 0.2)[0].probabilities(0.5) == pytest.approx([0, 0.5, 0.5], abs=1e-6)
    assert shaken(0.0, 0.2)[0].probabilities(0.0)[1] > 0.98


# The window of chapter 3


def test_the_window_has_the_packages_masses_heights_average_and_slope():
    cases = [
        [stair, family, h, x]
        for stair in STAIRS
        for family in FAMILIES
        for h in (0.05, 0.4, 0.5, 1.2)
        for x in (-0.97, 0.33, 1.7, 2.01)
    ]
    found = evaluate("return data.map(c => api.look(...c));", cases, api="window")
    assert len(found) == 192
    for (stair, family, h, x), seen in zip(cases, found):
        quantiser, noise = STAIRS[stair], Noise.covering(family, h)
        mean = Regularisation(quantiser, noise)
        np.testing.assert_allclose(seen["masses"], mean.probabilities(x), rtol=0, atol=1e-12)
        np.testing.assert_allclose(seen["heights"], noise.pdf(x - quantiser.thresholds), rtol=1e-11, atol=1e-15)
        assert seen["average"] == pytest.approx(mean(x), abs=1e-12)
        assert seen["slope"] == pytest.approx(mean.derivative(x), rel=1e-11, abs=1e-15)
        assert seen["slope"] == pytest.approx(quantiser.steps @ np.array(seen["heights"]), rel=1e-12, abs=1e-15)


def check_window(page, stair, family, h, x):
    """The numbers shown are the package's."""
    mean = Regularisation(STAIRS[stair], Noise.covering(family, h))
    shown = read(page)
    assert numbers(shown.split("Average:")[1])[0] == pytest.approx(mean(x), abs=0.00051)
    assert numbers(shown)[-1] == pytest.approx(mean.derivative(x), abs=0.00051)
    masses = {float(level): float(mass) for mass, level in re.findall(r"(\d\.\d\d) on level (-?\d)", shown)}
    expected = zip(STAIRS[stair].levels.tolist(), mean.probabilities(x).tolist())
    assert masses == pytest.approx({level: mass for level, mass in expected if mass > 0.004}, abs=0.0051)


def test_the_window_slides_by_keys_by_hand_and_by_choice(page):
    show(page, "window")
    check_window(page, "four", "uniform", 0.4, 1.7)
    page.get_by_label("Input x").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    check_window(page, "four", "uniform", 0.4, 1.55)
    assert page.get_by_label("Input x").get_attribute("aria-valuetext") == "1.55"
    page.get_by_label("Noise").select_option("logistic")
    set_slider(page, "Half-width", 1.2)
    check_window(page, "four", "logistic", 1.2, 1.55)
    page.get_by_label("Stair").select_option("ternary")
    check_window(page, "ternary", "logistic", 1.2, 1.55)
    set_slider(page, "Input x", -0.5)
    drag(page, page.locator(".fk-drag"), 0.4, 0.95)
    x = float(page.get_by_label("Input x").input_value())
    assert x > 1.5
    check_window(page, "ternary", "logistic", 1.2, x)
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('Mass of the window')")


def test_what_chapter_3_says_to_try_is_so():
    text = page_source("window")
    mean = lambda family, h: Regularisation(STAIRS["four"], Noise.covering(family, h))  # noqa: E731
    narrow, wide, bell = mean("uniform", 0.4), mean("uniform", 0.5), mean("normal", 0.5)
    inside = np.linspace(1.0, 1.0999, 9)
    assert (narrow(inside) == 1).all() and (narrow.derivative(inside) == 0).all()
    assert narrow.derivative(np.linspace(1.101, 1.899, 9)) == pytest.approx(1.25) and narrow.derivative(1.9) == 0
    assert narrow(1.7) == pytest.approx(1.75) and narrow.probabilities(1.7)[2] == pytest.approx(0.75)
    x = np.linspace(0, 2.999, 61)
    assert wide(x) == pytest.approx(x, abs=1e-12) and wide.derivative(x) == pytest.approx(1)
    assert f"The slope is {bell.derivative(1.5):.3f} at the threshold 1.5 and {bell.derivative(2.0):.3f} at 2" in text


# The swap of chapter 7

ORDERS = {"good": ((2, 2), (1, 1)), "bad": ((1, 1), (2, 2))}


def network_a(family, order, lam):
    """The first layer's error, the second one's offset, and the output of network A, by the package."""
    noises = networks.noises_at(family, [log_margin(family, *step) for step in ORDERS[order]], lam)
    found = networks.NETWORK_A.network.regularised(networks.NETWORK_A.x, noises)
    return -float(found.deviations[0][0]), -float(noises[1].mean), float(found.output[0])


def test_errors_offsets_and_outputs_are_the_networks():
    lams = [10**-v for v in (0.5, 1, 1.7, 2, 3.3, 6)]
    cases = [[family, order, lam] for family in FAMILIES for order in ORDERS for lam in lams]
    found = evaluate("return data.map(([f, o, l]) => api.run(f, api.ORDERS[o], l));", cases, api="swap")
    assert len(found) == 48
    for case, seen in zip(cases, found):
        error, offset, output = network_a(*case)
        assert seen["error"] == pytest.approx(error, rel=1e-9)
        assert seen["offset"] == pytest.approx(offset, rel=1e-9)
        assert seen["output"] == pytest.approx(output, rel=1e-9, abs=1e-300)


def test_what_a_unit_lacks_to_one_is_its_wrong_side():
    arriving = [0, 1e-6, 0.01, 0.3, 1]
    body = """return data.cases.map(([f, p, k, l]) => { const one = api.layer(f, [p, k], l);
        return data.arriving.map(each => [one.right(each), one.wrong(each)]); });"""
    cases = [[family, p, k, lam] for family in FAMILIES for p in (1, 2) for k in (1, 2) for lam in (0.3, 0.01)]
    found = evaluate(body, {"cases": cases, "arriving": arriving}, api="swap")
    np.testing.assert_allclose(np.sum(found, axis=-1), 1, rtol=0, atol=1e-15)
    assert (np.diff(np.array(found)[..., 0]) <= 0).all()


def test_the_verdicts_are_those_of_the_criterion_and_of_the_limits():
    steps = [[[2, p], [1, k]] for p in (0.5, 1, 2) for k in (1, 2)] + [list(map(list, order)) for order in ORDERS.values()]
    for family in FAMILIES:
        found = evaluate("return data.s.map(s => api.converges(data.f, s));", {"f": family, "s": steps}, api="swap")
        expected = [log_margin_converges(family, [a[0], b[0]], [a[1], b[1]]) for a, b in steps]
        assert found == expected and {True, False} <= set(found)
        assert network_a(family, "bad", 1e-6)[2] < 1e-12 and network_a(family, "good", 1e-6)[2] > 1 - 1e-5


def test_the_schedules_are_swapped_by_a_button_and_lambda_falls(page):
    show(page, "swap")
    swap = page.get_by_role("button", name="Swap the two schedules")
    for family in ("uniform", "normal"):
        page.get_by_label("Noise").select_option(family)
        for order in ("good", "bad"):
            for v in (0.5, 3):
                set_slider(page, "λ", v)
                error, offset, output = network_a(family, order, 10**-v)
                shown = read(page)
                lam, seen, _, offset_seen = numbers(shown)[:4]
                assert [lam, seen, offset_seen] == pytest.approx([10**-v, error, offset], rel=6e-3)
                assert numbers(shown.split("Output:")[1])[0] == pytest.approx(output, abs=6e-5)
                assert shown.endswith("tends to 1, as it should." if order == "good" else "tends to 0, which is wrong.")
            swap.press("Enter")
    set_slider(page, "λ", 1)
    drag(page, page.locator(".fk-drag"), 0.3, 0.8)
    assert float(page.get_by_label("λ", exact=True).input_value()) > 3.5
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('tends to')")


def test_what_chapter_7_says_to_try_is_so():
    text = page_source("swap")
    error, offset, output = network_a("uniform", "good", 0.01)
    assert f"an error of {error:.4f} arrives" in text and f"an offset of {offset:.4f}" in text
    assert f"the output is {output:.2f}" in text
    error, offset, output = network_a("uniform", "bad", 0.01)
    assert f"{error / offset:.0f} times the offset" in text and output == 0
    error, offset, output = network_a("normal", "bad", 0.1)
    assert error < offset and f"the output is still {output:.3f}" in text
    error, offset, output = network_a("normal", "bad", 0.01)
    assert error > offset and output < 1e-12


# The zoo of chapter 4


def test_the_zoos_scripts_are_those_that_the_tool_writes():
    for name, write in tool.SCRIPTS.items():
        assert (STATIC / f"{name}.js").read_text(encoding="utf-8") == write()


def test_every_variant_at_every_value_is_the_packages():
    cases, places = [], []
    for name, variant in VARIANTS.items():
        for index, value in enumerate(tool.moved(variant)[1]):
            low, high = tool.at(variant, value).window
            cases.append([name, index])
            places.append(np.linspace(low, high, 59).round(9) + (high - low) * 1.234e-4)  # beside the ends of supports
    body = """return data.cases.map(([name, index], i) => { const v = api.variant(name, index);
        const [mass, kind, low, high] = [String(v.mass), v.kind, v.low, v.high];
        return { mass, kind, low, high, levels: v.levels, thresholds: v.thresholds,
            values: data.places[i].map(x => [v.gradient(x), v.surrogate(x), v.pdf(x)]) }; });"""
    found = evaluate(body, {"cases": cases, "places": [x.tolist() for x in places]}, api="zoo")
    assert {name for name, _ in cases} == set(VARIANTS) and len(found) > 200
    for (name, index), x, seen in zip(cases, places, found):
        v = tool.at(VARIANTS[name], tool.moved(VARIANTS[name])[1][index])
        values, scale = np.array(seen["values"]), np.abs(v.gradient(x)).max()
        np.testing.assert_allclose(values[:, 0], v.gradient(x), rtol=1e-9, atol=1e-12 * scale, err_msg=str(v))
        np.testing.assert_allclose(values[:, 1], v.surrogate(x), rtol=1e-9, atol=1e-11, err_msg=str(v))
        np.testing.assert_allclose(values[:, 2], v.pdf(x), rtol=1e-9, atol=1e-12 * scale, err_msg=str(v))
        assert seen["kind"] == ("probability", "finite", "signed", "infinite").index(v.kind)
        mass = float(seen["mass"].replace("Infinity", "inf"))
        assert mass == pytest.approx(v.mass, rel=1e-11, nan_ok=True)
        assert seen["levels"] == pytest.approx(v.quantiser.levels.tolist())
        assert seen["thresholds"] == pytest.approx(v.quantiser.thresholds.tolist())


def test_the_lines_of_pytorch_run_and_multiply_by_the_gradient_shown():
    torch = pytest.importorskip("torch")
    from anabook import training

    body = """return api.names.map(name => [name, api.variant(name, data.start[name]).lines,
        api.variant(name, 0).lines]);"""
    start = {
        name: tool.moved(v)[1].index(v.settings[tool.moved(v)[0]]) if v.parameters else 0 for name, v in VARIANTS.items()
    }
    found = evaluate(body, {"start": start}, api="zoo")
    assert [name for name, *_ in found] == list(VARIANTS)
    for name, default, first in found:
        for lines, index in ((default, start[name]), (first, 0)):
            known = {"VARIANTS": VARIANTS, "training": training}
            exec("\n".join(lines), known)
            v = tool.at(VARIANTS[name], tool.moved(VARIANTS[name])[1][index])
            assert known["v"] == v or (known["v"].name, known["v"].settings) == (v.name, v.settings)
            x = torch.tensor(np.linspace(*v.window, 23) + 1e-4, dtype=torch.float64, requires_grad=True)
            known["step"](x).sum().backward()
            np.testing.assert_allclose(x.grad.numpy(), v.gradient(x.detach().numpy()), rtol=1e-9, atol=1e-12)


def test_the_lines_name_functions_of_the_libraries_with_the_variants_parameters():
    found = dict(evaluate("return api.names.map(n => [n, api.variant(n, 0).lines.slice(2)]);", None, api="zoo"))
    assert found["atan"] == [
        "# elsewhere: snntorch.surrogate.atan(alpha=0.2)",
        "# elsewhere: spikingjelly.activation_based.surrogate.ATan(alpha=0.2)",
    ]
    named = {line.split("elsewhere: ")[1].split("(")[0] for lines in found.values() for line in lines}
    paths = {library.path for v in VARIANTS.values() for library in v.libraries}
    assert named <= paths and {path for path in paths if path.startswith("spiking")} <= named
    assert "snntorch.surrogate.LSO" not in named  # it raises


def test_variants_are_chosen_and_their_parameter_moved(page):
    show(page, "zoo")
    assert read(page) == "Zenke and Ganguli (2018); k = 25. Mass 0.08: positive, but no probability."
    slider = page.locator(".fk-slider input")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "2"
    assert read(page).endswith("k = 2. Mass 1: a noise is behind it.")
    assert "with_parameters(k=2)" in page.locator("pre").inner_text()
    for name, variant in VARIANTS.items():
        page.get_by_label("Variant").select_option(name)
        shown = read(page)
        assert shown.startswith(variant.reference.text)
        assert ("a noise is behind it" in shown) == variant.is_probability
        assert slider.is_visible() == bool(variant.parameters)
        if np.isfinite(variant.mass):
            assert numbers(re.search(r"Mass (\S+):", shown)[1])[0] == pytest.approx(variant.mass, rel=5e-3)
        else:
            assert ("Mass ∞" if variant.mass > 0 else "No mass") in shown
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('s2nn')")


def test_what_chapter_4_says_to_try_is_so():
    text = page_source("zoo")
    fast, swish, tern = (VARIANTS[name] for name in ("fast_sigmoid", "swish_sign", "ste_tern"))
    assert f"{fast.mass:g} at $k = {fast.settings['k']:g}$" in text
    assert fast.with_parameters(k=2).is_probability and fast.with_parameters(k=1).mass == 2
    assert all(tool.at(swish, beta).mass == 1 and tool.at(swish, beta).kind == "signed" for beta in tool.moved(swish)[1])
    assert len(tern.kinks) == 20


# The three strategies on a picture, of chapter 5

GREY = Quantiser([0, 0.5, 1], [0.25, 0.75])


def rms(one, other, size):
    """How far two pictures are from each other, in means of blocks."""
    means = [each.reshape(80 // size, size, 120 // size, size).mean(axis=(1, 3)) for each in (one, other)]
    return float(np.sqrt(np.mean((means[0] - means[1]) ** 2)))


def drawn(cases, seed=1):
    """The figure's photograph, and its three pictures for each family and half-width."""
    body = "const p = api.photo(); return [p, data.cases.map(([f, h]) => api.outputs(p, f, h, data.seed))];"
    photo, found = evaluate(body, {"cases": cases, "seed": seed}, picture="strategies-picture", api="strategies")
    pictures = [{name: np.array(each[name]).reshape(80, 120) for name in each} for each in found]
    return np.array(photo).reshape(80, 120), pictures


def test_the_photograph_is_the_chapters_and_its_author_is_named():
    np.testing.assert_array_equal(drawn([])[0], tool.photo() / 255)
    assert "danielbuechele" in page_source("strategies") and "CC BY 2.0" in page_source("strategies")
    assert (STATIC / "strategies-picture.js").read_text(encoding="utf-8") == tool.strategies_picture()


def test_expectation_and_mode_are_the_packages_and_draws_have_its_probabilities():
    cases = [[family, h] for family in FAMILIES for h in (0.05, 0.25, 0.6, 1.0)]
    photo, found = drawn(cases)
    for (family, h), seen in zip(cases, found, strict=True):
        grey = Regularisation(GREY, Noise.covering(family, h))
        np.testing.assert_allclose(seen["expectation"], grey(photo), rtol=0, atol=1e-12)
        clear = ~grey.is_tie(photo)
        assert clear.mean() > 0.97
        np.testing.assert_array_equal(seen["mode"][clear], grey.mode(photo)[clear])
        p = grey.probabilities(photo)
        for k, level in enumerate(GREY.levels):
            count, spread = (seen["random"] == level).sum(), np.sqrt((p[..., k] * (1 - p[..., k])).sum())
            assert abs(count - p[..., k].sum()) <= 4 * spread + 1e-9
        # No block is drawn too dark or too light more often than chance allows.
        deviation = (seen["random"] - grey(photo)).reshape(20, 4, 30, 4).sum(axis=(1, 3))
        variance = (p @ GREY.levels**2 - grey(photo) ** 2).reshape(20, 4, 30, 4).sum(axis=(1, 3))
        assert (np.abs(deviation) <= 5.5 * np.sqrt(np.maximum(variance, 0)) + 1).all()


def test_blocks_and_distances_are_the_chapters():
    photo, (seen,) = drawn([["uniform", 0.25]])
    body = """const p = api.photo(), o = api.outputs(p, "uniform", 0.25, 1);
        return [1, 2, 4, 8].map(s => ["mode", "random"].map(n => api.apart(api.blocks(o[n], s), api.blocks(p, s))));"""
    found = evaluate(body, None, picture="strategies-picture", api="strategies")
    for size, row in zip((1, 2, 4, 8), found):
        assert row == pytest.approx([rms(seen[name], photo, size) for name in ("mode", "random")], rel=1e-9)


def test_what_chapter_5_says_to_try_is_so():
    text = page_source("strategies")
    photo, (seen, wide) = drawn([["uniform", 0.25], ["uniform", 1.0]])
    assert rms(seen["expectation"], photo, 1) < 1e-12
    errors = {(name, size): rms(seen[name], photo, size) for name in ("mode", "random") for size in (1, 8)}
    assert f"{errors['mode', 1]:.3f} away from the photograph, the random draw {errors['random', 1]:.3f}" in text
    assert f"{errors['mode', 8]:.3f} and {errors['random', 8]:.3f}" in text
    assert set(np.unique(wide["mode"])) == {0, 1}
    assert Regularisation(GREY, Noise.covering("uniform", 1.0))([0.0, 1.0]) == pytest.approx([0.25, 0.75])
    assert np.ptp(photo) > 0.75 > np.ptp(wide["expectation"])


def test_the_canvases_show_the_strategies_and_blocks(page):
    show(page, "strategies")
    body = (
        "all => all.map(c => Array.from(c.getContext('2d').getImageData(0, 0, 120, 80).data).filter((_, i) => i % 4 === 0))"
    )

    def pixels():
        return [np.array(each).reshape(80, 120) for each in page.eval_on_selector_all("canvas", body)]

    photo = tool.photo() / 255
    for family, h in (("uniform", 0.25), ("logistic", 0.6)):
        page.get_by_label("Noise").select_option(family)
        set_slider(page, "Half-width", h)
        grey = Regularisation(GREY, Noise.covering(family, h))
        shown = pixels()
        np.testing.assert_array_equal(shown[0], tool.photo())
        assert np.abs(shown[1] - 255 * grey(photo)).max() <= 0.5 + 1e-9
        clear = ~grey.is_tie(photo)
        assert np.abs(shown[2] - 255 * grey.mode(photo))[clear].max() <= 0.5
        assert set(np.unique(shown[3])) == {0, 128, 255}
        assert numbers(read(page).split("mode ")[1])[0] == pytest.approx(rms(grey.mode(photo), photo, 1), abs=1.1e-3)
    page.get_by_label("Means of blocks").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.get_by_label("Means of blocks").get_attribute("aria-valuetext") == "8 × 8"
    blocks = pixels()[3]
    assert all(np.ptp(blocks[i : i + 8, j : j + 8]) == 0 for i in range(0, 80, 8) for j in range(0, 120, 8))
    page.get_by_role("button", name="Draw again").press("Enter")
    assert (pixels()[3] != blocks).any()
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('8 × 8')")


# Mass and depth, of chapter 4


def chain_gradients(variant, depth):
    """d output / d weight of a chain of units H(w·input), layer by layer, through the package's slopes."""
    weights, values = np.full(depth, 0.03), [1.0]
    for weight in weights:
        values.append(float(variant.quantiser(weight * values[-1])))
    slopes = [float(variant.gradient(weight * value)) for weight, value in zip(weights, values)]
    return np.array([np.prod(slopes[i:]) * np.prod(weights[i + 1 :]) * values[i] for i in range(depth)])


def test_factors_are_what_a_chain_of_units_gets():
    for name in ("fast_sigmoid", "ste_heaviside", "dampened_triangular"):
        variant = VARIANTS[name]
        found = evaluate("return data.depths.map(n => api.factors(data.mass, n));",
                         {"mass": variant.mass, "depths": [1, 4, 7]}, api="mass")  # fmt: skip
        for depth, factors in zip((1, 4, 7), found):
            ratio = chain_gradients(variant, depth) / chain_gradients(variant.normalised(), depth)
            np.testing.assert_allclose(factors, ratio, rtol=1e-12)


def test_the_examples_are_the_zoos_finite_masses():
    found = dict(evaluate("return api.examples();", None, api="mass"))
    assert found == pytest.approx({name: v.mass for name, v in VARIANTS.items() if v.kind == "finite"}, rel=1e-11)


def test_mass_and_depth_are_moved(page):
    show(page, "mass")
    for name, depth in (("fast_sigmoid", 4), ("spike_rate_escape", 4), ("ste_heaviside", 12)):
        page.get_by_label("Slope").select_option(name)
        set_slider(page, "Quantisers", depth)
        mass = VARIANTS[name].mass
        assert numbers(read(page)) == pytest.approx([mass, depth, mass**depth, mass], rel=6e-3)
        assert page.locator(".fk-panel polygon").count() == depth
        label = page.locator(".fk-panel").get_attribute("aria-label").split(":")[1]
        assert numbers(label) == pytest.approx([mass ** (depth - i) for i in range(depth)], rel=6e-3)
    page.get_by_label("Mass", exact=True).focus()
    page.keyboard.press("End")
    assert page.get_by_label("Slope").input_value() == "own"
    page.keyboard.press("ArrowLeft")
    assert numbers(read(page)) == pytest.approx([10**1.98, 12, 10 ** (1.98 * 12), 10**1.98], rel=6e-3)
    page.get_by_label("Slope").select_option("own")
    assert page.get_by_label("Mass", exact=True).get_attribute("aria-valuetext") == "95.5"
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('With mass 95.5')")


def test_what_chapter_4_says_of_mass_and_depth_is_so():
    text = page_source("mass")
    fast, escape = VARIANTS["fast_sigmoid"].mass, VARIANTS["spike_rate_escape"].mass
    assert f"${fast**4 * 1e5:.1f} \\cdot 10^{{-5}}$" in text and f"${fast**8 * 1e9:.1f} \\cdot 10^{{-9}}$" in text
    assert f"${escape**4 / 1e6:.2f} \\cdot 10^{{6}}$" in text
    assert f"At mass 0.912 twelve quantisers leave {0.912**12:.2f}" in text
