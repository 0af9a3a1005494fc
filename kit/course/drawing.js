// The drawing pad: strokes appear here at once; Python is sent the picture at most ten times a second.
const CANVAS = 224; // CSS pixels
const BITMAP = 128; // pixels a side of what Python gets, one bit each; NIST's scans of digits were as fine
const PEN = 1 / 14; // of a side; kit.course.drawing makes it thicker or thinner, as the data need
const EVERY_MS = 100;

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
  el.classList.add("kit-pad");
  el.innerHTML = `
    <div class="kit-pad-title">Draw a digit</div>
    <canvas tabindex="0" role="img" aria-label="Drawing pad: draw a digit with mouse, pen or finger"
            style="width: ${CANVAS}px; height: ${CANVAS}px"></canvas>
    <button type="button" aria-label="Clear the drawing">Clear</button>`;
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

  const clear = () => {
    for (const paper of [shown, sent]) paper.clear();
    send();
  };
  el.querySelector("button").addEventListener("click", clear);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Delete" || event.key === "Backspace") clear();
  });
  return () => clearTimeout(timer);
}

export default { render };
