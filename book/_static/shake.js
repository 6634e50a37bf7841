/* The interactive figure of the front page: an input is shaken, its draws fall on a stair one by one, their average builds,
   and the slope of the average is there where the stair has none. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;
  const STAIR = kit.QUANTISERS.ternary;
  const NOISE = "normal";
  const KEPT = 120; // draws that stay in the picture

  /* One draw: where the shaken input lands, and on which level. */
  function draw(random, std, x) {
    const place = x - std * kit.quantile(NOISE, random());
    return { place, level: STAIR.levels[kit.levelAt(STAIR, place)] };
  }

  const exact = (std, x) => ({ average: kit.expectation(STAIR, NOISE, std, x), slope: kit.slope(STAIR, NOISE, std, x) });

  const api = { draw, exact };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookShake = api;

  const { html, fixed, brief } = kit;
  const RANGE = [-1.5, 1.5];
  const TICKS = [-1, -0.5, 0, 0.5, 1].map((x) => [x, brief(x)]);

  kit.figures("shake-figure", (live, id) => {
    const random = kit.generator(2022);
    const upper = kit.picture();
    const lower = kit.picture();
    const read = html("p", { class: "fk-read" });
    const spoken = kit.speaker();
    const calm = kit.calm();
    let drawn = [];
    let count = 0;
    let sum = 0;
    let timer = null;

    const x = kit.slider({ id: `${id}-x`, label: "Input x", min: -1.5, max: 1.5, step: 0.05, value: 0.3, changed: again });
    const std = kit.slider({ id: `${id}-std`, label: "Noise", min: 0.02, max: 0.6, step: 0.02, value: 0.2, changed: again });
    const shake = kit.button("Shake", () => (timer === null ? begin() : stop()));
    const buttons = html("div", { class: "fk-buttons" }, ...(calm ? [] : [shake]), kit.button("One draw", () => fall(1)),
      kit.button("100 draws", () => fall(100)), kit.button("Clear", clear));
    live.append(html("div", { class: "fk-controls" }, x.row, std.row), buttons, html("div", { class: "fk-parts" },
      kit.part("The stair, the draws that fell on it, and their average", upper),
      kit.part("The slope of the average", lower)), read, spoken.element);

    function begin() {
      shake.textContent = "Stop";
      timer = setInterval(() => {
        fall(1);
        if (count >= 400) stop();
      }, 120);
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      shake.textContent = "Shake";
      show();
    }

    function clear() {
      if (timer !== null) stop();
      again();
    }

    function again() {
      [drawn, count, sum] = [[], 0, 0];
      show();
    }

    function fall(times) {
      for (let i = 0; i < times; i++) {
        const one = draw(random, std.value, x.value);
        drawn.push(one);
        sum += one.level;
      }
      count += times;
      drawn = drawn.slice(-KEPT);
      show(times === 1);
    }

    function show(falling = false) {
      const [at, strength] = [x.value, std.value];
      const { average, slope } = exact(strength, at);
      const mean = sum / count;
      const so = count === 0 ? "No draw yet" : `${count} ${count === 1 ? "draw" : "draws"}: average ${fixed(mean)}`;
      const xs = kit.positions(...RANGE, STAIR.thresholds, strength);
      const stair = kit.frame(upper, {
        label: `Input ${fixed(at)}, noise ${fixed(strength)}. ${so}. The average of all draws is ${fixed(average)}`,
        x: RANGE, y: [-1.3, 1.3], xTicks: TICKS, yTicks: [-1, 0, 1].map((y) => [y, brief(y)]), marks: [],
      });
      stair.stair(STAIR);
      stair.line(at, -1.3, at, 1.3, "fk-mark");
      stair.curve(xs.map((each) => [each, exact(strength, each).average]));
      drawn.forEach(({ place, level }, i) => {
        // Draws on one level lie a little above and below it, so that they can be told apart.
        const dot = stair.dot(Math.min(Math.max(place, RANGE[0]), RANGE[1]), level + 0.09 * (((i * 7) % 5) - 2) / 2, "fk-drawn", 3.5);
        if (falling && i === drawn.length - 1) dot.classList.add("fk-fall");
      });
      if (count > 0) stair.line(RANGE[0], mean, at, mean, "fk-now");
      stair.dot(at, average, "fk-dot");
      const top = Math.max(...xs.map((each) => exact(strength, each).slope));
      const lit = kit.frame(lower, {
        label: `The slope of the average at ${fixed(at)} is ${fixed(slope)}; at its steepest it is ${brief(top)}`,
        x: RANGE, y: [0, 1.1 * top], xTicks: TICKS, yTicks: [[0, "0"], [top, brief(top)]], marks: STAIR.thresholds,
      });
      lit.area([[RANGE[0], 0], ...xs.map((each) => [each, exact(strength, each).slope]), [RANGE[1], 0]], "fk-shade");
      lit.curve(xs.map((each) => [each, exact(strength, each).slope]));
      lit.line(at, 0, at, slope, "fk-now");
      lit.dot(at, slope, "fk-here");
      read.textContent = `${so}. The average of all draws is ${fixed(average)}, its slope ${fixed(slope)}. The stair's own slope is 0 but at its jumps.`;
      if (timer === null) spoken.say(read.textContent);
    }

    kit.draggable(upper, () => ({ x: RANGE }), (value) => {
      x.value = value;
      again();
    });
    show();
  });
})(typeof self === "undefined" ? globalThis : self);
