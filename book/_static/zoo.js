/* The interactive figure of chapter 4: any variant of the zoo at several values of one of its parameters, with its surrogate,
   its gradient, the density behind it, its mass, and the line that trains with it. The formulas and the numbers of each
   variant are in zoo-formulas.js and zoo-rows.js, which are written from the package. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;
  const formulas = node ? require("./zoo-formulas.js") : root.anabookZooFormulas;
  const rows = node ? require("./zoo-rows.js") : root.anabookZooRows;

  /* A variant at one of its values: functions of x, and what the package says of it. */
  function variant(name, index) {
    const { settings, moved, rows: values, source, libraries, ...fixed } = rows[name];
    const [value, mass, kind, low, high, free, levels = fixed.levels, thresholds = fixed.thresholds] = values[index];
    const now = moved ? { ...settings, [moved]: value } : settings;
    const [pdf, cdf] = formulas[name].map((f) => (x) => f(x, ...Object.values(now)));
    const over = (f, x) => thresholds.reduce((sum, threshold, k) => sum + (levels[k + 1] - levels[k]) * f(x - threshold), 0);
    const last = levels.length - 1;
    // Where the mass on the left is infinite, the surrogate passes half-way between the outermost levels in the middle.
    const start = free ? (levels[0] + levels[last]) / 2 - over(cdf, (thresholds[0] + thresholds[last - 1]) / 2) : levels[0];
    return {
      mass, kind, low, high, levels, thresholds, now, source, pdf,
      gradient: (x) => over(pdf, x), surrogate: (x) => start + over(cdf, x),
      lines: lines(name, moved, value, libraries, now),
    };
  }

  /* How to train with it in PyTorch: with this book's package, and with other libraries where they have it. */
  function lines(name, moved, value, libraries, now) {
    const changed = moved && value !== rows[name].settings[moved] ? `.with_parameters(${moved}=${value})` : "";
    const others = libraries.map(([path, given]) =>
      `# elsewhere: ${path}(${Object.entries(given).map(([key, each]) => `${key}=${typeof each === "string" ? now[each] : each}`).join(", ")})`);
    return [`v = VARIANTS["${name}"]${changed}`, 'step = training.Quantise(v.quantiser, noise=v, strategy="mode")', ...others];
  }

  const api = { variant, names: Object.keys(rows) };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookZoo = api;

  const { html, brief } = kit;
  const GREEK = { alpha: "α", beta: "β", gamma: "γ", sigma: "σ" };
  const SAID = [
    "a noise is behind it", "positive, but no probability", "negative in places, so no noise is behind it", "no noise is behind it",
  ];
  const MOST = 2; // the mass meter's end

  kit.figures("zoo-figure", (live, id) => {
    const [rising, slope, density, meter] = [kit.picture(), kit.picture(), kit.picture(), kit.picture()];
    const read = html("p", { class: "fk-read" });
    const code = html("pre", { tabindex: "0", "aria-label": "The lines of PyTorch" });
    const spoken = kit.speaker();
    const choice = kit.select({
      id: `${id}-variant`, label: "Variant", value: "fast_sigmoid", changed: another,
      options: Object.fromEntries(api.names.map((name) => [name, name])),
    });
    const said = (index) => brief(rows[choice.value].rows[Math.min(index, rows[choice.value].rows.length - 1)][0]);
    const moving = kit.slider({ id: `${id}-value`, label: "k", min: 0, max: 1, step: 1, value: 0, words: said, changed: show });
    const name = moving.row.querySelector("label");
    live.append(html("div", { class: "fk-controls" }, choice.row, moving.row), read, html("div", { class: "fk-parts" },
      kit.part("Quantiser, and the surrogate that is differentiated", rising), kit.part("Mass", meter),
      kit.part("Gradient: what the backward pass multiplies by", slope),
      kit.part("The density behind it", density)), code, spoken.element);

    function another() {
      const { moved, start, rows: values } = rows[choice.value];
      name.textContent = GREEK[moved] || moved;
      moving.row.style.visibility = moved ? "visible" : "hidden";
      moving.range(0, values.length - 1, start);
      show();
    }

    /* A frame for a curve, as high as the curve is, and the curve in it. */
    function graph(place, f, low, high, words, marks) {
      const points = Array.from({ length: 801 }, (_, i) => {
        const x = low + ((high - low) * (i + 0.5)) / 801; // beside the middle, where some have a jump
        return [x, f(x)];
      });
      const ys = points.map(([, y]) => y);
      const [bottom, top] = [Math.min(0, ...ys), Math.max(0, ...ys)];
      const pad = 0.06 * (top - bottom);
      const yTicks = [[0, "0"], ...(top > 0 ? [[top, brief(top)]] : []), ...(bottom < -0.1 * top ? [[bottom, brief(bottom)]] : [])];
      const frame = kit.frame(place, {
        label: `${words}: from ${brief(bottom)} to ${brief(top)}, for x from ${brief(low)} to ${brief(high)}`, x: [low, high],
        y: [bottom - (bottom < 0 ? pad : 0), top + pad], base: 0, xTicks: xs(low, high), yTicks, marks, box: { left: 46 },
      });
      frame.area([[low, 0], ...points, [high, 0]], "fk-shade");
      frame.curve(points);
    }

    const xs = (low, high) => [0.8, 0.5, 0.2].map((part) => part * low + (1 - part) * high).map((x) => [x, brief(x, 2)]);

    function show() {
      const seen = variant(choice.value, moving.value);
      const { low, high, levels, thresholds, mass, kind } = seen;
      const [bottom, top] = [levels[0], levels[levels.length - 1]];
      const pad = 0.3 * (top - bottom);
      const points = Array.from({ length: 801 }, (_, i) => low + ((high - low) * i) / 800).map((x) => [x, seen.surrogate(x)]);
      const stair = kit.frame(rising, {
        label: `The quantiser's levels go from ${brief(bottom)} to ${brief(top)}; in the picture the surrogate goes from `
          + `${brief(points[0][1])} to ${brief(points[800][1])}`,
        x: [low, high], y: [bottom - pad, top + pad], base: 0, xTicks: xs(low, high),
        yTicks: [[bottom, brief(bottom)], [top, brief(top)]], marks: [], box: { left: 46 },
      });
      stair.stair(seen);
      stair.curve(points);
      graph(slope, seen.gradient, low, high, "The gradient", thresholds);
      graph(density, seen.pdf, low - thresholds[0], high - thresholds[thresholds.length - 1], "The density", []);

      const length = Number.isNaN(mass) ? 0 : Math.min(Math.max(mass, 0), MOST);
      const told = Number.isNaN(mass) ? "No mass, as the positive and the negative part are both infinite" : `Mass ${brief(mass)}`;
      const bar = kit.frame(meter, {
        label: told, x: [0, MOST], y: [0, 1], xTicks: [[0, "0"], [1, "1"], [MOST, `${MOST}`]], yTicks: [], marks: [1],
        box: { left: 46, height: 90 },
      });
      bar.area([[0, 0.2], [0, 0.75], [length, 0.75], [length, 0.2]], "fk-lit");
      if (mass > MOST) bar.text(bar.toX(MOST) - 4, bar.toY(0.4), `${brief(mass)} →`, { "text-anchor": "end" });

      const set = Object.entries(seen.now).map(([key, value]) => `${GREEK[key] || key} = ${brief(value)}`).join(", ");
      read.textContent = `${seen.source}${set ? `; ${set}` : ""}. ${told}: ${SAID[kind]}.`;
      code.textContent = seen.lines.join("\n");
      spoken.say(`${choice.value}: ${read.textContent}`);
    }

    another();
  });
})(typeof self === "undefined" ? globalThis : self);
