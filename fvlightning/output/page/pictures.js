"use strict";

// Pictures of units and images, as tiles of sprites.

const SMALL_PICTURE = 64; // pixels, of pictures that are enlarged pixel by pixel
const LEAST_WINDOW = 32; // pixels of an image that are shown around a patch

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
  if (!data) return true;
  return epoch === undefined ? data.units[number].pictures.length > 0 : (data.epochs[epoch]?.scores[number] ?? null) !== null;
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
