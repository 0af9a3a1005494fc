// A quiz: each answer is a button, and the feedback comes at once. With radio buttons, an arrow key
// would choose, and so tell about, each answer on the way to the one that is meant.

// One question: its answers, and a line for the feedback. `choose(option)` is called at a choice.
function asked({ question, options, right, why }, number, choose) {
  const group = make("div", { className: "asked", role: "group" });
  const name = make("div", { className: "question", textContent: `${number}. ${question}` });
  name.id = ownId();
  group.setAttribute("aria-labelledby", name.id);
  const status = make("div", { className: "status", role: "status" });
  const buttons = options.map((text, option) => {
    const button = make("button", { type: "button" });
    button.append(make("span", { className: "mark", ariaHidden: "true" }), text);
    button.addEventListener("click", () => choose(option));
    return button;
  });
  group.append(name, ...buttons, status);
  const show = (tries) => {
    buttons.forEach((button, option) => {
      const state = !tries.includes(option) ? "" : option === right ? "right" : "wrong";
      button.className = state;
      button.firstChild.textContent = { right: "✔", wrong: "✘" }[state] ?? "";
      button.ariaPressed = String(tries.at(-1) === option);
    });
    const last = tries.at(-1);
    const told = last === right ? "Right." : "Not this one.";
    // Once the right answer was found, its reason stays, whatever is tried after it.
    const more = tries.includes(right) ? why : "Try another.";
    status.textContent = last === undefined ? "" : `${told} ${more}`;
  };
  return { group, show };
}

function render({ model, el }) {
  asPanel(el, "kit-quiz");
  const questions = model.get("questions");
  const groups = questions.map((question, i) =>
    asked(question, i + 1, (option) => {
      const tries = model.get("tries").map((each) => [...each]);
      tries[i].push(option);
      model.set("tries", tries);
      model.save_changes();
    }),
  );
  const score = make("div", { className: "score", role: "status" });
  el.append(...groups.map(({ group }) => group), score);

  const show = () => {
    const tries = model.get("tries");
    groups.forEach((group, i) => group.show(tries[i]));
    const done = questions.filter(({ right }, i) => tries[i].includes(right)).length;
    const first = questions.filter(({ right }, i) => tries[i][0] === right).length;
    score.textContent =
      done < questions.length ? "" : `All ${done} answered, ${first} of them at the first try.`;
  };
  model.on("change:tries", show);
  show();
  return () => model.off("change:tries", show);
}

export default { render };
