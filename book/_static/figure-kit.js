/* What the book's interactive figures share: the four noises and what they make of a stair, numbers as text, pictures with
   axes, sliders, buttons, and words for screen readers. No library, no request.

   The first half is pure functions, the same formulas as the package's; tests compare the two. */
(function (root) {
  "use strict";
  if (root.anabookKit) return;

  // The four standardised laws: mean 0, standard deviation 1.

  const SQRT3 = Math.sqrt(3);
  const SQRT6 = Math.sqrt(6);
  const RATE = Math.PI / SQRT3;
  const normalPdf = (t) => Math.exp(-0.5 * t * t) / Math.sqrt(2 * Math.PI);

  function normalCdf(t) {
    const a = Math.abs(t);
    if (a < 3) {
      let term = t;
      let sum = t;
      for (let k = 3; Math.abs(term) > 1e-18; k += 2) {
        term *= (t * t) / k;
        sum += term;
      }
      return 0.5 + normalPdf(t) * sum;
    }
    // The upper tail as a continued fraction, from far enough inside.
    let fraction = a;
    for (let k = 200; k >= 1; k--) fraction = a + k / fraction;
    const tail = normalPdf(a) / fraction;
    return t < 0 ? tail : 1 - tail;
  }

  // t is rounded: so many roundings may lie between it and the end of a support. As in the package.
  const SLACK = 1024 * SQRT3 * 2 ** -52;

  const FAMILIES = {
    uniform: {
      halfWidth: SQRT3,
      pdf: (t) => (t >= -SQRT3 - SLACK && t < SQRT3 - SLACK ? 1 / (2 * SQRT3) : 0),
      cdf: (t) => Math.min(Math.max((t + SQRT3) / (2 * SQRT3), 0), 1),
    },
    triangular: {
      halfWidth: SQRT6,
      pdf: (t) => Math.max(SQRT6 - Math.abs(t), 0) / 6,
      cdf: (t) => {
        const tail = Math.max(SQRT6 - Math.abs(t), 0) ** 2 / 12;
        return t <= 0 ? tail : 1 - tail;
      },
    },
    normal: { halfWidth: Infinity, pdf: normalPdf, cdf: normalCdf },
    logistic: {
      halfWidth: Infinity,
      pdf: (t) => RATE / (Math.exp(RATE * t / 2) + Math.exp(-RATE * t / 2)) ** 2,
      cdf: (t) => 1 / (1 + Math.exp(-RATE * t)),
    },
  };

  // Standard deviations of noise that reaches 1 from its mean, with all of its mass or with 95 % of it.
  const COVERING = { uniform: 1 / SQRT3, triangular: 1 / SQRT6, normal: 1 / 1.959963984540054, logistic: RATE / Math.log(39) };

  /* The t below which the law has mass u, 0 < u < 1, by bisection. */
  function quantile(family, u) {
    let [low, high] = [-40, 40];
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (FAMILIES[family].cdf(middle) >= u) high = middle;
      else low = middle;
    }
    return high;
  }

  /* Numbers between 0 and 1 that look random, the same ones for the same seed (mulberry32). */
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
  }

  // Stairs, and what noise of mean 0 makes of them

  const QUANTISERS = {
    heaviside: { levels: [0, 1], thresholds: [0] },
    ternary: { levels: [-1, 0, 1], thresholds: [-0.5, 0.5] },
    four: { levels: [0, 1, 2, 3], thresholds: [0.5, 1.5, 2.5] },
  };

  /* The index of the level at t; bins are closed on the left. */
  const levelAt = ({ thresholds }, t) => thresholds.filter((threshold) => t >= threshold).length;

  const overJumps = ({ levels, thresholds }, f) =>
    thresholds.reduce((sum, threshold, k) => sum + (levels[k + 1] - levels[k]) * f(threshold), 0);

  const expectation = (quantiser, family, std, x) =>
    quantiser.levels[0] + overJumps(quantiser, (threshold) => FAMILIES[family].cdf((x - threshold) / std));

  const slope = (quantiser, family, std, x) =>
    overJumps(quantiser, (threshold) => FAMILIES[family].pdf((x - threshold) / std) / std);

  /* The probability of each level at x: the mass of the window over its tread. */
  function probabilities({ thresholds }, family, std, x) {
    const above = [1, ...thresholds.map((threshold) => FAMILIES[family].cdf((x - threshold) / std)), 0];
    return above.slice(1).map((next, k) => above[k] - next);
  }

  /* Places at which a curve over [low, high] is drawn: an even grid, a finer one as wide as the noise around each centre,
     and one on either side of each jump. */
  const BESIDE = 1e-9;
  function positions(low, high, centres = [], width = 0, jumps = []) {
    const xs = Array.from({ length: 241 }, (_, i) => low + ((high - low) * i) / 240);
    for (const centre of centres) for (let i = -60; i <= 60; i++) xs.push(centre + (i / 12) * width);
    const clear = xs.filter((x) => jumps.every((jump) => Math.abs(x - jump) > BESIDE));
    for (const jump of jumps) clear.push(jump - BESIDE, jump + BESIDE);
    return clear.filter((x) => x >= low && x <= high).sort((a, b) => a - b);
  }

  /* Where the slope of a stair under this noise jumps. */
  function slopeJumps({ thresholds }, family, std) {
    if (family !== "uniform") return [];
    return thresholds.flatMap((threshold) => [threshold - SQRT3 * std, threshold + SQRT3 * std]);
  }

  // Numbers as text

  const minus = (text) => text.replace(/-/g, "−");
  const fixed = (value, digits = 2) => minus(value.toFixed(digits)).replace(/^−(?=0\.?0*$)/, "");

  /* A number with three digits, or as many as are asked for; far from 1 as a power of ten. */
  function brief(value, digits = 3) {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size === Infinity) return value > 0 ? "∞" : "−∞";
    if (size >= 0.00009995 && size < 9999.5) return minus(String(Number(value.toPrecision(digits))));
    return minus(value.toExponential(digits - 1).replace("e+", "e"));
  }

  const api = {
    FAMILIES, COVERING, QUANTISERS, normalCdf, quantile, generator, levelAt, expectation, slope, probabilities, positions, slopeJumps,
    fixed, brief,
  };
  if (typeof module === "object" && module.exports) {
    module.exports = api;
    return;
  }

  // Elements

  const SVG = "http://www.w3.org/2000/svg";

  function filled(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }
  const html = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

  // Pictures with axes

  const BOX = { width: 340, height: 190, left: 34, right: 10, top: 10, bottom: 22 };

  const picture = () => svg("svg", { role: "img", class: "fk-panel" });

  /* Clears a picture and draws its axes. `view`: label (what is to be seen, in words), x and y ranges, xTicks and yTicks as
     [value, text] pairs, marks (places of dotted upright lines), base (the height
     of the axis), box (sizes). Comes back with what draws into it. */
  function frame(place, view) {
    const box = { ...BOX, ...view.box };
    const [right, base] = [box.width - box.right, box.height - box.bottom];
    const toX = (x) => box.left + ((x - view.x[0]) / (view.x[1] - view.x[0])) * (right - box.left);
    const toY = (y) => base - ((y - view.y[0]) / (view.y[1] - view.y[0])) * (base - box.top);
    const at = (value) => value.toFixed(2);
    place.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    place.setAttribute("aria-label", view.label);
    place.replaceChildren();
    const add = (name, attributes, ...children) => {
      const element = svg(name, attributes, ...children);
      place.append(element);
      return element;
    };
    const line = (x1, y1, x2, y2, kind) =>
      add("line", { x1: at(toX(x1)), y1: at(toY(y1)), x2: at(toX(x2)), y2: at(toY(y2)), class: kind });
    const text = (x, y, words, attributes = {}) => add("text", { x: at(x), y: at(y), class: "fk-tick", ...attributes }, words);
    const floor = view.base ?? Math.max(view.y[0], 0);
    line(view.x[0], floor, view.x[1], floor, "fk-axis");
    for (const mark of view.marks || []) line(mark, view.y[0], mark, view.y[1], "fk-mark");
    for (const [x, words] of view.xTicks || []) text(toX(x), box.height - 6, words, { "text-anchor": "middle" });
    for (const [y, words] of view.yTicks || []) text(box.left - 5, toY(y) + 4, words, { "text-anchor": "end" });
    const joined = (points) => points.map(([x, y]) => `${at(toX(x))},${at(toY(y))}`).join(" ");
    return {
      toX, toY, add, line, text,
      dot: (x, y, kind, r = 5) => add("circle", { cx: at(toX(x)), cy: at(toY(y)), r, class: kind }),
      curve: (points, kind = "fk-curve") => add("polyline", { points: joined(points), class: kind }),
      area: (points, kind) => add("polygon", { points: joined(points), class: kind }),
      stair: ({ levels, thresholds }, kind = "fk-stair") => {
        const edges = [view.x[0], ...thresholds, view.x[1]];
        return levels.map((level, k) => line(edges[k], level, edges[k + 1], level, kind));
      },
    };
  }

  /* Lets mouse, pen and finger move a value along a picture; `view` gives the picture's x range, as for `frame`. */
  function draggable(place, view, move) {
    place.classList.add("fk-drag");
    let held = null;
    const moved = (event) => {
      const [rect, box, x] = [place.getBoundingClientRect(), { ...BOX, ...view().box }, view().x];
      const part = (((event.clientX - rect.left) / rect.width) * box.width - box.left) / (box.width - box.left - box.right);
      move(x[0] + Math.min(Math.max(part, 0), 1) * (x[1] - x[0]));
    };
    place.addEventListener("pointerdown", (event) => {
      if (held !== null || event.button !== 0) return;
      held = event.pointerId;
      place.setPointerCapture(held);
      moved(event);
    });
    place.addEventListener("pointermove", (event) => event.pointerId === held && moved(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      place.addEventListener(kind, (event) => {
        if (event.pointerId === held) held = null;
      });
    }
  }

  // Controls. `changed` is called after every change.

  /* A slider over the whole numbers from 0 to values.length − 1, or from min to max; `words` says its value. */
  function slider({ id, label, min, max, step, value, words = (v) => fixed(v), changed }) {
    const input = html("input", { type: "range", id, min, max, step });
    const shown = html("span", { class: "fk-value", "aria-hidden": "true" });
    const row = html("div", { class: "fk-slider" }, html("label", { for: id }, label), input, shown);
    const tell = () => {
      shown.textContent = words(Number(input.value));
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    input.value = value;
    tell();
    input.addEventListener("input", () => {
      tell();
      changed();
    });
    return {
      row, input,
      get value() { return Number(input.value); },
      set value(v) {
        input.value = v;
        tell();
      },
      /* Another range, for another meaning of the slider. */
      range(low, high, v) {
        [input.min, input.max, input.value] = [low, high, v];
        tell();
      },
    };
  }

  /* A list to choose from; `options` are texts by value. */
  function select({ id, label, options, value, changed }) {
    const input = html("select", { id });
    for (const [each, text] of Object.entries(options)) input.append(html("option", { value: each }, text));
    input.value = value;
    input.addEventListener("input", changed);
    return { row: html("div", { class: "fk-select" }, html("label", { for: id }, label), input), input, get value() { return input.value; } };
  }

  function button(text, pressed) {
    const element = html("button", { type: "button" }, text);
    element.addEventListener("click", pressed);
    return element;
  }

  /* Words for screen readers, once things have come to rest. */
  function speaker() {
    const element = html("p", { role: "status", class: "fk-spoken" });
    let timer;
    return {
      element,
      say(text) {
        clearTimeout(timer);
        timer = setTimeout(() => {
          if (element.textContent !== text) element.textContent = text;
        }, 400);
      },
    };
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  const part = (title, ...children) => html("div", { class: "fk-part" }, html("p", { class: "fk-title" }, title), ...children);

  /* Builds a figure in every element of a class; what stood there is the still, for paper. */
  function figures(name, build) {
    const start = () => document.querySelectorAll(`.${name}:not([data-ready])`).forEach((place, i) => {
      const still = html("div", { class: "fk-still" }, ...place.childNodes);
      const live = html("div", { class: "fk-live" });
      place.replaceChildren(live, still);
      build(live, `${name}-${i}`);
      place.dataset.ready = "";
    });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }

  root.anabookKit = { ...api, html, svg, picture, frame, draggable, slider, select, button, speaker, calm, part, figures };
})(typeof self === "undefined" ? globalThis : self);
