"use strict";

// Histograms and curves.

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

function life(data, unit, at) {
  const { epochs } = microscope.network;
  const scores = epochs.map((epoch) => data.epochs[epoch]?.scores[at] ?? null);
  if (scores.filter((score) => score !== null).length < 2) return null;
  const { x, y, parts } = curveParts(scores, String(epochs[0]), String(epochs.at(-1)), "epoch");
  const mark = drawing("circle", { class: "mark", r: 3.5 });
  const { birth } = unit.numbers;
  if (birth !== undefined) {
    const at = x(epochs.indexOf(birth));
    parts.push(drawing("path", { class: "axis", d: `M${at} ${PLOT.top}V${PLOT.height - PLOT.bottom}` }), text(at + 3, PLOT.top - 3, "birth", "start"));
  }
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
