/* Concept questions: check an answer on the spot, and show one question to a class.
   Questions and answers are in the page; this only shows what it says of an answer, and counts hands. */
(() => {
  "use strict";
  const make = (tag, of, text = "", given = {}) => {
    const element = Object.assign(document.createElement(tag), { textContent: text });
    for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
    of.append(element);
    return element;
  };

  const answersTo = question => [...document.querySelectorAll(`.cq-answer[data-of="${question.id}"] li`)];

  function clear(question) {
    question.querySelector(".cq-said").replaceChildren();
    for (const option of question.querySelectorAll(".cq-option")) option.classList.remove("cq-right", "cq-wrong");
  }

  function say(question, chosen) {
    clear(question);
    const said = question.querySelector(".cq-said");
    const answers = answersTo(question).filter(each => chosen.includes(each.dataset.letter));
    if (!answers.length) said.textContent = "Choose an answer first.";
    else make("ul", said).append(...answers.map(each => each.cloneNode(true)));
    for (const each of answers) {
      const option = question.querySelector(`input[value="${each.dataset.letter}"]`).closest("label");
      option.classList.add(`cq-${each.dataset.verdict}`);
    }
  }

  const check = question => say(question, question.querySelector("input[type=radio]:checked")?.value ?? "");

  // The shares of the hands that went up, before and after the discussion.
  function share(question) {
    const rows = [...question.querySelectorAll(".cq-hands")];
    for (const place of [0, 1]) {
      const counts = rows.map(row => Math.max(0, row.querySelectorAll("input")[place].valueAsNumber || 0));
      const sum = counts.reduce((total, count) => total + count, 0);
      rows.forEach((row, number) => {
        const bar = row.querySelectorAll(".cq-bars span")[place];
        const part = sum ? Math.round((100 * counts[number]) / sum) : 0;
        bar.style.setProperty("--share", `${part}%`);
        bar.textContent = sum ? `${part} %` : "";
      });
    }
  }

  function addHands(question) {
    for (const row of question.querySelectorAll(".cq-row")) {
      const letter = row.querySelector(".cq-letter").textContent;
      const hands = make("span", row, "", { class: "cq-hands" });
      for (const when of ["before", "after"]) {
        const name = `Hands for ${letter}, ${when} the discussion`;
        make("input", hands, "", { type: "number", min: "0", "aria-label": name, placeholder: when });
      }
      const bars = make("span", hands, "", { class: "cq-bars" });
      make("span", bars);
      make("span", bars);
      hands.addEventListener("input", () => share(question));
    }
  }

  function show(question) {
    const place = document.createComment("the question");
    const dialog = make("dialog", document.querySelector("article"), "", {
      class: "cq-class",
      "aria-label": `Question ${question.dataset.number}, for a class`,
    });
    question.replaceWith(place);
    dialog.append(question);
    const buttons = question.querySelector(".cq-buttons");
    const own = [...buttons.children];
    own.forEach(each => (each.hidden = true));
    const all = make("button", buttons, "Show the answers", { type: "button" });
    const close = make("button", buttons, "Close", { type: "button" });
    all.addEventListener("click", () => say(question, "ABCD"));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      place.replaceWith(question);
      dialog.remove();
      all.remove();
      close.remove();
      clear(question);
      own.forEach(each => (each.hidden = false));
      own.at(-1).focus();
    });
    clear(question);
    dialog.showModal();
  }

  for (const question of document.querySelectorAll(".cq")) {
    const field = question.querySelector("fieldset");
    const buttons = make("div", field, "", { class: "cq-buttons" });
    make("div", field, "", { class: "cq-said", role: "status" });
    make("button", buttons, "Check", { type: "button" }).addEventListener("click", () => check(question));
    make("button", buttons, "For a class", { type: "button" }).addEventListener("click", () => show(question));
    field.addEventListener("change", event => event.target.type === "radio" && clear(question));
    field.addEventListener("keydown", event => {
      if (event.key === "Enter" && event.target.type === "radio") check(question);
    });
    addHands(question);
  }

  window.addEventListener("beforeprint", () => {
    for (const answers of document.querySelectorAll(".cq-answers")) answers.open = true;
  });
})();
