"use strict";

// The wall of a layer: its units sorted, filtered and scrolled.

const WALL_GAP = { x: 8, y: 10 };
const WALL_MARGIN = 200;
const FILL_MS = 6; // of a frame, for making tiles
const WORDS = ["label", "verdict"]; // what is known of a unit in words

// The units of a layer by their numbers, filtered and sorted as the address says.
function order(layer, units) {
  const low = state.from === undefined ? -Infinity : Number(state.from);
  const high = state.to === undefined ? Infinity : Number(state.to);
  const score = (unit, number) => (state.epoch === undefined ? unit.numbers.score : microscope.layers[layerNumber(layer.name)].epochs[state.epoch]?.scores[number]);
  const value = (key, number) => (key === "score" ? score(units[number], number) : units[number].numbers[key]) ?? null;
  let numbers = units.map((_, number) => number);
  for (const key of WORDS) if (state[key] !== undefined) numbers = numbers.filter((number) => units[number][key] === state[key]);
  if (state.by) numbers = numbers.filter((number) => value(state.by, number) !== null && value(state.by, number) >= low && value(state.by, number) <= high);
  if (WORDS.includes(state.sort)) {
    const word = (number) => units[number][state.sort] ?? "\uffff";
    numbers.sort((a, b) => word(a).localeCompare(word(b), "en", { numeric: true }) || a - b);
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

  // Fills once a frame.
  fillSoon() {
    cancelAnimationFrame(this.next);
    this.next = requestAnimationFrame(() => wall === this && this.fill());
  }

  // A little above and below the screen is ready to be scrolled to. What takes longer than a part of a frame goes on in
  // the next one, so that scrolling is not held up.
  fill() {
    const top = -this.list.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - WALL_MARGIN) / this.height) * this.columns);
    const end = Math.min(this.count, Math.ceil((top + innerHeight + WALL_MARGIN) / this.height) * this.columns);
    const until = performance.now() + FILL_MS;
    const steps = this.changes(first, end);
    while (!steps.next().done) {
      if (performance.now() > until) {
        this.fillSoon();
        return;
      }
    }
  }

  *changes(first, end) {
    for (let index = first; index < end; index += 1) if (!this.shown.has(index)) yield this.add(index);
    for (const [index, { item }] of this.shown) {
      if ((index < first || index >= end) && !item.contains(document.activeElement)) {
        item.remove();
        yield this.shown.delete(index);
      }
    }
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
  const key = state.sort ?? "score";
  alive(() => {
    const score = state.epoch === undefined ? unit.numbers.score : microscope.layers[layerNumber(layer.name)].epochs[state.epoch]?.scores[number];
    const value = WORDS.includes(state.sort) ? worded(state.sort, unit) : written(key, key === "score" ? score : unit.numbers[key]);
    figure.textContent = value;
  });
  return element("li", {},
    element("a", { href: link({ unit: unit.id, image: null }), "data-tile": unit.id, title: name },
      picture, element("span", { class: "label" }, element("span", {}, unit.class && unit.class !== unit.id ? `${unit.id} ${unit.class}` : unit.id), figure)));
}

function controls(units, kinds, show) {
  const names = microscope.network.numbers;
  const known = Object.keys(names).filter((key) => units.some((unit) => unit.numbers[key] !== undefined));
  const words = WORDS.map((key) => [key, [...new Set(units.map((unit) => unit[key]).filter((word) => word !== null))]]).filter(([, found]) => found.length > 1);
  words.forEach(([, found]) => found.sort((a, b) => a.localeCompare(b, "en", { numeric: true })));
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
    choice("sort", "sort by", [option("", "index", state.sort), ...known.map((key) => option(key, names[key][0], state.sort)),
      ...words.map(([key]) => option(key, key === "label" ? "label of images" : key, state.sort))]),
    pressed("down", state.down ? "" : "1", state.down ? "highest first" : "lowest first", Boolean(state.down)),
    ...words.map(([key, found]) => choice(key, key, [option("", "all", state[key]),
      ...found.map((word) => option(word, worded(key, { [key]: word }), state[key]))])),
    choice("by", "filter by", [option("", "nothing", state.by), ...known.map((key) => option(key, names[key][0], state.by))]),
    state.by && limit("from", "from"), state.by && limit("to", "to"));
}
