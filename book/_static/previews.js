/* What a reference refers to, shown beside it while the pointer is on it or the keyboard has come to it.

   Terms, equations, theorems, exercises, figures, tables and citations have previews; book/_ext/anabook_previews.py writes them,
   a script for each page, which is loaded when the first reference to that page is pointed at. Escape takes a preview away, and
   the pointer may move onto it. A finger has no previews: it follows the link. */
(() => {
  "use strict";
  const SHOW = 250, HIDE = 250, GAP = 6, EDGE = 8, PATIENCE = 5000; // milliseconds, pixels
  const LINKS = "article a.reference.internal[href*='#']:not(.headerlink)";
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const store = (window.anabookPreviews ||= {});
  const loading = new Map();
  let box, wanted, shown, timer, point;

  function script(address) {
    if (!loading.has(address)) {
      loading.set(address, new Promise((done) => {
        const element = document.createElement("script");
        element.src = new URL(address, root);
        element.onload = element.onerror = done;
        document.head.append(element);
      }));
    }
    return loading.get(address);
  }

  // The page of this site and the place on it that a link leads to.
  function goal(link) {
    const url = new URL(link.href, location.href);
    if (url.origin !== root.origin || !url.pathname.startsWith(root.pathname) || url.hash.length < 2) return null;
    const page = decodeURIComponent(url.pathname.slice(root.pathname.length)).replace(/\.html$/, "");
    return { page, place: decodeURIComponent(url.hash.slice(1)) };
  }

  async function set(element) {
    if (!element.querySelector(".math")) return;
    if (!window.MathJax) {
      await script("_static/previews/maths.js");
      await script("_static/mathjax/tex-chtml.js");
    }
    const end = Date.now() + PATIENCE;
    while (!window.MathJax?.typesetPromise && Date.now() < end) await new Promise((done) => setTimeout(done, 50));
    await window.MathJax?.startup?.promise;
    await window.MathJax?.typesetPromise?.([element]);
  }

  function made() {
    const element = document.createElement("div");
    element.id = "preview";
    element.className = "preview";
    element.setAttribute("role", "tooltip");
    element.hidden = true;
    element.addEventListener("pointerenter", () => clearTimeout(timer));
    element.addEventListener("pointerleave", later);
    document.querySelector("article").append(element);
    return element;
  }

  // Below the link, or above it if there is no room below; beside the part of it that is pointed at, if it is broken over lines.
  function place() {
    const rects = [...shown.getClientRects()];
    const rect = (point && rects.find((each) => each.top - 2 <= point.y && point.y <= each.bottom + 2)) || rects[0];
    const seen = rect && rect.bottom > 0 && rect.top < innerHeight; // a link that is focused may be on its way into view
    box.classList.toggle("preview-shown", Boolean(seen));
    if (!seen) return;
    box.style.maxHeight = "";
    const below = innerHeight - rect.bottom - GAP - EDGE, above = rect.top - GAP - EDGE;
    const under = box.offsetHeight <= below || below >= above;
    box.style.maxHeight = `${Math.min(under ? below : above, 0.6 * innerHeight)}px`;
    box.classList.toggle("preview-cut", box.scrollHeight > box.clientHeight + 1);
    box.style.top = `${under ? rect.bottom + GAP : rect.top - GAP - box.offsetHeight}px`;
    box.style.left = `${Math.max(EDGE, Math.min(rect.left, document.documentElement.clientWidth - EDGE - box.offsetWidth))}px`;
  }

  async function show(link) {
    const { page, place: name } = goal(link);
    await script(`_static/previews/${page}.js`);
    const html = store[page]?.[name];
    if (wanted !== link) return;
    if (!html) {
      if (link.dataset.title) link.title = link.dataset.title;
      return;
    }
    hide();
    wanted = link;
    box ||= made();
    // A part of its own for each: MathJax may still be at work on the one before, and must find it whole.
    const part = document.createElement("div");
    part.className = "preview-body";
    part.innerHTML = html;
    box.replaceChildren(part);
    for (const image of part.querySelectorAll("img")) image.src = new URL(image.getAttribute("src"), root);
    box.hidden = false; // formulas are set at the size of what they stand in; it is seen when it is complete
    await set(part);
    await Promise.all([...part.querySelectorAll("img")].map((image) => image.decode().catch(() => null)));
    if (wanted !== link) return;
    shown = link;
    link.setAttribute("aria-describedby", box.id);
    place();
  }

  function hide() {
    clearTimeout(timer);
    wanted = undefined;
    if (shown) shown.removeAttribute("aria-describedby");
    shown = undefined;
    if (!box) return;
    box.classList.remove("preview-shown");
    box.hidden = true;
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(hide, HIDE);
  }

  function want(link, wait) {
    clearTimeout(timer);
    if (link === shown || !goal(link)) return;
    wanted = link;
    if (link.title) {  // the browser would show it on top
      link.dataset.title = link.title;
      link.removeAttribute("title");
    }
    timer = setTimeout(() => show(link), wait);
  }

  document.addEventListener("pointerover", (event) => {
    const link = event.pointerType !== "touch" && event.target.closest?.(LINKS);
    if (!link) return;
    point = { x: event.clientX, y: event.clientY };
    want(link, SHOW);
  });
  document.addEventListener("pointerout", (event) => {
    const link = event.target.closest?.(LINKS);
    if (link && !link.contains(event.relatedTarget) && event.pointerType !== "touch") {
      if (link === shown) later();
      else if (link === wanted) hide();
    }
  });
  document.addEventListener("focusin", (event) => {
    const link = event.target.closest?.(LINKS);
    if (!link || !link.matches(":focus-visible")) return;
    point = undefined;
    want(link, 0);
  });
  document.addEventListener("focusout", (event) => {
    if (event.target === wanted || event.target === shown) hide();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(LINKS)) hide();
  });
  window.addEventListener("scroll", () => shown && place(), { passive: true, capture: true });
  window.addEventListener("resize", hide);
})();
