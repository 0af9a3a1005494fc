// The pole panel: Python balances the pole, 50 times a second, and sends where it is. The page
// draws it, and sends where the sliders stand.
const [WIDE, HIGH] = [520, 210]; // of the drawing, in its own units
const [CART, TALL] = [[52, 24], 130]; // the cart's size, and the pole's length
const GROUND = 180; // height of the track

// What stands on the page. A slider has its value as text beside it, also for screen readers.
const SCENE = `
  <div class="kit-pole-sliders"></div>
  <svg viewBox="0 0 ${WIDE} ${HIGH}" role="img" aria-label="A cart on a track, with a pole on it">
    <line class="track" x1="10" x2="${WIDE - 10}" y1="${GROUND}" y2="${GROUND}"></line>
    <g class="cart">
      <rect x="${-CART[0] / 2}" y="${GROUND - CART[1]}" width="${CART[0]}" height="${CART[1]}"></rect>
      <line class="pole" x1="0" x2="0" y1="${GROUND - CART[1]}" y2="${GROUND - CART[1] - TALL}"></line>
    </g>
  </svg>
  <div class="kit-pole-foot">
    <button type="button">Start</button><span class="stood"></span>
  </div>
  <div class="kit-pole-now"></div>
  <div class="kit-pole-status" role="status"></div>`;

function slider(control, index, model) {
  const row = make("label", { className: "kit-pole-slider" });
  const name = make("span", { textContent: control.label });
  const input = make("input", { type: "range", min: 0, max: control.texts.length - 1, step: 1 });
  const value = make("span", { className: "value" });
  const show = () => {
    const at = model.get("chosen")[index];
    input.value = at;
    value.textContent = control.texts[at];
    input.setAttribute("aria-valuetext", control.texts[at]);
  };
  input.addEventListener("input", () => {
    const chosen = [...model.get("chosen")];
    chosen[index] = Number(input.value);
    model.set("chosen", chosen);
    model.save_changes();
    show();
  });
  input.disabled = control.texts.length < 2;
  row.append(name, input, value);
  show();
  return { row, show };
}

function render({ model, el }) {
  asPanel(el, "kit-pole");
  el.innerHTML = SCENE;
  const find = (selector) => el.querySelector(selector);
  const [cart, pole, button, stood] = [".cart", ".pole", "button", ".stood"].map(find);
  const sliders = model.get("controls").map((control, i) => slider(control, i, model));
  find(".kit-pole-sliders").append(...sliders.map(({ row }) => row));

  const draw = ([position, tilt]) => {
    const x = WIDE / 2 + (position / model.get("track_m")) * (WIDE / 2 - CART[0] / 2 - 10);
    cart.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
    const degrees = (tilt * 180) / Math.PI;
    pole.setAttribute("transform", `rotate(${degrees.toFixed(2)} 0 ${GROUND - CART[1]})`);
    // A pole beyond its limit is drawn broken, not only in another colour.
    pole.classList.toggle("fallen", Math.abs(tilt) > model.get("limit_rad"));
  };
  const update = () => {
    button.textContent = model.get("running") ? "Stop" : "Start";
    find(".kit-pole-status").textContent = model.get("status");
    sliders.forEach(({ show }) => show());
  };
  button.addEventListener("click", () => model.send({ do: model.get("running") ? "stop" : "start" }));
  const hear = (message) => {
    if (!message.pole) return;
    draw(message.pole);
    stood.textContent = `${message.stood_s.toFixed(1)} s upright`;
    find(".kit-pole-now").textContent = message.words;
  };
  const heard = [["msg:custom", hear]];
  for (const name of ["running", "status", "chosen"]) heard.push([`change:${name}`, update]);
  for (const [event, then] of heard) model.on(event, then);
  draw(model.get("state"));
  update();
  return () => {
    for (const [event, then] of heard) model.off(event, then);
  };
}

export default { render };
