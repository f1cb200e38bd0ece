// The image of nbs/view/4_draw.ipynb on which a region is drawn. This file is written by hand; tests/test_javascript.py
// tests it. A mask is a Uint8Array, row by row, 1 where a pixel counts; a point is [column, row].

const css = `
.gk-draw { --ink: var(--jp-ui-font-color1, CanvasText); --paper: var(--jp-layout-color0, Canvas); padding: 8px;
  font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
[data-jp-theme-light="true"] .gk-draw { color-scheme: light; }
[data-jp-theme-light="false"] .gk-draw { color-scheme: dark; }
.gk-draw .bar { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; margin-bottom: 6px; }
.gk-draw :is(button, select) { font: inherit; color: inherit; background: var(--paper); border: 1px solid;
  border-radius: 4px; padding: 1px 8px; }
.gk-draw button[aria-pressed="true"] { color: var(--paper); background: var(--ink); }
.gk-draw .look { position: relative; touch-action: none; cursor: crosshair; }
.gk-draw .look > * { position: absolute; width: 100%; height: 100%; image-rendering: pixelated; }
.gk-draw .look > i { width: 9px; height: 9px; margin: -5px; border: 2px solid #fff; outline: 1px solid #000;
  display: none; pointer-events: none; }
.gk-draw canvas:focus + i { display: block; }
.gk-draw :focus-visible { outline: 3px solid #1e88e5; outline-offset: 1px; }`;
const HELP = `image; arrow keys move the cursor, with shift by ten pixels; space sets a corner or a point, or puts the
  brush down and up; enter also closes a polygon; escape cancels`;

export function packed(mask) {
  const bits = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) bits[i >> 3] |= mask[i] << (7 - (i & 7));
  return new DataView(bits.buffer);
}
export const unpacked = (v, n) => Uint8Array.from({length: n}, (_, i) => (v.getUint8(i >> 3) >> (7 - (i & 7))) & 1);

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function distance(x, y, [a, b], [c, d]) {
  const [u, v] = [c - a, d - b],
    t = clamp(((x - a) * u + (y - b) * v) / (u * u + v * v || 1), 0, 1);
  return Math.hypot(x - a - t * u, y - b - t * v);
}

// set the pixels within `reach` of the line through the points, and, where it is closed, those inside
export function cover(mask, [h, w], points, reach, closed, value) {
  const edges = points.map((p, i) => [p, points[i + 1] ?? (closed ? points[0] : p)]);
  for (const [[a, b], [c, d]] of edges)
    for (let y = Math.max(Math.ceil(Math.min(b, d) - reach), 0); y <= Math.min(Math.max(b, d) + reach, h - 1); y++)
      for (let x = Math.max(Math.ceil(Math.min(a, c) - reach), 0); x <= Math.min(Math.max(a, c) + reach, w - 1); x++)
        if (distance(x, y, [a, b], [c, d]) <= reach) mask[y * w + x] = value;
  for (let y = 0; y < (closed ? h : 0); y++) {
    const crossed = edges.filter(([[, b], [, d]]) => b > y !== d > y),
      ends = Float64Array.from(crossed, ([[a, b], [c, d]]) => a + ((y - b) * (c - a)) / (d - b)).toSorted();
    for (let k = 0; k < ends.length; k += 2) mask.fill(value, y * w + Math.ceil(ends[k]), y * w + ends[k + 1] + 1);
  }
}

// what mouse and keys do: `shown` is `mask` with the shape that is not finished
export class Drawing {
  constructor(mask, [h, w]) {
    Object.assign(this, {h, w, tool: "rectangle", reach: Math.max(h, w) >> 5, cursor: [w >> 1, h >> 1], history: []});
    this.choose({mask, value: mask.includes(0) ? 1 : 0}); // where all counts, only taking away has an effect
  }
  choose(change) {
    Object.assign(this, change, {points: []});
    this.shown = this.mask;
  }
  set(mask) {
    this.history.push(this.mask);
    this.choose({mask});
  }
  undo() {
    this.choose({mask: (!this.points.length && this.history.pop()) || this.mask});
  }
  move([x, y]) {
    const from = this.cursor,
      {h, w, points, tool, value} = this,
      [c, d] = (this.cursor = [clamp(x, 0, w - 1), clamp(y, 0, h - 1)]);
    if (!points.length) return;
    if (tool === "brush") return cover(this.shown, [h, w], [from, [c, d]], this.reach, false, value);
    const [[a, b]] = points;
    this.shown = this.mask.slice();
    const outline = tool === "polygon" ? [...points, [c, d]] : [[a, b], [c, b], [c, d], [a, d]];
    cover(this.shown, [h, w], outline, 0.5, true, value);
  }
  press() {
    if (this.points.length && this.tool !== "polygon") return this.finish();
    if (!this.points.length) this.shown = this.mask.slice();
    this.points.push(this.cursor);
    this.move(this.cursor);
  }
  finish() {
    if (this.points.length) this.set(this.shown);
  }
  // whether the key means something
  key(name, step) {
    const [x, y] = this.cursor,
      by = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[name];
    if (by) this.move([x + by[0], y + by[1]]);
    else if (name === "Escape") this.choose({});
    else if (name === " " || name === "Enter") this.press();
    else return false;
    if (name === "Enter" && this.tool === "polygon") this.finish();
    return true;
  }
}

export function render({model, el: root}) {
  const [h, w] = model.get("shape"),
    pictures = model.get("pictures"),
    read = () => unpacked(model.get("value"), h * w),
    d = new Drawing(read(), [h, w]),
    fill = value => (d.set(new Uint8Array(h * w).fill(value)), d.choose({value: 1 - value})),
    tools = ["rectangle", "polygon", "brush"].map(tool => [tool, () => d.choose({tool})]),
    values = ["take away", "add"].map((name, value) => [name, () => d.choose({value})]),
    others = {undo: () => d.undo(), all: () => fill(1), none: () => fill(0), propose: () => model.send({})},
    actions = {...Object.fromEntries([...tools, ...values]), ...others};
  root.classList.add("gk-draw");
  root.innerHTML = `<style>${css}</style><div class="bar">
    <select aria-label="picture">${Object.keys(pictures).map(name => `<option>${name}</option>`).join("")}</select>
    ${Object.keys(actions).map(name => `<button>${name}</button>`).join("")}
    <label>brush size <input type="range" min="1" max="${4 * d.reach}" value="${d.reach}"></label></div>
    <div class="look" style="width: ${Math.min(480, (480 * w) / h)}px; aspect-ratio: ${w} / ${h}">
      <img alt="" draggable="false"><canvas width="${w}" height="${h}" tabindex="0" role="application"
        aria-label="${HELP}" data-lm-suppress-shortcuts="true"></canvas><i></i></div><div role="status"></div>`;
  const [select, size, img, canvas, cursor] = root.querySelectorAll("select, input, img, canvas, i"),
    [buttons, status] = [[...root.querySelectorAll("button")], root.lastElementChild],
    context = canvas.getContext("2d");
  let sent = d.mask;

  function update() {
    const pressed = [d.tool, values[d.value][0]],
      [x, y] = d.cursor,
      tint = context.createImageData(w, h),
      [colours, stripe] = [new Uint32Array(tint.data.buffer), Math.ceil(w / 48)];
    for (const button of buttons.slice(0, 5)) button.setAttribute("aria-pressed", pressed.includes(button.textContent));
    // striped, so that it is seen on any colour
    for (let i = 0; i < h * w; i++)
      if (!d.shown[i]) colours[i] = Math.floor(((i % w) + Math.floor(i / w)) / stripe) % 2 ? 0xb07800e6 : 0x707800e6;
    context.putImageData(tint, 0, 0);
    Object.assign(cursor.style, {left: `${(100 * (x + 0.5)) / w}%`, top: `${(100 * (y + 0.5)) / h}%`});
    const share = ((100 * d.shown.reduce((a, b) => a + b)) / (h * w)).toFixed(1);
    status.textContent = `region: ${share} %; column ${x}, row ${y} is ${d.shown[y * w + x] ? "inside" : "outside"}`;
    if (d.mask === sent) return;
    model.set("value", packed((sent = d.mask)));
    model.save_changes();
  }
  function received() {
    const mask = read();
    if (mask.every((v, i) => v === d.mask[i])) return;
    d.set((sent = mask));
    update();
  }
  function listen(target, handlers) {
    for (const [name, act] of Object.entries(handlers))
      target.addEventListener(name, e => {
        act(e);
        status.ariaLive = name === "pointermove" && !e.buttons ? "off" : "polite"; // a pointer passing by is not spoken
        update();
      });
  }
  function point(e) {
    const box = canvas.getBoundingClientRect();
    d.move([((e.clientX - box.left) / box.width) * w, ((e.clientY - box.top) / box.height) * h].map(Math.floor));
  }
  for (const button of buttons) listen(button, {click: actions[button.textContent]});
  listen(select, {change: () => (img.src = pictures[select.value])});
  listen(size, {input: () => d.choose({reach: size.valueAsNumber})});
  listen(canvas, {
    pointermove: e => e.isPrimary && point(e),
    pointerdown: e => e.isPrimary && !e.button && (canvas.setPointerCapture(e.pointerId), point(e), d.press()),
    pointercancel: () => d.choose({}),
    pointerup: () => d.tool !== "polygon" && d.finish(),
    dblclick: () => d.finish(),
    keydown: e => d.key(e.key, e.shiftKey ? 10 : 1) && (e.preventDefault(), e.stopPropagation()),
  });
  img.src = pictures[select.value];
  model.on("change:value", received);
  update();
  return () => model.off("change:value", received);
}

export default {render};
