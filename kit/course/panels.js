// Sliders and checkboxes, and the picture that follows them. The controls are the browser's own, so
// that keys, touch and screen readers work: a slider speaks its value, not the position of its knob.

// One row: label, control, value. `move(index)` is called when the reader has chosen another value.
function control({ label, texts, box }, index, move) {
  const id = ownId();
  const row = make("div", { className: "row" });
  const name = make("label", { htmlFor: id, textContent: label });
  if (box) {
    const tick = make("input", { id, type: "checkbox", checked: texts[index] === "True" });
    tick.addEventListener("change", () => move(texts.indexOf(tick.checked ? "True" : "False")));
    row.append(tick, name);
    return { row, show: (now) => (tick.checked = texts[now] === "True") };
  }
  const slider = make("input", { id, type: "range", min: 0, max: texts.length - 1, step: 1 });
  const value = make("span", { className: "value", ariaHidden: "true" }); // the slider says it
  value.style.minWidth = `${Math.max(...texts.map((text) => text.length))}ch`;
  const tell = () => {
    value.textContent = slider.ariaValueText = texts[slider.valueAsNumber];
  };
  slider.addEventListener("input", tell);
  slider.addEventListener("change", () => move(slider.valueAsNumber));
  const show = (now) => {
    slider.value = now;
    tell();
  };
  show(index);
  row.append(name, slider, value);
  return { row, show };
}

function render({ model, el }) {
  asPanel(el, "kit-panel");
  const question = model.get("question");
  if (question) el.append(make("div", { className: "question", textContent: question }));
  const rows = model.get("controls").map((one, i) =>
    control(one, model.get("chosen")[i], (index) => {
      model.set("chosen", Object.assign([...model.get("chosen")], { [i]: index }));
      model.save_changes();
    }),
  );
  const picture = make("div", { className: "picture" });
  el.append(...rows.map(({ row }) => row), picture);

  const draw = () => (picture.innerHTML = model.get("picture"));
  const fade = () => (picture.ariaBusy = String(model.get("busy")));
  const follow = () => rows.forEach(({ show }, i) => show(model.get("chosen")[i]));
  const heard = { "change:picture": draw, "change:busy": fade, "change:chosen": follow };
  for (const [change, then] of Object.entries(heard)) model.on(change, then);
  draw();
  fade();
  return () => {
    for (const [change, then] of Object.entries(heard)) model.off(change, then);
  };
}

export default { render };
