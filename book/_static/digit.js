/* The interactive figure of the chapter on integer networks: a drawn digit, read by the network of chapter 0 in integers.

   The first half is pure functions: the network, and how strokes become the 8 × 8 counts that it reads. Tests compare them
   with the package. The second half draws into every element of class "digit-figure". No library, no request; the
   network's numbers are in digit-network.js. */
(function (root) {
  "use strict";

  const SIDE = 8; // cells in a row
  const BLOCK = 4; // dots in a row of a cell
  const DOTS = SIDE * BLOCK;
  const MOST = BLOCK * BLOCK;

  // The network

  /* Weights -1, 0, 1 out of bytes with five in each: a byte is a fraction of 256, and taking it three times brings out one
     digit after the other. */
  function unpack(text, count) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const weights = new Int8Array(count);
    let fraction = 0;
    for (let i = 0; i < count; i++) {
      if (i % 5 === 0) fraction = bytes[i / 5];
      const times = fraction + fraction + fraction;
      weights[i] = (times >> 8) - 1;
      fraction = times & 255;
    }
    return weights;
  }

  /* A network ready to run, from what digit-network.js holds. */
  function prepare(data) {
    const ready = (layer) => ({ ...layer, weights: unpack(layer.weights, layer.inputs * layer.outputs) });
    return { layers: data.layers.map(ready), head: ready(data.head) };
  }

  /* For each output the sum of what comes in, with the signs that the weights give: no products. */
  function sums({ weights, inputs, outputs }, values) {
    const found = new Int32Array(outputs);
    for (let o = 0, k = 0; o < outputs; o++) {
      let sum = 0;
      for (let i = 0; i < inputs; i++, k++) {
        if (weights[k] > 0) sum += values[i];
        else if (weights[k] < 0) sum -= values[i];
      }
      found[o] = sum;
    }
    return found;
  }

  /* What 64 counts from 0 to 16 make of the network: features -1, 0, 1 of each hidden layer, and ten scores. */
  function run(network, counts) {
    const features = [];
    let values = counts;
    for (const layer of network.layers) {
      const found = sums(layer, values);
      values = Int8Array.from(found, (sum, o) => (sum >= layer.low[o]) + (sum >= layer.high[o]) - 1);
      features.push(values);
    }
    const { scale, bias } = network.head;
    const scores = Array.from(sums(network.head, values), (sum, o) => scale[o] * sum + bias[o]);
    return { features, scores };
  }

  /* The digits, the best score first. */
  const ranking = (scores) => scores.map((_, digit) => digit).sort((a, b) => scores[b] - scores[a] || a - b);

  // From strokes to counts

  /* The data's digits fill the height of a bitmap of 32 × 32 dots and about 20 dots of its width, and they are nearly
     equally black: nine in ten have between 261 and 368 inked dots. So the middle of the drawn line goes into a box in the
     middle of the bitmap, stretched along one side by at most STRETCH times as much as along the other, and the pen is as
     thick as gives INK dots, within reason. (The box's width was tried out on a few drawn digits.) */
  const BOX = { left: 9, right: 23, top: 2.5, bottom: 29.5 };
  const STRETCH = 2;
  const INK = 314; // the median of the training images
  const THINNEST = 1;
  const THICKEST = 5;

  /* How far, squared, a point is from the stretch between two others. */
  function apart(x, y, [ax, ay], [bx, by]) {
    const [dx, dy] = [bx - ax, by - ay];
    const length = dx * dx + dy * dy;
    const t = length === 0 ? 0 : Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / length, 0), 1);
    return (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2;
  }

  /* Strokes, each a list of points [x, y] in any unit, in the place and at the size that the data's digits have. */
  function placed(strokes) {
    const points = strokes.flat();
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const fit = (room, size) => (size > 0 ? room / size : Infinity);
    let across = fit(BOX.right - BOX.left, right - left);
    let down = fit(BOX.bottom - BOX.top, bottom - top);
    if (across === Infinity && down === Infinity) across = down = 1;
    [across, down] = [Math.min(across, STRETCH * down), Math.min(down, STRETCH * across)];
    const [x0, y0] = [(left + right) / 2, (top + bottom) / 2];
    return strokes.map((stroke) => stroke.map(([x, y]) => [
      (BOX.left + BOX.right) / 2 + across * (x - x0), (BOX.top + BOX.bottom) / 2 + down * (y - y0)]));
  }

  /* The 32 × 32 dots of a drawing, in rows: 1 where there is ink. */
  function dots(strokes) {
    const inked = new Uint8Array(DOTS * DOTS);
    if (strokes.every((stroke) => stroke.length === 0)) return inked;
    const lines = placed(strokes.filter((stroke) => stroke.length > 0)).flatMap((stroke) =>
      stroke.length === 1 ? [[stroke[0], stroke[0]]] : stroke.slice(1).map((point, i) => [stroke[i], point]));
    const away = new Float64Array(DOTS * DOTS).fill(Infinity);
    for (const [a, b] of lines) {
      for (let i = 0; i < away.length; i++) {
        const squared = apart((i % DOTS) + 0.5, Math.floor(i / DOTS) + 0.5, a, b);
        if (squared < away[i]) away[i] = squared;
      }
    }
    const radius = Math.min(Math.max(Math.sqrt(away.slice().sort()[INK - 1]), THINNEST), THICKEST);
    return inked.map((_, i) => Number(away[i] <= radius * radius));
  }

  /* How many dots of each block of 4 × 4 are inked: 64 numbers from 0 to 16, which is what the data hold. */
  function counts(inked) {
    const found = new Uint8Array(SIDE * SIDE);
    inked.forEach((dot, i) => {
      found[SIDE * Math.floor(i / DOTS / BLOCK) + Math.floor((i % DOTS) / BLOCK)] += dot;
    });
    return found;
  }

  /* A stored digit: a letter for each count, a for 0 to q for 16. */
  const stored = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0) - 97);

  const api = { unpack, prepare, run, ranking, placed, dots, counts, stored };
  if (typeof module === "object" && module.exports) {
    module.exports = api;
    return;
  }
  root.anabookDigits = api;

  // Drawing

  const SVG = "http://www.w3.org/2000/svg";
  const PAD = 320; // units of the drawing area's side
  const MINUS = "\u2212";

  function element(make, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) make.setAttribute(key, value);
    make.append(...children);
    return make;
  }
  const html = (name, attributes = {}, ...children) => element(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) => element(document.createElementNS(SVG, name), attributes, children);
  const shown = (value, digits) => value.toFixed(digits).replace("-", MINUS);

  // Features differ in form as well as in colour: -1 a rhombus, 0 a dot, 1 a square.
  const FORMS = ["M5 0.5L9.5 5L5 9.5L0.5 5Z", "M4 4H6V6H4Z", "M1 1H9V9H1Z"];
  const NAMES = ["df-minus", "df-zero", "df-plus"];

  /* A picture of features in rows of sixteen, and a function that shows others. */
  function featureGrid(title, count) {
    const picture = svg("svg", { viewBox: `0 0 160 ${(10 * count) / 16}`, role: "img", class: "df-features" });
    const marks = Array.from({ length: count }, (_, i) =>
      svg("path", { transform: `translate(${10 * (i % 16)} ${10 * Math.floor(i / 16)})` }));
    picture.append(...marks);
    function show(values) {
      const times = [0, 0, 0];
      marks.forEach((mark, i) => {
        const kind = values[i] + 1;
        times[kind]++;
        mark.setAttribute("d", FORMS[kind]);
        mark.setAttribute("class", NAMES[kind]);
      });
      picture.setAttribute("aria-label", `${title}: ${times[0]} features are ${MINUS}1, ${times[1]} are 0, ${times[2]} are 1`);
    }
    return { picture, show };
  }

  /* The ten scores as bars to both sides of a line. */
  function scoreBars() {
    const picture = svg("svg", { viewBox: "0 0 200 162", role: "img", class: "df-scores" });
    picture.append(svg("line", { x1: 92, x2: 92, y1: 0, y2: 162, class: "df-axis" }));
    const rows = Array.from({ length: 10 }, (_, digit) => {
      const y = 1 + 16 * digit;
      const bar = svg("rect", { y: y + 2, height: 12 });
      const text = svg("text", { x: 198, y: y + 12, "text-anchor": "end" });
      picture.append(svg("text", { x: 2, y: y + 12 }, String(digit)), bar, text);
      return { bar, text };
    });
    function show(scores) {
      const best = ranking(scores)[0];
      const most = Math.max(...scores.map(Math.abs), 1);
      rows.forEach(({ bar, text }, digit) => {
        const length = (66 * Math.abs(scores[digit])) / most;
        bar.setAttribute("x", scores[digit] < 0 ? 92 - length : 92);
        bar.setAttribute("width", length);
        bar.setAttribute("class", digit === best ? "df-best" : "df-bar");
        text.textContent = shown(scores[digit], 1);
      });
      picture.setAttribute("aria-label", `Scores: ${scores.map((s, digit) => `${digit}: ${shown(s, 1)}`).join("; ")}`);
    }
    return { picture, show };
  }

  let mounted = 0;

  function mount(place) {
    const data = root.anabookDigitNetwork;
    const network = prepare(data);
    const id = `digit-figure-${mounted++}`;

    const ink = svg("g", { class: "df-ink" });
    const pad = svg("svg", {
      viewBox: `0 0 ${PAD} ${PAD}`, role: "img", class: "df-pad",
      "aria-label": "Drawing area for mouse, pen or finger. With the keyboard, paint the cells of the grid instead.",
    }, ink);
    const cells = Array.from({ length: SIDE * SIDE }, (_, i) =>
      svg("rect", { x: 10 * (i % SIDE), y: 10 * Math.floor(i / SIDE), width: 10, height: 10, class: "df-cell" }));
    const cursor = svg("rect", { width: 10, height: 10, class: "df-cursor" });
    const grid = svg("svg", {
      viewBox: "-0.5 -0.5 81 81", role: "application", tabindex: "0", class: "df-grid", "aria-describedby": `${id}-keys`,
      "aria-label": "What the network gets: 8 times 8 counts from 0 to 16",
    }, ...cells, cursor);
    const first = featureGrid("First hidden layer", network.layers[0].outputs);
    const second = featureGrid("Second hidden layer", network.layers[1].outputs);
    const bars = scoreBars();
    const read = html("p", { role: "status", class: "df-read" });
    const spoken = html("p", { role: "status", class: "df-spoken" });
    const clear = html("button", { type: "button" }, "Clear");
    const example = html("button", { type: "button" }, "Show me a test digit");
    const part = (name, title, ...children) => html("div", { class: `df-part df-${name}` }, html("p", { class: "df-title" }, title), ...children);
    const live = html("div", { class: "df-live" },
      html("div", { class: "df-buttons" }, clear, example, read),
      html("div", { class: "df-parts" },
        part("draw", "Draw a digit here", pad),
        part("counts", "What the network gets", grid),
        part("last", "Scores", bars.picture),
        part("hidden", "First hidden layer", first.picture),
        part("hidden", "Second hidden layer", second.picture)),
      html("p", { id: `${id}-keys`, class: "df-help" },
        "Keyboard: in the grid, the arrow keys move the cursor, the space bar inks a cell or clears it, and the keys 0 to 8 give it twice as many dots. ",
        "Features: a rhombus is ", MINUS, "1, a dot 0, a square 1."),
      spoken);
    const still = html("div", { class: "df-still" }, ...place.childNodes);
    place.replaceChildren(live, still);

    let strokes = [];
    let values = new Uint8Array(SIDE * SIDE);
    let byHand = false; // the cells hold what no stroke has made
    let label = null;
    let at = 3 * SIDE + 3;
    let next = 0;
    let pen = null;

    function drawInk() {
      ink.replaceChildren(...strokes.map((stroke) =>
        svg("polyline", { points: [...stroke, stroke[stroke.length - 1]].map((point) => point.map((v) => v.toFixed(1)).join()).join(" ") })));
    }

    function say(empty, scores) {
      if (empty) {
        read.textContent = "Nothing is drawn yet.";
        return;
      }
      const [best, other] = ranking(scores);
      const truth = label === null ? "" : ` It is test digit ${data.digits[label].row}, labelled ${data.digits[label].label}.`;
      read.replaceChildren("The network reads ", html("strong", {}, String(best)), `; its second choice is ${other}.${truth}`);
    }

    function update(settled) {
      cells.forEach((cell, i) => cell.setAttribute("fill-opacity", values[i] / MOST));
      cursor.setAttribute("x", 10 * (at % SIDE));
      cursor.setAttribute("y", 10 * Math.floor(at / SIDE));
      const { features, scores } = run(network, values);
      first.show(features[0]);
      second.show(features[1]);
      bars.show(scores);
      if (settled) say(values.every((v) => v === 0), scores);
    }

    function reset() {
      strokes = [];
      values = new Uint8Array(SIDE * SIDE);
      byHand = false;
      label = null;
      drawInk();
    }

    function point(event) {
      const box = pad.getBoundingClientRect();
      const within = (v, start, size) => Math.min(Math.max(((v - start) / size) * PAD, 0), PAD);
      return [within(event.clientX, box.left, box.width), within(event.clientY, box.top, box.height)];
    }

    function trace(settled) {
      values = counts(dots(strokes));
      drawInk();
      update(settled);
    }

    pad.addEventListener("pointerdown", (event) => {
      if (pen !== null || event.button !== 0) return;
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      pen = event.pointerId;
      if (byHand) reset();
      strokes.push([point(event)]);
      trace(false);
    });
    pad.addEventListener("pointermove", (event) => {
      if (event.pointerId !== pen) return;
      const stroke = strokes[strokes.length - 1];
      const [x, y] = point(event);
      const [px, py] = stroke[stroke.length - 1];
      if (Math.hypot(x - px, y - py) < 3) return;
      stroke.push([x, y]);
      trace(false);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      pad.addEventListener(kind, (event) => {
        if (event.pointerId !== pen) return;
        pen = null;
        update(true);
      });
    }

    const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    grid.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      let [x, y] = [at % SIDE, Math.floor(at / SIDE)];
      let painted = true;
      if (event.key in STEPS) {
        const keep = (v) => Math.min(Math.max(v, 0), SIDE - 1);
        [x, y] = [keep(x + STEPS[event.key][0]), keep(y + STEPS[event.key][1])];
        at = SIDE * y + x;
        painted = false;
      } else if (event.key === " ") values[at] = values[at] === 0 ? MOST : 0;
      else if (/^[0-8]$/.test(event.key)) values[at] = 2 * Number(event.key);
      else return;
      event.preventDefault();
      if (painted) {
        byHand = true;
        label = null;
      }
      update(painted);
      spoken.textContent = `Row ${y + 1}, column ${x + 1}: ${values[at]}`;
    });

    clear.addEventListener("click", () => {
      reset();
      update(true);
    });
    example.addEventListener("click", () => {
      reset();
      label = next;
      next = (next + 1) % data.digits.length;
      values = stored(data.digits[label].counts);
      byHand = true;
      update(true);
    });
    update(true);
    place.dataset.ready = "";
  }

  function start() {
    if (root.anabookDigitNetwork) document.querySelectorAll(".digit-figure:not([data-ready])").forEach(mount);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})(typeof self === "undefined" ? this : self);
