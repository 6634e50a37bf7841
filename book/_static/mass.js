/* The interactive figure of chapter 4 on mass and depth: by what the gradient of each layer is multiplied when the slope of
   every quantiser behind it has a mass other than 1. */
(function (root) {
  "use strict";
  const node = typeof module === "object" && module.exports;
  const kit = node ? require("./figure-kit.js") : root.anabookKit;
  const rows = node ? require("./zoo-rows.js") : root.anabookZooRows;

  /* For layers 1 … n of a chain of n quantisers, the mass to the power of the quantisers that its gradient crosses. */
  const factors = (mass, n) => Array.from({ length: n }, (_, i) => mass ** (n - i));

  /* The variants whose mass is positive and finite at their defaults, and is not 1: name and mass. */
  const examples = () => Object.entries(rows)
    .map(([name, { rows: values, start }]) => [name, values[start][1], values[start][2]])
    .filter(([, mass, kind]) => kind === 1 && mass !== 1).map(([name, mass]) => [name, mass]);

  const api = { factors, examples };
  if (node) {
    module.exports = api;
    return;
  }
  root.anabookMass = api;

  const { html, brief } = kit;
  const OWN = "own";

  kit.figures("mass-figure", (live, id) => {
    const known = Object.fromEntries(examples());
    const bars = kit.picture();
    const read = html("p", { class: "fk-read" });
    const spoken = kit.speaker();
    const options = { [OWN]: "a mass of your own", ...Object.fromEntries(Object.entries(known).map(([name, mass]) => [name, `${name}: ${brief(mass)}`])) };
    const variant = kit.select({ id: `${id}-variant`, label: "Slope", value: "fast_sigmoid", options, changed: named });
    const mass = kit.slider({
      id: `${id}-mass`, label: "Mass", min: -2, max: 2, step: 0.02, value: 0, words: (v) => brief(chosen(v)), changed: moved,
    });
    const depth = kit.slider({ id: `${id}-depth`, label: "Quantisers", min: 1, max: 12, step: 1, value: 4, words: (v) => String(v), changed: show });
    live.append(html("div", { class: "fk-controls" }, variant.row, mass.row, depth.row),
      html("div", { class: "fk-parts" }, kit.part("What the gradient of each layer is multiplied by", bars)), read, spoken.element);

    /* The mass of the variant that is chosen, or the slider's power of ten. */
    function chosen(v) {
      return variant.value === OWN ? 10 ** v : known[variant.value];
    }

    function named() {
      if (variant.value !== OWN) mass.value = Math.log10(known[variant.value]);
      else mass.value = mass.value;
      show();
    }

    function moved() {
      variant.input.value = OWN;
      mass.value = mass.value;
      show();
    }

    function show() {
      const n = depth.value;
      const m = chosen(mass.value);
      const found = factors(m, n);
      const logs = found.map(Math.log10);
      const [low, high] = [Math.min(-1, Math.floor(Math.min(...logs))), Math.max(1, Math.ceil(Math.max(...logs)))];
      const every = Math.ceil((high - low) / 6);
      const yTicks = [];
      for (let y = Math.ceil(low / every) * every; y <= high; y += every) yTicks.push([y, y === 0 ? "1" : brief(10 ** y, 1)]);
      const frame = kit.frame(bars, {
        label: `Factors of the layers, from the first to the last: ${found.map((each) => brief(each)).join(", ")}`,
        x: [0.3, n + 0.7], y: [low, high], base: 0, xTicks: found.map((_, i) => [i + 1, String(i + 1)]), yTicks, marks: [], box: { left: 52 },
      });
      logs.forEach((y, i) => {
        frame.area([[i + 0.7, 0], [i + 0.7, y], [i + 1.3, y], [i + 1.3, 0]], i === 0 ? "fk-lit" : "fk-shade").setAttribute("fill-opacity", 0.6);
      });
      read.textContent = `With mass ${brief(m)} and ${n} ${n === 1 ? "quantiser" : "quantisers"}, the gradient of the first layer is `
        + `${brief(found[0])} times what a noise would give, that of the last ${brief(found[n - 1])} times.`;
      spoken.say(read.textContent);
    }

    named();
  });
})(typeof self === "undefined" ? globalThis : self);
