// The traffic panel: sliders go to Python, which sends requests to a server and reports what
// happened to them, four times a second. The page draws three charts over the same time: side by
// side, so that they fit a screen with the sliders, or on a phone one below the other.
const FACE = `
  <div class="sliders"></div>
  <div class="note"></div>
  <div class="foot">
    <button type="button">Start</button><span class="limit"></span>
  </div>
  <div class="panes"></div>
  <div class="marks">
    <span class="key unknown">the client sent late: the server's numbers are unknown</span>
    <span class="key mark">a setting was changed<b></b></span>
  </div>
  <div class="status" role="status"></div>`;

const [LEFT, RIGHT, TOP] = [52, 12, 8]; // pixels beside and above what is drawn
const [HEIGHT, AXIS] = [140, 40]; // of a chart, and of the axis under it
const SHOWN_S = [10, 20, 30, 60]; // how long the axis is; at last it moves
const ALIVE_MS = 2000; // so often Python hears that the page is still there
const STEPS = [1, 2, 3, 4, 5, 6, 8, 10]; // of round numbers

const count = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
const seconds = (value) => (value < 1 ? `${count(value * 1000)} ms` : `${count(value)} s`);

const RATES = {
  arriving: "arriving",
  good: "in time (goodput)",
  refused: "refused or failed",
};
const PANES = [
  { title: "Requests per second", words: count, lines: RATES },
  { title: "Latency", words: seconds, lines: { p50_s: "p50", p99_s: "p99" }, log: true },
  { title: "Queue, in requests", words: count, lines: { waiting: "sent, not answered yet" } },
];

// The least round number that is not below the value.
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * STEPS.find((step) => step * power >= value * 0.999);
}

// Value -> height in the chart, and the values that get a line across it.
function scale({ lines, log }, points, target) {
  const values = points.flatMap((point) => Object.keys(lines).map((name) => point[name] ?? 0));
  if (!log) {
    const top = rounded(Math.max(10, ...values));
    return { y: (value) => TOP + HEIGHT * (1 - value / top), ticks: [0, top / 2, top] };
  }
  const seen = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(0.001, ...seen)));
  const high = Math.ceil(Math.log10(Math.max(1, target, ...seen)));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return { y: (value) => TOP + (HEIGHT * (high - Math.log10(value))) / (high - low), ticks };
}

// The moments at which the time axis has a number.
function moments(now) {
  const long = SHOWN_S.find((length) => length >= now) ?? SHOWN_S.at(-1);
  const from = Math.max(0, now - long);
  const step = long / 5;
  const numbers = [];
  const end = from + long + 1e-6;
  for (let at = Math.ceil(from / step) * step; at <= end; at += step) numbers.push(at);
  return { from, long, numbers };
}

// The lines of one chart. A number that is unknown interrupts its line; a change does not.
function curves(names, points, x, y) {
  return names.map((name) => {
    let pen = "M";
    const path = points.map((point) => {
      if (point.note) return "";
      if (point[name] === null) return (pen = "M") && "";
      const step = `${pen}${x(point.at_s)} ${y(point[name]).toFixed(1)}`;
      pen = "L";
      return step;
    });
    return `<path class="line ${name}" d="${path.join("")}"/>`;
  });
}

// Grey where the client was late, and a dotted line where a setting was changed.
function marks(points, from, x, bottom) {
  return points.map(({ at_s, note, good }, i) => {
    if (note) return `<path class="mark" d="M${x(at_s)} ${TOP}V${bottom}"/>`;
    if (good !== null) return "";
    const began = x(points[i - 1]?.at_s ?? from);
    return `<path class="unknown" d="M${began} ${TOP}H${x(at_s)}V${bottom}H${began}z"/>`;
  });
}

// One chart as SVG.
function chart(pane, points, width, target) {
  const { from, long, numbers } = moments(points.at(-1)?.at_s ?? 0);
  const shown = points.filter(({ at_s }) => at_s >= from);
  const { y, ticks } = scale(pane, shown, target);
  const x = (at) => (LEFT + ((at - from) / long) * (width - LEFT - RIGHT)).toFixed(1);
  const [bottom, end] = [TOP + HEIGHT, width - RIGHT];
  const across = ticks.map((tick) => {
    const number = `<text class="end" x="${LEFT - 6}" y="${y(tick) + 4}">`;
    return `<path d="M${LEFT} ${y(tick)}H${end}"/>${number}${pane.words(tick)}</text>`;
  });
  const level = pane.log ? `<path class="line target" d="M${LEFT} ${y(target)}H${end}"/>` : "";
  const axis = numbers.map(
    (at) => `<text class="middle" x="${x(at)}" y="${bottom + 16}">${Math.round(at)}</text>`,
  );
  axis.push(`<text class="middle" x="${(LEFT + end) / 2}" y="${bottom + 34}">time (s)</text>`);
  const drawn = curves(Object.keys(pane.lines), shown, x, y);
  return [...marks(shown, from, x, bottom), ...across, level, ...drawn, ...axis].join("");
}

// A slider over the texts of its values; `move(index)` hears of every other value.
function slider({ name, label, texts, at_once }, index, move) {
  const id = ownId();
  const row = make("div", { className: `slider ${name}` });
  const input = make("input", { id, type: "range", min: 0, max: texts.length - 1, step: 1 });
  const value = make("span", { className: "value", ariaHidden: "true" }); // the slider says it
  const tell = () => (value.textContent = input.ariaValueText = texts[input.valueAsNumber]);
  const show = (now) => {
    input.value = now;
    tell();
  };
  input.addEventListener("input", tell);
  input.addEventListener(at_once ? "input" : "change", () => move(input.valueAsNumber));
  row.append(make("label", { htmlFor: id, textContent: label }), input, value);
  show(index);
  return { row, show };
}

// The chart's title, and a key for each line with its last value; returns what draws them.
function pane(kind, target) {
  const box = make("div", { className: "pane" });
  const head = make("div", { className: "head" });
  head.append(make("span", { className: "title", textContent: kind.title }));
  const values = Object.entries(kind.lines).map(([name, words]) => {
    const [key, value] = [make("span", { className: `key ${name}` }), make("b")];
    key.append(words, value);
    head.append(key);
    return [name, words, value];
  });
  if (kind.log) {
    const textContent = `target: ${seconds(target)}`;
    head.append(make("span", { className: "key target", textContent }));
  }
  box.innerHTML = `<svg role="img" height="${TOP + HEIGHT + AXIS}"></svg>`;
  const svg = box.firstChild;
  box.prepend(head);
  const draw = (points) => {
    const now = points.findLast(({ note }) => !note);
    const told = values.map(([name, words, value]) => {
      value.textContent = (now?.[name] ?? null) === null ? "—" : kind.words(now[name]);
      return `${words} ${value.textContent}`;
    });
    svg.ariaLabel = `Chart over time. ${kind.title}, last values: ${told.join(", ")}`;
    if (box.clientWidth) svg.innerHTML = chart(kind, points, box.clientWidth, target);
  };
  return { box, draw };
}

function render({ model, el }) {
  asPanel(el, "kit-traffic");
  el.innerHTML = FACE;
  const [sliders, note, button, limit, area, changed, status] = [
    ...[".sliders", ".note", "button", ".limit", ".panes", ".key.mark b", ".status"],
  ].map((name) => el.querySelector(name));
  const controls = model.get("controls").map((control, i) =>
    slider(control, model.get("chosen")[i], (index) => {
      model.set("chosen", Object.assign([...model.get("chosen")], { [i]: index }));
      model.save_changes();
    }),
  );
  sliders.append(...controls.map(({ row }) => row));
  note.textContent = model.get("hint");
  const panes = PANES.map((kind) => pane(kind, model.get("target_s")));
  area.append(...panes.map(({ box }) => box));

  let points = [];
  const draw = () => {
    panes.forEach((one) => one.draw(points));
    const last = points.findLast((point) => point.note);
    changed.textContent = last ? `${Math.round(last.at_s)} s: ${last.note}` : "";
  };
  const follow = () => controls.forEach(({ show }, i) => show(model.get("chosen")[i]));
  const tell = () => {
    status.textContent = model.get("status");
    status.classList.toggle("error", model.get("failed"));
  };
  const run = () => {
    const going = model.get("running");
    if (going) points = [];
    button.textContent = going ? "Stop" : "Start";
    button.classList.toggle("running", going);
    limit.textContent = `${going ? "Ends" : "It ends"} by itself after ${model.get("seconds")} s.`;
  };
  const old = () => {
    points = model.get("points"); // of a run that has ended
    draw();
  };
  const hear = ({ point }) => {
    if (point.at_s < (points.at(-1)?.at_s ?? 0)) points = []; // another run began
    points.push(point);
    draw();
  };
  button.addEventListener("click", () => {
    if (!model.get("running")) status.textContent = "Waiting for the kernel …";
    model.send({ do: model.get("running") ? "stop" : "start" });
  });
  const alive = setInterval(() => model.get("running") && model.send({ do: "alive" }), ALIVE_MS);
  const changes = { points: old, chosen: follow, status: tell, failed: tell, running: run };
  const heard = Object.entries(changes).map(([name, then]) => [`change:${name}`, then]);
  for (const [event, then] of [["msg:custom", hear], ...heard]) model.on(event, then);
  const sized = new ResizeObserver(draw);
  sized.observe(area);
  for (const then of [tell, run, old]) then();
  return () => {
    clearInterval(alive);
    sized.disconnect();
    for (const [event, then] of [["msg:custom", hear], ...heard]) model.off(event, then);
  };
}

export default { render };
