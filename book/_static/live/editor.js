/* An editor for a cell: a text field over the same text in colours. The browser's own field does the editing, so that keyboards,
   screen readers, spelling of phones and undoing work as everywhere; Tab indents, and Escape leaves. */
(live => {
  "use strict";
  const INDENT = "    ";

  function insert(field, text) {
    // Keeps what can be undone; where a browser has it no more, the text is set.
    if (!document.execCommand("insertText", false, text)) field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
  }

  // How wide a letter of a box is; all are of one width.
  function letterWidth(box) {
    const probe = document.createElement("span");
    probe.textContent = "0".repeat(50);
    probe.style.position = "absolute";
    probe.style.visibility = "hidden";
    box.append(probe);
    const width = probe.getBoundingClientRect().width / 50;
    probe.remove();
    return width;
  }

  function lines(field) {
    const from = field.value.lastIndexOf("\n", field.selectionStart - 1) + 1;
    const next = field.value.indexOf("\n", Math.max(field.selectionStart, field.selectionEnd - 1));
    return [from, next < 0 ? field.value.length : next];
  }

  function indent(field, out) {
    const { selectionStart: start, selectionEnd: end, value } = field;
    if (start === end && !out) return insert(field, INDENT.slice((start - value.lastIndexOf("\n", start - 1) - 1) % 4));
    const [from, to] = lines(field);
    const before = value.slice(from, to);
    const after = before.split("\n").map(line => (out ? line.replace(/^ {1,4}/, "") : line && INDENT + line)).join("\n");
    if (after === before) return undefined;
    field.setSelectionRange(from, to);
    insert(field, after);
    if (start === end) {
      const at = Math.max(from, start + after.length - before.length);
      field.setSelectionRange(at, at);
    } else field.setSelectionRange(from, from + after.length);
    return undefined;
  }

  function newline(field) {
    const before = field.value.slice(field.value.lastIndexOf("\n", field.selectionStart - 1) + 1, field.selectionStart);
    const space = /^ */.exec(before)[0];
    insert(field, "\n" + space + (/[:([{]\s*$/.test(before) ? INDENT : ""));
  }

  /** An editor that holds `code`. `options`: label, help (the id of a text), like (a box with letters
      of the size), change(code), run(), leave(). */
  live.edit = (code, options) => {
    const box = document.createElement("div");
    const colours = document.createElement("pre");
    const field = document.createElement("textarea");
    box.className = "live-editor highlight";
    colours.setAttribute("aria-hidden", "true");
    field.value = code;
    field.spellcheck = false;
    field.autocapitalize = "off";
    field.autocomplete = "off";
    field.setAttribute("autocorrect", "off");
    field.setAttribute("wrap", "off");
    field.setAttribute("aria-label", options.label);
    field.setAttribute("aria-describedby", options.help);
    const paint = () => {
      colours.replaceChildren(live.highlight(field.value), "\n");
      options.change(field.value);
    };
    // The box scrolls, not the field in it: the caret's column is kept in sight.
    const follow = () => {
      const column = field.selectionStart - field.value.lastIndexOf("\n", field.selectionStart - 1) - 1;
      const at = column * letterWidth(colours);
      if (at < box.scrollLeft) box.scrollLeft = Math.max(0, at - 40);
      else if (at > box.scrollLeft + box.clientWidth - 60) box.scrollLeft = at - box.clientWidth + 100;
    };
    field.addEventListener("input", paint);
    for (const event of ["input", "keyup"]) field.addEventListener(event, follow);
    field.addEventListener("keydown", event => {
      const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
      if (event.isComposing) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) options.run();
      else if (event.key === "Enter" && plain) newline(field);
      else if (event.key === "Tab" && plain) indent(field, event.shiftKey);
      else if (event.key === "Escape" && plain) options.leave();
      else return;
      event.preventDefault();
    });
    const rest = document.createElement("div");
    rest.className = "live-stack";
    rest.append(colours, field);
    const { fontSize, lineHeight } = getComputedStyle(options.like);
    const letters = matchMedia("(pointer: coarse)").matches ? { fontSize: "16px", lineHeight: "1.4" } : { fontSize, lineHeight };
    for (const each of [colours, field]) Object.assign(each.style, letters); // a phone enlarges the page for fields of smaller letters
    field.setSelectionRange(0, 0);
    box.append(rest);
    paint();
    return {
      box,
      field,
      set(text) {
        field.value = text;
        paint();
      },
    };
  };
})(window.anabookLive);
