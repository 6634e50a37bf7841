/* The interactive figure of chapter 3: the density of the shaken input is a window that slides over a stair. Its mass over
   each tread is the probability of that level, and its height at each jump goes into the slope of the average. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;

  const VIEWS = { heaviside: [-2, 2], ternary: [-2, 2], four: [-1, 4] };

  /* What the window around x makes of a stair: the height of the window, t ↦ f(x − t), at each threshold; its mass over
     each tread; the average and its slope. */
  function look(name, family, halfWidth, x) {
    const quantiser = kit.QUANTISERS[name];
    const std = halfWidth * kit.COVERING[family];
    const height = (t) => kit.FAMILIES[family].pdf((x - t) / std) / std;
    return {
      std, height, heights: quantiser.thresholds.map(height), masses: kit.probabilities(quantiser, family, std, x),
      average: kit.expectation(quantiser, family, std, x), slope: kit.slope(quantiser, family, std, x),
    };
  }

  const api = { look };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookWindow = api;

  const { html, fixed, brief } = kit;

  kit.figures("window-figure", (live, id) => {
    const [window, average, slope] = [kit.picture(), kit.picture(), kit.picture()];
    const read = html("p", { class: "fk-read" });
    const spoken = kit.speaker();
    const stair = kit.select({
      id: `${id}-stair`, label: "Stair", value: "four", changed: another,
      options: { four: "four levels", ternary: "three levels", heaviside: "two levels" },
    });
    const family = kit.select({
      id: `${id}-noise`, label: "Noise", value: "uniform", changed: show,
      options: { uniform: "uniform", triangular: "triangular", normal: "normal", logistic: "logistic" },
    });
    const x = kit.slider({ id: `${id}-x`, label: "Input x", min: -1, max: 4, step: 0.05, value: 1.7, changed: show });
    const width = kit.slider({ id: `${id}-width`, label: "Half-width", min: 0.05, max: 1.2, step: 0.05, value: 0.4, changed: show });
    live.append(html("div", { class: "fk-controls" }, stair.row, family.row, x.row, width.row),
      html("div", { class: "fk-parts" },
        html("div", { class: "fk-part" }, kit.part("The window: the density of the shaken input", window),
          kit.part("The stair, and its average", average)),
        html("div", { class: "fk-part" }, kit.part("The slope of the average", slope), read)), spoken.element);

    function another() {
      const [low, high] = VIEWS[stair.value];
      x.range(low, high, Math.min(x.value, high));
      show();
    }

    function show() {
      const [name, law, h, at] = [stair.value, family.value, width.value, x.value];
      const quantiser = kit.QUANTISERS[name];
      const { thresholds, levels } = quantiser;
      const seen = look(name, law, h, at);
      const range = VIEWS[name];
      const whole = levels.length > 3 ? [-1, 0, 1, 2, 3, 4] : [-2, -1, 0, 1, 2];
      const xTicks = whole.map((each) => [each, brief(each)]);
      const ends = law === "uniform" ? [at - h, at + h] : [];

      const peak = kit.FAMILIES[law].pdf(0) / seen.std;
      const density = kit.positions(...range, [at], seen.std, [...ends, ...thresholds]).map((t) => [t, seen.height(t)]);
      const masses = seen.masses.map((mass, k) => `${fixed(mass)} on level ${brief(levels[k])}`).filter((_, k) => seen.masses[k] > 0.004);
      const upper = kit.frame(window, {
        label: `The window around ${fixed(at)}. Its mass: ${masses.join(", ")}`,
        x: range, y: [0, 1.12 * peak], xTicks, yTicks: [[0, "0"], [peak, brief(peak)]], marks: thresholds,
      });
      const edges = [-Infinity, ...thresholds, Infinity];
      levels.forEach((_, k) => {
        const over = density.filter(([t]) => t >= edges[k] && t < edges[k + 1]);
        if (over.length < 2 || seen.masses[k] === 0) return;
        const shade = upper.area([[over[0][0], 0], ...over, [over[over.length - 1][0], 0]], "fk-shade");
        shade.setAttribute("fill-opacity", (0.75 * (k + 1)) / levels.length);
      });
      upper.curve(density);
      thresholds.forEach((threshold, k) => {
        if (seen.heights[k] === 0) return;
        upper.line(threshold, 0, threshold, seen.heights[k], "fk-now");
        upper.dot(threshold, seen.heights[k], "fk-here", 4);
      });

      const [bottom, top] = [levels[0], levels[levels.length - 1]];
      const xs = kit.positions(...range, thresholds, seen.std, kit.slopeJumps(quantiser, law, seen.std));
      const lower = kit.frame(average, {
        label: `The average is ${fixed(seen.average, 3)} at ${fixed(at)}`,
        x: range, y: [bottom - 0.08 * (top - bottom), top + 0.08 * (top - bottom)], xTicks,
        yTicks: levels.map((level) => [level, brief(level)]), marks: [at],
      });
      lower.stair(quantiser);
      lower.curve(xs.map((each) => [each, kit.expectation(quantiser, law, seen.std, each)]));
      lower.dot(at, seen.average, "fk-dot");

      const slopes = xs.map((each) => [each, kit.slope(quantiser, law, seen.std, each)]);
      const steepest = Math.max(...slopes.map(([, value]) => value));
      const last = kit.frame(slope, {
        label: `The slope of the average is ${fixed(seen.slope, 3)} at ${fixed(at)}; at its steepest it is ${brief(steepest)}`,
        x: range, y: [0, 1.12 * steepest], xTicks, yTicks: [[0, "0"], [steepest, brief(steepest)]], marks: thresholds,
      });
      last.curve(slopes);
      last.line(at, 0, at, seen.slope, "fk-now");
      last.dot(at, seen.slope, "fk-here");

      const heights = seen.heights.filter((each) => each >= 0.0005).map((each) => fixed(each, 3));
      const sum = heights.length > 1 ? `${heights.join(" + ")} = ${fixed(seen.slope, 3)}` : fixed(seen.slope, 3);
      read.textContent = `Mass of the window: ${masses.join(", ")}. Average: ${fixed(seen.average, 3)}. `
        + `Slope, the sum of the heights at the jumps: ${sum}.`;
      spoken.say(read.textContent);
    }

    kit.draggable(window, () => ({ x: VIEWS[stair.value] }), (value) => {
      x.value = value;
      show();
    });
    show();
  });
})(typeof self === "undefined" ? globalThis : self);
