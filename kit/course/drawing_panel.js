// The drawing pad: strokes appear here at once; Python gets the picture at most ten times a second.
const CANVAS = 224; // CSS pixels
const BITMAP = 128; // pixels per side of what Python gets, one bit each; as fine as NIST's scans of digits
const PEN = 1 / 14; // of a side; kit.course.drawing_panel makes lines thicker or thinner to match the data
const EVERY_MS = 100;
const STILL_MS = 600; // screen readers say the answer after this long without a change
const STEP = 1 / 28; // of a side: how far an arrow key moves the pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A square sheet that takes strokes in 0..1 on both axes, whatever its number of pixels.
function sheet(canvas, pixels) {
  canvas.width = canvas.height = pixels;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.scale(pixels, pixels);
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  return {
    line(from, to) {
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...to);
      pen.stroke();
    },
    clear: () => pen.clearRect(0, 0, 1, 1),
    // One bit per pixel, row by row, first pixel in the highest bit: what numpy.unpackbits reads.
    bits() {
      const { data } = pen.getImageData(0, 0, pixels, pixels);
      const bytes = new Uint8Array((pixels * pixels) / 8);
      for (let i = 0; i < pixels * pixels; i++) {
        if (data[4 * i + 3] > 127) bytes[i >> 3] |= 128 >> (i & 7);
      }
      return bytes;
    },
  };
}

function render({ model, el }) {
  const help = ownId();
  asPanel(el, "kit-pad");
  el.innerHTML = `
    <div class="kit-pad-title">Draw a digit</div>
    <div class="kit-pad-paper">
      <canvas tabindex="0" role="application" aria-label="Drawing pad" aria-describedby="${help}"
              style="width: ${CANVAS}px; height: ${CANVAS}px"></canvas>
      <div class="kit-pad-pen" hidden></div>
    </div>
    <div class="kit-pad-help" id="${help}">With mouse, pen or finger; or by keys: arrows move, Space
      puts the pen down or lifts it, Delete clears.</div>
    <button type="button" aria-label="Clear the drawing">Clear</button>
    <div class="kit-pad-status" role="status"></div>`;
  const canvas = el.querySelector("canvas");
  const shown = sheet(canvas, CANVAS * Math.ceil(window.devicePixelRatio || 1));
  const sent = sheet(document.createElement("canvas"), BITMAP);

  let timer = null;
  const send = () => {
    clearTimeout(timer);
    timer = null;
    model.set("bitmap", new DataView(sent.bits().buffer));
    model.save_changes();
  };
  const sendSoon = () => (timer ??= setTimeout(send, EVERY_MS));

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let last = null; // where the pen is while it is down
  const draw = (event) => {
    const to = place(event);
    for (const paper of [shown, sent]) paper.line(last, to);
    last = to;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return; // one finger, one button
    canvas.setPointerCapture(event.pointerId); // a stroke may leave the pad and come back
    last = place(event);
    draw(event); // a tap is a dot
    sendSoon();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || !event.isPrimary) return;
    const moves = event.getCoalescedEvents?.() ?? []; // all the points since the last frame
    (moves.length ? moves : [event]).forEach(draw);
    sendSoon();
  });
  const lift = (event) => {
    if (!last || !event.isPrimary) return;
    last = null;
    send();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  const pen = { at: [0.5, 0.5], down: false, mark: el.querySelector(".kit-pad-pen") };
  const status = el.querySelector(".kit-pad-status");
  const say = (words) => (status.textContent = words);
  const showPen = () => {
    pen.mark.hidden = false;
    pen.mark.classList.toggle("down", pen.down);
    [pen.mark.style.left, pen.mark.style.top] = pen.at.map((part) => `${CANVAS * part}px`);
  };
  const movePen = (way) => {
    const from = pen.at;
    pen.at = from.map((part, i) => Math.min(1, Math.max(0, part + STEP * way[i])));
    showPen();
    if (!pen.down) return;
    for (const paper of [shown, sent]) paper.line(from, pen.at);
    sendSoon();
  };
  const turnPen = (down) => {
    pen.down = down;
    say(down ? "Pen down." : "Pen up.");
    movePen([0, 0]); // a dot, if it is down
  };
  const clear = () => {
    pen.down = false;
    pen.mark.classList.remove("down");
    for (const paper of [shown, sent]) paper.clear();
    send();
  };
  el.querySelector("button").addEventListener("click", clear);
  canvas.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key in ARROWS) movePen(ARROWS[key]);
    else if (key === " " || key === "Enter") turnPen(!pen.down);
    else if (key === "Delete" || key === "Backspace") clear();
    else return;
    event.preventDefault(); // else the page would scroll
  });
  canvas.addEventListener("blur", () => {
    pen.down = false;
    pen.mark.hidden = true;
  });

  let still = null;
  const tell = () => {
    clearTimeout(still);
    still = setTimeout(() => say(model.get("spoken")), STILL_MS);
  };
  model.on("change:spoken", tell);
  const hear = (message) => message.clear && clear();
  model.on("msg:custom", hear);
  return () => {
    model.off("msg:custom", hear);
    clearTimeout(timer);
    clearTimeout(still);
    model.off("change:spoken", tell);
  };
}

export default { render };
