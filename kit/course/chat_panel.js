// The chat panel: settings go to Python; the text comes back in pieces, each with its time since the
// request. The page shows them at these times, or 10 or 100 times more slowly.
const FACE = `
  <label>Prompt<textarea name="prompt" rows="2" spellcheck="false"></textarea></label>
  <div class="settings">
    <label class="models">Model <select name="model"></select></label>
    <label>New characters <input name="max_new_tokens" type="number" min="1" step="1"></label>
    <label>Temperature <input name="temperature" type="range" min="0" max="1.5" step="0.1">
      <span class="value"></span></label>
    <label><input name="cache" type="checkbox"> keep keys and values (cache)</label>
    <label><input name="draft" type="checkbox"> guess ahead (n-grams)</label>
  </div>
  <div class="foot">
    <button type="button" class="write">Write</button>
    <button type="button" class="stop" aria-disabled="true">Stop</button>
    <label>Show it <select name="slower">
      <option value="1">as fast as it comes</option>
      <option value="10">10 × slower</option>
      <option value="100">100 × slower</option>
    </select></label>
  </div>
  <div class="text" tabindex="0" role="region" aria-label="The text"><span class="given"></span><span
    class="new"></span><span class="cursor" hidden></span><span class="wait"></span></div>
  <svg class="strip" role="img" aria-label="Timeline: when each character came"></svg>
  <div class="status" role="status"></div>`;

const [LEFT, RIGHT] = [56, 112]; // pixels of the timeline beside its axis: names, and counts
const [TOP, MODEL, READER, AXIS, BOTTOM] = [2, 38, 62, 72, 108]; // pixels from its upper edge
const EVERY_MS = 100; // between two drawings of it: drawing slows the model down
const BOUNDS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10]; // few: the axis should not change all the time

const length = (text) => [...text].length; // in characters
const lastOf = (pieces) => pieces.at(-1)?.[1] ?? 0; // when the last piece came

// The least round number that is not below the value.
function rounded(value, among = BOUNDS) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * (among.find((step) => step * power >= value * 0.999) ?? 10);
}

// The first `now` seconds: the pause, a tick for each piece, those of a reader, the axis.
function timeline(pieces, now, reader, width) {
  const end = rounded(Math.max(0.01, now, lastOf(pieces)));
  const x = (at) => Math.round(10 * (LEFT + (at / end) * (width - LEFT - RIGHT))) / 10;
  const came = pieces.filter(([, at]) => at <= now);
  const first = came.length ? came[0][1] : now;
  const written = came.reduce((sum, [text]) => sum + length(text), 0);
  const ticks = came.map(([text, at]) => {
    const height = Math.min(MODEL - TOP, 12 + 3 * length(text)); // taller: several accepted at once
    return `M${x(at)} ${MODEL}v-${height}`;
  });
  const read = Math.floor((now - first) * reader);
  const pace = Array.from({ length: read }, (_, i) => `M${x(first + (i + 1) / reader)} ${READER}v-8`);
  const step = rounded(end / 6, [1, 2, 5]);
  const numbers = Array.from({ length: Math.floor(end / step + 0.01) + 1 }, (_, i) => {
    const at = Number((i * step).toPrecision(6));
    return `<path d="M${x(at)} ${AXIS}v4"/><text class="middle" x="${x(at)}" y="${AXIS + 17}">${at}</text>`;
  });
  const [pause, middle] = [x(first) - LEFT, (LEFT + width - RIGHT) / 2];
  const taller = came.some(([text]) => length(text) > 1) ? "; taller: several at once" : "";
  return `
    <rect x="${LEFT}" y="${TOP}" width="${pause}" height="${MODEL - TOP}"/>
    ${pause > 48 ? `<text class="middle" x="${LEFT + pause / 2}" y="25">pause</text>` : ""}
    <text x="0" y="${MODEL - 6}">model</text><text x="0" y="${READER}">reader</text>
    <path class="model" d="${ticks.join("")}"/>
    <path class="reader" d="M${x(first)} ${READER}H${x(now)}${pace.join("")}"/>
    <text class="end" x="${width}" y="${MODEL - 6}">${written} written</text>
    <text class="end" x="${width}" y="${READER}">could read ${read}</text>
    <path d="M${LEFT} ${AXIS}H${width - RIGHT}"/>${numbers.join("")}
    <text class="middle" x="${middle}" y="${BOTTOM - 2}">time since the request (s)${taller}</text>`;
}

// Fills the controls with the settings of the last text; returns functions that read them.
function controls(model, el) {
  const control = (name) => el.querySelector(`[name="${name}"]`);
  const [settings, names] = [model.get("settings"), model.get("names")];
  control("model").append(...names.map((name) => new Option(name)));
  el.querySelector(".models").hidden = names.length < 2;
  for (const name of ["prompt", "model", "max_new_tokens", "temperature"]) {
    control(name).value = settings[name];
  }
  control("cache").checked = settings.cache;
  control("draft").checked = settings.draft !== null;
  const temperature = control("temperature");
  const showTemperature = () => {
    const words = temperature.valueAsNumber ? temperature.value : "0, the likeliest";
    temperature.nextElementSibling.textContent = temperature.ariaValueText = words;
  };
  temperature.addEventListener("input", showTemperature);
  showTemperature();
  const chosen = () => ({
    prompt: control("prompt").value,
    model: control("model").value,
    max_new_tokens: control("max_new_tokens").valueAsNumber,
    cache: control("cache").checked,
    draft: control("draft").checked ? "n-grams" : null,
    temperature: temperature.valueAsNumber,
  });
  return [chosen, () => Number(control("slower").value)];
}

function render({ model, el }) {
  asPanel(el, "kit-chat");
  el.innerHTML = FACE;
  const [write, stop, text, given, fresh, cursor, wait, strip, status] = [
    ...["write", "stop", "text", "given", "new", "cursor", "wait", "strip", "status"],
  ].map((name) => el.querySelector(`.${name}`));
  const [chosen, slower] = controls(model, el);

  let frame = 0;
  let run = { pieces: [], shown: 0, now: 0 }; // the text that is shown, and up to which time
  const draw = () => {
    if (!strip.clientWidth) return; // not on the page yet; once it is, `sized` calls
    run.drawn = performance.now();
    strip.innerHTML = timeline(run.pieces, run.now, model.get("reader"), strip.clientWidth);
  };
  // A disabled button would lose the focus, so a button is only marked as disabled.
  const writing = (going) => {
    [write.ariaDisabled, stop.ariaDisabled] = [String(going), String(!going)];
    cursor.hidden = !going;
  };
  const begin = (prompt) => {
    cancelAnimationFrame(frame);
    run = { pieces: [], shown: 0, now: 0, start: null, ended: null, slower: slower() };
    given.textContent = prompt;
    fresh.textContent = status.textContent = "";
    status.classList.remove("error");
    writing(true);
    wait.textContent = " waiting for the kernel …";
    draw();
  };
  const show = (now) => {
    run.now = now;
    for (; run.shown < run.pieces.length && run.pieces[run.shown][1] <= now; run.shown += 1) {
      fresh.append(run.pieces[run.shown][0]);
    }
    const places = 2 + Math.log10(run.slower);
    wait.textContent = run.shown ? "" : ` waiting … ${now.toFixed(places)} s`;
    text.scrollTop = text.scrollHeight;
    if (run.ended || performance.now() - run.drawn > EVERY_MS) draw();
  };
  const step = () => {
    const now = (performance.now() - run.start) / 1000 / run.slower;
    if (run.ended && now >= lastOf(run.pieces)) return finish();
    show(now);
    frame = requestAnimationFrame(step);
  };
  const finish = () => {
    cancelAnimationFrame(frame);
    show(lastOf(run.pieces));
    const { sentence, error } = run.ended;
    status.textContent = error ? `✎ Not written: ${error}` : sentence;
    status.classList.toggle("error", Boolean(error));
    writing(false);
    [wait.textContent, stop.textContent] = ["", "Stop"];
  };

  write.addEventListener("click", () => {
    if (write.ariaDisabled === "true") return;
    begin(chosen().prompt);
    model.send({ do: "write", settings: chosen() });
  });
  stop.addEventListener("click", () => {
    if (stop.ariaDisabled === "true") return;
    if (run.ended) finish(); // all is written, and only shown slowly
    else model.send({ do: "stop" });
  });
  const hear = ({ kind, prompt, pieces }) => {
    if (kind === "pieces") return run.pieces.push(...pieces);
    begin(prompt);
    run.start = performance.now();
    step();
  };
  const end = () => {
    const ended = model.get("ended");
    if (!ended) return;
    // It did not begin on this page: it was refused, or written before the page was opened.
    if (!run.start || run.ended) begin(ended.prompt);
    Object.assign(run, { ended, pieces: ended.pieces });
    if (run.start) stop.textContent = "Show all";
    else finish();
  };
  model.on("msg:custom", hear);
  model.on("change:ended", end);
  const sized = new ResizeObserver(draw);
  sized.observe(strip);
  end();
  return () => {
    cancelAnimationFrame(frame);
    sized.disconnect();
    model.off("msg:custom", hear);
    model.off("change:ended", end);
  };
}

export default { render };
