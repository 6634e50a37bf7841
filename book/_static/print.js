/* Makes a page ready for paper when it is printed, from the browser or by tools/pdf.py, and puts it back afterwards: the light
   theme, folded code and proofs unfolded, what interactive figures say, a scale for what is wider than paper, and a class for
   what is too short to be split. print.css does the rest. `?solutions=shown` in the address prints folded solutions, too. */
(() => {
  "use strict";
  const root = document.documentElement;
  // How small each kind may become; code and text that need more are wrapped.
  const least = { formula: 0.5, table: 0.6, output: 0.7, code: 0.85 };
  // Boxes up to this height, in mm of paper, stay in one piece.
  const whole = 80;
  let undo = [];

  function set(element, name, value) {
    const before = element.getAttribute(name);
    element.setAttribute(name, value);
    undo.push(() => (before === null ? element.removeAttribute(name) : element.setAttribute(name, before)));
  }

  function scale(element, wide, room, kind) {
    if (!room || wide <= room) return;
    const wanted = (0.99 * room) / wide;
    if (wanted < least[kind] && (kind === "output" || kind === "code")) return;
    element.style.setProperty("--print-scale", Math.max(wanted, least[kind]).toFixed(3));
    undo.push(() => element.style.removeProperty("--print-scale"));
  }

  // Everything is measured before anything changes.
  function measured() {
    const found = [];
    for (const formula of document.querySelectorAll("article mjx-container")) {
      const box = formula.closest("div.math, p, li, dd, td, figcaption, div");
      const number = box.querySelector(":scope > .eqno");
      const room = box.clientWidth - (number ? 2.2 * number.getBoundingClientRect().width : 0);
      const inner = formula.querySelector(":scope > mjx-math");
      if (inner && !formula.closest("table")) found.push([formula, inner.getBoundingClientRect().width, room, "formula"]);
    }
    for (const table of document.querySelectorAll("article table")) {
      found.push([table, table.scrollWidth, table.parentElement.clientWidth, "table"]);
    }
    for (const text of document.querySelectorAll("article pre")) {
      const style = getComputedStyle(text);
      const frame = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
      const kind = text.closest(".cell_output") ? "output" : "code";
      found.push([text, text.scrollWidth - frame, text.clientWidth - frame, kind]);
    }
    return found;
  }

  function short() {
    const boxes = "div.cell_input, div.cell_output div.highlight, :not(.cell_input, .cell_output) > [class*='highlight-'], table,"
      + " div.exercise, div.proof, div.tip, div.note";
    const limit = (whole * 96) / 25.4;
    return [...document.querySelectorAll(boxes)].filter(box => box.offsetHeight && box.offsetHeight < limit);
  }

  function prepare() {
    restore();
    set(root, "data-theme", "light");
    const solutions = new URLSearchParams(location.search).get("solutions") === "shown";
    for (const details of document.querySelectorAll("article details:not([open])")) set(details, "open", "");
    for (const still of document.querySelectorAll("article :is(.fk-still, .df-still)")) {
      if (still.querySelector(".still-text")) continue;
      const text = document.createElement("p");
      text.className = "still-text print-only";
      text.textContent = `This figure is operated on the page; here is one moment. ${still.querySelector("img")?.alt ?? ""}`;
      still.append(text);
    }
    root.classList.add("print-measuring");
    for (const box of document.querySelectorAll(`article .toggle-hidden${solutions ? "" : ":not(.solution)"}`)) {
      box.classList.remove("toggle-hidden");
      undo.push(() => box.classList.add("toggle-hidden"));
    }
    const [sizes, boxes] = [measured(), short()];
    for (const each of sizes) scale(...each);
    for (const box of boxes) {
      box.classList.add("print-whole");
      undo.push(() => box.classList.remove("print-whole"));
    }
    root.classList.remove("print-measuring");
  }

  function restore() {
    undo.reverse().forEach(each => each());
    undo = [];
  }

  window.addEventListener("beforeprint", prepare);
  window.addEventListener("afterprint", restore);
})();
