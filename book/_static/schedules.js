/* The interactive figure of the chapter on schedules: what each layer's noise does as training goes on, to a quantiser and to
   what layers pass on to each other.

   The first half is pure functions, the same formulas as the package's; tests compare the two to twelve digits.
   The second half draws them into every element of class "schedule-figure". No library, no request; laws, numbers as text
   and elements come from figure-kit.js. */
(function (root) {
  "use strict";

  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;
  const { FAMILIES } = kit;

  // 95 % or all of the mass within half a quantum, as standard deviations.
  const INITIAL_STD = Object.fromEntries(Object.entries(kit.COVERING).map(([family, std]) => [family, 0.5 * std]));

  const QUANTISERS = { ternary: kit.QUANTISERS.ternary, heaviside: kit.QUANTISERS.heaviside };

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

  /* A chain of Heaviside units, one a layer, each on its threshold and fed with `weight` times the error of the one before:
     what arrives in each layer, the offset that must outweigh it, and what the layer passes on. */
  function chain(settings, family, weight, t) {
    const rows = [];
    for (let layer = 0; layer < settings.layers; layer++) {
      const { mean, std } = noiseAt(settings, layer, t);
      const arriving = layer === 0 ? 0 : weight * rows[layer - 1].error;
      const error = std === 0 ? Number(-arriving < mean) : FAMILIES[family].cdf((mean + arriving) / std);
      rows.push({ mean, std, arriving, offset: 0 - mean, error });
    }
    return rows;
  }

  /* Positions at which a curve over [low, high] is drawn: an even grid, and a finer one around each centre, as wide as the
     noise, so that no peak falls between two of them. */
  function positions(low, high, centres, std) {
    const xs = Array.from({ length: 201 }, (_, i) => low + ((high - low) * i) / 200);
    for (const centre of centres) for (let i = -96; i <= 96; i++) xs.push(centre + (i / 12) * std);
    return xs.filter((x) => x >= low && x <= high).sort((a, b) => a - b);
  }

  /* The largest derivative, sought where the densities of the thresholds are and between them. */
  function peak(quantiser, family, mean, std) {
    const centres = quantiser.thresholds.map((threshold) => threshold + mean);
    const reach = FAMILIES[family].halfWidth * std;
    const edges = Number.isFinite(reach) ? centres.flatMap((centre) => [centre - reach, centre + reach]) : [];
    const low = Math.min(...centres) - 1;
    const xs = positions(low, Math.max(...centres) + 1, centres, std).filter(clearOf(edges));
    return Math.max(...xs.map((x) => derivative(quantiser, family, mean, std, x)));
  }

  // At the edge of bounded noise two supports may meet in one point and count twice there: no picture of a function.
  const BESIDE = 1e-9;
  const clearOf = (jumps) => (x) => jumps.every((jump) => Math.abs(x - jump) > BESIDE / 2);

  const api = {
    FAMILIES, INITIAL_STD, QUANTISERS, density, expectation, derivative, intervals, decay, noiseAt, chain, positions, peak,
  };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookSchedules = api;

  // Drawing

  const LOW = -1.5;
  const HIGH = 1.5;
  const BOX = { width: 184, height: 118, left: 34, right: 6, top: 8, bottom: 18 };
  const PERIOD = 50;

  const CHOICES = [
    ["interval", "Decay intervals", { partition: "partition", same_start: "same start", same_end: "same end", overlapped: "overlapped" }],
    ["powerLaw", "Power law", { homogeneous: "homogeneous", progressive: "progressive" }],
    ["family", "Noise", { uniform: "uniform", triangular: "triangular", normal: "normal", logistic: "logistic" }],
    ["mean", "Mean", { static: "0, static", fading: "−½, fading" }],
    ["quantiser", "Quantiser", { ternary: "ternary", heaviside: "Heaviside" }],
    ["weight", "Weight", { 1: "1", 4: "4", 16: "16" }],
    ["layers", "Layers", { 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "7" }],
  ];
  const START = { interval: "partition", powerLaw: "homogeneous", family: "uniform", mean: "static", quantiser: "ternary", weight: "1", layers: "3" };

  const { html, svg, brief } = kit;
  /* Three decimals; a small number, of which these would leave few digits or none, by three of its own. */
  const shown = (value) => (value !== 0 && Math.abs(value) < 0.1 ? brief(value) : kit.fixed(value, 3));
  const tick = (value) => brief(value, Math.abs(value) >= 0.001 && Math.abs(value) < 9999.5 ? 3 : 1);

  /* A picture with a frame, two axes and numbers on them. `view`: x and y ranges, ticks as [value, text] pairs. */
  function frame(label, view, children) {
    const picture = svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": label, class: "sf-panel" });
    const { toX, toY } = scales(view);
    const base = toY(Math.max(view.y[0], 0));
    picture.append(svg("line", { x1: BOX.left, x2: BOX.width - BOX.right, y1: base, y2: base, class: "sf-axis" }));
    for (const [x, kind] of view.marks) {
      picture.append(svg("line", { x1: toX(x), x2: toX(x), y1: BOX.top - 4, y2: BOX.height - BOX.bottom, class: kind }));
    }
    for (const [x, text] of view.xTicks) {
      picture.append(svg("text", { x: toX(x), y: BOX.height - 5, class: "sf-tick", "text-anchor": "middle" }, text));
    }
    for (const [y, text] of view.yTicks) {
      picture.append(svg("text", { x: BOX.left - 4, y: toY(y) + 3.5, class: "sf-tick", "text-anchor": "end" }, text));
    }
    picture.append(...children);
    return picture;
  }

  function scales({ x, y }) {
    const across = BOX.width - BOX.left - BOX.right;
    const up = BOX.height - BOX.top - BOX.bottom;
    return {
      toX: (value) => BOX.left + ((value - x[0]) / (x[1] - x[0])) * across,
      toY: (value) => BOX.height - BOX.bottom - ((value - y[0]) / (y[1] - y[0])) * up,
    };
  }

  function curve(f, view, centres, std, jumps = []) {
    const { toX, toY } = scales(view);
    const xs = positions(...view.x, centres, std);
    for (const jump of jumps) if (jump > view.x[0] && jump < view.x[1]) xs.push(jump - BESIDE, jump + BESIDE);
    xs.sort((one, other) => one - other);
    const points = xs.filter(clearOf(jumps)).map((x) => `${toX(x).toFixed(2)},${toY(f(x)).toFixed(2)}`);
    return svg("polyline", { points: points.join(" "), class: "sf-curve" });
  }

  function treads(quantiser, shift, view) {
    const { toX, toY } = scales(view);
    const edges = [view.x[0], ...quantiser.thresholds.map((t) => Math.min(Math.max(t + shift, view.x[0]), view.x[1])), view.x[1]];
    return quantiser.levels.map((level, k) => {
      const y = toY(level).toFixed(2);
      return svg("line", { x1: toX(edges[k]), x2: toX(edges[k + 1]), y1: y, y2: y });
    });
  }

  const WIDE_TICKS = [[-1, "−1"], [0, "0"], [1, "1"]];

  /* A view from −1.5 to 1.5 across and from 0 to `top` upwards, or as high as a bar without noise. */
  function upwards(top, quantiser) {
    return {
      x: [LOW, HIGH], y: [0, 1.06 * top], xTicks: WIDE_TICKS, yTicks: [[0, "0"], [top, tick(top)]],
      marks: quantiser.thresholds.map((threshold) => [threshold, "sf-threshold"]),
    };
  }

  function noisePanel(layer, quantiser, family, { mean, std }) {
    const text = `mean ${shown(mean)}, standard deviation ${shown(std)}`;
    if (std === 0) {
      const view = { ...upwards(1, quantiser), yTicks: [[0, "0"], [1, "∞"]] };
      const { toX, toY } = scales(view);
      return frame(`Noise of layer ${layer}: none is left, its mean is ${shown(mean)}`, view, [
        svg("line", { x1: toX(mean), x2: toX(mean), y1: toY(0), y2: toY(1), class: "sf-curve" }),
        svg("circle", { cx: toX(mean), cy: toY(1), r: 4, class: "sf-dot" }),
      ]);
    }
    const reach = FAMILIES[family].halfWidth * std;
    const ends = Number.isFinite(reach) ? [mean - reach, mean + reach] : [];
    const view = upwards(density(family, mean, std, mean), quantiser);
    return frame(`Noise of layer ${layer}: ${text}, density at most ${brief(view.yTicks[1][0])}`, view,
      [curve((x) => density(family, mean, std, x), view, [mean], std, ends)]);
  }

  function stairPanel(layer, quantiser, family, { mean, std }) {
    const bottom = quantiser.levels[0];
    const top = quantiser.levels[quantiser.levels.length - 1];
    const pad = 0.08 * (top - bottom);
    const view = {
      x: [LOW, HIGH], y: [bottom - pad, top + pad], xTicks: WIDE_TICKS,
      yTicks: quantiser.levels.map((level) => [level, tick(level)]),
      marks: quantiser.thresholds.map((threshold) => [threshold, "sf-threshold"]),
    };
    const centres = quantiser.thresholds.map((threshold) => threshold + mean);
    const stair = svg("g", { class: "sf-stair" }, ...treads(quantiser, 0, view));
    const smooth = std === 0
      ? svg("g", { class: "sf-curve" }, ...treads(quantiser, mean, view))
      : curve((x) => expectation(quantiser, family, mean, std, x), view, centres, std);
    const what = std === 0 ? "the quantiser itself, shifted by its mean" : "a smoothed stair";
    return frame(`Regularisation in layer ${layer}, ${what}`, view, [stair, smooth]);
  }

  function slopePanel(layer, quantiser, family, { mean, std }, steepest) {
    const reach = FAMILIES[family].halfWidth * std;
    const centres = quantiser.thresholds.map((threshold) => threshold + mean);
    const jumps = Number.isFinite(reach) ? centres.flatMap((centre) => [centre - reach, centre + reach]) : [];
    const view = std === 0 ? { ...upwards(1, quantiser), yTicks: [[0, "0"]] } : upwards(steepest, quantiser);
    const what = std === 0 ? "zero everywhere" : `at most ${brief(steepest)}`;
    return frame(`Derivative in layer ${layer}, ${what}`, view,
      [curve((x) => derivative(quantiser, family, mean, std, x), view, centres, std, jumps)]);
  }

  /* The layer's unit of the chain: its step, its offset (dashed), and what arrives (dot). The axis is cut to fit these. */
  function racePanel(layer, family, { mean, std, arriving, offset, error }) {
    const far = 1.3 * (Math.max(arriving, offset + 2 * std) || 0.1);
    const unit = (x) => expectation(QUANTISERS.heaviside, family, mean, std, x);
    const view = {
      x: [-far, 0.2 * far], y: [-0.06, 1.06], xTicks: [[0, "0"]], yTicks: [[0, "0"], [1, "1"]],
      marks: [[0, "sf-zero"], [mean, "sf-offset"]],
    };
    const second = [-arriving, mean, -far / 1.3].find((place) => place < -0.25 * far);
    view.xTicks.unshift([second, tick(second)]);
    const { toX, toY } = scales(view);
    const step = std === 0
      ? svg("g", { class: "sf-curve" }, ...treads(QUANTISERS.heaviside, mean, view))
      : curve(unit, view, [mean], std);
    const label = `Layer ${layer} of the chain: an error of ${brief(arriving)} arrives, the offset is ${brief(offset)}, `
      + `an error of ${brief(error)} is passed on`;
    return frame(label, view, [step, svg("circle", { cx: toX(-arriving), cy: toY(1 - error), r: 4.5, class: "sf-arrived" })]);
  }

  function panels(layer, quantiser, family, noise, steepest) {
    const shownAs = {
      noise: noisePanel(layer, quantiser, family, noise),
      regularisation: stairPanel(layer, quantiser, family, noise),
      derivative: slopePanel(layer, quantiser, family, noise, steepest),
      "what arrives": racePanel(layer, family, noise),
    };
    return Object.entries(shownAs).map(([name, picture]) =>
      html("div", { class: "sf-cell" }, html("span", { class: "sf-name", "aria-hidden": "true" }, name), picture));
  }

  function timeline(settings, t) {
    const [wide, high, left] = [600, 116, 64];
    const x = (time) => left + ((time - settings.start) / (settings.end - settings.start)) * (wide - left - 14);
    const y = (part) => high - 26 - part * (high - 40);
    const label = `Standard deviation of each layer from time ${settings.start} to ${settings.end}; now ${t}`;
    const picture = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label, class: "sf-timeline" });
    picture.append(svg("line", { x1: left, x2: wide - 14, y1: y(0), y2: y(0), class: "sf-axis" }));
    for (const part of [0, 1]) {
      const text = tick(part * settings.std0);
      picture.append(svg("text", { x: left - 6, y: y(part) + 4, class: "sf-tick", "text-anchor": "end" }, text));
    }
    for (let time = settings.start; time <= settings.end; time += PERIOD) {
      const last = time === settings.end;
      const place = { x: last ? wide : x(time), y: high - 5, class: "sf-tick", "text-anchor": last ? "end" : "middle" };
      picture.append(svg("text", place, String(time)));
    }
    for (let layer = 0; layer < settings.layers; layer++) {
      const points = Array.from({ length: 201 }, (_, i) => {
        const time = settings.start + ((settings.end - settings.start) * i) / 200;
        return `${x(time).toFixed(2)},${y(noiseAt(settings, layer, time).std / settings.std0).toFixed(2)}`;
      });
      picture.append(svg("polyline", { points: points.join(" "), class: `sf-layer-line sf-layer-${layer}` }));
    }
    picture.append(svg("line", { x1: x(t), x2: x(t), y1: 2, y2: y(0), class: "sf-now" }));
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
    const rows = html("div", { class: "sf-rows" });
    const title = html("div", { class: "sf-heads", "aria-hidden": "true" }, "standard deviations over time");
    place.replaceChildren(controls, time, title, overview, rows);

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
      slider.setAttribute("aria-valuetext", `epoch ${t} of ${chosen.end}`);
      overview.replaceChildren(timeline(chosen, t));
      const family = inputs.family.value;
      const race = chain(chosen, family, Number(inputs.weight.value), t);
      rows.replaceChildren(...race.map((noise, layer) => {
        const steepest = noise.std === 0 ? 0 : peak(quantiser, family, noise.mean, noise.std);
        const { lambda } = noiseAt(chosen, layer, t);
        const values = `λ ${shown(lambda)}, mean ${shown(noise.mean)}, std ${shown(noise.std)}, steepest slope ${steepest > 9999 ? brief(steepest) : shown(steepest)}`;
        const head = html("p", { class: "sf-values" }, key(layer), html("strong", {}, `Layer ${layer}`), ` ${values}`);
        const passed = html("p", { class: "sf-race" },
          `arrives ${brief(noise.arriving)}, offset ${brief(noise.offset)}, passes on ${brief(noise.error)}`);
        return html("div", { role: "group", "aria-label": `Layer ${layer}`, class: "sf-layer" },
          head, passed, html("div", { class: "sf-row" }, ...panels(layer, quantiser, family, noise, steepest)));
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
