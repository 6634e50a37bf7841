/* Cells that can be changed and run: buttons under each, and a bar that says what Python is doing.
   Nothing is loaded until "Run" is pressed; what the page shows until then are the stored outputs. */
(live => {
  "use strict";
  const { element } = live;
  const HELP = "live-help";
  const megabytes = bytes => Math.max(1, Math.round(bytes / 1e6));

  function button(text, press) {
    const made = element("button", "live-button", text);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  }

  // The stored figures of an output, each with the picture (an image, or a drawing in the page) that is replaced when the cell is run.
  function figuresIn(output) {
    return [...(output?.querySelectorAll("img, .drawn") || [])].map(image => {
      const figure = image.closest("figure");
      const place = figure && document.createComment("figure");
      const words = image.alt ?? image.querySelector("[aria-label]")?.getAttribute("aria-label");
      return { image, now: image, words: words || "", figure, place };
    });
  }

  class Cell {
    constructor(page, facts, label) {
      Object.assign(this, { page, facts, label, source: facts.source, code: facts.source, ranIn: -1, ran: "" });
      this.box = document.querySelector(`article .live-${facts.index}`);
      this.hidden = !this.box;
      if (this.box) this.build();
    }

    get name() {
      return `Cell ${this.label}`;
    }

    build() {
      const { box } = this;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", this.name);
      this.input = box.querySelector(".cell_input");
      this.stored = box.querySelector(":scope > .cell_output, :scope > details > .cell_output");
      this.tools = element("div", "live-tools");
      this.tools.append(element("span", "live-number", this.name));
      (box.querySelector(":scope > details.above-input") || this.input).after(this.tools);
      if (this.facts.needs.length) {
        const what = this.facts.needs.join(" and ");
        this.tools.append(element("span", "live-state", `needs ${what}, which Python in this page has not: run it in the notebook`));
        return;
      }
      this.start = button("Run", () => (this.now ? this.page.stop() : this.page.run(this)));
      this.above = button("Run with all above", () => this.page.runWithAbove(this));
      this.change = button("Edit", () => this.edit());
      this.undo = button("Book's code", () => this.restoreCode());
      this.undo.hidden = true;
      this.state = element("span", "live-state");
      this.tools.append(this.start, this.above, this.change, this.undo, this.state);
    }

    edit() {
      const folded = this.box.querySelector("details.above-input:not([open])");
      folded?.setAttribute("open", "");
      if (!this.editor) {
        this.folded = folded;
        this.editor = live.edit(this.code, {
          label: `Code of cell ${this.label}`,
          help: HELP,
          like: this.input.querySelector("pre"),
          change: code => this.changed(code),
          run: () => this.page.run(this),
          leave: () => this.start.focus(),
        });
        this.page.help();
        this.written = this.input.firstElementChild;
        this.written.hidden = true;
        this.input.append(this.editor.box);
        this.change.hidden = true;
      }
      this.editor.field.focus();
    }

    changed(code) {
      this.code = code;
      this.undo.hidden = code === this.source;
    }

    restoreCode() {
      this.editor.set(this.source);
      this.editor.field.focus();
    }

    say(text) {
      if (this.state) this.state.textContent = text;
    }

    /** The job that the session is given. */
    job() {
      return {
        cell: this.facts.index,
        label: this.label,
        source: this.code,
        figures: this.facts.figures,
        scale: Math.min(2, Math.max(1, Math.ceil(window.devicePixelRatio || 1))),
        begin: () => this.begin(),
        show: output => this.show(output),
        end: (how, seconds) => this.end(how, seconds),
      };
    }

    wait() {
      this.say("waits");
    }

    begin() {
      this.clear();
      this.ran = this.code;
      this.now = true;
      this.fresh = false;
      if (this.hidden) return;
      this.start.textContent = "Stop";
      this.box.classList.add("live-runs");
      this.say("runs");
    }

    // The first output takes the place of the stored ones; so does the end, if there is none.
    unveil() {
      if (this.fresh || this.hidden) return;
      this.fresh = true;
      this.output = element("div", "cell_output live-output docutils container");
      this.output.setAttribute("role", "group");
      this.output.setAttribute("aria-label", `Output of your run of cell ${this.label}`);
      this.place = { figures: figuresIn(this.stored), moved: [], changed: this.code !== this.source };
      for (const { figure, place } of this.place.figures) figure?.before(place);
      if (this.stored) {
        this.stored.hidden = true;
        this.stored.after(this.output);
      } else this.tools.after(this.output);
    }

    show(output) {
      if (this.hidden) {
        if (output.output_type === "error") this.page.hiddenFailed(output);
        return;
      }
      this.unveil();
      live.append(this.output, output, this.place, this.job().scale);
    }

    clear() {
      if (!this.output) return;
      live.forget(this.output);
      for (const each of this.place.moved) {
        if (each.now.src.startsWith("blob:")) URL.revokeObjectURL(each.now.src);
        each.now.replaceWith(each.image);
        each.place.replaceWith(each.figure);
      }
      for (const each of this.place.figures) each.place?.remove();
      this.output.remove();
      this.output = null;
      if (this.stored) this.stored.hidden = false;
    }

    end(how, seconds) {
      this.now = false;
      if (how === "done" || how === "failed") this.unveil();
      this.ranIn = how === "done" ? this.page.session.runs : -1;
      if (this.hidden) return;
      this.start.textContent = "Run";
      this.box.classList.remove("live-runs");
      this.output?.classList.toggle("live-nothing", !this.output.childElementCount);
      const took = seconds >= 0.95 ? ` for ${seconds.toFixed(seconds < 9.5 ? 1 : 0)} s` : "";
      this.say({
        done: `ran${took}`,
        failed: "ended with an error",
        stopped: "stopped",
        lost: "broke off",
      }[how] || "");
      window.dispatchEvent(new Event("resize")); // boxes that scroll are marked by anabook.js
    }

    reset() {
      this.clear();
      this.ranIn = -1;
      if (this.hidden || this.facts.needs.length) return;
      if (this.editor) {
        this.editor.box.remove();
        this.editor = null;
        this.folded?.removeAttribute("open");
        this.written.hidden = false;
        this.change.hidden = false;
        this.undo.hidden = true;
      }
      this.code = this.source;
      this.say("");
    }
  }

  class Page {
    constructor(facts) {
      this.facts = facts;
      this.session = new live.Session(new URL(facts.base, location.href).href, facts.edition, (state, more) => this.told(state, more));
      this.cells = facts.cells.map((each, at) => new Cell(this, each, at + 1));
      this.introduce();
    }

    introduce() {
      const { mb, engine } = this.facts;
      const blocked = this.cells.some(each => each.facts.needs.length);
      const intro = element("p", "live-intro");
      this.hindrance = live.hindrance(engine);
      intro.textContent = this.hindrance || `The code on this page can be changed and run here, in your browser. The first run loads `
        + `Python, ${mb} MB, from where this page comes from; nothing you write leaves your computer.`
        + (blocked ? " Cells that need what Python in a page has not say so." : "");
      document.querySelector("article h1").after(intro);
      if (this.hindrance) for (const cell of this.cells) cell.tools?.remove();
    }

    help() {
      if (document.getElementById(HELP)) return;
      const help = element("p", "live-help visually-hidden",
        "Control and Enter run the cell. Tab and Shift Tab indent. Escape leaves the editor.");
      help.id = HELP;
      document.querySelector("article").append(help);
    }

    bar() {
      if (this.shown) return;
      this.shown = element("section", "live-bar");
      this.shown.setAttribute("aria-label", "Python in this page");
      this.said = element("p", "live-said");
      this.said.setAttribute("role", "status");
      this.progress = document.createElement("progress");
      this.progress.setAttribute("aria-label", "Loading Python");
      this.progress.hidden = true;
      this.halt = button("Stop", () => this.stop());
      this.renew = button("Reset page", () => this.reset());
      this.shown.append(this.said, this.progress, this.halt, this.renew);
      document.querySelector("article").append(this.shown);
      document.documentElement.classList.add("live-started");
    }

    run(cell) {
      const from = this.cells.indexOf(cell);
      let first = from;
      while (first > 0 && this.cells[first - 1].hidden && this.stale(this.cells[first - 1])) first--;
      this.enqueue(this.cells.slice(first, from + 1));
    }

    stale(cell) {
      return cell.ranIn !== this.session.runs || cell.ran !== cell.code;
    }

    /** Runs a cell after those above it: from the first on that has not run, or has been changed since. */
    runWithAbove(cell) {
      const above = this.cells.slice(0, this.cells.indexOf(cell)).filter(each => !each.facts.needs.length);
      const first = above.findIndex(each => this.stale(each));
      this.enqueue([...(first < 0 ? [] : above.slice(first)), cell]);
    }

    enqueue(cells) {
      if (this.session.busy) {
        this.say("Python is at work: wait, or press “Stop”.");
        return;
      }
      this.bar();
      const ready = cells.filter(each => !each.facts.needs.length);
      for (const each of ready) each.wait();
      this.session.run(ready.map(each => each.job()));
    }

    stop() {
      this.session.stop();
    }

    /** The page as it came: stored outputs, the book's code, no Python. */
    reset() {
      this.session.end("dropped");
      for (const cell of this.cells) cell.reset();
      document.getElementById(HELP)?.remove();
      this.told("reset", {});
    }

    say(text) {
      this.bar();
      if (this.said.textContent !== text) this.said.textContent = text;
    }

    hiddenFailed(output) {
      this.hiddenError = `${output.ename}: ${output.evalue}`;
    }

    told(state, more) {
      this.bar();
      const { loaded, total } = more;
      this.progress.hidden = state !== "loading" || !total;
      this.halt.disabled = !this.session.worker || state === "ready" || state === "failed";
      this.shown.dataset.state = state;
      if (state === "loading" && total) {
        this.progress.max = total;
        this.progress.value = loaded;
        this.progress.textContent = `${megabytes(loaded)} of ${megabytes(total)} MB`;
        this.say(`Loading Python, ${megabytes(total)} MB …`);
      } else {
        this.say({
          loading: "Starting Python …",
          starting: "Starting Python …",
          running: `Cell ${more.label} runs` + (more.waiting ? `, and ${more.waiting} more ${more.waiting === 1 ? "waits" : "wait"} …` : " …"),
          ready: `Done. Python ${more.version} keeps the variables for the next cell.`,
          failed: `Cell ${more.label} ended with an error. ${this.hiddenError || ""}`,
          stopped: "Stopped. Python has ended and its variables are gone: “Run with all above” brings them back.",
          reset: "The page is as it came; Python has ended.",
          lost: `Python has ended: ${more.reason}. “Run” starts it again.`,
        }[state]);
      }
      this.hiddenError = "";
    }
  }

  const facts = document.getElementById("live-page");
  if (facts) live.page = new Page(JSON.parse(facts.textContent));
})(window.anabookLive);
