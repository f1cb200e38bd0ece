// The page of nbs/view/3_why.ipynb: a list of images, one of them beside its anomaly map, and the explanation of one
// place. This file is written by hand; tests/test_javascript.py lints it.
// `view(root, ask, meta)` builds the page. `ask(what, message)` returns a promise of a "pack" (of an image), "thumbs",
// "normals", or of what "mark" and "learn" change. With a kernel these are messages (`render`); in a report the answers
// are in the page (`report`). Nothing is fetched from a network.

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
.gk button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--faint);
  border-radius: 4px; padding: 1px 8px; cursor: pointer; }
.gk button:disabled { opacity: .5; cursor: default; }
.gk :focus-visible { outline: 3px solid var(--now); outline-offset: 1px; }
.gk .sheet { display: grid; grid-template-columns: repeat(auto-fill, 104px); grid-auto-rows: 122px; max-height: 256px;
  position: relative; overflow-y: auto; border: 1px solid var(--line); margin-bottom: 8px; contain: content; }
.gk .thumb { padding: 4px; text-align: center; font-size: 11px; line-height: 13px; border-radius: 4px; cursor: pointer;
  contain: strict; content-visibility: auto; }
.gk .thumb img { width: 80px; height: 80px; display: block; margin: 0 auto 2px; background: var(--line); }
.gk .thumb.now { outline: 3px solid var(--now); outline-offset: -3px; }
.gk .thumb.picked { background: color-mix(in srgb, var(--now) 25%, transparent); }
.gk .thumb.alarm .score { color: var(--alarm); font-weight: 600; }
.gk .thumb span { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gk .both { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
.gk figure { margin: 0; }
.gk figcaption { font-size: 12px; color: var(--faint); min-height: 18px; }
.gk .look { width: 300px; height: 300px; overflow: auto; scrollbar-width: none; cursor: crosshair; background: #777; }
.gk .zoomed { position: relative; }
.gk .zoomed img { width: 100%; display: block; }
.gk .zoomed i { position: absolute; border: 2px solid #fff; outline: 1px solid #000; }
.gk .zoomed .window { border-color: #40c4ff; }
.gk .answer { flex: 1 1 330px; min-width: 290px; }
.gk .answer p { margin: 0 0 8px; font-weight: 600; }
.gk .scorer { border-top: 1px solid var(--line); padding: 6px 0; }
.gk .strip { position: relative; width: 300px; height: 16px; margin: 2px 0; border-bottom: 1px solid var(--faint); }
.gk .strip i { position: absolute; top: 2px; width: 1px; height: 14px; background: currentColor; opacity: .35; }
.gk .strip b { position: absolute; top: 4px; width: 8px; height: 8px; border-radius: 4px; background: var(--now); }
.gk .crops { display: flex; gap: 8px; flex-wrap: wrap; margin: 4px 0; }
.gk .crops canvas { width: 84px; height: 84px; display: block; image-rendering: pixelated; background: #777; }
.gk .crops figcaption { max-width: 84px; line-height: 14px; overflow: hidden; text-overflow: ellipsis; }
`;

// JupyterLab and Notebook leave keys alone that are pressed in an element with this attribute
const KEYS = 'tabindex="0" data-lm-suppress-shortcuts="true"';
const HELP = "arrow keys move the place, plus and minus zoom, page up and down change the image";
const lookHTML = name => `
  <figure>
    <div class="look" role="img" ${KEYS} aria-label="${name}; ${HELP}">
      <div class="zoomed"><img alt="" draggable="false"><i class="window"></i><i class="place"></i></div>
    </div>
    <figcaption></figcaption>
  </figure>`;
const marksHTML = `
<button title="the chosen images are normal">good after all</button>
<button title="the chosen images are defects">defect</button>
<button title="take the marks of the chosen images away">no mark</button>
<button title="fit with the good ones; nothing is trained on defects">learn from marks</button>
<span class="note" role="status"></span>`;
const pageHTML = marking => `
<style>${css}</style>
<div class="bar">
  <span class="counts" aria-live="polite"></span>
  <label>threshold <input type="range" step="any" aria-label="threshold, in units of the image score">
    <output></output></label>
  ${marking ? marksHTML : ""}
</div>
<div class="sheet" ${KEYS} role="listbox" aria-label="images, highest score first"
  aria-multiselectable="${marking}"></div>
<div class="both">
  ${lookHTML("image")} ${lookHTML("anomaly map")}
  <div class="answer" role="region" aria-label="why"><h2></h2><p class="say" aria-live="polite"></p><div></div></div>
</div>`;

// --- small helpers ---

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

// --- pictures of the evidence ---

// where `times` lies among the values of normal images at this place
function strip(own, times) {
  const most = own.at(-1),
    at = t => `left: ${(94 * t) / Math.max(times, most)}%`,
    label = `${times.toFixed(1)} times the usual distance; normal images reach ${most.toFixed(1)}`,
    ticks = own.map(t => el("i", {style: at(t)}));
  return el("div", {class: "strip", role: "img", "aria-label": label}, ...ticks, el("b", {style: at(times)}));
}

function drawCrop(canvas, image, box, size) {
  const [x, y, side] = box.map(v => (v * image.naturalWidth) / size);
  canvas.getContext("2d").drawImage(image, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

// the window of this image, the nearest normal one, and twice their difference
function windowPictures(image, normal, {box, theirs: normalBox}, name, size) {
  const side = Math.round(clamp((box[2] * normal.naturalWidth) / size, 8, 84)),
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
  const figures = canvases.map((c, k) => el("figure", {}, c, el("figcaption", {title: captions[k]}, captions[k])));
  return el("div", {class: "crops"}, ...figures);
}

// --- the list of images ---

// {alarm(i), update(), move(steps), reveal(i)}; `open(i)` is called with the image that is chosen
function imageList(root, ask, meta, state, open) {
  const [counts, sheet] = root.querySelectorAll(".counts, .sheet"),
    [cards, waiting] = [[], new Set()],
    alarm = i => meta.scores[i] > state.threshold;
  let timer = 0;

  // thumbnails are requested for what is in sight when scrolling stops
  async function fetchThumbs() {
    const wanted = [...waiting];
    waiting.clear();
    const found = await ask("thumbs", {which: wanted});
    for (const i of wanted) cards[i].querySelector("img").src = found[i];
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
    const name = meta.names[i],
      image = el("img", {alt: "", draggable: "false"}),
      texts = [el("span", {class: "score"}), el("span", {}, name.split("/").slice(-2).join("/"))],
      attributes = {class: "thumb", role: "option", id: `${meta.id}-${i}`, "data-i": i, title: name};
    cards[i] = el("div", attributes, image, ...texts);
    sheet.append(cards[i]);
    observer.observe(cards[i]);
  }

  function update() {
    for (const [i, card] of cards.entries()) {
      const mark = i in state.marks ? ` · ${state.marks[i]}` : "",
        text = `${meta.scores[i].toPrecision(3)}${alarm(i) ? " alarm" : ""}${mark}`;
      card.classList.toggle("now", i === state.image);
      card.classList.toggle("alarm", alarm(i));
      card.classList.toggle("picked", state.picked.has(i));
      card.setAttribute("aria-selected", meta.marking ? state.picked.has(i) : i === state.image);
      card.setAttribute("aria-label", `${meta.names[i]}, score ${text}`);
      card.querySelector(".score").textContent = text;
    }
    sheet.setAttribute("aria-activedescendant", `${meta.id}-${state.image}`);
    const alarms = meta.order.filter(alarm).length;
    counts.textContent = `${alarms} of ${meta.names.length} raise an alarm`;
  }

  function pick(i) {
    if (!state.picked.delete(i)) state.picked.add(i);
    update();
  }

  function move(steps) {
    const {order} = meta;
    open(order[clamp(order.indexOf(state.image) + steps, 0, order.length - 1)]);
  }

  sheet.addEventListener("click", e => {
    const card = e.target.closest(".thumb");
    if (!card) return;
    const i = Number(card.dataset.i);
    if (meta.marking && (e.ctrlKey || e.metaKey)) pick(i);
    else {
      state.picked.clear();
      open(i);
    }
    sheet.focus({preventScroll: true});
  });
  sheet.addEventListener("keydown", e => {
    const row = getComputedStyle(sheet).gridTemplateColumns.split(" ").length;
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, PageDown: 3 * row, PageUp: -3 * row};
    if (e.key === " " && meta.marking) pick(state.image);
    else if (e.key === "Home") move(-cards.length);
    else if (e.key === "End") move(cards.length);
    else if (e.key in steps) move(steps[e.key]);
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  // scroll the list alone, not the page around it
  function reveal(i) {
    const top = cards[i].offsetTop;
    sheet.scrollTop = clamp(sheet.scrollTop, top + 122 - sheet.clientHeight, top);
  }
  return {alarm, update, move, reveal};
}

// --- an image beside its map: one place, one zoom ---

// {reveal(window)}; `choose(row, column)` is called with the place that is chosen
function imagePair(root, meta, state, list, choose) {
  const {size, grid} = meta,
    cell = size / grid,
    looks = root.querySelectorAll(".look");

  function frame(name, box) {
    const [left, top, width] = box.map(v => `${(100 * v) / size}%`);
    for (const outline of root.querySelectorAll(name)) Object.assign(outline.style, {left, top, width, height: width});
  }

  // scroll the place into the middle
  function centre() {
    const [x, y] = [state.column, state.row].map(v => ((v + 0.5) / grid) * 300 * state.zoom - 150);
    for (const look of looks) look.scrollTo(x, y);
  }

  // outline the place, and the window that was compared there
  function reveal(window) {
    frame(".place", [state.column * cell, state.row * cell, cell]);
    frame(".window", window);
    centre();
  }

  function zoomTo(zoom) {
    state.zoom = clamp(zoom, 1, 16);
    for (const look of looks) look.firstElementChild.style.width = `${100 * state.zoom}%`;
    centre();
  }

  function click(e) {
    const box = e.currentTarget.firstElementChild.getBoundingClientRect();
    e.currentTarget.focus({preventScroll: true});
    choose(...[e.clientY - box.top, e.clientX - box.left].map(v => Math.floor((v / box.width) * grid)));
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
  for (const look of looks)
    for (const [name, handler] of Object.entries({click, keydown})) look.addEventListener(name, handler);
  return {reveal};
}

// --- marks of the inspector ---

function markButtons(root, ask, meta, state, list) {
  const [good, defect, none, learn, note] = root.querySelectorAll(".bar button, .bar .note");
  function took(reply) {
    const n = Object.keys(reply.marks).length,
      texts = [reply.note, n ? `${n} marked` : "", reply.changed ? "not learned yet" : ""];
    state.marks = reply.marks;
    state.picked.clear();
    note.textContent = texts.filter(Boolean).join("; ");
    learn.disabled = !reply.changed;
    list.update();
  }
  async function request(what, message) {
    try {
      took(await ask(what, message));
    } catch (e) {
      note.textContent = `not done: ${e.message}`;
      learn.disabled = false;
    }
  }
  const chosen = () => (state.picked.size ? [...state.picked] : [state.image]);
  for (const [kind, button] of Object.entries({good, defect, none}))
    button.addEventListener("click", () => request("mark", {which: chosen(), as: kind}));
  learn.addEventListener("click", () => {
    learn.disabled = true;
    note.textContent = "learning ...";
    request("learn", {});
  });
  took(meta);
}

// --- the page ---

export function view(root, ask, meta) {
  const {size, grid, threshold, marks} = meta,
    [normals, packs] = [new Map(), new Map()],
    state = {threshold, marks, image: meta.order[0], pack: null, row: 0, column: 0, zoom: 1, picked: new Set()};
  let turn = 0; // counts requests: what was overtaken by a later one is not shown
  root.classList.add("gk");
  root.innerHTML = pageHTML(meta.marking);
  const [title, say, parts] = root.querySelector(".answer").children,
    [, legend] = root.querySelectorAll("figcaption"),
    [picture, heat] = root.querySelectorAll(".zoomed img"),
    list = imageList(root, ask, meta, state, open),
    pair = imagePair(root, meta, state, list, place);

  function headline() {
    const {image: i} = state;
    title.textContent = `${meta.names[i]}: score ${meta.scores[i].toPrecision(3)}, ${list.alarm(i) ? "" : "no "}alarm`;
  }

  const [slider, output] = root.querySelectorAll(".bar input, .bar output");
  const [min, max] = [Math.min(...meta.scores, threshold), Math.max(...meta.scores, threshold)];
  Object.assign(slider, {min, max, value: threshold});
  output.textContent = threshold.toPrecision(4);
  slider.addEventListener("input", () => {
    state.threshold = slider.valueAsNumber;
    output.textContent = `${state.threshold.toPrecision(4)} (by hand)`;
    list.update();
    headline();
  });

  async function normalPicture(k) {
    if (!normals.has(k)) normals.set(k, el("img", {src: (await ask("normals", {which: [k]}))[k]}));
    await normals.get(k).decode();
    return normals.get(k);
  }

  // what one scorer contributes, as an element of the page
  async function evidencePart(e, at) {
    const div = el("div", {class: "scorer"}, el("h2", {}, e.scorer));
    div.append(el("div", {}, `${e.units.toFixed(2)} in the fused map's units`));
    if (e.nearest.length) {
      const names = e.nearest.map(k => meta.normals[k]),
        farther = e.share < 1 ? `farther than ${(100 * e.share).toFixed(0)} % of the` : "farther than all",
        text = `${e.times.toFixed(1)} times the usual distance, ${farther} normal images; nearest: ${names.join(", ")}`;
      div.append(strip(meta.own[e.scorer][at], e.times), el("div", {}, text));
      if (meta.pictures) div.append(windowPictures(picture, await normalPicture(e.nearest[0]), e, names[0], size));
    }
    if (e.details.length) div.append(el("ul", {}, ...e.details.map(text => el("li", {}, text))));
    return div;
  }

  async function place(row, column) {
    if (!state.pack) return;
    state.row = clamp(row, 0, grid - 1);
    state.column = clamp(column, 0, grid - 1);
    const mine = ++turn,
      at = state.row * grid + state.column,
      [sentence, evidence] = state.pack.places[at];
    pair.reveal(evidence.find(e => e.box.length).box);
    const made = await Promise.all(evidence.map(e => evidencePart(e, at)));
    if (mine !== turn) return;
    say.textContent = sentence;
    parts.replaceChildren(...made);
    root.dataset.place = `${state.row},${state.column}`;
  }

  async function open(i) {
    const mine = ++turn;
    Object.assign(state, {image: i, pack: null});
    list.update();
    list.reveal(i);
    headline();
    say.textContent = "loading ...";
    parts.replaceChildren();
    legend.textContent = "";
    try {
      if (!packs.has(i)) packs.set(i, await ask("pack", {image: i}));
      if (mine !== turn) return;
      const pack = packs.get(i);
      [picture.src, heat.src] = [pack.picture, pack.heat];
      await picture.decode();
      if (mine !== turn) return;
      state.pack = pack;
      legend.textContent = `map: ${pack.low.toPrecision(2)} to ${pack.high.toPrecision(3)}`;
      root.dataset.image = i;
      await place(...pack.top);
    } catch (e) {
      if (mine === turn) say.textContent = `this image cannot be explained: ${e.message}`;
    }
  }

  if (meta.marking) markButtons(root, ask, meta, state, list);
  open(state.image);
}

// --- with a kernel: anywidget ---

export function render({model, el: root}) {
  const waiting = new Map();
  function ask(what, message) {
    return new Promise((done, fail) => {
      const id = String(Math.random()); // a reply reaches every view of a widget
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
    const page = el("div");
    root.replaceChildren(page);
    view(page, ask, model.get("meta"));
  }
  model.on("msg:custom", received);
  model.on("change:meta", build);
  build();
  return () => {
    model.off("msg:custom", received);
    model.off("change:meta", build);
  };
}

export default {render};

// --- in a report: everything is in the page, as base64 of gzip ---

export async function report(root, text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)),
    stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")),
    {meta, packs, normals} = await new Response(stream).json();
  const answers = {
    pack: ({image}) => packs[image],
    thumbs: () => packs.map(pack => pack.picture),
    normals: () => normals,
  };
  view(root, async (what, message) => answers[what](message), meta);
}
