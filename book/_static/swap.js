/* The interactive figure of chapter 7: network A, two units on their thresholds, with two schedules of log margins that can be
   swapped. What the first unit gets wrong arrives at the second one, whose offset must outweigh it.

   A schedule (p, κ) has noise of width λ^p and errs by about λ^κ on its threshold. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;

  const ORDERS = { good: [[2, 2], [1, 1]], bad: [[1, 1], [2, 2]] };

  /* A layer's noise at λ: its width u and its offset, the mean with the other sign; and what a unit of the layer gives,
     and what that lacks to 1, where an error of `arriving` pulls it below its threshold. Both without cancellation. */
  const LAYERS = {
    uniform(u, e) {
      const wrong = (arriving) => Math.min(Math.max(e + arriving / u, 0), 1);
      return { offset: (u / 2) * (1 - 2 * e), wrong, right: (arriving) => 1 - wrong(arriving) };
    },
    triangular(u, e) {
      const tail = (r) => Math.max(r, 0) ** 2 / 2;
      const wrong = (r) => (r <= 1 ? tail(r) : 1 - tail(2 - r));
      const depth = Math.sqrt(2 * e);
      return {
        offset: u * (1 - depth), wrong: (arriving) => wrong(depth + arriving / u), right: (arriving) => wrong(2 - depth - arriving / u),
      };
    },
    normal(u, e) {
      const offset = u * Math.sqrt(-2 * Math.log(e));
      return { offset, wrong: (arriving) => kit.normalCdf((arriving - offset) / u), right: (arriving) => kit.normalCdf((offset - arriving) / u) };
    },
    logistic(u, e) {
      const offset = -u * Math.log(e);
      return { offset, wrong: (arriving) => 1 / (1 + Math.exp((offset - arriving) / u)), right: (arriving) => 1 / (1 + Math.exp((arriving - offset) / u)) };
    },
  };

  const layer = (family, [p, kappa], lambda) => LAYERS[family](lambda ** p, lambda ** kappa);

  /* Network A at λ: the error of layer 0 on its threshold, the offset of layer 1, and the output, which should be 1. */
  function run(family, schedules, lambda) {
    const [first, second] = schedules.map((each) => layer(family, each, lambda));
    const error = first.wrong(0);
    return { error, offset: second.offset, output: second.right(error) };
  }

  /* Whether every network of two layers with these schedules tends to the quantised one. */
  function converges(family, [[, kappa], [p]]) {
    return family === "normal" || family === "logistic" ? kappa >= p : kappa > p;
  }

  const api = { ORDERS, layer, run, converges };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookSwap = api;

  const { html, fixed, brief } = kit;
  const SPAN = [0.5, 6]; // of −log10 λ
  const BOX = { left: 46, right: 22 };
  const POWERS = ["", "²"];
  const power = (exponent) => `λ${POWERS[exponent - 1]}`;

  kit.figures("swap-figure", (live, id) => {
    const [race, unit, output] = [kit.picture(), kit.picture(), kit.picture()];
    const read = html("p", { class: "fk-read" });
    const which = html("p", { class: "fk-help" });
    const spoken = kit.speaker();
    let order = "good";
    const family = kit.select({
      id: `${id}-noise`, label: "Noise", value: "uniform", changed: show,
      options: { uniform: "uniform", triangular: "triangular", normal: "normal", logistic: "logistic" },
    });
    const small = kit.slider({
      id: `${id}-lambda`, label: "λ", min: SPAN[0], max: SPAN[1], step: 0.1, value: 2, words: (v) => brief(10 ** -v), changed: show,
    });
    const swap = kit.button("Swap the two schedules", () => {
      order = order === "good" ? "bad" : "good";
      show();
    });
    live.append(html("div", { class: "fk-controls" }, family.row, small.row), html("div", { class: "fk-buttons" }, swap), which,
      html("div", { class: "fk-parts" }, kit.part("Error of layer 0 (line), offset of layer 1 (dashes)", race),
        kit.part("Layer 1's unit, and the error that arrives", unit),
        kit.part("Output as λ falls; dotted: schedules swapped", output)), read, spoken.element);

    function show() {
      const [law, v] = [family.value, small.value];
      const lambda = 10 ** -v;
      const schedules = ORDERS[order];
      const now = run(law, schedules, lambda);
      const vs = Array.from({ length: 221 }, (_, i) => SPAN[0] + ((SPAN[1] - SPAN[0]) * i) / 220);
      const xTicks = [1, 2, 3, 4, 5, 6].map((each) => [each, each < 5 ? brief(10 ** -each) : `1e−${each}`]);
      const along = (chosen, f) => vs.map((each) => [each, f(run(law, ORDERS[chosen], 10 ** -each))]);
      const times = now.error / now.offset;
      const compared = times >= 1 ? `${brief(times)} times the offset` : `${brief(times)} of the offset`;

      const first = kit.frame(race, {
        label: `At λ = ${brief(lambda)} layer 0 errs by ${brief(now.error)}, and layer 1 has the offset ${brief(now.offset)}`,
        x: SPAN, y: [-14.5, 0.5], base: -14.5, xTicks, yTicks: [0, -4, -8, -12].map((y) => [y, y === 0 ? "1" : `1e−${-y}`]),
        marks: [v], box: BOX,
      });
      first.curve(along(order, ({ error }) => Math.log10(error)));
      first.curve(along(order, ({ offset }) => Math.log10(offset)), "fk-third");
      first.dot(v, Math.log10(now.error), "fk-here");

      // In units of the offset: the step of the unit rises at −1.
      const [low, high] = [-2.5, 0.8];
      const second = layer(law, schedules[1], lambda);
      const ss = Array.from({ length: 801 }, (_, i) => low + ((high - low) * i) / 800);
      const lost = times > -low;
      const step = kit.frame(unit, {
        label: `The unit's step lies one offset below its threshold 0; the error that arrives is ${compared}`,
        x: [low, high], y: [-0.08, 1.08], xTicks: [[-2, "−2"], [-1, "−1"], [0, "0"]], yTicks: [[0, "0"], [1, "1"]], marks: [-1, 0],
        box: BOX,
      });
      step.curve(ss.map((s) => [s, second.right(-s * now.offset)]));
      step.dot(Math.max(-times, low), now.output, "fk-here");
      if (lost) step.text(step.toX(low) + 10, step.toY(0.6), "← far to the left");

      const both = kit.frame(output, {
        label: `The output is ${brief(now.output)} at λ = ${brief(lambda)}; as λ falls it tends to ${converges(law, schedules) ? 1 : 0}`,
        x: SPAN, y: [-0.08, 1.08], xTicks, yTicks: [[0, "0"], [1, "1"]], marks: [v], box: BOX,
      });
      both.curve(along(order === "good" ? "bad" : "good", (each) => each.output), "fk-other");
      both.curve(along(order, (each) => each.output));
      both.dot(v, now.output, "fk-here");

      which.textContent = schedules.map(([p, kappa], i) =>
        `Layer ${i}: noise of width ${power(p)}, an error of about ${power(kappa)} on its threshold.`).join(" ");
      read.textContent = `λ = ${brief(lambda)}: the error ${brief(now.error)} arrives at layer 1, whose offset is ${brief(now.offset)}; `
        + `the error is ${compared}. Output: ${fixed(now.output, 4)}; the quantised network gives 1. `
        + `As λ → 0 the output tends to ${converges(law, schedules) ? "1, as it should" : "0, which is wrong"}.`;
      spoken.say(`${which.textContent} ${read.textContent}`);
    }

    kit.draggable(output, () => ({ x: SPAN, box: BOX }), (value) => {
      small.value = value;
      show();
    });
    show();
  });
})(typeof self === "undefined" ? globalThis : self);
