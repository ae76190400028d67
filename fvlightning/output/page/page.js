"use strict";

// The scripts in data/ fill these in. The address, "#layer=conv2&unit=3&epoch=5", is the whole state of the page.
const microscope = { network: null, layers: [] };

const KEYS = ["image", "layer", "unit", "epoch", "beside", "show", "sort", "down", "by", "from", "to", "label", "size"];
const MOST_FOUND = 40;
const MOST_IN_STRIP = 24;
const PLAY_MS = 650;
const SMALL_PICTURE = 64; // pixels, of pictures that are enlarged pixel by pixel
const WALL_GAP = { x: 8, y: 10 };
const WALL_MARGIN = 200;
const LEAST_WINDOW = 32; // pixels of an image that are shown around a patch

let state = {};
let live = []; // what to call when the epoch has changed
let wall = null; // the tiles of the layer that is shown
let isClick = false;
let playing = null;
const scrolls = new Map();
const loading = new Map();
const byId = (id) => document.getElementById(id);

// --- Elements ---

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function alive(update) {
  live.push(update);
  update();
}

function short(value) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(3)));
}

function percent(share) {
  if (share > 0 && share < 0.01) return "<1 %";
  return share > 0.99 && share < 1 ? ">99 %" : `${Math.round(100 * share)} %`;
}

function written(key, value) {
  if (value === null || value === undefined) return "–";
  return key === "active" ? percent(value) : short(value);
}

function sides(shape) {
  return shape.join(" × ");
}

function fileUrl(file) {
  return file.split("/").map(encodeURIComponent).join("/");
}

// --- State ---

function readState() {
  const values = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KEYS.filter((key) => values.get(key)).map((key) => [key, values.get(key)]));
}

function link(changes, base = state) {
  const merged = { ...base, ...changes };
  const values = new URLSearchParams();
  for (const key of KEYS) if (merged[key] !== undefined && merged[key] !== null && merged[key] !== "") values.set(key, merged[key]);
  return `#${values}`;
}

// Where to go within the network, at the same epochs.
function place(changes) {
  return link(changes, { epoch: state.epoch, beside: state.beside });
}

function change(changes) {
  history.replaceState(null, "", link(changes));
  render(true);
}

function layerNumber(name) {
  return microscope.network.layers.findIndex((layer) => layer.name === name);
}

function load(number) {
  if (microscope.layers[number]) return Promise.resolve();
  if (!loading.has(number)) {
    const file = microscope.network.layers[number].data;
    loading.set(number, new Promise((resolve, reject) => {
      document.head.append(element("script", { src: file, onload: resolve, onerror: () => reject(new Error(`${file} is missing`)) }));
    }));
  }
  return loading.get(number);
}

function epochName(epoch) {
  if (epoch === undefined || epoch === null) return "trained";
  return epoch === "0" ? "untrained" : `epoch ${epoch}`;
}

// --- Pictures ---

// Shows a tile of a sprite, or a part of the tile: `share` of its sides from `left` and `top`.
function paint(picture, sprites, number, { left = 0, top = 0, share = 1 } = {}) {
  picture.classList.toggle("none", !sprites);
  if (!sprites) {
    picture.style.backgroundImage = "";
    return;
  }
  const { columns, rows, width, height, count, files } = sprites;
  const file = Math.floor(number / (columns * rows));
  const inside = number % (columns * rows);
  const filled = Math.ceil(Math.min(columns * rows, count - file * columns * rows) / columns);
  const at = (offset, tiles) => (tiles > share ? (100 * offset) / (tiles - share) : 0);
  picture.classList.toggle("sharp", Math.max(width, height) <= SMALL_PICTURE);
  picture.style.backgroundImage = `url("${files[file]}")`;
  picture.style.backgroundSize = `${(100 * columns) / share}% ${(100 * filled) / share}%`;
  picture.style.backgroundPosition =
    `${at((inside % columns) + left, columns)}% ${at(Math.floor(inside / columns) + top, filled)}%`;
  picture.style.aspectRatio = `${width} / ${height}`;
}

function tile(alt) {
  return element("div", alt ? { class: "picture", role: "img", "aria-label": alt } : { class: "picture", "aria-hidden": "true" });
}

function spritesAt(layer, epoch) {
  return layer.sprites[epoch === undefined ? "picture" : `epoch ${epoch}`];
}

function hasPicture(layer, number, epoch) {
  const data = microscope.layers[layerNumber(layer.name)];
  return epoch === undefined || !data || (data.epochs[epoch]?.scores[number] ?? null) !== null;
}

// The picture of a unit at the epoch of the slider, and beside it that of another epoch.
function unitPicture(layer, number, alt) {
  const first = tile(alt);
  alive(() => paint(first, hasPicture(layer, number, state.epoch) && spritesAt(layer, state.epoch), number));
  if (state.beside === undefined) return first;
  const second = tile(alt && `${alt}, ${epochName(besideEpoch())}`);
  paint(second, hasPicture(layer, number, besideEpoch()) && spritesAt(layer, besideEpoch()), number);
  return element("div", { class: "pair" }, first, second);
}

function besideEpoch() {
  return state.beside === "trained" ? undefined : state.beside;
}

function imagePicture(index, box, alt) {
  const { sprites } = microscope.network.images;
  const picture = tile(alt);
  if (!box) {
    paint(picture, sprites, index);
    return picture;
  }
  const [top, left, height, width] = box;
  const share = Math.min(1, Math.max(3 * height, 3 * width, LEAST_WINDOW / Math.min(sprites.width, sprites.height)));
  const inside = (first, size) => Math.min(Math.max(0, first + (size - share) / 2), 1 - share);
  const view = { left: inside(left, width), top: inside(top, height), share };
  paint(picture, sprites, index, view);
  const side = (value) => `${(100 * value) / share}%`;
  const patch = element("span", { class: "patch" });
  Object.assign(patch.style, { left: side(left - view.left), top: side(top - view.top), width: side(width), height: side(height) });
  picture.append(patch);
  return picture;
}

function imageName(index) {
  const [label, file] = microscope.network.images.names[index];
  return label || file;
}

function tileSize(sprites, isLarge) {
  const width = sprites?.width ?? 56;
  const small = width <= SMALL_PICTURE ? width * Math.ceil(56 / width) : 84;
  return isLarge ? 2 * small : small;
}

// --- Map ---

function showMap() {
  const { network } = microscope;
  const rows = [];
  let between = [];
  const close = () => {
    if (!between.length) return;
    const lines = between.map(([name, kind, shape]) => `${name} ${kind} ${sides(shape)}`);
    rows.push(element("li", { class: "between" }, lines.length <= 2 ? lines.join(" · ")
      : element("details", {}, element("summary", {}, `${lines.length} modules between`), lines.join(" · "))));
    between = [];
  };
  for (const row of network.map) {
    if (Array.isArray(row)) between.push(row);
    else {
      close();
      rows.push(mapRow(network.layers[row]));
    }
  }
  close();
  const units = network.layers.reduce((sum, layer) => sum + layer.units.length, 0);
  return [
    element("div", { class: "head" }, element("h1", {}, network.model),
      element("span", { class: "dim" }, `${units.toLocaleString("en")} units of ${network.layers.length} layers`)),
    element("ol", { class: "map", "aria-label": "Layers in order" }, ...rows),
  ];
}

function mapRow(layer) {
  const shown = layer.units.length === layer.n_units ? `${layer.n_units}` : `${layer.units.length} of ${layer.n_units}`;
  const strip = element("div", { class: "strip" });
  strip.style.setProperty("--tile", `${tileSize(layer.sprites.picture) * (state.beside === undefined ? 1 : 2)}px`);
  layer.units.slice(0, MOST_IN_STRIP).forEach(([id], number) => {
    const target = place({ layer: layer.name, unit: id });
    strip.append(element("a", { href: target, tabindex: -1 }, unitPicture(layer, number, `unit ${id} of ${layer.name}`)));
  });
  return element("li", {},
    element("div", { class: "names" },
      element("h2", {}, element("a", { href: place({ layer: layer.name }), "data-tile": layer.name }, layer.name)),
      element("div", { class: "dim" }, layer.kind, element("br"), sides(layer.shape), element("br"), `${shown} units`)),
    strip);
}

// --- Layer ---

// The units of a layer by their numbers, filtered and sorted as the address says.
function order(layer, units) {
  const low = state.from === undefined ? -Infinity : Number(state.from);
  const high = state.to === undefined ? Infinity : Number(state.to);
  const score = (unit, number) => (state.epoch === undefined ? unit.numbers.score : microscope.layers[layerNumber(layer.name)].epochs[state.epoch]?.scores[number]);
  const value = (key, number) => (key === "score" ? score(units[number], number) : units[number].numbers[key]) ?? null;
  let numbers = units.map((_, number) => number);
  if (state.label !== undefined) numbers = numbers.filter((number) => units[number].label === state.label);
  if (state.by) numbers = numbers.filter((number) => value(state.by, number) !== null && value(state.by, number) >= low && value(state.by, number) <= high);
  if (state.sort === "label") {
    numbers.sort((a, b) => (units[a].label ?? "\uffff").localeCompare(units[b].label ?? "\uffff", "en", { numeric: true }) || a - b);
  } else if (state.sort) {
    // Units without the number are at the end, either way round.
    numbers.sort((a, b) => {
      const [first, second] = [value(state.sort, a), value(state.sort, b)];
      if (first === null || second === null) return (first === null) - (second === null) || a - b;
      return (state.down ? second - first : first - second) || a - b;
    });
    return numbers;
  }
  return state.down ? numbers.reverse() : numbers;
}

function showLayer(number) {
  const { network } = microscope;
  const layer = network.layers[number];
  const { units } = microscope.layers[number];
  const kinds = ["picture", "negative", "weights"].filter((kind) => layer.sprites[kind]);
  if (network.images && units.some((unit) => unit.images)) kinds.splice(kinds.indexOf("negative") + 1 || 1, 0, "examples");
  const show = kinds.includes(state.show) ? state.show : kinds[0];
  const factor = state.beside !== undefined && show === "picture" ? 2 : 1;
  const size = show === "weights" || show === "examples" ? layer.sprites.picture : layer.sprites[show];
  const numbers = order(layer, units);
  wall = new Wall(numbers.length, factor * tileSize(size, state.size === "large"),
    (index) => wallTile(layer, units[numbers[index]], numbers[index], show), (id) => numbers.findIndex((one) => units[one].id === id));
  const count = numbers.length === units.length ? `${units.length} units` : `${numbers.length} of ${units.length} units`;
  byId("status").textContent = count;
  const before = network.layers[number - 1];
  const after = network.layers[number + 1];
  return [
    element("div", { class: "head" }, element("h1", {}, layer.name),
      element("span", { class: "dim" }, [layer.kind, sides(layer.shape), count].filter(Boolean).join(" · ")),
      element("nav", { class: "steps right", "aria-label": "Layers" },
        before && element("a", { href: place({ layer: before.name }) }, `← ${before.name}`),
        after && element("a", { href: place({ layer: after.name }) }, `${after.name} →`))),
    controls(units, kinds, show),
    wall.list,
  ];
}

// Tiles in rows. Only those near the screen are elements, so that thousands scroll smoothly.
class Wall {
  constructor(count, size, make, find) {
    Object.assign(this, { count, size, make, find, shown: new Map(), columns: 1, height: 0 });
    this.list = element("ol", { class: "wall" });
    this.list.style.setProperty("--tile", `${size}px`);
    alive(() => this.shown.forEach(({ updates }) => updates.forEach((update) => update())));
  }

  layOut() {
    this.shown.forEach(({ item }) => item.remove());
    this.shown.clear();
    if (!this.count) return;
    this.columns = Math.max(1, Math.floor((this.list.clientWidth + WALL_GAP.x) / (this.size + WALL_GAP.x)));
    this.add(0);
    this.height = this.shown.get(0).item.offsetHeight + WALL_GAP.y;
    this.list.style.height = `${Math.ceil(this.count / this.columns) * this.height}px`;
    this.fill();
  }

  // A little above and below the screen is ready to be scrolled to.
  fill() {
    const top = -this.list.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - WALL_MARGIN) / this.height) * this.columns);
    const end = Math.min(this.count, Math.ceil((top + innerHeight + WALL_MARGIN) / this.height) * this.columns);
    for (const [index, { item }] of this.shown) {
      if ((index < first || index >= end) && !item.contains(document.activeElement)) {
        item.remove();
        this.shown.delete(index);
      }
    }
    for (let index = first; index < end; index += 1) if (!this.shown.has(index)) this.add(index);
  }

  add(index) {
    const outer = live;
    live = [];
    const item = this.make(index);
    item.style.left = `${(index % this.columns) * (this.size + WALL_GAP.x)}px`;
    item.style.top = `${Math.floor(index / this.columns) * this.height}px`;
    item.setAttribute("aria-setsize", this.count);
    item.setAttribute("aria-posinset", index + 1);
    this.shown.set(index, { item, updates: live });
    live = outer;
    // In their order, which is that of the tab key; most are the last.
    let before = this.list.lastElementChild;
    while (before && Number(before.getAttribute("aria-posinset")) > index + 1) before = before.previousElementSibling;
    if (before) before.after(item);
    else this.list.prepend(item);
  }

  focus(index, options = {}) {
    if (index < 0 || index >= this.count) return;
    if (!this.shown.has(index)) this.add(index);
    this.shown.get(index).item.firstChild.focus(options);
  }

  focused() {
    return [...this.shown].find(([, { item }]) => item.contains(document.activeElement))?.[0] ?? -1;
  }
}

function wallTile(layer, unit, number, show) {
  const name = [`unit ${unit.id}`, unit.class, unit.label && `most like ${unit.label}`].filter(Boolean).join(", ");
  let picture;
  if (show === "picture") picture = unitPicture(layer, number);
  else if (show === "examples") {
    const strongest = unit.images?.strongest.slice(0, 4) ?? [];
    picture = element("div", { class: "four" }, ...strongest.map(([index, , box]) => imagePicture(index, box)));
  } else {
    picture = tile();
    const isThere = show === "weights" || unit.negatives.length;
    paint(picture, isThere && layer.sprites[show], number);
  }
  const figure = element("span", {});
  const key = state.sort in unit.numbers || state.sort === "score" ? state.sort : "score";
  alive(() => {
    const score = state.epoch === undefined ? unit.numbers.score : microscope.layers[layerNumber(layer.name)].epochs[state.epoch]?.scores[number];
    const value = state.sort === "label" ? unit.label ?? "–" : written(key, key === "score" ? score : unit.numbers[key]);
    figure.textContent = value;
  });
  return element("li", {},
    element("a", { href: link({ unit: unit.id, image: null }), "data-tile": unit.id, title: name },
      picture, element("span", { class: "label" }, element("span", {}, unit.class && unit.class !== unit.id ? `${unit.id} ${unit.class}` : unit.id), figure)));
}

function controls(units, kinds, show) {
  const names = microscope.network.numbers;
  const known = Object.keys(names).filter((key) => units.some((unit) => unit.numbers[key] !== undefined));
  const labels = [...new Set(units.map((unit) => unit.label).filter((label) => label !== null))];
  labels.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const option = (value, text, chosen) => element("option", { value, selected: value === (chosen ?? "") }, text);
  const choice = (name, text, options) => element("label", {}, text,
    element("select", { name, onchange: (event) => change({ [name]: event.target.value }) }, ...options));
  const pressed = (name, value, text, isOn) => element("button",
    { type: "button", "aria-pressed": String(isOn), onclick: () => change({ [name]: value }) }, text);
  const limit = (name, text) => element("label", {}, text, element("input",
    { name, type: "number", step: "any", value: state[name] ?? "", onchange: (event) => change({ [name]: event.target.value }) }));
  return element("div", { class: "controls" },
    kinds.length > 1 && element("div", { class: "switch", role: "group", "aria-label": "What is shown" },
      ...kinds.map((kind) => pressed("show", kind === kinds[0] ? "" : kind, kind, kind === show))),
    element("div", { class: "switch", role: "group", "aria-label": "Size" },
      pressed("size", "", "small", state.size !== "large"), pressed("size", "large", "large", state.size === "large")),
    choice("sort", "sort by", [option("", "index", state.sort), ...known.map((key) => option(key, names[key].name, state.sort)),
      labels.length && option("label", "label of images", state.sort)].filter(Boolean)),
    pressed("down", state.down ? "" : "1", state.down ? "highest first" : "lowest first", Boolean(state.down)),
    labels.length > 1 && choice("label", "label", [option("", "all", state.label), ...labels.map((label) => option(label, label, state.label))]),
    choice("by", "filter by", [option("", "nothing", state.by), ...known.map((key) => option(key, names[key].name, state.by))]),
    state.by && limit("from", "from"), state.by && limit("to", "to"));
}

// --- Unit ---

function showUnit(number, id) {
  const layer = microscope.network.layers[number];
  const data = microscope.layers[number];
  const at = data.units.findIndex((unit) => unit.id === id);
  if (at < 0) return missing(`${layer.name} has no unit ${id} on this page`);
  const unit = data.units[at];
  const numbers = order(layer, data.units);
  const index = numbers.indexOf(at);
  const [before, after] = [numbers[index - 1], numbers[index + 1]].map((one) => data.units[one]);
  const step = (one, text, relation) => one && element("a", { href: link({ unit: one.id }), rel: relation }, text(one.id));
  const title = unit.class && unit.class !== unit.id ? `${unit.name} ${unit.class}` : unit.name;
  return [
    element("div", { class: "head" }, element("h1", {}, title),
      element("span", { class: "dim" }, [layer.kind, sides(layer.shape), index >= 0 && `${index + 1} of ${numbers.length}`].filter(Boolean).join(" · ")),
      element("nav", { class: "steps right", "aria-label": "Units" }, step(before, (name) => `← ${name}`, "prev"), step(after, (name) => `${name} →`, "next"))),
    element("div", { class: "unit" },
      element("div", { class: "stack" }, pictures(layer, unit, at), film(layer, data, at), ...examples(unit)),
      element("div", { class: "stack" }, facts(layer, data, unit, at), histogram(data, unit, at), curve(unit), life(data, at), weights(layer, unit, at))),
  ];
}

function pictureCaption(name, facts, sign) {
  const score = facts.score === null ? "" : ` ${short(sign * facts.score)}`;
  const limit = facts.limit === null ? "" : ` (±${short(facts.limit)})`;
  return element("figcaption", {}, name, element("b", {}, score), limit, facts.status === "ok" ? "" : ` ${facts.status}`);
}

function file(facts, alt) {
  const image = element("img", { src: fileUrl(facts.file), alt });
  image.addEventListener("load", () => image.classList.toggle("sharp", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL_PICTURE));
  return image;
}

function pictures(layer, unit, at) {
  const first = element("figure", {});
  const [best, ...repeats] = unit.pictures;
  alive(() => {
    const score = microscope.layers[layerNumber(layer.name)].epochs[state.epoch]?.scores[at] ?? null;
    const picture = tile(`Picture of ${unit.name}, ${epochName(state.epoch)}`);
    if (state.epoch !== undefined) {
      paint(picture, score !== null && spritesAt(layer, state.epoch), at);
      const text = score === null ? "no picture of this unit" : "score ";
      first.replaceChildren(picture, element("figcaption", {}, `${epochName(state.epoch)}: ${text}`, score === null ? "" : element("b", {}, short(score))));
    } else if (best) first.replaceChildren(file(best, `Picture of ${unit.name}`), pictureCaption("picture: score", best, 1));
    else {
      paint(picture, null, at);
      first.replaceChildren(picture, element("figcaption", {}, "no picture"));
    }
  });
  let second = null;
  if (state.beside !== undefined) {
    const other = tile(`Picture of ${unit.name}, ${epochName(besideEpoch())}`);
    paint(other, hasPicture(layer, at, besideEpoch()) && spritesAt(layer, besideEpoch()), at);
    second = element("figure", {}, other, element("figcaption", {}, epochName(besideEpoch())));
  }
  const [negative] = unit.negatives;
  return element("section", { "aria-label": "Pictures" },
    element("div", { class: "pictures" }, first, second,
      negative && element("figure", {}, file(negative, `Negative picture of ${unit.name}`), pictureCaption("negative picture: score", negative, -1))),
    repeats.length > 0 && element("div", { class: "repeats" },
      ...repeats.map((one) => element("figure", {}, file(one, `Another picture of ${unit.name}`), pictureCaption("repeat:", one, 1)))));
}

function film(layer, data, at) {
  const { epochs } = microscope.network;
  if (!epochs.length) return null;
  const buttons = [...epochs.map(String), undefined].map((epoch) => {
    const picture = tile();
    const button = element("button", { type: "button", title: epochName(epoch), onclick: () => setEpoch(epoch) }, picture, epoch ?? "trained");
    paint(picture, hasPicture(layer, at, epoch) && spritesAt(layer, epoch), at);
    alive(() => button.setAttribute("aria-pressed", String(state.epoch === epoch)));
    return button;
  });
  return element("section", {}, element("h2", {}, "Over the epochs"), element("div", { class: "film" }, ...buttons));
}

function examples(unit) {
  if (!unit.images) return [];
  const ofTrained = () => {
    const note = element("span", { class: "dim" });
    alive(() => { note.textContent = state.epoch === undefined ? "" : " after training"; });
    return note;
  };
  const row = (title, found) => found.length > 0 && element("section", {}, element("h2", {}, title, ofTrained()),
    element("div", { class: "examples" }, ...found.map(([index, score, box]) => element("a",
      { href: place({ image: String(index) }), title: "Inspect: which units does this image excite?" },
      imagePicture(index, box, `image ${microscope.network.images.names[index][1]}`),
      element("span", { class: "name" }, imageName(index)), element("span", { class: "dim" }, short(score))))));
  return [row("Images that excite it most", unit.images.strongest), row("Images that excite it least", unit.images.weakest)];
}

function facts(layer, data, unit, at) {
  const list = element("dl", { class: "facts" });
  alive(() => {
    list.replaceChildren();
    const figures = { ...unit.numbers };
    if (state.epoch !== undefined) {
      for (const key of Object.keys(figures)) delete figures[key];
      const epoch = data.epochs[state.epoch];
      figures.score = epoch?.scores[at] ?? undefined;
      figures.largest = epoch?.images?.[at]?.maximum ?? undefined;
      figures.active = epoch?.images?.[at]?.active ?? undefined;
    }
    for (const [key, { name, meaning }] of Object.entries(microscope.network.numbers)) {
      if (figures[key] === undefined) continue;
      list.append(element("dt", {}, name, element("small", {}, meaning)), element("dd", {}, written(key, figures[key])));
    }
    if (unit.label !== null && state.epoch === undefined) {
      list.append(element("dt", {}, "label", element("small", {}, "the class that is most frequent among the images that excite it most")), element("dd", {}, unit.label));
    }
  });
  return element("section", {}, element("h2", {}, "Scores"), list);
}

// --- Plots ---

const PLOT = { width: 320, height: 116, left: 36, bottom: 18, top: 12 };

function plot(title, label, ...parts) {
  return element("section", {}, element("h2", {}, title),
    drawing("svg", { class: "plot", viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": label }, ...parts));
}

function text(x, y, value, anchor = "middle", kind = "") {
  const made = drawing("text", { x, y, "text-anchor": anchor, class: kind });
  made.textContent = value;
  return made;
}

function histogram(data, unit, at) {
  const section = element("div", {});
  alive(() => {
    const found = state.epoch === undefined ? unit.images : data.epochs[state.epoch]?.images?.[at];
    section.replaceChildren();
    if (!found || found.minimum === null) return;
    const { width, height, left, bottom, top } = PLOT;
    const most = Math.max(1, ...found.histogram);
    const step = (width - left) / found.histogram.length;
    const range = found.maximum - found.minimum || 1;
    const score = state.epoch === undefined ? unit.numbers.score : data.epochs[state.epoch]?.scores[at];
    const x = (value) => left + ((width - left) * (value - found.minimum)) / range;
    const parts = found.histogram.map((count, bin) => {
      const tall = ((height - bottom - top) * count) / most;
      const isActive = found.minimum + (range * (bin + 0.5)) / found.histogram.length > 0;
      return drawing("rect", { x: left + bin * step, y: height - bottom - tall, width: Math.max(0.5, step - 1), height: tall, class: isActive ? "bar" : "bar idle" });
    });
    parts.push(drawing("path", { class: "axis", d: `M${left} ${height - bottom}H${width}` }));
    parts.push(text(left, height - 5, short(found.minimum), "start"), text(width, height - 5, short(found.maximum), "end"), text((left + width) / 2, height - 5, "score of an image"));
    parts.push(text(left - 5, top + 8, String(most), "end"), text(left - 5, height - bottom, "0", "end"));
    if (score !== null && score !== undefined) {
      const beyond = score > found.maximum ? " →" : "";
      const mark = Math.min(Math.max(x(score), left), width);
      parts.push(drawing("path", { class: "mark", d: `M${mark} ${top}V${height - bottom}` }));
      parts.push(text(mark, top - 3, `picture ${short(score)}${beyond}`, mark > (left + width) / 2 ? "end" : "start", "mark"));
    }
    section.append(plot("Activations", `Histogram of the scores of ${found.count} images, from ${short(found.minimum)} to ${short(found.maximum)}`, ...parts));
  });
  return section;
}

// A curve of values, of which some may be missing, with its range and the ends of its axis.
function curveParts(values, first, last, axis) {
  const { width, height, left, bottom, top } = PLOT;
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (index) => left + ((width - left - 4) * index) / Math.max(1, values.length - 1);
  const y = (value) => height - bottom - ((height - bottom - top) * (value - low)) / (high - low || 1);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) pen = "M";
    else {
      path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
  });
  return { x, y, parts: [
    drawing("path", { class: "axis", d: `M${left} ${height - bottom}H${width}` }),
    drawing("path", { class: "curve", d: path }),
    text(left - 5, top + 4, short(high), "end"), text(left - 5, height - bottom, short(low), "end"),
    text(left, height - 5, first, "start"), text(width, height - 5, last, "end"), text((left + width) / 2, height - 5, axis),
  ] };
}

function curve(unit) {
  const section = element("div", {});
  const scores = unit.curve?.scores ?? [];
  if (scores.filter((score) => score !== null).length < 2) return null;
  alive(() => {
    section.replaceChildren();
    if (state.epoch !== undefined) return;
    const { parts } = curveParts(scores, "0", String((scores.length - 1) * unit.curve.every), "step");
    section.append(plot("Optimisation", `Scores of the optimisation over ${unit.pictures[0].steps} steps, with random transforms`, ...parts));
  });
  return section;
}

function life(data, at) {
  const { epochs } = microscope.network;
  const scores = epochs.map((epoch) => data.epochs[epoch]?.scores[at] ?? null);
  if (scores.filter((score) => score !== null).length < 2) return null;
  const { x, y, parts } = curveParts(scores, String(epochs[0]), String(epochs.at(-1)), "epoch");
  const mark = drawing("circle", { class: "mark", r: 3.5 });
  alive(() => {
    const index = epochs.map(String).indexOf(state.epoch);
    mark.style.display = index < 0 || scores[index] === null ? "none" : "";
    if (index >= 0 && scores[index] !== null) {
      mark.setAttribute("cx", x(index));
      mark.setAttribute("cy", y(scores[index]));
    }
  });
  return plot("Score of its picture in training", "Score of the picture of each epoch", ...parts, mark);
}

function weights(layer, unit, at) {
  if (!layer.sprites.weights) return null;
  const picture = tile(`Weights of ${unit.name}`);
  paint(picture, layer.sprites.weights, at);
  picture.classList.add("sharp");
  const signs = layer.sprites.weights.width === layer.sprites.weights.height ? "" : ", channel by channel";
  return element("section", {}, element("h2", {}, "Weights"),
    element("figure", { class: "weights" }, picture, element("figcaption", {}, `of its inputs${signs}; one scale a unit`)));
}

// --- Image ---

function showImage(index) {
  const { network } = microscope;
  if (!network.images || !network.images.names[index]) return missing("no such image on this page");
  const [label, name] = network.images.names[index];
  const sections = network.layers.map((layer, number) => {
    const found = microscope.layers[number].excited[index] ?? [];
    if (!found.length) return null;
    const strip = element("div", { class: "strip" }, ...found.map(([at, score]) => {
      const unit = microscope.layers[number].units[at];
      return element("a", { href: place({ layer: layer.name, unit: unit.id }), "data-tile": unit.name, "aria-label": `${unit.name}, ${short(score)}` },
        unitPicture(layer, at),
        element("span", { class: "label" }, `${unit.class ?? unit.id} `, element("span", { class: "dim" }, short(score))));
    }));
    return element("section", {}, element("h2", {}, layer.name), strip);
  });
  return [
    element("div", { class: "head" }, element("h1", {}, label ? `${name}: ${label}` : name),
      element("span", { class: "dim" }, "the units of each layer that it excites most, by the share of their largest activation; with their activations")),
    element("div", { class: "image" }, imagePicture(index, null, `image ${name}`), element("div", { class: "stack" }, ...sections.filter(Boolean))),
  ];
}

function missing(reason) {
  return [element("h1", {}, "Not on this page"), element("p", {}, reason), element("p", {}, element("a", { href: "#" }, "To the map"))];
}

// --- The bar ---

function showPath() {
  const { network } = microscope;
  const parts = [element("a", { href: place({}) }, network.model)];
  const add = (...nodes) => parts.push(element("span", { "aria-hidden": "true" }, "›"), ...nodes);
  if (state.image !== undefined) add(`image ${state.image}`);
  else if (state.layer !== undefined) {
    add(state.unit === undefined ? state.layer : element("a", { href: link({ unit: null }) }, state.layer));
    if (state.unit !== undefined) add(state.unit);
  }
  byId("path").replaceChildren(...parts);
}

function stops() {
  return [...microscope.network.epochs.map(String), undefined];
}

function showEpochs() {
  byId("epochs").hidden = !microscope.network.epochs.length;
  const index = Math.max(0, stops().indexOf(state.epoch));
  byId("epoch").value = index;
  byId("epoch").setAttribute("aria-valuetext", epochName(state.epoch));
  byId("epoch-name").textContent = epochName(state.epoch);
  byId("beside").value = state.beside ?? "";
}

function setEpoch(epoch) {
  history.replaceState(null, "", link({ epoch }));
  state = readState();
  showEpochs();
  showPath();
  live.forEach((update) => update());
}

function play() {
  const button = byId("play");
  if (playing !== null) {
    clearInterval(playing);
    playing = null;
  } else {
    if (state.epoch === undefined) setEpoch(stops()[0]);
    playing = setInterval(() => {
      const next = stops().indexOf(state.epoch) + 1;
      setEpoch(stops()[next]);
      if (next >= stops().length - 1) play();
    }, PLAY_MS);
  }
  button.setAttribute("aria-pressed", String(playing !== null));
  button.textContent = playing === null ? "▶" : "❚❚";
  button.title = playing === null ? "Play the epochs" : "Pause";
}

function find() {
  const words = byId("search").value.trim().toLowerCase();
  const list = byId("found");
  list.replaceChildren();
  list.hidden = !words;
  if (!words) return;
  const ranked = [];
  microscope.network.layers.forEach((layer, number) => layer.units.forEach(([id, name, label], at) => {
    const isHere = layer.name === state.layer;
    const texts = [id, `${layer.name}:${id}`, name ?? "", label ?? ""].map((one) => one.toLowerCase());
    const isWhole = texts.includes(words);
    if (isWhole || texts.some((one) => one.includes(words))) ranked.push([(isWhole ? 0 : 2) + (isHere ? 0 : 1), number, at]);
  }));
  ranked.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  for (const [, number, at] of ranked.slice(0, MOST_FOUND)) {
    const layer = microscope.network.layers[number];
    const [id, name, label] = layer.units[at];
    const picture = tile();
    paint(picture, layer.sprites.picture, at);
    list.append(element("li", {}, element("a", { href: place({ layer: layer.name, unit: id }) }, picture,
      element("span", {}, `${layer.name}:${id}`), element("span", { class: "dim right" }, name ?? label ?? ""))));
  }
  if (ranked.length > MOST_FOUND) list.append(element("li", {}, element("span", {}, `and ${ranked.length - MOST_FOUND} more`)));
  if (!ranked.length) list.append(element("li", {}, element("span", {}, "no unit of this index, class or label")));
}

function closeFinder() {
  byId("search").value = "";
  find();
}

// --- Rendering ---

async function render(isChange = false) {
  const earlier = state;
  state = readState();
  const asked = location.hash;
  const number = state.layer === undefined ? -1 : layerNumber(state.layer);
  try {
    if (state.image !== undefined) await Promise.all(microscope.network.layers.map((_, one) => load(one)));
    else if (number >= 0) await load(number);
  } catch (error) {
    byId("main").replaceChildren(...missing(error.message));
    return;
  }
  if (location.hash !== asked) return; // the user has gone on
  live = [];
  wall = null;
  let content;
  if (state.image !== undefined) content = showImage(Number(state.image));
  else if (state.layer === undefined) content = showMap();
  else if (number < 0) content = missing(`no layer ${state.layer} on this page`);
  else if (state.unit === undefined) content = showLayer(number);
  else content = showUnit(number, state.unit);
  const focused = isChange && document.activeElement?.name;
  const pressed = isChange && document.activeElement?.closest("main button")?.textContent;
  byId("main").replaceChildren(...content);
  wall?.layOut();
  showPath();
  showEpochs();
  const title = state.image !== undefined ? `image ${state.image}` : [state.layer, state.unit].filter(Boolean).join(":");
  document.title = [title, microscope.network.model].filter(Boolean).join(" – ");
  if (isChange) {
    const same = [...byId("main").querySelectorAll("button")].find((button) => pressed && button.textContent === pressed);
    (focused ? byId("main").querySelector(`[name="${focused}"]`) : same)?.focus({ preventScroll: true });
    return;
  }
  const from = state.unit === undefined && state.layer !== undefined ? earlier.unit : state.layer === undefined ? earlier.layer : null;
  const origin = from && [...byId("main").querySelectorAll("[data-tile]")].find((one) => one.dataset.tile === from);
  (origin || byId("main")).focus({ preventScroll: true });
  scrollTo(0, isClick ? 0 : scrolls.get(location.hash) ?? 0);
  wall?.fill();
  if (from) wall?.focus(wall.find(from), { preventScroll: true });
  isClick = false;
}

function up() {
  if (state.image !== undefined) history.back();
  else if (state.unit !== undefined) location.hash = link({ unit: null });
  else if (state.layer !== undefined) location.hash = place({});
}

function move(key) {
  if (state.unit !== undefined && state.image === undefined) {
    const relation = { ArrowLeft: "prev", ArrowRight: "next" }[key];
    const target = relation && byId("main").querySelector(`[rel="${relation}"]`);
    target?.click();
    return Boolean(relation);
  }
  const tiles = [...byId("main").querySelectorAll("[data-tile]")];
  const columns = wall?.columns ?? 1;
  const at = wall ? wall.focused() : tiles.indexOf(document.activeElement);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (at < 0 && key.match(/Up|Down/)) return false; // the page scrolls
  if (wall) wall.focus(at < 0 ? 0 : at + step);
  else tiles[at < 0 ? 0 : at + step]?.focus();
  return true;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (event.target === byId("search") || !byId("found").hidden) {
      closeFinder();
      byId("main").focus({ preventScroll: true });
    } else up();
  } else if (event.key === "ArrowDown" && event.target === byId("search")) {
    byId("found").querySelector("a")?.focus();
    event.preventDefault();
  } else if (event.target.closest("#found") && event.key.startsWith("Arrow")) {
    const links = [...byId("found").querySelectorAll("a")];
    const next = links[links.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    (next ?? byId("search")).focus();
    event.preventDefault();
  } else if (isTyping) return;
  else if (event.key === "/") {
    byId("search").focus();
    event.preventDefault();
  } else if (event.key.startsWith("Arrow") && move(event.key)) event.preventDefault();
}

function start() {
  const { epochs } = microscope.network;
  byId("bar").hidden = false;
  byId("epoch").max = epochs.length;
  byId("beside").append(element("option", { value: "" }, "nothing"),
    ...epochs.map((epoch) => element("option", { value: String(epoch) }, epochName(String(epoch)))), element("option", { value: "trained" }, "trained"));
  byId("epoch").addEventListener("input", (event) => setEpoch(stops()[Number(event.target.value)]));
  byId("beside").addEventListener("change", (event) => change({ beside: event.target.value }));
  byId("play").addEventListener("click", play);
  byId("search").addEventListener("input", find);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") byId("found").querySelector("a")?.click();
  });
  document.addEventListener("click", (event) => {
    const target = event.target.closest("a[href^='#']");
    if (target) {
      isClick = true;
      if (target.getAttribute("href") === location.hash) isClick = false;
    }
    if (target?.closest("#found") || !event.target.closest("#finder")) closeFinder();
  });
  document.addEventListener("keydown", press);
  addEventListener("hashchange", () => render());
  addEventListener("scroll", () => {
    scrolls.set(location.hash, scrollY);
    wall?.fill();
  }, { passive: true });
  addEventListener("resize", () => wall?.layOut());
  history.scrollRestoration = "manual";
  render();
}

document.addEventListener("DOMContentLoaded", () => {
  if (microscope.network) start();
  else byId("main").replaceChildren(...missing("data/network.js is missing; make the page again"));
});
