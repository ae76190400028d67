"use strict";

// The state of the page, elements, and how values are written.

// The scripts in data/ fill these in. The address, "#layer=conv2&unit=3&epoch=5", is the whole state of the page.
const microscope = { network: null, layers: [] };

const KEYS = ["image", "layer", "unit", "epoch", "beside", "show", "sort", "down", "by", "from", "to", "label", "verdict", "size"];

let state = {};
let live = []; // what to call when the epoch has changed
let wall = null; // the tiles of the layer that is shown
const loading = new Map();
const byId = (id) => document.getElementById(id);

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

// A value of a unit that is a word.
function worded(key, unit) {
  return key === "verdict" ? microscope.network.verdicts[unit.verdict][0] : unit[key] ?? "–";
}

function sides(shape) {
  return shape.join(" × ");
}

function fileUrl(file) {
  return file.split("/").map(encodeURIComponent).join("/");
}

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
  return epoch === "0" ? "before training" : `epoch ${epoch}`;
}
