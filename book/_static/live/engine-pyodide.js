/* The engine "pyodide": a release of official Pyodide that the publisher has put beside the pages. */
const PACKAGES = ["numpy", "scipy", "sympy", "mpmath", "matplotlib"];

export async function start({ manifest, base, progress, starting, emit }) {
  const indexURL = new URL("pyodide/", base).href;
  const { loadPyodide } = await import(`${indexURL}pyodide.mjs`);
  const pyodide = await loadPyodide({
    indexURL,
    env: { MPLBACKEND: "module://live_figures", MPLCONFIGDIR: "/tmp", HOME: "/tmp" },
    stdout: () => {},
    stderr: () => {},
  });
  await pyodide.loadPackage(PACKAGES, { messageCallback: () => {} });
  const { file } = manifest.files.book;
  const book = await fetch(new URL(file, base));
  if (!book.ok) throw new Error(`${file} is missing (status ${book.status})`);
  pyodide.FS.mkdirTree("/book");
  pyodide.globals.set("live_pack", pyodide.toPy(new Uint8Array(await book.arrayBuffer())));
  pyodide.runPython(`
import gzip, importlib, json, os, sys
whole = bytes(live_pack)
whole = gzip.decompress(whole) if whole[:2] == b"\\x1f\\x8b" else whole
head, whole = whole.split(b"\\n", 1)
for name, size in json.loads(head):
    os.makedirs(os.path.dirname("/book/" + name) or "/book", exist_ok=True)
    with open("/book/" + name, "wb") as file:
        file.write(whole[:size])
    whole = whole[size:]
sys.path.insert(0, "/book")
importlib.invalidate_caches()
del live_pack, whole, head
`);
  progress(manifest.bytes); // it tells nothing of what it loads until all is there
  starting();
  pyodide.globals.set("live_emit", emit);
  return { version: pyodide.runPython("__import__('platform').python_version()"), run: source => void pyodide.runPython(source) };
}
