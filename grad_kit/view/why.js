// The page of notebook 11a: pictures to choose from, a picture beside its map, and what speaks for or against the
// place under the pointer.
// `view(root, source, meta)` builds it. `source` answers: pack(i), normals([k, ...]), thumbs([i, ...]), each a
// promise; with a kernel they are
// messages (`render`), in a report they are in the page (`report`). Nothing is fetched from anywhere.

const css = `
.gk { --line: color-mix(in srgb, currentColor 25%, transparent);
  --faint: color-mix(in srgb, currentColor 72%, transparent); --alarm: #c62828; --fine: #2e7d32;
  font: 14px/1.45 system-ui, sans-serif; color: var(--jp-ui-font-color1, CanvasText);
  background: var(--jp-layout-color0, Canvas); padding: 8px; box-sizing: border-box; }
.gk.dark { --alarm: #ff8a80; --fine: #a5d6a7; }
.gk * { box-sizing: border-box; }
.gk h2 { font-size: 15px; margin: 0 0 4px; font-weight: 600; }
.gk .bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-bottom: 6px; }
.gk label { display: inline-flex; gap: 6px; align-items: center; }
.gk button, .gk select { font: inherit; color: inherit; background: transparent; border: 1px solid var(--faint);
  border-radius: 4px; padding: 1px 8px; cursor: pointer; }
.gk button:disabled { opacity: .5; cursor: default; }
.gk select option { color: CanvasText; background: Canvas; }
.gk :focus-visible { outline: 3px solid #1e88e5; outline-offset: 1px; }
.gk .sheet { position: relative; overflow-y: auto; border: 1px solid var(--line); height: 134px; margin-bottom: 8px;
  contain: strict; }
.gk .thumb { position: absolute; top: 0; left: 0; width: 104px; height: 122px; padding: 4px; text-align: center;
  font-size: 11px; line-height: 13px; overflow: hidden; border-radius: 4px; cursor: pointer; contain: strict; }
.gk .sheet.tall { height: 378px; }
.gk .thumb canvas, .gk .thumb img { width: 80px; height: 80px; display: block; margin: 0 auto 2px;
  object-fit: cover; background: var(--line); }
.gk .thumb.now { outline: 3px solid #1e88e5; outline-offset: -3px; }
.gk .thumb.picked { background: color-mix(in srgb, #1e88e5 25%, transparent); }
.gk .thumb.alarm .score { color: var(--alarm); font-weight: 600; }
.gk .thumb .score { display: block; }
.gk .thumb .name { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gk .both { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
.gk figure { margin: 0; }
.gk figcaption { font-size: 12px; color: var(--faint); min-height: 18px; }
.gk .look { width: 300px; height: 300px; display: block; touch-action: none; cursor: crosshair; background: #777; }
.gk .answer { flex: 1 1 330px; min-width: 290px; }
.gk .answer p { margin: 0 0 8px; }
.gk .answer .say { font-weight: 600; }
.gk .scorer { border-top: 1px solid var(--line); padding: 6px 0; }
.gk .crops { display: flex; gap: 8px; flex-wrap: wrap; margin: 4px 0; }
.gk .crops canvas { width: 84px; height: 84px; display: block; image-rendering: pixelated; background: #777; }
.gk .crops figcaption { max-width: 84px; line-height: 14px; overflow: hidden; text-overflow: ellipsis; }
.gk ul { margin: 2px 0 2px 18px; padding: 0; }
.gk .rose { width: 210px; height: 104px; display: block; margin-top: 4px; }
.gk .strip { width: 300px; height: 34px; display: block; }
.gk .share { display: inline-block; height: 8px; background: #1e88e5; vertical-align: middle; border-radius: 2px; }
`;

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes))
    k.startsWith("on") ? node.addEventListener(k.slice(2), v) : node.setAttribute(k, v);
  node.append(...children.filter(c => c !== null && c !== undefined));
  return node;
};
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const picture = url =>
  new Promise((done, fail) => {
    const im = new Image();
    im.onload = () => done(im);
    im.onerror = () => fail(new Error("a picture could not be read"));
    im.src = url;
  });

// black, violet, orange, yellow: matplotlib's inferno at nine points
const ramp = [
  [0, 0, 4],
  [31, 12, 72],
  [85, 15, 109],
  [136, 34, 106],
  [186, 54, 85],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
];
function colour(share) {
  const at = clamp(share, 0, 1) * 8,
    i = Math.min(Math.floor(at), 7),
    part = at - i;
  return ramp[i].map((v, k) => v + (ramp[i + 1][k] - v) * part);
}

// {side, low, high, data} -> values, and a canvas in the colours of the threshold: half way up
function readMap(map, threshold) {
  const raw = new Uint16Array(bytes(map.data).buffer),
    values = Float32Array.from(raw, v => map.low + ((map.high - map.low) * v) / 65535);
  const canvas = el("canvas", {width: map.side, height: map.side}),
    pixels = new ImageData(map.side, map.side);
  const top = Math.max(2 * threshold, map.high, 1e-6),
    low = Math.min(0, threshold - Math.abs(threshold));
  values.forEach((v, i) => pixels.data.set([...colour((v - low) / (top - low)), 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return {values, side: map.side, canvas};
}

function crop(canvas, image, box, scale) {
  const [x, y, side] = box.map(v => v * scale),
    g = canvas.getContext("2d", {willReadFrequently: true});
  g.clearRect(0, 0, canvas.width, canvas.height);
  g.imageSmoothingEnabled = true;
  g.drawImage(image, x, y, side, side, 0, 0, canvas.width, canvas.height);
  return g.getImageData(0, 0, canvas.width, canvas.height);
}

export function view(root, source, meta) {
  const {size, grid} = meta,
    cell = size / grid;
  const state = {
    image: 0,
    row: 0,
    column: 0,
    zoom: 1,
    left: 0,
    top: 0,
    threshold: meta.threshold,
    show: "all",
    picked: new Set(),
    marks: {...meta.marks},
  };
  const normals = new Map(),
    packs = new Map(),
    thumbs = new Map();
  let now = null,
    order = [],
    drawn = 0;
  root.classList.add("gk");
  root.append(el("style", {}, css));

  // --- the sheet: only what is in sight is in the page ---
  const spacer = el("div"),
    sheet = el(
      "div",
      {
        class: meta.marking ? "sheet tall" : "sheet",
        tabindex: 0,
        "data-lm-suppress-shortcuts": true, // JupyterLab and Notebook leave keys pressed here alone
        role: "listbox",
        "aria-label": "images, highest score first",
        "aria-multiselectable": String(!!meta.marking),
      },
      spacer,
    );
  const width = 104,
    height = 122,
    cards = new Map();
  const columns = () => Math.max(1, Math.floor((sheet.clientWidth - 2) / width));
  const called = i => meta.names[i],
    verdict = i => meta.scores[i] > state.threshold;
  function choose() {
    const wanted = {all: () => true, alarm: verdict, passed: i => !verdict(i), marked: i => i in state.marks}[
      state.show
    ];
    order = meta.order.filter(wanted);
    for (const card of cards.values()) card.remove();
    cards.clear();
    lay();
    const alarms = meta.order.filter(verdict).length;
    counts.textContent = `${alarms} of ${meta.names.length} raise an alarm`;
  }
  function dress(card, i) {
    card.classList.toggle("now", i === state.image);
    card.classList.toggle("alarm", verdict(i));
    card.classList.toggle("picked", state.picked.has(i));
    card.setAttribute("aria-selected", String(meta.marking ? state.picked.has(i) : i === state.image));
    card.querySelector(".score").textContent =
      `${meta.scores[i].toPrecision(3)}${verdict(i) ? " alarm" : ""}${i in state.marks ? ` · ${state.marks[i]}` : ""}`;
  }
  function lay() {
    if (!sheet.clientWidth) return; // hidden: it is laid out again when it is shown
    const wide = columns(),
      rows = Math.ceil(order.length / wide),
      first = Math.max(0, Math.floor(sheet.scrollTop / height) - 1),
      last = Math.min(rows, Math.ceil((sheet.scrollTop + sheet.clientHeight) / height) + 1);
    spacer.style.height = `${rows * height}px`;
    const seen = new Set(order.slice(first * wide, last * wide)),
      missing = [];
    for (const [i, card] of cards)
      if (!seen.has(i)) {
        card.remove();
        cards.delete(i);
      }
    order.slice(first * wide, last * wide).forEach((i, k) => {
      let card = cards.get(i);
      if (!card) {
        card = el(
          "div",
          {
            class: "thumb",
            role: "option",
            id: `${meta.id}-${i}`,
            "aria-label": `${called(i)}, score ${meta.scores[i].toPrecision(3)}`,
            title: called(i),
          },
          el("img", {alt: "", draggable: "false"}),
          el("span", {class: "score"}),
          el("span", {class: "name"}, called(i).split("/").slice(-2).join("/")),
        );
        card.onclick = e => {
          if (meta.marking && (e.ctrlKey || e.metaKey || e.shiftKey)) pick(i, e.shiftKey);
          else {
            state.picked.clear();
            go(i);
          }
          sheet.focus({preventScroll: true});
        };
        cards.set(i, card);
        sheet.append(card);
      }
      const at = first * wide + k;
      card.style.transform = `translate(${(at % wide) * width}px, ${Math.floor(at / wide) * height}px)`;
      if (thumbs.has(i)) {
        const im = card.firstChild;
        if (!im.src) im.src = thumbs.get(i);
      } else missing.push(i);
      dress(card, i);
    });
    if (missing.length) {
      clearTimeout(later);
      later = setTimeout(fetchThumbs, 60);
    } // what merely flies by is not asked for
  }
  let later = 0;
  const pending = new Set();
  async function fetchThumbs() {
    const missing = [...cards.keys()].filter(i => !thumbs.has(i) && !pending.has(i)).slice(0, 60);
    if (!missing.length) return;
    missing.forEach(i => pending.add(i));
    const found = await source.thumbs(missing);
    for (const [i, url] of Object.entries(found)) {
      thumbs.set(+i, url);
      pending.delete(+i);
      const card = cards.get(+i);
      if (card) card.firstChild.src = url;
    }
  }
  let asked = false;
  const soon = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        lay();
      });
    }
  };
  sheet.addEventListener("scroll", soon, {passive: true});
  new ResizeObserver(soon).observe(sheet);
  function pick(i, through) {
    if (through && order.includes(state.image)) {
      const [a, b] = [order.indexOf(state.image), order.indexOf(i)].sort((x, y) => x - y);
      order.slice(a, b + 1).forEach(k => state.picked.add(k));
    } else state.picked.has(i) ? state.picked.delete(i) : state.picked.add(i);
    lay();
  }
  function reveal(i) {
    const at = order.indexOf(i);
    if (at < 0) return;
    const y = Math.floor(at / columns()) * height;
    if (y < sheet.scrollTop) sheet.scrollTop = y;
    else if (y + height > sheet.scrollTop + sheet.clientHeight) sheet.scrollTop = y + height - sheet.clientHeight;
    sheet.setAttribute("aria-activedescendant", `${meta.id}-${i}`);
  }
  sheet.addEventListener("keydown", e => {
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns(),
      ArrowUp: -columns(),
      Home: -1e9,
      End: 1e9,
      PageDown: 3 * columns(),
      PageUp: -3 * columns(),
    };
    if (e.key === " " && meta.marking) {
      e.preventDefault();
      pick(state.image);
      return;
    }
    if (!(e.key in steps) || !order.length) return;
    e.preventDefault();
    e.stopPropagation();
    go(order[clamp(order.indexOf(state.image) + steps[e.key], 0, order.length - 1)]);
  });

  // --- controls above ---
  const counts = el("span", {class: "counts", "aria-live": "polite"});
  const filter = el(
    "select",
    {
      "aria-label": "which images",
      onchange: e => {
        state.show = e.target.value;
        choose();
      },
    },
    ...[
      ["all", "all images"],
      ["alarm", "alarms"],
      ["passed", "no alarm"],
      ...(meta.marking ? [["marked", "marked"]] : []),
    ].map(([v, t]) => el("option", {value: v}, t)),
  );
  const low = Math.min(...meta.scores, meta.threshold),
    high = Math.max(...meta.scores, meta.threshold),
    span = Math.max(high - low, 1e-6);
  const said = el("output", {}, meta.threshold.toPrecision(4));
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 1000,
    step: 1,
    value: Math.round(((meta.threshold - low) / span) * 1000),
    "aria-label": "threshold, in units of the image score",
    oninput: e => {
      state.threshold =
        +e.target.value === Math.round(((meta.threshold - low) / span) * 1000)
          ? meta.threshold
          : low + (span * e.target.value) / 1000;
      said.textContent = state.threshold.toPrecision(4) + (state.threshold === meta.threshold ? "" : " (by hand)");
      choose();
      headline();
      if (now) draw();
    },
  });
  const bar = el("div", {class: "bar"}, counts, filter, el("label", {}, "threshold", slider, said));
  const note = el("span", {role: "status"});
  if (meta.marking) {
    const chosen = () => (state.picked.size ? [...state.picked] : [state.image]);
    const asked = work =>
      work.then(took, e => {
        note.textContent = `not done: ${e.message}`;
        learn.disabled = false;
      });
    const mark = what => asked(source.mark(chosen(), what));
    const took = m => {
      state.marks = m.marks;
      state.picked.clear();
      const n = Object.keys(m.marks).length;
      note.textContent = [m.note, n ? `${n} marked` : "", m.changed ? "not learned yet" : ""]
        .filter(Boolean)
        .join("; ");
      learn.disabled = !m.changed;
      undo.disabled = !n;
      choose();
    };
    const undo = el("button", {onclick: () => asked(source.undo()), title: "take the last mark back"}, "undo");
    const learn = el(
      "button",
      {
        title: "marked good images join those fitted or held out; nothing is trained on defects",
        onclick: () => {
          learn.disabled = true;
          note.textContent = "learning ...";
          asked(source.learn());
        },
      },
      "learn from marks",
    );
    bar.append(
      el("button", {onclick: () => mark("good"), title: "the chosen images are good after all"}, "good after all"),
      el("button", {onclick: () => mark("defect"), title: "the chosen images are defects"}, "defect"),
      undo,
      learn,
      note,
    );
    took(meta);
  }

  // --- the pair: one place, two canvases, one zoom ---
  const make = name =>
    el("canvas", {
      class: "look",
      width: 600,
      height: 600,
      tabindex: 0,
      "data-lm-suppress-shortcuts": true, // JupyterLab and Notebook leave keys pressed here alone
      role: "img",
      "aria-label": `${name}; arrow keys move the place, plus and minus zoom, page up and down change the image`,
    });
  const [left, right] = [make("image"), make("anomaly map")],
    hover = el("figcaption"),
    legend = el("figcaption");
  const title = el("h2"),
    answer = el("div", {class: "answer", role: "region", "aria-label": "why"});
  const say = el("p", {class: "say", "aria-live": "polite"}),
    parts = el("div");
  answer.append(title, say, parts);
  root.append(
    bar,
    sheet,
    el("div", {class: "both"}, el("figure", {}, left, hover), el("figure", {}, right, legend), answer),
  );
  const factor = () => (600 / size) * state.zoom;
  function draw() {
    if (!now) return;
    for (const [canvas, im] of [
      [left, now.image],
      [right, now.map.canvas],
    ]) {
      const g = canvas.getContext("2d"),
        f = factor();
      g.imageSmoothingEnabled = canvas === right || state.zoom < 3;
      g.clearRect(0, 0, 600, 600);
      g.drawImage(im, -state.left * f, -state.top * f, size * f, size * f);
      const boxes = [
        [state.column * cell, state.row * cell, cell],
        ...now.pack.places[state.row * grid + state.column][1]
          .filter(e => e.box)
          .slice(0, 1)
          .map(e => e.box),
      ];
      boxes.forEach(([x, y, side], k) => {
        for (const [line, style] of [
          [5, "#000"],
          [2, k ? "#40c4ff" : "#fff"],
        ]) {
          g.lineWidth = line;
          g.strokeStyle = style;
          g.strokeRect((x - state.left) * f, (y - state.top) * f, side * f, side * f);
        }
      });
    }
  }
  const valueAt = (x, y) => {
    const m = now.map,
      i = clamp(Math.floor((x * m.side) / size), 0, m.side - 1),
      j = clamp(Math.floor((y * m.side) / size), 0, m.side - 1);
    return m.values[j * m.side + i];
  };
  const pixel = (canvas, e) => {
    const r = canvas.getBoundingClientRect();
    return [
      (((e.clientX - r.left) / r.width) * 600) / factor() + state.left,
      (((e.clientY - r.top) / r.height) * 600) / factor() + state.top,
    ];
  };
  function zoomTo(zoom, x = (state.column + 0.5) * cell, y = (state.row + 0.5) * cell) {
    zoom = clamp(zoom, 1, 16);
    const keep = state.zoom / zoom;
    state.left = clamp(x - (x - state.left) * keep, 0, size - size / zoom);
    state.top = clamp(y - (y - state.top) * keep, 0, size - size / zoom);
    state.zoom = zoom;
    draw();
  }
  for (const canvas of [left, right]) {
    let from = null,
      moved = false;
    canvas.addEventListener("pointerdown", e => {
      from = [e.clientX, e.clientY, state.left, state.top];
      moved = false;
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", e => {
      if (!now) return;
      if (from && Math.hypot(e.clientX - from[0], e.clientY - from[1]) > 4) moved = true;
      if (from && moved) {
        const f = factor() / 2;
        state.left = clamp(from[2] - (e.clientX - from[0]) / f, 0, size - size / state.zoom);
        state.top = clamp(from[3] - (e.clientY - from[1]) / f, 0, size - size / state.zoom);
        draw();
      }
      const [x, y] = pixel(canvas, e);
      if (x >= 0 && y >= 0 && x < size && y < size)
        hover.textContent = `x ${Math.floor(x)}, y ${Math.floor(y)}: ${valueAt(x, y).toPrecision(3)}`;
    });
    canvas.addEventListener("pointerup", e => {
      if (from && !moved && now) {
        const [x, y] = pixel(canvas, e);
        place(Math.floor(y / cell), Math.floor(x / cell));
      }
      from = null;
    });
    canvas.addEventListener(
      "wheel",
      e => {
        if (!now || !(e.ctrlKey || document.activeElement === canvas)) return;
        e.preventDefault();
        zoomTo(state.zoom * (e.deltaY < 0 ? 1.25 : 0.8), ...pixel(canvas, e));
      },
      {passive: false},
    );
    canvas.addEventListener("dblclick", () => zoomTo(1));
    canvas.addEventListener("keydown", e => {
      const moves = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]},
        turn = {PageDown: 1, PageUp: -1}[e.key];
      if (e.key in moves) place(state.row + moves[e.key][0], state.column + moves[e.key][1]);
      else if (e.key === "+" || e.key === "=") zoomTo(state.zoom * 1.5);
      else if (e.key === "-") zoomTo(state.zoom / 1.5);
      else if (e.key === "0") zoomTo(1);
      else if (turn && order.length) go(order[clamp(order.indexOf(state.image) + turn, 0, order.length - 1)]);
      else return;
      e.preventDefault();
      e.stopPropagation();
    });
  }

  // --- the answer ---
  function strip(own, times) {
    // where this place stands among normal images
    const canvas = el("canvas", {
      class: "strip",
      width: 600,
      height: 68,
      role: "img",
      "aria-label": `${times.toFixed(1)} times the usual distance; normal images reach ` +
        own[own.length - 1].toFixed(1),
    });
    const g = canvas.getContext("2d"),
      top = Math.max(times, own[own.length - 1]) * 1.08,
      ink = getComputedStyle(root).color;
    g.strokeStyle = g.fillStyle = ink;
    g.font = "22px system-ui, sans-serif";
    g.globalAlpha = 0.35;
    for (const t of own) {
      g.beginPath();
      g.lineWidth = 3;
      g.moveTo((t / top) * 590 + 3, 8);
      g.lineTo((t / top) * 590 + 3, 34);
      g.stroke();
    }
    g.globalAlpha = 1;
    g.fillStyle = "#1e88e5";
    g.beginPath();
    g.arc((times / top) * 590 + 3, 21, 9, 0, 7);
    g.fill();
    g.fillStyle = ink;
    g.fillText("0", 0, 62);
    g.textAlign = "center";
    g.fillText("usual", clamp(590 / top, 52, 530), 62);
    g.textAlign = "right";
    g.fillText(`${top.toFixed(1)} ×`, 598, 62);
    return canvas;
  }
  function rose(energies, scorer) {
    // lines of six angles at four wavelengths: red where there is more than usual, blue where there is less
    const canvas = el("canvas", {
      class: "rose",
      width: 420,
      height: 208,
      role: "img",
      "aria-label":
        "filter energies: " +
        energies
          .map((v, i) => [v, i])
          .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]))
          .slice(0, 3)
          .map(
            ([v, i]) =>
              `lines at ${(270 - 30 * (i % 6)) % 180} degrees, ${3.5 * 2 ** Math.floor(i / 6)} pixels apart, ` +
              (v > 0 ? "stronger" : "weaker"),
          )
          .join("; "),
    });
    const g = canvas.getContext("2d"),
      ink = getComputedStyle(root).color;
    g.font = "20px system-ui, sans-serif";
    g.textBaseline = "middle";
    energies.forEach((v, i) => {
      const x = (i % 6) * 52 + 26,
        y = Math.floor(i / 6) * 52 + 26,
        angle = (((270 - 30 * (i % 6)) % 180) * Math.PI) / 180,
        strength = clamp(Math.abs(v) / 5, 0.06, 1);
      g.fillStyle = v > 0 ? "#e53935" : "#1e88e5";
      g.globalAlpha = strength;
      g.fillRect(x - 24, y - 24, 48, 48);
      g.globalAlpha = 1;
      g.strokeStyle = ink;
      g.lineWidth = 3;
      g.beginPath();
      g.moveTo(x - 15 * Math.cos(angle), y + 15 * Math.sin(angle));
      g.lineTo(x + 15 * Math.cos(angle), y - 15 * Math.sin(angle));
      g.stroke();
    });
    g.fillStyle = ink;
    for (let k = 0; k < 4; k++) g.fillText(`${3.5 * 2 ** k} px`, 322, k * 52 + 26);
    return el(
      "figure",
      {},
      canvas,
      el(
        "figcaption",
        {},
        scorer === "filters" ? "" : "what filters see here: ",
        "lines by angle and spacing: red, more than usual; blue, less",
      ),
    );
  }
  async function windows(e, mine) {
    const crops = el("div", {class: "crops"}),
      shots = ["this part", meta.normals[e.near[0]], "difference"].map(t => {
        const c = el("canvas", {width: 84, height: 84, role: "img", "aria-label": t});
        crops.append(el("figure", {}, c, el("figcaption", {title: t}, t)));
        return c;
      });
    const missing = e.near.slice(0, 1).filter(k => !normals.has(k));
    if (missing.length)
      for (const [k, url] of Object.entries(await source.normals(missing))) normals.set(+k, await picture(url));
    if (mine !== drawn) return null;
    const theirs = normals.get(e.near[0]),
      small = Math.round(clamp((e.box[2] * theirs.width) / size, 8, 84));
    for (const c of shots) c.width = c.height = small;
    const a = crop(shots[0], now.image, e.box, now.image.width / size),
      b = crop(shots[1], theirs, e.theirs, theirs.width / size),
      d = shots[2].getContext("2d"),
      out = d.createImageData(small, small);
    for (let i = 0; i < out.data.length; i += 4) {
      for (let k = 0; k < 3; k++) out.data[i + k] = Math.min(255, 2 * Math.abs(a.data[i + k] - b.data[i + k]));
      out.data[i + 3] = 255;
    }
    d.putImageData(out, 0, 0);
    return crops;
  }
  function slope(found) {
    // the window of the detector, and the pixels that its logit hangs on
    const crops = el("div", {class: "crops"}),
      canvas = el("canvas", {width: 84, height: 84, role: "img", "aria-label": "the detector's window"});
    crop(canvas, now.image, found.box, now.image.width / size);
    const {canvas: hot} = readMap(found.gradient, found.gradient.high / 2);
    hot.setAttribute("role", "img");
    hot.setAttribute("aria-label", "gradient of the logit");
    crops.append(
      el("figure", {}, canvas, el("figcaption", {}, `level ${found.level}`)),
      el("figure", {}, hot, el("figcaption", {}, "gradient of the logit")),
      el("div", {}, `logit ${found.logit.toFixed(1)} spreads above the normal mean`),
    );
    return crops;
  }
  async function place(row, column) {
    if (!now) return; // its image is not there yet
    state.row = clamp(row, 0, grid - 1);
    state.column = clamp(column, 0, grid - 1);
    const mine = ++drawn,
      image = now.number,
      [sentence, evidence] = now.pack.places[state.row * grid + state.column];
    const x = state.column * cell,
      y = state.row * cell;
    if (
      x < state.left ||
      y < state.top ||
      x + cell > state.left + size / state.zoom ||
      y + cell > state.top + size / state.zoom
    ) {
      state.left = clamp(x + cell / 2 - size / state.zoom / 2, 0, size - size / state.zoom);
      state.top = clamp(y + cell / 2 - size / state.zoom / 2, 0, size - size / state.zoom);
    }
    draw();
    const positive = evidence.map(e => Math.max(e.units, 0)),
      all = positive.reduce((a, b) => a + b, 0),
      made = [];
    for (const [k, e] of evidence.entries()) {
      const div = el(
        "div",
        {class: "scorer"},
        el("h2", {}, e.scorer),
        el(
          "div",
          {},
          `${e.units.toFixed(2)} in the fused map's units `,
          el("span", {
            class: "share",
            style: `width:${all ? Math.round((120 * positive[k]) / all) : 0}px`,
            "aria-hidden": "true",
          }),
        ),
      );
      if (e.times !== undefined) {
        div.append(
          strip(meta.own[e.scorer][state.row * grid + state.column], e.times),
          el(
            "div",
            {},
            `${e.times.toFixed(1)} times the usual distance, ` +
              (e.share >= 1 ? "farther than any normal image is" : `farther than ${(100 * e.share).toFixed(0)} %`) +
              (e.share >= 1 ? "" : " of the normal images") +
              `; nearest: ${e.near.map(i => meta.normals[i]).join(", ")}`,
          ),
        );
        if (e.theirs && meta.pictures) {
          const crops = await windows(e, mine);
          if (mine !== drawn) return;
          if (crops) div.append(crops);
        }
        if (e.energies) div.append(rose(e.energies, e.scorer));
      }
      if (e.details.length) div.append(el("ul", {}, ...e.details.map(t => el("li", {}, t))));
      if (e.scorer === "detector") {
        const top = now.pack.top,
          found = source.gradient
            ? await source.gradient(image, [state.row, state.column])
            : state.row === top[0] && state.column === top[1]
              ? now.pack.gradient
              : null;
        if (mine !== drawn) return;
        if (found) div.append(slope(found));
      }
      made.push(div);
    }
    if (mine !== drawn || image !== now?.number) return;
    say.textContent = sentence;
    parts.replaceChildren(...made);
    root.dataset.place = `${state.row},${state.column}`;
    root.dispatchEvent(new CustomEvent("gkplace", {detail: {image, row: state.row, column: state.column}}));
  }
  function headline() {
    const i = state.image;
    title.textContent = `${called(i)}: score ${meta.scores[i].toPrecision(3)}, ${verdict(i) ? "alarm" : "no alarm"}`;
  }
  let wanted = 0;
  async function go(i, to) {
    state.image = i;
    const mine = ++wanted;
    drawn++; // what is being said of the image before is no longer waited for
    reveal(i);
    lay();
    now = null;
    title.textContent = called(i);
    say.textContent = "looking ...";
    parts.replaceChildren();
    hover.textContent = legend.textContent = "";
    for (const canvas of [left, right]) canvas.getContext("2d").clearRect(0, 0, 600, 600);
    try {
      if (!packs.has(i)) {
        packs.set(i, await source.pack(i));
        if (packs.size > 40) packs.delete(packs.keys().next().value);
      }
      const pack = packs.get(i),
        image = await picture(pack.picture);
      if (mine !== wanted) return;
      now = {number: i, pack, image, map: readMap(pack.map, meta.threshold)};
      state.zoom = 1;
      state.left = state.top = 0;
      legend.textContent = `map: ${pack.map.low.toPrecision(2)} to ${pack.map.high.toPrecision(3)}`;
      headline();
      root.dataset.image = i;
      await place(...(to ?? pack.top));
    } catch (e) {
      if (mine === wanted) say.textContent = `this image cannot be explained: ${e.message}`;
    }
  }
  root.gkRedraw = () => {
    if (now) place(state.row, state.column);
  }; // in another theme
  root.gkGo = (i, row, column) => (now?.number === i ? place(row, column) : go(i, [row, column]));
  choose();
  go(meta.order[0]);
}

// --- with a kernel: anywidget ---
export function render({model, el: root}) {
  const waiting = new Map(),
    own = crypto.randomUUID?.() ?? String(Math.random());
  let n = 0; // replies go to every view of a widget
  const ask = (what, more = {}) =>
    new Promise((done, fail) => {
      const id = `${own}-${++n}`;
      waiting.set(id, [done, fail]);
      model.send({what, id, ...more});
    });
  const heard = reply => {
    const [done, fail] = waiting.get(reply.id) ?? [];
    waiting.delete(reply.id);
    if (done) reply.error ? fail(new Error(reply.error)) : done(reply.answer);
  };
  model.on("msg:custom", heard);
  const box = el("div");
  root.append(box);
  const source = {
    pack: i => ask("pack", {image: i}),
    gradient: (image, place) => ask("gradient", {image, place}),
    normals: which => ask("normals", {which}),
    thumbs: which => ask("thumbs", {which}),
    mark: (which, as) => ask("mark", {which, as}),
    undo: () => ask("undo"),
    learn: () => ask("learn"),
  };
  const isDark = () => [document.body, document.documentElement].some(e => e.dataset.jpThemeLight === "false");
  let frame = null,
    sent = "";
  const shade = () => {
    if (frame.classList.contains("dark") !== isDark()) {
      frame.classList.toggle("dark");
      setTimeout(frame.gkRedraw, 300);
    }
  };
  const theme = new MutationObserver(shade);
  theme.observe(document.body, {attributes: true, attributeFilter: ["data-jp-theme-light"]});
  const build = () => {
    frame = el("div", isDark() ? {class: "dark"} : {});
    box.replaceChildren(frame);
    view(frame, source, model.get("meta"));
    frame.addEventListener("gkplace", e => {
      const place = [e.detail.image, e.detail.row, e.detail.column];
      sent = String(place);
      model.set("place", place);
      model.save_changes();
    });
  };
  model.on("change:meta", build);
  model.on("change:place", () => {
    const place = model.get("place");
    if (String(place) !== sent) frame.gkGo(...place);
  });
  build();
  return () => {
    theme.disconnect();
    model.off("msg:custom", heard);
  };
}

// --- in a page that was mailed: everything is in it ---
export async function report(root, data) {
  const open = async text =>
    JSON.parse(
      await new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).text(),
    );
  const dark = matchMedia("(prefers-color-scheme: dark)"),
    shade = () => root.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", () => {
    shade();
    root.gkRedraw?.();
  });
  shade();
  const meta = await open(data.meta);
  const source = {
    pack: i => open(data.packs[i]),
    normals: async which => Object.fromEntries(which.map(k => [k, data.normals[k]])),
    thumbs: async which => Object.fromEntries(which.map(i => [i, data.thumbs[i]])),
  };
  view(root, source, meta);
}

export default {render};
