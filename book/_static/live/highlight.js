/* Colours for Python: splits code into words of the kinds that the site's style sheet for code knows (Pygments' short names),
   so that a cell looks the same before and while it is edited. */
window.anabookLive = window.anabookLive || {};
(live => {
  "use strict";
  const words = text => new Set(text.split(" "));
  const KEYWORDS = words("as assert async await break continue del elif else except finally for from global if lambda pass raise "
    + "nonlocal return try while yield with");
  const SOFT = words("match case type");
  const CONSTANTS = words("True False None");
  const OPERATORS = words("in is and or not");
  const BUILTINS = words("__build_class__ __import__ abs aiter all any bin bool bytearray breakpoint bytes callable chr classmethod "
    + "compile complex delattr dict dir divmod enumerate eval filter float format frozenset getattr globals hasattr hash hex id input "
    + "int isinstance issubclass iter len list locals map max memoryview min next object oct open ord pow print property range repr "
    + "reversed round set setattr slice sorted staticmethod str sum super tuple type vars zip exec");
  const PSEUDO = words("self Ellipsis NotImplemented cls");
  const EXCEPTIONS = /^(?:[A-Z]\w*(?:Error|Exception|Warning)|KeyboardInterrupt|StopIteration|SystemExit|GeneratorExit|StopAsyncIteration|Warning|Exception|BaseException)$/;

  const STRING = /[rRbBuUfFtT]{0,2}(?:"""|'''|"|')/y;
  const DOCSTRING = /[rRuUbB]{0,2}(?:"""[^]*?"""|'''[^]*?''')/y;
  const ESCAPE = /\\(?:[\\abfnrtv"']|\n|N\{[^}]*\}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|x[\da-fA-F]{2}|[0-7]{1,3})/y;
  // What the two older ways of filling in texts look like, in any text.
  const PERCENT = /%(?:\(\w+\))?[-#0 +]*(?:[0-9]+|[*])?(?:\.(?:[0-9]+|[*]))?[hlL]?[E-GXc-giorsaux%]/y;
  const BRACES = /\{(?:\w+(?:\.\w+|\[[^\]]+\])*)?(?:![sra])?(?::(?:.?[<>=^])?[-+ ]?#?0?\d*,?(?:\.\d+)?[E-GXb-gnosx%]?)?\}/y;
  const NUMBER = /(?:0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?|\d[\d_]*[eE][+-]?\d[\d_]*)[jJ]?|\d[\d_]*)/y;
  const NAME = /[\p{L}_][\p{L}\p{N}_]*/uy;
  const SYMBOL = /!=|==|<<|>>|:=|[-~+/*%=<>&^|.@]/y;

  const take = (pattern, code, at) => {
    pattern.lastIndex = at;
    return pattern.exec(code)?.[0];
  };

  function numberKind(text) {
    if (/^0[xX]/.test(text)) return "mh";
    if (/^0[oO]/.test(text)) return "mo";
    if (/^0[bB]/.test(text)) return "mb";
    return /[.]|^\d[\d_]*[eE]/.test(text) ? "mf" : "mi"; // of 1j, Pygments takes the 1 for a number and the j for a name
  }

  // Code up to a closing bracket that was not opened in it: the expression within a formatted string. Ends before "!r", ":" or "}".
  function replacement(code, at, end, out) {
    const state = {};
    let depth = 0;
    while (at < end) {
      const c = code[at];
      if (depth === 0 && (c === "}" || c === ":" || (c === "!" && code[at + 1] !== "="))) break;
      if ("([{".includes(c)) depth++;
      if (")]}".includes(c)) depth--;
      at = word(code, at, out, state);
    }
    return at;
  }

  function formatted(code, at, end, kind, raw, out) {
    let text = "";
    const flush = () => {
      if (text) out.push([kind, text]);
      text = "";
    };
    while (at < end) {
      const c = code[at];
      const escaped = !raw && take(ESCAPE, code, at);
      if (escaped) {
        flush();
        out.push(["se", escaped]);
        at += escaped.length;
      } else if ((c === "{" || c === "}") && code[at + 1] === c) {
        flush();
        out.push(["se", c + c]);
        at += 2;
      } else if (c === "{") {
        flush();
        out.push(["si", "{"]);
        at = replacement(code, at + 1, end, out);
        const conversion = /![ars]/y;
        const turned = take(conversion, code, at);
        if (turned) {
          out.push(["si", turned]);
          at += turned.length;
        }
        if (code[at] === ":") {
          out.push(["si", ":"]);
          at += 1;
          while (at < end && code[at] !== "}") {
            if (code[at] === "{") {
              flush();
              out.push(["si", "{"]);
              at = replacement(code, at + 1, end, out);
              if (code[at] === "}") out.push(["si", "}"]);
              at += 1;
            } else text += code[at++];
          }
          flush();
        }
        if (code[at] === "}") {
          out.push(["si", "}"]);
          at += 1;
        }
      } else {
        text += c;
        at += 1;
      }
    }
    flush();
  }

  function string(code, at, out) {
    const start = take(STRING, code, at);
    const quote = start.replace(/^[a-zA-Z]*/, "");
    const prefix = start.slice(0, start.length - quote.length);
    const raw = /r/i.test(prefix);
    let end = at + start.length;
    while (end < code.length && !code.startsWith(quote, end)) {
      if (quote.length === 1 && code[end] === "\n") break;
      end += code[end] === "\\" ? 2 : 1;
    }
    end = Math.min(end, code.length);
    const kind = quote.includes('"') ? "s2" : "s1";
    if (prefix) out.push(["sa", prefix]);
    out.push([kind, quote]);
    const from = at + start.length;
    if (/[ft]/i.test(prefix)) formatted(code, from, end, kind, raw, out);
    else {
      const whole = code.slice(0, end);
      for (let here = from; here < end; ) {
        const escaped = !raw && take(ESCAPE, whole, here);
        const filled = !escaped && (take(PERCENT, whole, here) || take(BRACES, whole, here));
        const found = escaped || filled || take(/[^\\%{]+|[^]/y, whole, here);
        out.push([escaped ? "se" : filled ? "si" : kind, found]);
        here += found.length;
      }
    }
    if (code.startsWith(quote, end)) {
      out.push([kind, quote]);
      end += quote.length;
    }
    return end;
  }

  // One word from `at` on; `state.before` is the word before it, which tells a class's name from others.
  function word(code, at, out, state) {
    const c = code[at];
    const push = (kind, text) => {
      out.push([kind, text]);
      if (text.trim()) state.before = text;
      return at + text.length;
    };
    if (/\s/.test(c)) return push(c === "\n" ? "" : "w", take(/\n|[^\S\n]+/y, code, at));
    if (c === "#") return push("c1", take(/[^\n]*/y, code, at));
    const described = !code.slice(code.lastIndexOf("\n", at - 1) + 1, at).trim() && take(DOCSTRING, code, at);
    if (described) {
      const [, prefix, text] = /^([a-zA-Z]*)([^]*)$/.exec(described);
      if (prefix) out.push(["sa", prefix]);
      push("sd", text);
      return at + described.length;
    }
    if (take(STRING, code, at)) {
      state.before = '"';
      return string(code, at, out);
    }
    const number = /[\d.]/.test(c) && take(NUMBER, code, at);
    if (number && number !== ".") return push(numberKind(number), number);
    const name = take(NAME, code, at);
    if (name) {
      if (state.importing === "module") {
        const whole = take(/[\p{L}_][\p{L}\p{N}_.]*/uy, code, at);
        if (whole !== "import" && whole !== "as") return push("nn", whole);
      }
      if (state.before === "def") return push("nf", name);
      if (state.before === "class") return push("nc", name);
      if (state.before === ".") return push("n", name);
      if (name === "import" || name === "from") {
        const wasFrom = state.importing === "module" && state.from;
        state.from = name === "from";
        state.importing = name === "from" || !wasFrom ? "module" : "";
        if (state.before === "yield" || state.before === "raise") state.importing = "";
        return push(name === "from" && state.before === "yield" ? "k" : "kn", name);
      }
      if (name === "def" || name === "class") return push("k", name);
      if (SOFT.has(name) && /^\s*(?:match|case)\s+[^=.,)\]:]*.*:\s*$/.test(code.slice(code.lastIndexOf("\n", at) + 1).split("\n")[0])) {
        if (!code.slice(code.lastIndexOf("\n", at) + 1, at).trim()) return push("k", name);
      }
      if (CONSTANTS.has(name)) return push("kc", name);
      if (OPERATORS.has(name)) return push("ow", name);
      if (KEYWORDS.has(name)) return push("k", name);
      if (BUILTINS.has(name)) return push("nb", name);
      if (PSEUDO.has(name)) return push("bp", name);
      if (EXCEPTIONS.test(name)) return push("ne", name);
      if (/^__\w+__$/.test(name)) return push(/^__(?:name|file|doc|all|dict|main|version)__$/.test(name) ? "vm" : "fm", name);
      return push("n", name);
    }
    if (c === "@" && !code.slice(code.lastIndexOf("\n", at) + 1, at).trim()) return push("nd", take(/@[\p{L}_.\p{N}]*/uy, code, at));
    const symbol = take(SYMBOL, code, at);
    if (symbol) return push("o", symbol);
    return push("p", c);
  }

  /** Words of Python code as [kind, text]; the texts together are the code. */
  live.words = code => {
    const out = [];
    const state = {};
    let at = 0;
    while (at < code.length) {
      if (code[at] === "\n" || code[at] === ";") state.importing = state.from = "";
      at = word(code, at, out, state);
    }
    return out;
  };

  /** The same as elements, for a <pre>. */
  live.highlight = code => {
    const all = document.createDocumentFragment();
    for (const [kind, text] of live.words(code)) {
      if (kind === "" || kind === "w") all.append(text);
      else {
        const span = document.createElement("span");
        span.className = kind;
        span.textContent = text;
        all.append(span);
      }
    }
    return all;
  };
})(window.anabookLive);
