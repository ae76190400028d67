"use strict";

// The bar with path, epochs and search, keys, and what is shown when the address changes.

const MOST_FOUND = 40;
const PLAY_MS = 650;

let isClick = false;
let playing = null;
const scrolls = new Map();

function missing(reason) {
  return [element("h1", {}, "Not on this page"), element("p", {}, reason), element("p", {}, element("a", { href: "#" }, "To the map"))];
}

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

// An image that is dragged to the bar that appears below is inspected, as one that is clicked.
function dragImages() {
  const zone = byId("inspect");
  let dragged = null;
  document.addEventListener("dragstart", (event) => {
    dragged = event.target.closest?.("a[href*='image=']");
    // In a moment: the browser ends a drag during which the page changes at once.
    setTimeout(() => { zone.hidden = !dragged; });
  });
  document.addEventListener("dragend", () => { zone.hidden = true; });
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    dragged?.click();
  });
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
  dragImages();
  addEventListener("hashchange", () => render());
  addEventListener("scroll", () => {
    scrolls.set(location.hash, scrollY);
    wall?.fillSoon();
  }, { passive: true });
  addEventListener("resize", () => wall?.layOut());
  history.scrollRestoration = "manual";
  render();
}

document.addEventListener("DOMContentLoaded", () => {
  if (microscope.network) start();
  else byId("main").replaceChildren(...missing("data/network.js is missing; make the page again"));
});
