/* The interactive figure of the chapter on schedules: what each layer's noise does as training goes on.

   The first half is pure functions, the same formulas as the package's; tests compare the two to twelve digits.
   The second half draws them into every element of class "schedule-figure". No library, no request. */
(function (root) {
  "use strict";

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

  const FAMILIES = {
    uniform: {
      halfWidth: SQRT3,
      pdf: (t) => (t >= -SQRT3 && t < SQRT3 ? 1 / (2 * SQRT3) : 0),
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

  // 95 % or all of the mass within half a quantum, as standard deviations. (A logistic law of scale s has s·RATE.)
  const INITIAL_STD = {
    uniform: 0.5 / SQRT3,
    triangular: 0.5 / SQRT6,
    normal: 0.5 / 1.959963984540054,
    logistic: (0.5 * RATE) / Math.log(39),
  };

  const QUANTISERS = {
    ternary: { levels: [-1, 0, 1], thresholds: [-0.5, 0.5] },
    heaviside: { levels: [0, 1], thresholds: [0] },
  };

  function density(family, mean, std, x) {
    if (std === 0) return x === mean ? Infinity : 0;
    return FAMILIES[family].pdf((x - mean) / std) / std;
  }

  function expectation(quantiser, family, mean, std, x) {
    return quantiser.thresholds.reduce((sum, threshold, k) => {
      const step = quantiser.levels[k + 1] - quantiser.levels[k];
      const above = std === 0 ? Number(x - threshold >= mean) : FAMILIES[family].cdf((x - threshold - mean) / std);
      return sum + step * above;
    }, quantiser.levels[0]);
  }

  function derivative(quantiser, family, mean, std, x) {
    if (std === 0) return 0;
    return quantiser.thresholds.reduce((sum, threshold, k) => {
      const step = quantiser.levels[k + 1] - quantiser.levels[k];
      return sum + step * density(family, mean, std, x - threshold);
    }, 0);
  }

  // Equations (20) and (21) of the paper, with the exponents of its authors' code. Layers count from 0 at the input.

  function intervals(kind, n, start, end) {
    const at = (i) => start + ((end - start) * i) / n;
    return Array.from({ length: n }, (_, i) => ({
      partition: [at(i), at(i + 1)],
      same_start: [start, at(i + 1)],
      same_end: [at(n - 1 - i), end],
      overlapped: [start, end],
    })[kind]);
  }

  function decay([start, end], t) {
    return (end - Math.min(Math.max(t, start), end)) / (end - start);
  }

  /* The mean and standard deviation of a layer at time t. Settings: layers, interval, powerLaw, start, end, mean0,
     std0, staticMean. */
  function noiseAt(settings, layer, t) {
    const window = intervals(settings.interval, settings.layers, settings.start, settings.end)[layer];
    const lambda = decay(window, t);
    const d = settings.powerLaw === "progressive" ? settings.layers - layer : 1;
    const mean = settings.staticMean ? settings.mean0 : settings.mean0 * lambda ** d;
    return { lambda, mean, std: settings.std0 * lambda ** (2 * d) };
  }

  const api = { FAMILIES, INITIAL_STD, QUANTISERS, density, expectation, derivative, intervals, decay, noiseAt };
  if (typeof module === "object" && module.exports) {
    module.exports = api;
    return;
  }
  root.anabookSchedules = api;

  // Drawing

  const SVG = "http://www.w3.org/2000/svg";
  const LOW = -1.5;
  const HIGH = 1.5;
  const WIDTH = 200;
  const HEIGHT = 100;
  const TOP = 4; // densities and derivatives are cut off here
  const PERIOD = 50;

  const CHOICES = [
    ["interval", "Decay intervals", { partition: "partition", same_start: "same start", same_end: "same end", overlapped: "overlapped" }],
    ["powerLaw", "Power law", { homogeneous: "homogeneous", progressive: "progressive" }],
    ["family", "Noise", { uniform: "uniform", triangular: "triangular", normal: "normal", logistic: "logistic" }],
    ["mean", "Mean", { static: "0, static", fading: "−½, fading" }],
    ["quantiser", "Quantiser", { ternary: "ternary", heaviside: "Heaviside" }],
    ["layers", "Layers", { 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "7" }],
  ];
  const START = { interval: "partition", powerLaw: "homogeneous", family: "uniform", mean: "static", quantiser: "ternary", layers: "3" };

  const shown = (value) => value.toFixed(3).replace(/^-0\.000$/, "0.000").replace("-", "−");

  function html(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const toX = (x) => ((x - LOW) / (HIGH - LOW)) * WIDTH;
  const toY = (y, low, high) => HEIGHT - 4 - ((y - low) / (high - low)) * (HEIGHT - 8);

  // At the edge of bounded noise two supports may meet in one point and count twice there: no picture of a function.
  const BESIDE = 1e-9;
  const clearOf = (jumps) => (x) => jumps.every((jump) => Math.abs(x - jump) > BESIDE / 2);

  function curve(f, jumps, low, high) {
    const xs = Array.from({ length: 301 }, (_, i) => LOW + ((HIGH - LOW) * i) / 300);
    for (const jump of jumps) if (jump > LOW && jump < HIGH) xs.push(jump - BESIDE, jump + BESIDE);
    xs.sort((a, b) => a - b);
    const points = xs.filter(clearOf(jumps)).map((x) => `${toX(x).toFixed(2)},${toY(Math.min(f(x), high + 1), low, high).toFixed(2)}`);
    return svg("polyline", { points: points.join(" "), class: "sf-curve" });
  }

  function treads(quantiser, shift, low, high) {
    const edges = [LOW, ...quantiser.thresholds.map((t) => Math.min(Math.max(t + shift, LOW), HIGH)), HIGH];
    return quantiser.levels.map((level, k) => {
      const y = toY(level, low, high).toFixed(2);
      return svg("line", { x1: toX(edges[k]), x2: toX(edges[k + 1]), y1: y, y2: y });
    });
  }

  function frame(label, quantiser, low, high, children) {
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "sf-panel" });
    const base = toY(Math.max(low, 0), low, high);
    picture.append(svg("line", { x1: 0, x2: WIDTH, y1: base, y2: base, class: "sf-axis" }));
    for (const x of [...quantiser.thresholds, ...(quantiser.thresholds.includes(0) ? [] : [0])]) {
      const kind = quantiser.thresholds.includes(x) ? "sf-threshold" : "sf-zero";
      picture.append(svg("line", { x1: toX(x), x2: toX(x), y1: 0, y2: HEIGHT, class: kind }));
    }
    picture.append(...children);
    return picture;
  }

  function panels(layer, quantiser, family, { mean, std }) {
    const reach = FAMILIES[family].halfWidth * std;
    const ends = Number.isFinite(reach) ? [mean - reach, mean + reach] : [];
    const bottom = quantiser.levels[0];
    const top = quantiser.levels[quantiser.levels.length - 1];
    const pad = 0.08 * (top - bottom);
    const range = [bottom - pad, top + pad];
    const jumps = quantiser.thresholds.flatMap((t) => ends.map((e) => t + e));
    const text = `mean ${shown(mean)}, standard deviation ${shown(std)}`;
    const spike = [
      svg("line", { x1: toX(mean), x2: toX(mean), y1: toY(0, 0, TOP), y2: toY(TOP, 0, TOP) + 6, class: "sf-curve" }),
      svg("circle", { cx: toX(mean), cy: toY(TOP, 0, TOP) + 6, r: 4, class: "sf-dot" }),
    ];
    const stair = svg("g", { class: "sf-stair" }, ...treads(quantiser, 0, ...range));
    const smooth = std === 0
      ? svg("g", { class: "sf-curve" }, ...treads(quantiser, mean, ...range))
      : curve((x) => expectation(quantiser, family, mean, std, x), jumps, ...range);
    return [
      frame(`Noise of layer ${layer}: ${text}`, quantiser, 0, TOP,
        std === 0 ? spike : [curve((x) => density(family, mean, std, x), ends, 0, TOP)]),
      frame(`Regularisation in layer ${layer}, ${std === 0 ? "the quantiser itself, shifted by its mean" : "a smoothed stair"}`,
        quantiser, ...range, [stair, smooth]),
      frame(`Derivative in layer ${layer}, ${std === 0 ? "zero everywhere" : `at most ${shown(peak(quantiser, family, mean, std))}`}`,
        quantiser, 0, TOP, [curve((x) => derivative(quantiser, family, mean, std, x), jumps, 0, TOP)]),
    ];
  }

  /* The largest derivative on the drawn range, sought on a fine grid and at the jumps' middles. */
  function peak(quantiser, family, mean, std) {
    const xs = quantiser.thresholds.map((t) => t + mean);
    for (let i = 0; i <= 600; i++) xs.push(LOW + ((HIGH - LOW) * i) / 600);
    const reach = FAMILIES[family].halfWidth * std;
    const edges = Number.isFinite(reach) ? quantiser.thresholds.flatMap((t) => [t + mean - reach, t + mean + reach]) : [];
    return Math.max(...xs.filter(clearOf(edges)).map((x) => derivative(quantiser, family, mean, std, x)));
  }

  function timeline(settings, t) {
    const wide = 600;
    const x = (time) => 4 + ((time - settings.start) / (settings.end - settings.start)) * (wide - 8);
    const y = (value) => HEIGHT - 4 - value * (HEIGHT - 12);
    const label = `Standard deviation of each layer from time ${settings.start} to ${settings.end}; now ${t}`;
    const picture = svg("svg", { viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img", "aria-label": label, class: "sf-timeline" });
    picture.append(svg("line", { x1: 4, x2: wide - 4, y1: y(0), y2: y(0), class: "sf-axis" }));
    for (let layer = 0; layer < settings.layers; layer++) {
      const points = Array.from({ length: 201 }, (_, i) => {
        const time = settings.start + ((settings.end - settings.start) * i) / 200;
        return `${x(time).toFixed(2)},${y(noiseAt(settings, layer, time).std / settings.std0).toFixed(2)}`;
      });
      picture.append(svg("polyline", { points: points.join(" "), class: `sf-layer-line sf-layer-${layer}` }));
    }
    picture.append(svg("line", { x1: x(t), x2: x(t), y1: 0, y2: HEIGHT, class: "sf-now" }));
    return picture;
  }

  function key(layer) {
    const line = svg("line", { x1: 0, x2: 40, y1: 5, y2: 5, class: `sf-layer-line sf-layer-${layer}` });
    return svg("svg", { viewBox: "0 0 40 10", class: "sf-key", "aria-hidden": "true" }, line);
  }

  let mounted = 0;

  function mount(place) {
    const id = `schedule-figure-${mounted++}`;
    const controls = html("div", { class: "sf-controls" });
    const inputs = {};
    for (const [key, name, options] of CHOICES) {
      const select = html("select", { id: `${id}-${key}` });
      for (const [value, text] of Object.entries(options)) select.append(html("option", { value }, text));
      select.value = START[key];
      inputs[key] = select;
      controls.append(html("div", {}, html("label", { for: select.id }, name), select));
    }
    const slider = html("input", { type: "range", id: `${id}-time`, min: "0", step: "1", value: "25" });
    const now = html("output", { for: slider.id, class: "sf-time" });
    const time = html("div", { class: "sf-slider" }, html("label", { for: slider.id }, "Time"), slider, now);
    const overview = html("div", { class: "sf-overview" });
    const heads = html("div", { class: "sf-row sf-heads", "aria-hidden": "true" },
      html("span", {}, "noise"), html("span", {}, "regularisation"), html("span", {}, "derivative"));
    const rows = html("div", { class: "sf-rows" });
    const title = html("div", { class: "sf-heads", "aria-hidden": "true" }, "standard deviations over time");
    place.replaceChildren(controls, time, title, overview, heads, rows);

    function settings() {
      const fading = inputs.mean.value === "fading";
      const layers = Number(inputs.layers.value);
      return {
        layers, interval: inputs.interval.value, powerLaw: inputs.powerLaw.value, start: 0, end: layers * PERIOD,
        mean0: fading ? -0.5 : 0, staticMean: !fading, std0: INITIAL_STD[inputs.family.value],
      };
    }

    function draw() {
      const chosen = settings();
      slider.max = String(chosen.end);
      const t = Number(slider.value);
      const quantiser = QUANTISERS[inputs.quantiser.value];
      now.textContent = `${t} of ${chosen.end}`;
      overview.replaceChildren(timeline(chosen, t));
      rows.replaceChildren(...Array.from({ length: chosen.layers }, (_, layer) => {
        const noise = noiseAt(chosen, layer, t);
        const family = inputs.family.value;
        const slope = noise.std === 0 ? 0 : peak(quantiser, family, noise.mean, noise.std);
        const values = `λ ${shown(noise.lambda)}, mean ${shown(noise.mean)}, std ${shown(noise.std)}, steepest slope ${slope > 999 ? "over 999" : shown(slope)}`;
        const head = html("p", { class: "sf-values" },
          key(layer), html("strong", {}, `Layer ${layer}`), ` ${values}`);
        return html("div", { role: "group", "aria-label": `Layer ${layer}`, class: "sf-layer" },
          head, html("div", { class: "sf-row" }, ...panels(layer, quantiser, family, noise)));
      }));
    }

    for (const input of [...Object.values(inputs), slider]) input.addEventListener("input", draw);
    draw();
    place.dataset.ready = "";
  }

  function start() {
    document.querySelectorAll(".schedule-figure:not([data-ready])").forEach(mount);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})(typeof self === "undefined" ? this : self);
