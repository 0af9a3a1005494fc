// Sliders, lists and checkboxes, and the picture that follows them. The controls are the browser's own, so
// that keys, touch and screen readers work: a slider speaks its value, not the position of its knob.

const longest = (texts) => Math.max(...texts.map((text) => text.length));

// One row: label, control, value. `move(index)` is called when the reader has chosen another value.
function control({ label, texts, box, list, help }, index, move, [width, most]) {
  const id = ownId();
  const row = make("div", { className: "row" });
  const name = make("label", { htmlFor: id, textContent: label });
  if (box) {
    const tick = make("input", { id, type: "checkbox", checked: texts[index] === "True" });
    tick.addEventListener("change", () => move(texts.indexOf(tick.checked ? "True" : "False")));
    row.append(tick, name);
    return { row, show: (now) => (tick.checked = texts[now] === "True") };
  }
  if (list) {
    // Every answer can be read before one is chosen.
    const choice = make("select", { id });
    choice.append(...texts.map((text) => make("option", { textContent: text })));
    choice.addEventListener("change", () => move(choice.selectedIndex));
    const show = (now) => (choice.selectedIndex = now);
    show(index);
    row.classList.add("list");
    row.append(name, choice);
    return { row, show };
  }
  const slider = make("input", { id, type: "range", min: 0, max: texts.length - 1, step: 1 });
  const value = make("span", { className: "value", ariaHidden: "true" }); // the slider says it
  value.style.minWidth = `${help ? most : longest(texts)}ch`;
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
  name.style.minWidth = `min(${width}ch, 100%)`; // all sliders begin at the same edge
  row.append(name, slider, value);
  if (help) {
    const hint = make("span", { id: ownId(), className: "help", textContent: help });
    slider.setAttribute("aria-describedby", hint.id);
    row.append(hint);
  }
  return { row, show };
}

function render({ model, el }) {
  asPanel(el, "kit-panel");
  const question = model.get("question");
  if (question) el.append(make("div", { className: "question", textContent: question }));
  const controls = model.get("controls");
  const widths = [
    longest(controls.map(({ label }) => label)),
    Math.max(...controls.map(({ texts, list }) => (list ? 0 : longest(texts)))),
  ];
  const rows = controls.map((one, i) => {
    const move = (index) => {
      model.set("chosen", Object.assign([...model.get("chosen")], { [i]: index }));
      model.save_changes();
    };
    return control(one, model.get("chosen")[i], move, widths);
  });
  const picture = make("div", { className: "picture" });
  el.append(...rows.map(({ row }) => row), picture);

  const draw = () => {
    picture.innerHTML = model.get("picture");
  };
  // What is wider than the page scrolls, by keys as well.
  const reach = new ResizeObserver(() => {
    if (picture.scrollWidth > picture.clientWidth) picture.tabIndex = 0;
    else picture.removeAttribute("tabindex");
  });
  reach.observe(picture);
  const fade = () => (picture.ariaBusy = String(model.get("busy")));
  const follow = () => rows.forEach(({ show }, i) => show(model.get("chosen")[i]));
  const heard = { "change:picture": draw, "change:busy": fade, "change:chosen": follow };
  for (const [change, then] of Object.entries(heard)) model.on(change, then);
  draw();
  fade();
  return () => {
    reach.disconnect();
    for (const [change, then] of Object.entries(heard)) model.off(change, then);
  };
}

export default { render };
