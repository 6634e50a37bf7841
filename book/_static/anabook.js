/* Small repairs of the finished page.
   Boxes that scroll sideways (formulas, tables, outputs) can be reached with the keyboard: a tab stop and a name,
   only while there is something to scroll. */
(() => {
  "use strict";
  const boxes = [
    ["div.math", "Formula"],
    ["mjx-container[display='true'], article mjx-container.wide-formula", "Formula"],
    [".pst-scrollable-table-container", "Table"],
    [".cell_output .output", "Output"],
    ["div.highlight pre", "Code"],
    ["figure", "Figure"],
  ];

  function mark(element, name) {
    const rounding = element.matches("mjx-container") ? 0 : 1;
    const scrolls = element.scrollWidth > element.clientWidth + rounding && getComputedStyle(element).overflowX !== "visible";
    if (scrolls) {
      element.tabIndex = 0;
      if (!element.hasAttribute("role")) element.setAttribute("role", "group");
      if (!element.hasAttribute("aria-label")) element.setAttribute("aria-label", `${name}, scrolls sideways`);
      element.dataset.scrolls = "";
    } else if (element.dataset.scrolls !== undefined) {
      element.removeAttribute("tabindex");
      delete element.dataset.scrolls;
    }
  }

  const SMALLEST = 0.65;  // of the size of a formula, or of a table

  // A displayed formula that is wider than its box is set smaller, as far as it can be read.
  function shrink(formula) {
    const box = formula.parentElement;
    box.style.fontSize = "";
    if (!formula.clientWidth) return;
    for (let size = 1; size > SMALLEST && formula.scrollWidth > formula.clientWidth;) {  // widths are rounded: once more
      size = Math.max(SMALLEST, 0.985 * size * formula.clientWidth / formula.scrollWidth);
      box.style.fontSize = `${100 * size}%`;
    }
  }

  // So is a table; in its cells lines break first. Computed tables with formulas would be too small, and scroll.
  function tighten(table) {
    const box = table.parentElement;
    if (table.closest(".cell_output") && table.querySelector("mjx-container")) return;
    table.style.fontSize = "";
    table.classList.remove("tight");
    if (!box.clientWidth || box.scrollWidth <= box.clientWidth + 1) return;
    table.classList.add("tight");
    const size = parseFloat(getComputedStyle(table).fontSize);
    for (const part of [1, 0.9, 0.8, 0.7, SMALLEST]) {
      table.style.fontSize = `${part * size}px`;
      if (box.scrollWidth <= box.clientWidth + 1) return;
    }
  }

  // So is a formula in a line of text; if that does not do, it becomes a box that scrolls.
  function fold(formula) {
    const room = formula.closest("p, li, dd, td, th, figcaption, div").clientWidth;
    const parent = formula.parentElement;
    formula.classList.remove("wide-formula");
    parent.style.fontSize = "";
    const width = formula.getBoundingClientRect().width;
    if (!room || width <= room) return;
    parent.style.fontSize = `${100 * Math.max(SMALLEST, 0.99 * room / width)}%`;
    if (formula.getBoundingClientRect().width > room) formula.classList.add("wide-formula");
  }

  // A browser may break a line between a formula and the full stop behind it, or the bracket before it.
  function glue(formula) {
    if (formula.parentElement.classList.contains("glued")) return;
    const before = formula.previousSibling?.nodeType === Node.TEXT_NODE ? /[(\[“‘]+$/.exec(formula.previousSibling.data)?.[0] : "";
    const after = formula.nextSibling?.nodeType === Node.TEXT_NODE ? /^[.,;:!?)\]”’…]+/.exec(formula.nextSibling.data)?.[0] : "";
    if (!before && !after) return;
    const span = document.createElement("span");
    span.className = "glued";
    formula.replaceWith(span);
    span.append(formula);
    if (before) {
      span.prepend(before);
      span.previousSibling.data = span.previousSibling.data.slice(0, -before.length);
    }
    if (after) {
      span.append(after);
      span.nextSibling.data = span.nextSibling.data.slice(after.length);
    }
  }

  function markAll() {
    document.querySelectorAll("article span.math").forEach(glue);
    for (const code of document.querySelectorAll("article code.literal")) {
      code.classList.toggle("short-code", code.textContent.length <= 24 && !code.closest("td"));
    }
    document.querySelectorAll("article span.math > mjx-container:not([display])").forEach(fold);
    document.querySelectorAll("article div.math > mjx-container").forEach(shrink);
    document.querySelectorAll("article table").forEach(tighten);
    for (const [selector, name] of boxes) {
      for (const element of document.querySelectorAll(`article ${selector}`)) mark(element, name);
    }
  }

  let pending;
  function later() {
    clearTimeout(pending);
    pending = setTimeout(markAll, 100);
  }

  window.addEventListener("load", () => {
    markAll();
    // Once the formulas are set, and once more with their own letters, which can be a little wider.
    window.MathJax?.startup?.promise?.then(markAll).then(() => document.fonts?.ready).then(markAll);
  });
  window.addEventListener("resize", later);
  document.addEventListener("toggle", later, true);
  document.addEventListener("click", later);
})();
