// Draws what the board says. Nothing moves by itself, so there is nothing to reduce.
"use strict";

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const CHARACTER = 11; // px, about, of a text of 20 px

// The code or the secret comes behind the # of the address, and does not stay there.
let key = decodeURIComponent(location.hash.slice(1)) || sessionStorage.getItem("key") || "";
history.replaceState(null, "", location.pathname);
let board = null;

// --- The connection ---

async function follow() {
  while (key) {
    try {
      const reply = await fetch("api/board", { headers: { authorization: `Bearer ${key}` } });
      if (reply.status === 403 || reply.status === 429) {
        const { error } = await reply.json();
        return ask(error);
      }
      sessionStorage.setItem("key", key);
      await read(reply.body.getReader());
    } catch (error) {
      // gone: try again below
    }
    at("state").textContent = "The board does not answer. This page tries again.";
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    const last = events.filter((event) => event.startsWith("data: ")).pop();
    if (last) show(JSON.parse(last.slice(6)));
  }
}

function ask(error) {
  key = "";
  sessionStorage.removeItem("key");
  at("enter").hidden = false;
  at("state").textContent = error || "";
  at("key").focus();
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.replace(/[\s-]/g, "");
  if (key.length < 13) key = key.toUpperCase();
  at("enter").hidden = true;
  follow();
});

// --- The teacher ---

async function act(what) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const body = JSON.stringify({ do: what });
  const reply = await fetch("api/teacher", { method: "POST", headers, body });
  if (!reply.ok) at("state").textContent = (await reply.json()).error;
}

at("back").addEventListener("click", () => act("back"));
at("next").addEventListener("click", () => act("next"));
at("show").addEventListener("click", () => act(board.shows === "measured" ? "hide" : "show"));
at("close").addEventListener("click", () => {
  const open = board.shows !== "closed";
  if (!open || confirm("Close the class? Nothing more is taken until you show a question again.")) {
    act(open ? "close" : "hide");
  }
});

// --- What is shown ---

function put(id, text) {
  if (at(id).textContent !== String(text)) at(id).textContent = text;
}

function show(state) {
  board = state;
  const closed = state.shows === "closed";
  for (const id of ["join", "counts", "shown", "details"]) at(id).hidden = false;
  put("code", state.code);
  put("line", `kit.join("${state.code}", "${state.where}")`);
  for (const id of ["students", "guessed", "measured"]) put(id, state[id]);
  put("place", `Lesson ${state.lesson} · question ${state.number} of ${state.of}`);
  put("question", state.question);
  put("state", closed ? "The class is closed." : "");
  put("said", state.said);
  at("teacher").hidden = key.length < 13; // a code is shorter than the secret
  at("back").disabled = state.first;
  at("next").disabled = state.last;
  put("show", state.shows === "measured" ? "Hide measurements" : "Show measurements");
  put("close", closed ? "Open the class again" : "Close the class");
  explain(state.differences);
  draw();
  tables(state);
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function explain(found) {
  const some = Boolean(found && found.of > 1);
  at("why").hidden = !some;
  if (!some) return;
  const parts = found.rows.map((row) => {
    const part = element("p", "");
    part.append(element("strong", row.value), element("br", ""), `${row.fact}: ${row.groups}`);
    return part;
  });
  const none = found.tried
    ? "No difference between groups is larger than its interval."
    : "This needs laptops that differ, two or more of each kind.";
  if (!parts.length) parts.push(element("p", none));
  if (found.tried) parts.push(element("p", `No clear difference by: ${found.tried}.`, { class: "soft" }));
  at("why-rows").replaceChildren(...parts);
}

// --- The picture ---

function mark(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function draw() {
  const box = at("chart").getBoundingClientRect();
  const [width, height] = [Math.max(box.width, 280), Math.max(box.height, 200)];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${board.question} ${board.said} The table below has all numbers.`);
  (board.kind === "choices" ? drawChoices : drawNumbers)(svg, width, height);
  at("chart").replaceChildren(svg);
}

function drawChoices(svg, width, height) {
  const most = Math.max(1, ...board.bars.map((bar) => Math.max(bar.guesses, bar.measured)));
  const each = height / board.bars.length;
  board.bars.forEach((bar, i) => {
    const top = i * each + 26;
    mark(svg, "text", { x: 0, y: top }, bar.text);
    const rows = [["guess", bar.guesses, "guessed"], ["measured", bar.measured, "measured"]];
    rows.forEach(([kind, count, word], row) => {
      const tall = Math.min(28, (each - 44) / 2);
      const y = top + 8 + row * (tall + 2);
      if (!count && (kind === "measured" || board.shows === "measured")) return;
      const length = (count / most) * (width - 170);
      mark(svg, "rect", { class: kind, x: 0, y, width: Math.max(length, 2), height: tall, "stroke-width": 0 });
      mark(svg, "text", { class: kind, x: length + 8, y: y + tall / 2 + 7 }, `${count} ${word}`);
    });
  });
}

function scale(width) {
  const place = board.log ? Math.log : (v) => v;
  const [first, last] = [board.axis[0].at, board.axis[board.axis.length - 1].at].map(place);
  const [left, right] = [40, width - 50];
  return (value) => {
    if (value === null) return null;
    const share = board.log && value <= 0 ? 0 : (place(value) - first) / (last - first);
    return left + Math.min(Math.max(share, 0), 1) * (right - left);
  };
}

function drawNumbers(svg, width, height) {
  const x = scale(width);
  const laptops = board.groups.reduce((sum, group) => sum + group.laptops.length, 0);
  const base = laptops ? Math.max(110, height * 0.32) : height - 34; // where the histogram stands
  drawBins(svg, x, base);
  drawAxis(svg, x, base, width);
  if (laptops) drawLaptops(svg, x, base + 40, height - base - 44, laptops);
}

function drawBins(svg, x, base) {
  const most = Math.max(1, ...board.bins.map((bin) => bin.count));
  mark(svg, "text", { class: "guess", x: 0, y: 20 }, "Guesses");
  board.bins.forEach((bin, i) => {
    if (!bin.count) return;
    const [left, right] = [x(board.axis[i].at), x(board.axis[i + 1].at)];
    const tall = (bin.count / most) * (base - 56);
    mark(svg, "rect", { class: "guess", x: left + 2, y: base - tall, width: right - left - 4, height: tall });
    mark(svg, "text", { x: (left + right) / 2, y: base - tall - 6, "text-anchor": "middle" }, bin.count);
  });
}

function drawAxis(svg, x, base, width) {
  mark(svg, "line", { class: "axis", x1: 0, x2: width, y1: base, y2: base });
  let free = 0;
  for (const { at: value, text } of board.axis) {
    const half = (text.length * CHARACTER) / 2;
    mark(svg, "line", { class: "axis", x1: x(value), x2: x(value), y1: base, y2: base + 6 });
    if (x(value) - half < free || x(value) + half > width) continue;
    mark(svg, "text", { class: "soft", x: x(value), y: base + 28, "text-anchor": "middle" }, text);
    free = x(value) + half + 14;
  }
}

function drawLaptops(svg, x, top, height, laptops) {
  const title = 26; // px of the line above a group
  const each = Math.min(22, Math.max(3, (height - title * board.groups.length) / laptops));
  let y = top;
  for (const group of board.groups) {
    const many = group.laptops.length > 1 ? ` · ${group.laptops.length} laptops` : "";
    mark(svg, "text", { class: "measured", x: 0, y: y + 19 }, `${group.text}${many}`);
    y += title;
    for (const laptop of group.laptops) {
      const middle = y + each / 2;
      const [low, high] = [x(laptop.low), x(laptop.high)];
      const known = low !== null && high !== null;
      const ends = [low ?? x(laptop.value), high ?? x(laptop.value)];
      if (known) mark(svg, "line", { class: "measured", x1: ends[0], x2: ends[1], y1: middle, y2: middle });
      const size = Math.min(7, Math.max(3, each / 2));
      const dot = { class: "measured", cx: x(laptop.value), cy: middle, r: size };
      if (!known) dot["fill-opacity"] = 0; // hollow: its interval is unknown
      mark(svg, "circle", dot);
      if (each >= 19) mark(svg, "text", { x: ends[1] + 14, y: middle + 7 }, laptop.name);
      y += each;
    }
  }
}

// --- The same as a table ---

function tables(state) {
  if (!at("details").open) return;
  const rows = [];
  if (state.kind === "choices") {
    for (const bar of state.bars) rows.push([bar.text, `${bar.guesses} guessed, ${bar.measured} measured`]);
  } else {
    for (const bin of state.bins) if (bin.count) rows.push([bin.text, `${bin.count} guessed`]);
    for (const group of state.groups) {
      for (const laptop of group.laptops) rows.push([`${laptop.name}, ${group.text}`, laptop.text]);
    }
  }
  const table = element("table", "");
  const head = table.createTHead().insertRow();
  for (const name of ["what", "value"]) head.append(element("th", name, { scope: "col" }));
  const body = table.createTBody();
  for (const [name, value] of rows) {
    const row = body.insertRow();
    row.append(element("th", name, { scope: "row" }), element("td", value, { class: "value" }));
  }
  at("table").replaceChildren(table);
}

at("details").addEventListener("toggle", () => board && tables(board));
new ResizeObserver(() => board && draw()).observe(at("chart"));
if (key) follow();
else ask("");
