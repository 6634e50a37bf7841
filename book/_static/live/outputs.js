/* What a cell shows, in the form in which notebooks store it, as elements like those that the site has for stored outputs. */
(live => {
  "use strict";
  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function preformatted(className, text) {
    const box = element("div", `output ${className}`);
    const inner = element("div", "highlight");
    inner.append(element("pre", "", text));
    box.append(inner);
    return box;
  }

  // What is between dollars is MathJax's, who finds it in elements of the class "math".
  function formula(tex) {
    const inner = tex.trim().replace(/^\${1,2}|\${1,2}$/g, "").replace(/^\\displaystyle\s*/, "");
    return element("div", "output text_latex math notranslate nohighlight", `\\[${inner}\\]`);
  }

  // Of Markdown what a line or two of text needs: paragraphs, code, emphasis and formulas.
  function markdown(text) {
    const box = element("div", "output text_markdown");
    for (const part of text.trim().split(/\n\s*\n/)) {
      const line = element("p", "");
      for (const piece of part.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*|\$[^$]+\$)/)) {
        if (/^`/.test(piece)) line.append(element("code", "", piece.slice(1, -1)));
        else if (/^\*\*/.test(piece)) line.append(element("strong", "", piece.slice(2, -2)));
        else if (/^\*/.test(piece)) line.append(element("em", "", piece.slice(1, -1)));
        else if (/^\$/.test(piece)) line.append(element("span", "math notranslate nohighlight", `\\(${piece.slice(1, -1)}\\)`));
        else line.append(piece);
      }
      box.append(line);
    }
    return box;
  }

  // Scripts in a cell's hypertext are not run, and nothing in it acts by itself.
  function hypertext(html) {
    const box = element("div", "output text_html");
    const inert = new DOMParser().parseFromString(html, "text/html");
    for (const each of inert.querySelectorAll("script, iframe, object, embed, link, meta, base, form")) each.remove();
    for (const each of inert.querySelectorAll("*")) {
      for (const { name, value } of [...each.attributes]) {
        if (/^on/i.test(name) || /^\s*javascript:/i.test(value)) each.removeAttribute(name);
      }
    }
    box.append(...inert.body.childNodes);
    return box;
  }

  const SOURCES = {
    "image/svg+xml": data => URL.createObjectURL(new Blob([data], { type: "image/svg+xml" })),
    "image/png": data => `data:image/png;base64,${data.replace(/\s/g, "")}`,
  };

  // A figure takes the place of the one that the page shows, with its caption and its name, to which the text refers.
  function picture(source, place, scale) {
    const stored = place.figures.shift();
    const image = element("img", "");
    image.src = source;
    image.alt = place.changed
      ? `Figure drawn by your code. The book's, for comparison: ${stored?.words || "none"}`
      : stored?.words || "Figure drawn by this cell";
    image.addEventListener("load", () => {
      if (source.startsWith("data:")) image.width = Math.round(image.naturalWidth / scale);
    }, { once: true });
    if (!stored?.figure) {
      const box = element("div", "output image_png");
      box.append(image);
      return box;
    }
    place.moved.push(stored);
    stored.image.replaceWith(image);
    stored.now = image;
    return stored.figure;
  }

  /** The element for an output. `place`: figures (stored ones that are to come), moved, changed (whether the code is the reader's). */
  live.shown = (output, place, scale) => {
    if (output.output_type === "stream") return preformatted(`stream ${output.name}`, output.text);
    if (output.output_type === "error") return failure(output);
    const data = output.data;
    const kind = Object.keys(SOURCES).find(each => data[each]);
    if (kind) return picture(SOURCES[kind](data[kind]), place, scale);
    if (data["text/html"]) return hypertext(data["text/html"]);
    if (data["text/latex"]) return formula(data["text/latex"]);
    if (data["text/markdown"]) return markdown(data["text/markdown"]);
    return preformatted("text_plain", data["text/plain"]);
  };

  function failure(output) {
    if (output.absent) return element("p", "output live-note", `${output.evalue}.`);
    const box = preformatted("traceback", output.traceback.join("\n"));
    if (output.undefined) {
      const advice = `If “${output.undefined}” is defined in a cell above that has not run, press “Run with all above”.`;
      box.append(element("p", "live-note", advice));
    }
    return box;
  }

  /** Puts an output behind those that are there; text goes on where text of the same stream ends. */
  live.append = (box, output, place, scale) => {
    const last = box.lastElementChild;
    if (output.output_type === "stream" && last?.matches(`.stream.${output.name}`)) last.querySelector("pre").append(output.text);
    else {
      const made = live.shown(output, place, scale);
      box.append(made);
      if (made.matches(".math, .text_markdown, .text_html")) typeset(made);
    }
  };

  async function typeset(box) {
    await window.MathJax?.startup?.promise;
    await window.MathJax?.typesetPromise?.([box]);
  }

  /** Whatever MathJax knows of formulas in a box that goes. */
  live.forget = box => window.MathJax?.typesetClear?.([box]);

  live.element = element;
})(window.anabookLive);
