"use strict";

// The page of a unit.

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
      element("div", { class: "stack" }, pictures(layer, unit, at), film(layer, data, at), ...examples(unit), tied("Units before it", unit.before), tied("Units after it", unit.after)),
      element("div", { class: "stack" }, facts(layer, data, unit, at), histogram(data, unit, at), curve(unit), life(data, unit, at), weights(layer, unit, at))),
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
      { href: place({ image: String(index) }), title: "Inspect: which units does this image excite? Click it, or drag it to the bar below" },
      imagePicture(index, box, `image ${microscope.network.images.names[index][1]}`),
      element("span", { class: "name" }, imageName(index)), element("span", { class: "dim" }, short(score))))));
  return [row("Images that excite it most", unit.images.strongest), row("Images that excite it least", unit.images.weakest)];
}

// The units of the layers before or after that the unit is most tied to.
function tied(title, ties) {
  if (!ties.length) return null;
  const found = ties.map(([number, at, weight]) => {
    const layer = microscope.network.layers[number];
    const [id] = layer.units[at];
    return element("a", { href: place({ layer: layer.name, unit: id }) }, unitPicture(layer, at),
      element("span", { class: "name" }, `${layer.name}:${id}`), element("span", { class: "dim" }, short(weight)));
  });
  return element("section", {}, element("h2", {}, title, element("span", { class: "dim" }, " by the norm of the weights; − if their sum is below 0")),
    element("div", { class: "examples" }, ...found));
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
    if (state.epoch === undefined) {
      const [name, meaning] = microscope.network.verdicts[unit.verdict];
      list.append(element("dt", {}, "verdict", element("small", {}, meaning)), element("dd", {}, name));
    }
    for (const [key, [name, meaning]] of Object.entries(microscope.network.numbers)) {
      if (figures[key] === undefined) continue;
      list.append(element("dt", {}, name, element("small", {}, meaning)), element("dd", {}, written(key, figures[key])));
    }
    if (unit.label !== null && state.epoch === undefined) {
      list.append(element("dt", {}, "label", element("small", {}, "the class that is most frequent among the images that excite it most")), element("dd", {}, unit.label));
    }
  });
  return element("section", {}, element("h2", {}, "Scores"), list);
}
