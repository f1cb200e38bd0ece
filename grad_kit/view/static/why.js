// The page of nbs/view/3_why.ipynb: a list of images, one of them beside its anomaly map, and the explanation of one
// place. This file is written by hand; tests/test_javascript.py lints it.
// `view(root, ask, meta)` builds the page. `ask(what, message)` returns a promise of a "pack" (of an image), "thumbs",
// "normals", a "gradient", or of what "mark", "undo" and "learn" change. With a kernel these are messages (`render`);
// in a report the answers are in the page (`report`). Nothing is fetched from a network.

const css = `
.gk { --line: color-mix(in srgb, currentColor 25%, transparent);
  --faint: color-mix(in srgb, currentColor 72%, transparent);
  --alarm: light-dark(#c62828, #ff8a80); --now: #1e88e5;
  font: 14px/1.45 system-ui, sans-serif; color: var(--jp-ui-font-color1, CanvasText);
  background: var(--jp-layout-color0, Canvas); padding: 8px; }
[data-jp-theme-light="true"] .gk { color-scheme: light; }
[data-jp-theme-light="false"] .gk { color-scheme: dark; }
.gk * { box-sizing: border-box; }
.gk h2 { font-size: 15px; margin: 0 0 4px; font-weight: 600; }
.gk .bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-bottom: 6px; }
.gk label { display: inline-flex; gap: 6px; align-items: center; }
.gk button, .gk select { font: inherit; color: inherit; background: transparent; border: 1px solid var(--faint);
  border-radius: 4px; padding: 1px 8px; cursor: pointer; }
.gk button:disabled { opacity: .5; cursor: default; }
.gk select option { color: CanvasText; background: Canvas; }
.gk :focus-visible { outline: 3px solid var(--now); outline-offset: 1px; }
.gk .sheet { display: grid; grid-template-columns: repeat(auto-fill, 104px); grid-auto-rows: 122px; height: 134px;
  position: relative; overflow-y: auto; border: 1px solid var(--line); margin-bottom: 8px; contain: strict; }
.gk .sheet.tall { height: 378px; }
.gk .thumb { padding: 4px; text-align: center; font-size: 11px; line-height: 13px; border-radius: 4px; cursor: pointer;
  contain: strict; content-visibility: auto; }
.gk .thumb img { width: 80px; height: 80px; display: block; margin: 0 auto 2px; object-fit: cover;
  background: var(--line); }
.gk .thumb.now { outline: 3px solid var(--now); outline-offset: -3px; }
.gk .thumb.picked { background: color-mix(in srgb, var(--now) 25%, transparent); }
.gk .thumb.alarm .score { color: var(--alarm); font-weight: 600; }
.gk .thumb span { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gk .both { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
.gk figure { margin: 0; }
.gk figcaption { font-size: 12px; color: var(--faint); min-height: 18px; }
.gk .look { width: 300px; height: 300px; display: block; cursor: crosshair; background: #777; }
.gk .answer { flex: 1 1 330px; min-width: 290px; }
.gk .answer p { margin: 0 0 8px; font-weight: 600; }
.gk .scorer { border-top: 1px solid var(--line); padding: 6px 0; }
.gk .crops { display: flex; gap: 8px; flex-wrap: wrap; margin: 4px 0; }
.gk .crops canvas, .gk .crops img { width: 84px; height: 84px; display: block; image-rendering: pixelated;
  background: #777; }
.gk .crops figcaption { max-width: 84px; line-height: 14px; overflow: hidden; text-overflow: ellipsis; }
.gk .scorer ul { margin: 2px 0 2px 18px; padding: 0; }
.gk svg { display: block; margin-top: 4px; font-size: 11px; fill: currentColor; stroke-width: 1.5; }
.gk .share { display: inline-block; height: 8px; background: var(--now); vertical-align: middle; border-radius: 2px; }
`;

// JupyterLab and Notebook leave keys alone that are pressed in an element with this attribute
const KEYS = 'tabindex="0" data-lm-suppress-shortcuts="true"';
const HELP = "arrow keys move the place, plus and minus zoom, page up and down change the image";
const canvasHTML = name => `
  <figure>
    <canvas class="look" width="600" height="600" role="img" ${KEYS} aria-label="${name}; ${HELP}"></canvas>
    <figcaption></figcaption>
  </figure>`;
const marksHTML = `
<button title="the chosen images are normal">good after all</button>
<button title="the chosen images are defects">defect</button>
<button title="take the last mark back">undo</button>
<button title="images marked as good are fitted or held out; nothing is trained on defects">
  learn from marks</button>
<span class="note" role="status"></span>`;
const pageHTML = marking => `
<style>${css}</style>
<div class="bar">
  <span class="counts" aria-live="polite"></span>
  <select aria-label="which images">
    <option value="all">all images</option>
    <option value="alarm">alarms</option>
    <option value="passed">no alarm</option>
    ${marking ? '<option value="marked">marked</option>' : ""}
  </select>
  <label>threshold <input type="range" step="any" aria-label="threshold, in units of the image score">
    <output></output></label>
  ${marking ? marksHTML : ""}
</div>
<div class="sheet ${marking ? "tall" : ""}" ${KEYS} role="listbox" aria-label="images, highest score first"
  aria-multiselectable="${marking}"></div>
<div class="both">
  ${canvasHTML("image")} ${canvasHTML("anomaly map")}
  <div class="answer" role="region" aria-label="why"><h2></h2><p class="say" aria-live="polite"></p><div></div></div>
</div>`;

// --- small helpers ---

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function figure(shown, caption) {
  return el("figure", {}, shown, el("figcaption", {title: caption}, caption));
}

// label and content are made of numbers: texts from outside go through `el`
function svg(width, height, label, content) {
  const holder = el("div");
  holder.innerHTML = `<svg width="${width}" height="${height}" role="img" aria-label="${label}">${content}</svg>`;
  return holder.firstChild;
}

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

async function loadPicture(url) {
  const image = el("img", {src: url});
  await image.decode();
  return image;
}

// {side, low, high, data} -> value at pixel (x, y) of the image
function mapReader(map, size) {
  const steps = new Uint16Array(bytes(map.data).buffer),
    at = v => Math.floor((v / size) * map.side);
  return (x, y) => map.low + ((map.high - map.low) * steps[at(y) * map.side + at(x)]) / 65535;
}

// --- pictures of the evidence ---

// where `times` lies among the values of normal images at this place
function strip(own, times) {
  const most = own[own.length - 1],
    top = Math.max(times, most) * 1.08,
    at = t => (2 + (t / top) * 294).toFixed(1);
  const ticks = own.map(t => `<path d="M${at(t)} 4v13"/>`).join("");
  const content = `<g stroke="currentColor" opacity=".35">${ticks}</g>
    <circle cx="${at(times)}" cy="10" r="4.5" fill="#1e88e5"/><text y="31">0</text>
    <text x="${clamp(294 / top, 26, 265)}" y="31" text-anchor="middle">usual</text>
    <text x="299" y="31" text-anchor="end">${top.toFixed(1)} ×</text>`;
  return svg(300, 34, `${times.toFixed(1)} times the usual distance; normal images reach ${most.toFixed(1)}`, content);
}

// energies of filters for lines: six angles by four spacings, red where there is more than usual, blue where less
const angle = i => (270 - 30 * (i % 6)) % 180;
const spacing = i => 3.5 * 2 ** Math.floor(i / 6);
function energyChart(energies) {
  const named = energies
    .map((v, i) => [Math.abs(v), `${v > 0 ? "stronger" : "weaker"} lines at ${angle(i)}°, ${spacing(i)} px apart`])
    .toSorted((a, b) => b[0] - a[0]);
  const cells = energies.map((v, i) => {
    const [x, y] = [(i % 6) * 26 + 13, Math.floor(i / 6) * 26 + 13],
      [colour, opacity] = [v > 0 ? "#e53935" : "#1e88e5", clamp(Math.abs(v) / 5, 0.06, 1)];
    return `<rect x="${x - 12}" y="${y - 12}" width="24" height="24" fill="${colour}" opacity="${opacity}"/>
      <path d="M${x - 7.5} ${y}h15" stroke="currentColor" transform="rotate(${-angle(i)} ${x} ${y})"/>`;
  });
  const rows = [0, 6, 12, 18].map(i => `<text x="161" y="${(i / 6) * 26 + 17}">${spacing(i)} px</text>`);
  const label = named.slice(0, 3).map(([, text]) => text);
  const chart = svg(210, 104, `filter energies: ${label.join("; ")}`, [...cells, ...rows].join(""));
  return figure(chart, "lines by angle and spacing: red, more than usual; blue, less");
}

function drawCrop(canvas, image, box, size) {
  const [x, y, side] = box.map(v => (v * image.width) / size);
  canvas.getContext("2d").drawImage(image, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

// the window of this image, the nearest normal one, and twice their difference
function windowPictures(image, box, normal, normalBox, name, size) {
  const side = Math.round(clamp((box[2] * normal.width) / size, 8, 84)),
    captions = ["this part", name, "difference"];
  const canvases = captions.map(c => el("canvas", {width: side, height: side, role: "img", "aria-label": c}));
  const [ours, theirs, both] = canvases;
  drawCrop(ours, image, box, size);
  drawCrop(theirs, normal, normalBox, size);
  const context = both.getContext("2d");
  context.drawImage(ours, 0, 0);
  context.globalCompositeOperation = "difference";
  context.drawImage(theirs, 0, 0);
  both.style.filter = "brightness(2)";
  return el("div", {class: "crops"}, ...canvases.map((c, k) => figure(c, captions[k])));
}

// the detector's window, and the gradient of its logit with respect to the window's pixels
function gradientPictures(found, image, size) {
  const canvas = el("canvas", {width: 84, height: 84, role: "img", "aria-label": "the detector's window"});
  drawCrop(canvas, image, found.box, size);
  const slope = el("img", {src: found.gradient, alt: "gradient of the logit"}),
    text = el("div", {}, `logit ${found.logit.toFixed(1)} standard deviations above the normal mean`);
  const figures = [figure(canvas, `level ${found.level}`), figure(slope, "gradient of the logit"), text];
  return el("div", {class: "scorer crops"}, ...figures);
}

// --- the list of images ---

// {alarm(i), update(), move(steps), reveal(i)}; `open(i)` is called with the image that is chosen
function imageList(root, ask, meta, state, open) {
  const [counts, sheet] = root.querySelectorAll(".counts, .sheet");
  const [cards, waiting] = [[], new Set()];
  let [order, timer] = [meta.order, 0];
  const alarm = i => meta.scores[i] > state.threshold;
  const filters = {all: () => true, alarm, passed: i => !alarm(i), marked: i => i in state.marks};

  // thumbnails are requested for what is in sight when scrolling stops
  async function fetchThumbs() {
    const wanted = [...waiting].slice(0, 60);
    for (const i of wanted) waiting.delete(i);
    const found = await ask("thumbs", {which: wanted});
    for (const i of wanted) cards[i].querySelector("img").src = found[i];
    if (waiting.size) fetchThumbs();
  }
  const observer = new IntersectionObserver(
    entries => {
      for (const {target, isIntersecting} of entries) {
        const i = Number(target.dataset.i);
        if (isIntersecting && !target.querySelector("img").src) waiting.add(i);
        else waiting.delete(i);
      }
      clearTimeout(timer);
      if (waiting.size) timer = setTimeout(fetchThumbs, 60);
    },
    {root: sheet, rootMargin: "122px"},
  );

  for (const i of meta.order) {
    const name = meta.names[i];
    cards[i] = el(
      "div",
      {class: "thumb", role: "option", id: `${meta.id}-${i}`, "data-i": i, title: name},
      el("img", {alt: "", draggable: "false"}),
      el("span", {class: "score"}),
      el("span", {}, name.split("/").slice(-2).join("/")),
    );
    sheet.append(cards[i]);
    observer.observe(cards[i]);
  }

  function update() {
    for (const [i, card] of cards.entries()) {
      const mark = i in state.marks ? ` · ${state.marks[i]}` : "",
        text = `${meta.scores[i].toPrecision(3)}${alarm(i) ? " alarm" : ""}${mark}`;
      card.hidden = !filters[state.show](i);
      card.classList.toggle("now", i === state.image);
      card.classList.toggle("alarm", alarm(i));
      card.classList.toggle("picked", state.picked.has(i));
      card.setAttribute("aria-selected", meta.marking ? state.picked.has(i) : i === state.image);
      card.setAttribute("aria-label", `${meta.names[i]}, score ${text}`);
      card.querySelector(".score").textContent = text;
    }
    order = meta.order.filter(filters[state.show]);
    sheet.setAttribute("aria-activedescendant", `${meta.id}-${state.image}`);
    const alarms = meta.order.filter(alarm).length;
    counts.textContent = `${alarms} of ${meta.names.length} raise an alarm`;
  }

  function pick(i, through) {
    const range = [order.indexOf(state.image), order.indexOf(i)].toSorted((a, b) => a - b);
    if (through && range[0] >= 0) for (const k of order.slice(range[0], range[1] + 1)) state.picked.add(k);
    else if (!state.picked.delete(i)) state.picked.add(i);
    update();
  }

  function move(steps) {
    if (order.length) open(order[clamp(order.indexOf(state.image) + steps, 0, order.length - 1)]);
  }

  sheet.addEventListener("click", e => {
    const card = e.target.closest(".thumb");
    if (!card) return;
    const i = Number(card.dataset.i);
    if (meta.marking && (e.ctrlKey || e.metaKey || e.shiftKey)) pick(i, e.shiftKey);
    else {
      state.picked.clear();
      open(i);
    }
    sheet.focus({preventScroll: true});
  });
  sheet.addEventListener("keydown", e => {
    const row = getComputedStyle(sheet).gridTemplateColumns.split(" ").length;
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, PageDown: 3 * row, PageUp: -3 * row};
    if (e.key === " " && meta.marking) pick(state.image, false);
    else if (e.key === "Home") move(-order.length);
    else if (e.key === "End") move(order.length);
    else if (e.key in steps) move(steps[e.key]);
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  // scroll the list alone, not the page around it
  function reveal(i) {
    const top = cards[i].offsetTop;
    if (!cards[i].hidden) sheet.scrollTop = clamp(sheet.scrollTop, top + 122 - sheet.clientHeight, top);
  }
  return {alarm, update, move, reveal};
}

// --- an image beside its map: one place, one zoom ---

function outline(context, width, colour, frame) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.strokeRect(...frame);
}

// {reveal()}; `choose(row, column)` is called with the place that is chosen
function imagePair(root, meta, state, list, choose) {
  const {size, grid} = meta,
    cell = size / grid;
  const [canvases, hover] = [root.querySelectorAll(".look"), root.querySelector("figcaption")];

  function draw() {
    if (!state.now) return;
    const {image, heat, pack} = state.now,
      f = (600 / size) * state.zoom;
    const window = pack.places[state.row * grid + state.column][1].find(e => e.box);
    const boxes = [["#fff", state.column * cell, state.row * cell, cell]];
    if (window) boxes.push(["#40c4ff", ...window.box]);
    canvases.forEach((canvas, k) => {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = k === 1 || state.zoom < 3;
      context.clearRect(0, 0, 600, 600);
      context.drawImage(k ? heat : image, -state.left * f, -state.top * f, size * f, size * f);
      for (const [colour, x, y, side] of boxes) {
        const frame = [(x - state.left) * f, (y - state.top) * f, side * f, side * f];
        outline(context, 5, "#000", frame);
        outline(context, 2, colour, frame);
      }
    });
  }

  function zoomTo(zoom, x = (state.column + 0.5) * cell, y = (state.row + 0.5) * cell) {
    const before = state.zoom;
    state.zoom = clamp(zoom, 1, 16);
    const outside = size - size / state.zoom; // of what is seen
    state.left = clamp(x - ((x - state.left) * before) / state.zoom, 0, outside);
    state.top = clamp(y - ((y - state.top) * before) / state.zoom, 0, outside);
    draw();
  }

  // move what is seen so that the place is in it
  function reveal() {
    const seen = size / state.zoom;
    state.left = clamp(state.left, (state.column + 1) * cell - seen, state.column * cell);
    state.top = clamp(state.top, (state.row + 1) * cell - seen, state.row * cell);
    draw();
  }

  function pixel(e) {
    const box = e.currentTarget.getBoundingClientRect(),
      scale = size / state.zoom / box.width;
    const x = (e.clientX - box.left) * scale + state.left,
      y = (e.clientY - box.top) * scale + state.top;
    return [x, y].map(v => clamp(v, 0, size - 1e-6));
  }

  function pointermove(e) {
    if (!state.now) return;
    const [x, y] = pixel(e);
    hover.textContent = `x ${Math.floor(x)}, y ${Math.floor(y)}: ${state.now.valueAt(x, y).toPrecision(3)}`;
  }
  function click(e) {
    const [x, y] = pixel(e);
    e.currentTarget.focus({preventScroll: true});
    choose(Math.floor(y / cell), Math.floor(x / cell));
  }
  function wheel(e) {
    if (!state.now || !(e.ctrlKey || document.activeElement === e.currentTarget)) return; // else the page scrolls
    e.preventDefault();
    zoomTo(state.zoom * (e.deltaY < 0 ? 1.25 : 0.8), ...pixel(e));
  }
  function keydown(e) {
    const moves = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]},
      zooms = {"+": state.zoom * 1.5, "=": state.zoom * 1.5, "-": state.zoom / 1.5, 0: 1},
      images = {PageDown: 1, PageUp: -1};
    if (e.key in moves) choose(state.row + moves[e.key][0], state.column + moves[e.key][1]);
    else if (e.key in zooms) zoomTo(zooms[e.key]);
    else if (e.key in images) list.move(images[e.key]);
    else return;
    e.preventDefault();
    e.stopPropagation();
  }
  const handlers = {click, pointermove, wheel, keydown, dblclick: () => zoomTo(1)};
  for (const canvas of canvases)
    for (const [name, handler] of Object.entries(handlers)) canvas.addEventListener(name, handler, {passive: false});
  return {reveal};
}

// --- marks of the inspector ---

function markButtons(root, ask, meta, state, list) {
  const [good, defect, undo, learn, note] = root.querySelectorAll(".bar button, .bar .note");
  function took(reply) {
    const n = Object.keys(reply.marks).length,
      texts = [reply.note, n ? `${n} marked` : "", reply.changed ? "not learned yet" : ""];
    state.marks = reply.marks;
    state.picked.clear();
    note.textContent = texts.filter(Boolean).join("; ");
    learn.disabled = !reply.changed;
    undo.disabled = !n;
    list.update();
  }
  async function request(reply) {
    try {
      took(await reply);
    } catch (e) {
      note.textContent = `not done: ${e.message}`;
      learn.disabled = false;
    }
  }
  const mark = kind => request(ask("mark", {which: state.picked.size ? [...state.picked] : [state.image], as: kind}));
  good.addEventListener("click", () => mark("good"));
  defect.addEventListener("click", () => mark("defect"));
  undo.addEventListener("click", () => request(ask("undo", {})));
  learn.addEventListener("click", () => {
    learn.disabled = true;
    note.textContent = "learning ...";
    request(ask("learn", {}));
  });
  took(meta);
}

// --- the page ---

export function view(root, ask, meta) {
  const {size, grid, threshold, marks} = meta,
    [normals, packs] = [new Map(), new Map()];
  // now: what is shown of the image, once it is there
  const state = {image: meta.order[0], now: null, row: 0, column: 0, zoom: 1, left: 0, top: 0};
  Object.assign(state, {threshold, marks, show: "all", picked: new Set()});
  let turn = 0; // counts requests: what was overtaken by a later one is not shown
  root.classList.add("gk");
  root.innerHTML = pageHTML(meta.marking);
  const [title, say, parts] = root.querySelector(".answer").children,
    [hover, legend] = root.querySelectorAll("figcaption");
  const list = imageList(root, ask, meta, state, i => open(i)),
    pair = imagePair(root, meta, state, list, (row, column) => place(row, column));

  function headline() {
    const {image: i} = state;
    title.textContent = `${meta.names[i]}: score ${meta.scores[i].toPrecision(3)}, ${list.alarm(i) ? "" : "no "}alarm`;
  }

  const [slider, output] = root.querySelectorAll(".bar input, .bar output");
  slider.min = Math.min(...meta.scores, threshold);
  slider.max = Math.max(...meta.scores, threshold);
  slider.value = threshold;
  output.textContent = threshold.toPrecision(4);
  slider.addEventListener("input", () => {
    state.threshold = slider.valueAsNumber;
    output.textContent = `${state.threshold.toPrecision(4)} (by hand)`;
    list.update();
    headline();
  });
  root.querySelector(".bar select").addEventListener("change", e => {
    state.show = e.target.value;
    list.update();
  });

  async function normalPicture(k) {
    if (!normals.has(k)) normals.set(k, await loadPicture((await ask("normals", {which: [k]}))[k]));
    return normals.get(k);
  }

  // what one scorer contributes, as an element of the page
  async function evidencePart(image, e, share, row, column) {
    const bar = el("span", {class: "share", style: `width:${Math.round(120 * share)}px`, "aria-hidden": "true"});
    const div = el("div", {class: "scorer"}, el("h2", {}, e.scorer));
    div.append(el("div", {}, `${e.units.toFixed(2)} in the fused map's units `, bar));
    if (e.near) {
      const names = e.near.map(k => meta.normals[k]),
        farther = e.share < 1 ? `farther than ${(100 * e.share).toFixed(0)} % of the` : "farther than all",
        text = `${e.times.toFixed(1)} times the usual distance, ${farther} normal images; nearest: ${names.join(", ")}`;
      div.append(strip(meta.own[e.scorer][row * grid + column], e.times), el("div", {}, text));
      const normal = meta.pictures && (await normalPicture(e.near[0]));
      if (normal) div.append(windowPictures(image, e.box, normal, e.theirs, names[0], size));
    }
    if (e.energies) div.append(energyChart(e.energies));
    if (e.details.length) div.append(el("ul", {}, ...e.details.map(text => el("li", {}, text))));
    return div;
  }

  async function place(row, column) {
    if (!state.now) return;
    state.row = clamp(row, 0, grid - 1);
    state.column = clamp(column, 0, grid - 1);
    pair.reveal();
    const mine = ++turn,
      {image, pack} = state.now,
      at = [state.row, state.column],
      [sentence, evidence] = pack.places[state.row * grid + state.column],
      all = evidence.reduce((sum, e) => sum + Math.max(e.units, 0), 0) || 1;
    const made = await Promise.all(evidence.map(e => evidencePart(image, e, Math.max(e.units, 0) / all, ...at)));
    const gradient = meta.gradient && (await ask("gradient", {image: state.image, place: at}));
    if (mine !== turn) return;
    say.textContent = sentence;
    parts.replaceChildren(...made);
    if (gradient) parts.append(gradientPictures(gradient, image, size));
    root.dataset.place = String(at);
    root.dispatchEvent(new CustomEvent("gkplace", {detail: [state.image, ...at]}));
  }

  async function loadImage(i) {
    const pack = packs.get(i) ?? (await ask("pack", {image: i}));
    packs.set(i, pack);
    if (packs.size > 40) packs.delete(packs.keys().next().value);
    const [image, heat] = await Promise.all([pack.picture, pack.heat].map(loadPicture));
    return {pack, image, heat, valueAt: mapReader(pack.map, size)};
  }

  async function open(i, at) {
    const mine = ++turn;
    Object.assign(state, {image: i, now: null});
    list.update();
    list.reveal(i);
    headline();
    say.textContent = "loading ...";
    parts.replaceChildren();
    hover.textContent = legend.textContent = "";
    try {
      const now = await loadImage(i);
      if (mine !== turn) return;
      Object.assign(state, {now, zoom: 1, left: 0, top: 0});
      legend.textContent = `map: ${now.pack.map.low.toPrecision(2)} to ${now.pack.map.high.toPrecision(3)}`;
      root.dataset.image = i;
      await place(...(at ?? now.pack.top));
    } catch (e) {
      if (i === state.image) say.textContent = `this image cannot be explained: ${e.message}`;
    }
  }

  if (meta.marking) markButtons(root, ask, meta, state, list);
  open(state.image);
  return {go: (i, row, column) => (state.now && i === state.image ? place(row, column) : open(i, [row, column]))};
}

// --- with a kernel: anywidget ---

export function render({model, el: root}) {
  const waiting = new Map(),
    own = String(Math.random()); // a reply reaches every view of a widget
  let [count, page, sent] = [0, null, ""];
  function ask(what, message) {
    return new Promise((done, fail) => {
      const id = `${own}-${++count}`;
      waiting.set(id, [done, fail]);
      model.send({what, id, ...message});
    });
  }
  function received(reply) {
    const [done, fail] = waiting.get(reply.id) ?? [];
    waiting.delete(reply.id);
    if (done && reply.error) fail(new Error(reply.error));
    else if (done) done(reply.answer);
  }
  function build() {
    const frame = el("div");
    root.replaceChildren(frame);
    page = view(frame, ask, model.get("meta"));
    frame.addEventListener("gkplace", e => {
      sent = String(e.detail);
      model.set("place", e.detail);
      model.save_changes();
    });
  }
  function moved() {
    const place = model.get("place");
    if (String(place) !== sent) page.go(...place);
  }
  const handlers = {"msg:custom": received, "change:meta": build, "change:place": moved};
  for (const [name, handler] of Object.entries(handlers)) model.on(name, handler);
  build();
  return () => {
    for (const [name, handler] of Object.entries(handlers)) model.off(name, handler);
  };
}

export default {render};

// --- in a report: everything is in the page ---

async function unzip(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

export async function report(root, data) {
  const answers = {
    pack: ({image}) => unzip(data.packs[image]),
    thumbs: () => data.thumbs,
    normals: () => data.normals,
    gradient: ({image, place}) => data.gradients[`${image},${place}`],
  };
  view(root, async (what, message) => answers[what](message), await unzip(data.meta));
}
