"""What is wrong with a page, as a reader's browser sees it: each check returns sentences, none if all is well."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from printing import SETTLED

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
ARTICLE = "article"
SETTLES_MS = 150  # until the page's script has fitted formulas and tables to their boxes
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

RAW_TEX = [
    r"\$\$",
    r"\\[()\[\]]",
    r"\\[a-zA-Z]{2,}",
    r"(?<![\w$])\$[^$\s][^$]*\$",
    r"\{(?:eq|ref|doc|term|cite|cite:[pt]|numref|math|prf:ref|mod|class|func|meth)\}",
    r":::|```|\^\^\^|\+\+\+",
    r"\{(?:prf:\w+|exercise\w*|solution\w*|figure|admonition|margin)\}",
]

PREPARE = """() => {
    for (const details of document.querySelectorAll('article details')) details.open = true;
    for (const box of document.querySelectorAll('article .toggle-hidden')) {
        (box.querySelector('button.toggle-button') || box.parentElement.querySelector('button.toggle-button'))?.click();
    }
    for (const details of document.querySelectorAll('article details')) details.open = true;
}"""

MATHS = """() => {
    const found = [];
    for (const box of document.querySelectorAll('article .math')) {
        if (!box.querySelector('mjx-container')) found.push('not rendered: ' + box.textContent.trim().slice(0, 80));
    }
    const wrong = 'mjx-merror, [data-mjx-error], mjx-mtext[style*="red"], mjx-mi[style*="red"]';
    for (const error of document.querySelectorAll(wrong)) {
        const whole = error.closest('mjx-container');
        found.push('error: ' + (error.getAttribute('data-mjx-error') || (whole || error).textContent).trim().slice(0, 80));
    }
    return found;
}"""

VISIBLE_TEXT = """() => {
    const article = document.querySelector('article');
    if (!article) return [];
    const skip = 'code, pre, kbd, samp, script, style, textarea, mjx-container, .highlight';
    const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    const texts = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const parent = node.parentElement;
        if (node.data.trim() && !parent.closest(skip) && parent.checkVisibility()) texts.push(node.data);
    }
    return texts;
}"""

PICTURES = r"""() => {
    const found = [];
    for (const image of document.querySelectorAll('article img')) {
        const alt = (image.getAttribute('alt') || '').trim();
        const name = image.getAttribute('src').split('/').pop().slice(0, 60);
        if (alt.length < 10) found.push(`${name} has no alternative text: '${alt}'`);
        else if (/\.(png|svg|jpe?g|gif|webp)$/i.test(alt)) found.push(`${name} has a file name for alternative text: '${alt}'`);
        if (image.complete && image.naturalWidth === 0) found.push(`${name} did not load`);
    }
    for (const drawing of document.querySelectorAll('article svg, article canvas')) {
        if (drawing.closest('[aria-hidden="true"], button, a, summary') || drawing.parentElement.closest('svg')) continue;
        const title = drawing.querySelector(':scope > title');
        const label = drawing.getAttribute('aria-label') || drawing.getAttribute('aria-labelledby') || title?.textContent || '';
        if (label.trim().length < 2) found.push(`a ${drawing.tagName.toLowerCase()} has no label`);
    }
    for (const figure of document.querySelectorAll('article figure')) {
        if (!figure.querySelector('img, svg, canvas, video, table, pre')) found.push('a figure without a picture');
    }
    return found;
}"""

OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    const found = [];
    const page = document.scrollingElement.scrollWidth;
    if (page > width) found.push(`the page is ${page} px wide`);
    for (const element of document.querySelectorAll('article *')) {
        const right = element.getBoundingClientRect().right;
        if (right <= width + 1 || !element.checkVisibility()) continue;
        if (element.closest('mjx-assistive-mml, .visually-hidden, .sr-only')) continue;
        if (element.ownerSVGElement) continue;  // a drawing shows nothing beyond its own box
        let scrolls = false;
        for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
            if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) { scrolls = true; break; }
        }
        if (scrolls || found.length > 4) continue;
        const name = element.tagName.toLowerCase() + (element.className ? '.' + String(element.className).split(' ').join('.') : '');
        found.push(`${name} reaches to ${Math.round(right)} px: ${element.textContent.trim().slice(0, 50)}`);
    }
    return found;
}"""

SIDEWAYS = """() => {
    // What has to be moved sideways to be read: code, outputs, formulas, tables, figures.
    const boxes = 'pre, .output, .text_html, div.math, mjx-container, figure, .pst-scrollable-table-container, [style*="overflow"]';
    const found = [];
    for (const box of document.querySelectorAll(`article :is(${boxes})`)) {
        const over = box.scrollWidth - box.clientWidth;
        if (over <= 3 || !box.checkVisibility() || box.closest('mjx-assistive-mml')) continue;
        if (getComputedStyle(box).overflowX === 'visible') continue;
        const figure = box.closest('figure')?.id || box.querySelector('figure')?.id || '';
        const computed = box.closest('.cell_output') && (box.matches('div.math, mjx-container') ? 'computed formula'
            : box.querySelector('table mjx-container') ? 'computed table of formulas' : '');
        const kind = computed || figure || box.tagName.toLowerCase();
        found.push([kind, `${over} px of a ${kind} are out of sight: ${box.innerText.trim().replace(/\\s+/g, ' ').slice(0, 60)}`]);
    }
    return found;
}"""

WRAPPED = """() => {
    // Lines of code, and of outputs in columns, that do not fit their box. Sentences in outputs may wrap.
    const found = [];
    for (const box of document.querySelectorAll('article .cell pre')) {
        const style = getComputedStyle(box);
        const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        if (!box.checkVisibility() || !room) continue;
        const ruler = document.createElement('span');
        ruler.textContent = 'x'.repeat(100);
        ruler.style.cssText = 'position: absolute; visibility: hidden; white-space: pre';
        box.append(ruler);
        const fits = Math.floor(room / (ruler.getBoundingClientRect().width / 100));
        ruler.remove();
        for (const line of box.textContent.split('\\n').map(line => line.trimEnd())) {
            const columns = (line.trim().match(/ {2,}/g) || []).length >= 2;
            if (line.length <= fits || (box.closest('.cell_output') && !columns)) continue;
            found.push(`of ${line.length} letters ${fits} fit: ${line.trim().slice(0, 60)}`);
        }
    }
    return found;
}"""

MAY_SCROLL = (
    "computed formula",  # what SymPy has derived
    "computed table of formulas",  # the zoo's
    "fig-zoo-probabilities",
    "fig-zoo-others",
    "fig-algorithm-inside",
)
"""On a phone alone: what would be too small to be read in its width."""

SAME_TEXT = """() => {
    // Colours, size, weight and whatever shines through: the same for an element and for all around it means the same contrast.
    const decides = ['color', 'backgroundColor', 'backgroundImage', 'opacity', 'fontSize', 'fontWeight', 'textShadow', 'filter',
        'backdropFilter', 'mixBlendMode', 'visibility', 'position', 'zIndex', 'transform', 'clipPath', 'webkitTextFillColor'];
    const kinds = new Map(), numbers = new Map([[null, 0]]);
    const kind = element => {  // a number for the looks of an element and of all that it stands in
        if (!numbers.has(element)) {
            const style = getComputedStyle(element);
            const looks = [kind(element.parentElement), ...decides.map(name => style[name])].join('|');
            if (!kinds.has(looks)) kinds.set(looks, kinds.size + 1);
            numbers.set(element, kinds.get(looks));
        }
        return numbers.get(element);
    };
    const placed = [...document.querySelectorAll('body *')].filter(each => getComputedStyle(each).position !== 'static')
        .map(each => [each, each.getBoundingClientRect()]);
    const covered = element => {
        const a = element.getBoundingClientRect();
        return placed.some(([other, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
            && !other.contains(element));
    };
    const around = new Map();  // the boxes in which an element may be scrolled away
    const boxes = element => {
        if (!element) return [];
        if (!around.has(element)) {
            const own = getComputedStyle(element).overflow === 'visible' ? [] : [element];
            around.set(element, [...own, ...boxes(element.parentElement)]);
        }
        return around.get(element);
    };
    const whole = element => {  // none of it is scrolled away
        const a = element.getBoundingClientRect();
        return boxes(element.parentElement).filter(each => !each.matches('html, body')).map(box => box.getBoundingClientRect())
            .every(b => b.left <= a.left && a.right <= b.right && b.top <= a.top && a.bottom <= b.bottom);
    };
    const says = element => [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join('');
    for (const each of document.querySelectorAll('[data-same-text]')) each.removeAttribute('data-same-text');
    const seen = new Set();
    for (const element of document.querySelectorAll('article *')) {
        if (!says(element)) continue;
        if (says(element).length < 2) element.setAttribute('data-same-text', '');  // of a single letter axe-core is never sure
        else if (covered(element)) continue;
        else if (seen.has(kind(element))) element.setAttribute('data-same-text', '');
        else if (whole(element)) seen.add(kind(element));
    }
}"""

CONTRAST = "axe.configure({ rules: [{ id: 'color-contrast', selector: '*:not([data-same-text])' }] })"

RUN_AXE = """async () => {
    // The search page has no article: its content is the main part.
    const results = await axe.run(document.querySelector('article') ? 'article' : 'main', { resultTypes: ['violations'], preload: false });
    return results.violations.map(v => `${v.id}: ${v.nodes.length} times, first ${v.nodes[0].html.slice(0, 160)} `
        + `(${v.nodes[0].failureSummary.split('\\n').slice(1).join(' ').trim().slice(0, 160)})`);
}"""

FADED = """async () => {
    // A theme's colours fade in.
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const ends = document.getAnimations().filter(each => Number.isFinite(each.effect?.getComputedTiming().endTime));
    await Promise.race([Promise.allSettled(ends.map(each => each.finished)), new Promise(done => setTimeout(done, 2000))]);
}"""


@contextmanager
def context_of(browser: Browser, device: str, address: str) -> Iterator[BrowserContext]:
    """A fresh browser profile of the width of ``device`` for which nothing but ``address`` exists."""
    width, height = WIDTHS[device]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        is_mobile=device == "phone",
        has_touch=device == "phone",
        color_scheme="light",
        service_workers="block",
    )
    context.route(re.compile(rf"^(?!{re.escape(address)}/|data:|blob:)"), lambda route: route.abort())
    try:
        yield context
    finally:
        context.close()


def listen(page: Page, address: str) -> list[str]:
    """Record from now on whatever goes wrong while ``page`` loads and runs; the list fills as it happens."""
    problems: list[str] = []

    def requested(request: Any) -> None:
        if not request.url.startswith((address + "/", "data:", "blob:")):
            problems.append(f"external request: {request.url[:160]}")

    def failed(request: Any) -> None:
        if request.url.startswith(address + "/"):
            problems.append(f"failed request: {request.url[len(address) :]} ({request.failure})")

    def answered(response: Any) -> None:
        if response.status >= 400:
            problems.append(f"failed request: {response.url[:160]} (status {response.status})")

    def said(message: Any) -> None:
        if message.type == "error":
            problems.append(f"console error: {message.text[:200]}")

    page.on("request", requested)
    page.on("requestfailed", failed)
    page.on("response", answered)
    page.on("console", said)
    page.on("pageerror", lambda error: problems.append(f"script error: {str(error)[:200]}"))
    page.on("websocket", lambda socket: problems.append(f"external request: {socket.url}"))
    return problems


def raw_tex(page: Page) -> list[str]:
    """TeX and markup that should have become something else, in the text that a reader sees outside code."""
    found = []
    for text in page.evaluate(VISIBLE_TEXT):
        for pattern in RAW_TEX:
            if match := re.search(pattern, text):
                around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
                found.append(f"raw markup: …{around}…")
                break
    return found


def accessibility(page: Page) -> list[str]:
    """What axe-core finds in the article.

    A page has thousands of words in a dozen colours, and to compute a contrast takes axe-core milliseconds: of the words that look
    the same, in boxes that look the same, it computes the first one's.
    """
    if page.query_selector(f"{ARTICLE}, main") is None:
        return ["axe: the page has no article"]
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE)
        page.evaluate(CONTRAST)
    page.evaluate(SAME_TEXT)
    return [f"axe: {violation}" for violation in page.evaluate(RUN_AXE)]


def overflow(page: Page) -> list[str]:
    """What is wider than the window and has no box to scroll in."""
    return [f"overflow: {each}" for each in page.evaluate(OVERFLOW)]


def sideways(page: Page, allowed: Collection[str] = ()) -> list[str]:
    """What a reader must scroll sideways to see; ``allowed`` names figures, or kinds of boxes, that may scroll."""
    return [f"sideways: {each}" for kind, each in page.evaluate(SIDEWAYS) if kind not in allowed]


def wrapped(page: Page) -> list[str]:
    """Lines of code, and of columns, in the cells of a chapter that are longer than their box."""
    return [f"wrapped: {each}" for each in page.evaluate(WRAPPED)]


def turn_to(page: Page, theme: str) -> list[str]:
    """Ask for a theme and wait until the page has it; the problem if it never does."""
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    try:
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme, timeout=5_000)
    except PlaywrightTimeout:
        return [f"theme: {page.evaluate('() => document.documentElement.dataset.theme')} instead of {theme}"]
    return []


def inspect(
    context: BrowserContext,
    address: str,
    path: str,
    formulas: bool = False,
    axe: Collection[str] = THEMES,
    fits: str | None = None,
) -> list[str]:
    """All problems of the page at ``path``, in both themes, with everything that is folded unfolded.

    Args:
        formulas: whether the page is to show some.
        axe: the themes in which axe-core looks at the page, which takes most of the time.
        fits: the device on which nothing may have to be scrolled sideways, and on a desktop no line of a cell may wrap.
    """
    page = context.new_page()
    try:
        problems = listen(page, address)
        page.goto(f"{address}/{path}", wait_until="load")
        page.evaluate(SETTLED)
        problems += overflow(page)
        page.evaluate(PREPARE)
        page.evaluate(SETTLED)
        if fits is not None:
            page.wait_for_timeout(SETTLES_MS)
            problems += sideways(page, MAY_SCROLL if fits == "phone" else ()) + (wrapped(page) if fits == "desktop" else [])
        problems += [f"maths {each}" for each in page.evaluate(MATHS)]
        if formulas and page.query_selector("article mjx-container mjx-math") is None:
            problems.append("maths: no formula is shown, and the source has some")
        problems += [f"picture: {each}" for each in page.evaluate(PICTURES)]
        problems += raw_tex(page)
        for theme in THEMES:
            problems += turn_to(page, theme)
            page.evaluate(FADED)
            found = overflow(page) + (accessibility(page) if theme in axe else [])
            problems += [f"{each} [{theme}]" for each in found]
        return problems
    finally:
        page.close()
