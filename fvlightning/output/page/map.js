"use strict";

// The map of the network, and the page of an image.

const MOST_IN_STRIP = 24;
const LANE = 9; // pixels between lines

function showMap() {
  const { network } = microscope;
  const rows = network.map.map((row, number) => {
    const from = network.flow.filter(([first, second]) => second === number && first < number - 1).map(([, , name]) => name);
    const note = from.length > 0 && `← ${from.join(", ")}`;
    return Array.isArray(row) ? betweenRow(row, note) : mapRow(network.layers[row], note);
  });
  const units = network.layers.reduce((sum, layer) => sum + layer.units.length, 0);
  const list = element("ol", { class: "map", "aria-label": "Layers in order" }, ...rows);
  const lines = drawing("svg", { class: "flow", "aria-hidden": "true" });
  const lanes = flowLanes();
  list.style.setProperty("--flow", network.flow.length ? `${LANE * (2 + Math.max(0, ...lanes.map(([, , lane]) => lane)))}px` : "0px");
  new ResizeObserver(() => drawFlow(lines, rows, lanes)).observe(list);
  return [
    element("div", { class: "head" }, element("h1", {}, network.model),
      element("span", { class: "dim" }, `${units.toLocaleString("en")} units of ${network.layers.length} layers`)),
    element("div", { class: "mapped" }, lines, list),
  ];
}

// The lines from row to row: those to the next row in lane 0, the others in the first lane that is free, short ones first.
function flowLanes() {
  const placed = [];
  for (const [first, last] of [...microscope.network.flow].sort((a, b) => a[1] - a[0] - b[1] + b[0])) {
    let lane = last > first + 1 ? 1 : 0;
    while (lane && placed.some(([from, to, taken]) => taken === lane && from < last && first < to)) lane += 1;
    placed.push([first, last, lane]);
  }
  return placed;
}

function drawFlow(lines, rows, lanes) {
  const middle = (row) => row.offsetTop + Math.min(row.offsetHeight / 2, 20);
  const right = LANE * (1 + Math.max(0, ...lanes.map(([, , lane]) => lane)));
  lines.replaceChildren(...lanes.map(([first, last, lane]) => {
    const [top, bottom] = [middle(rows[first]), middle(rows[last])];
    const bend = Math.min(LANE, (bottom - top) / 2);
    const x = right - lane * LANE;
    return drawing("path", { d: lane ? `M${right} ${top}Q${x} ${top} ${x} ${top + bend}V${bottom - bend}Q${x} ${bottom} ${right} ${bottom}` : `M${x} ${top}V${bottom}` });
  }), ...lanes.flatMap((ends) => ends.slice(0, 2)).map((row) => drawing("circle", { cx: right, cy: middle(rows[row]), r: 2.5 })));
}

function betweenRow(modules, note) {
  const lines = modules.map(([name, kind, shape]) => `${name} ${kind} ${sides(shape)}`);
  return element("li", { class: "between" }, lines.length <= 2 ? lines.join(" · ")
    : element("details", {}, element("summary", {}, `${lines.length} modules between`), lines.join(" · ")), note && element("div", {}, note));
}

function mapRow(layer, note) {
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
      element("div", { class: "dim" }, layer.kind, element("br"), sides(layer.shape), element("br"), `${shown} units`),
      note && element("div", { class: "dim" }, note)),
    strip);
}

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
