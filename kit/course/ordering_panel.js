// The ordering panel: a list whose items go up and down by button, arrow key, mouse or finger.

// One item: its name between a grip and two buttons.
function item(name) {
  const row = make("li");
  row.dataset.name = name;
  const [up, down] = ["up", "down"].map((way) =>
    make("button", { type: "button", className: way, ariaLabel: `Move ${name} ${way}` }),
  );
  [up.textContent, down.textContent] = ["▲", "▼"];
  const grip = make("span", { className: "grip", textContent: "⠿", ariaHidden: "true" });
  row.append(grip, make("span", { className: "name", textContent: name }), up, down);
  return row;
}

function render({ model, el }) {
  const rows = new Map(model.get("names").map((name) => [name, item(name)]));
  const question = model.get("question");
  const list = make("ol", { role: "list", ariaLabel: question });
  const confirm = make("button", { type: "button", textContent: "This is my guess" });
  const status = make("span", { role: "status" });
  const foot = make("div", { className: "foot" });
  foot.append(confirm, status);
  asPanel(el, "kit-order");
  el.append(
    make("div", { className: "question", textContent: question }),
    make("div", { textContent: "Drag the items, press ▲ or ▼, or use the arrow keys on these buttons." }),
    list,
    foot,
  );

  const order = () => [...list.children].map((row) => row.dataset.name);
  const show = (message = "Guess saved.") => {
    const now = model.get("value") ?? model.get("names");
    if (`${now}` !== `${order()}`) list.append(...now.map((name) => rows.get(name)));
    status.textContent = model.get("value") ? message : "No guess yet.";
    // A button with nowhere to go keeps the focus: so it is only marked as disabled.
    for (const button of list.querySelectorAll("button")) {
      const end = button.className === "up" ? list.firstChild : list.lastChild;
      button.ariaDisabled = String(button.parentNode === end);
    }
  };
  const save = (message) => {
    model.set("value", order());
    model.save_changes();
    show(message);
  };
  const move = (row, up) => {
    const other = up ? row.previousSibling : row.nextSibling;
    if (!other) return;
    if (up) row.after(other); // the neighbour moves, and the row keeps the focus
    else row.before(other);
    const place = 1 + [...list.children].indexOf(row);
    save(`Guess saved: ${row.dataset.name} is number ${place} of ${rows.size}.`);
  };
  list.addEventListener("click", ({ target }) => {
    if (target.matches("button")) move(target.parentNode, target.className === "up");
  });
  list.addEventListener("keydown", (event) => {
    if (!["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault(); // else the page would scroll
    move(event.target.parentNode, event.key === "ArrowUp");
  });
  confirm.addEventListener("click", () => save());

  let held = null; // the row that the pointer drags
  const hold = (row) => {
    held?.classList.remove("held");
    row?.classList.add("held");
    held = row;
  };
  list.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0 || event.target.matches("button, ol")) return;
    list.setPointerCapture(event.pointerId);
    hold(event.target.closest("li"));
  });
  list.addEventListener("pointermove", ({ clientY }) => {
    const middle = (row) => row.getBoundingClientRect().top + row.offsetHeight / 2;
    const { previousSibling: above, nextSibling: below } = held ?? {};
    if (above && clientY < middle(above)) move(held, true);
    if (below && clientY > middle(below)) move(held, false);
  });
  for (const end of ["pointerup", "pointercancel"]) list.addEventListener(end, () => hold(null));

  const changed = () => show();
  model.on("change:value", changed);
  show();
  return () => model.off("change:value", changed);
}

export default { render };
