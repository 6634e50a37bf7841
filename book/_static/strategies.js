/* The interactive figure of chapter 5: a photograph, and what the expectation, the mode and a random draw make of it with
   three grey levels, under noise that the reader chooses. The photograph is in strategies-picture.js. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;
  const picture = node ? require("./strategies-picture.js") : root.anabookStrategiesPicture;

  const STAIR = { levels: [0, 0.5, 1], thresholds: [0.25, 0.75] };
  const TIE = 8 * 2 ** -52; // closer than this is a tie, as in the package

  const photo = () => Array.from(atob(picture.pixels), (letter) => letter.charCodeAt(0) / 255);

  /* The most probable level, the higher one at a tie. */
  function mode(p) {
    const most = Math.max(...p) - TIE;
    return STAIR.levels[p.reduce((best, each, k) => (each >= most ? k : best), 0)];
  }

  /* What the three strategies make of grey values between 0 and 1. A draw is at least level k if u is at most F(x − θ). */
  function outputs(values, family, halfWidth, seed) {
    const std = halfWidth * kit.COVERING[family];
    const random = kit.generator(seed);
    const known = new Map();
    const at = (x) => {
      if (!known.has(x)) {
        const p = kit.probabilities(STAIR, family, std, x);
        known.set(x, { expectation: kit.expectation(STAIR, family, std, x), mode: mode(p), above: [p[1] + p[2], p[2]] });
      }
      return known.get(x);
    };
    return {
      expectation: values.map((x) => at(x).expectation),
      mode: values.map((x) => at(x).mode),
      random: values.map((x) => {
        const u = random();
        return STAIR.levels[at(x).above.filter((part) => u <= part).length];
      }),
    };
  }

  /* A picture whose square blocks all have their mean. */
  function blocks(values, size) {
    const { wide, high } = picture;
    const sums = new Float64Array((wide / size) * (high / size));
    const place = (i) => Math.floor(i / wide / size) * (wide / size) + Math.floor((i % wide) / size);
    values.forEach((value, i) => { sums[place(i)] += value; });
    return values.map((_, i) => sums[place(i)] / size ** 2);
  }

  /* The root of the mean square of what two pictures differ by. */
  const apart = (one, other) => Math.sqrt(one.reduce((sum, value, i) => sum + (value - other[i]) ** 2, 0) / one.length);

  const api = { photo, outputs, blocks, apart };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookStrategies = api;

  const { html, fixed } = kit;
  const NAMES = ["photograph", "expectation", "mode", "random"];
  const SIZES = [1, 2, 4, 8];

  kit.figures("strategies-figure", (live, id) => {
    const original = photo();
    const read = html("p", { class: "fk-read" });
    const spoken = kit.speaker();
    let seed = 1;
    const family = kit.select({
      id: `${id}-noise`, label: "Noise", value: "uniform", changed: show,
      options: { uniform: "uniform", triangular: "triangular", normal: "normal", logistic: "logistic" },
    });
    const width = kit.slider({ id: `${id}-width`, label: "Half-width", min: 0.05, max: 1, step: 0.05, value: 0.25, changed: show });
    const words = (v) => `${SIZES[v]} × ${SIZES[v]}`;
    const size = kit.slider({ id: `${id}-size`, label: "Means of blocks", min: 0, max: 3, step: 1, value: 0, words, changed: show });
    const again = kit.button("Draw again", () => {
      seed += 1;
      show();
    });
    const canvases = Object.fromEntries(NAMES.map((name) =>
      [name, html("canvas", { width: picture.wide, height: picture.high, role: "img", class: "fk-photo" })]));
    const titles = { photograph: "Photograph", expectation: "Expectation", mode: "Mode", random: "Random" };
    live.append(html("div", { class: "fk-controls" }, family.row, width.row, size.row), html("div", { class: "fk-buttons" }, again),
      html("div", { class: "fk-parts" }, ...NAMES.map((name) => kit.part(titles[name], canvases[name]))), read, spoken.element);

    function paint(name, values, label) {
      const context = canvases[name].getContext("2d");
      const image = context.createImageData(picture.wide, picture.high);
      values.forEach((value, i) => {
        const grey = Math.round(255 * value);
        image.data.set([grey, grey, grey, 255], 4 * i);
      });
      context.putImageData(image, 0, 0);
      canvases[name].setAttribute("aria-label", label);
    }

    function show() {
      const side = SIZES[size.value];
      const seen = { photograph: original, ...outputs(original, family.value, width.value, seed) };
      const means = Object.fromEntries(NAMES.map((name) => [name, side === 1 ? seen[name] : blocks(seen[name], side)]));
      const errors = NAMES.slice(1).map((name) => `${name} ${fixed(apart(means[name], means.photograph), 3)}`);
      const greys = new Set(seen.mode).size;
      paint("photograph", means.photograph, "A photograph of a Chinese temple, in grey");
      NAMES.slice(1).forEach((name, i) => paint(name, means[name], `The same by the strategy: ${errors[i]} away from the photograph`));
      read.textContent = `How far from the photograph, ${side === 1 ? "point by point" : `in means of ${words(size.value)} points`}: `
        + `${errors.join(", ")}. The mode has ${greys} grey ${greys === 1 ? "value" : "values"}.`;
      spoken.say(read.textContent);
    }

    show();
  });
})(typeof self === "undefined" ? globalThis : self);
