// Display of a slice: Hounsfield units as grey, zoom, masks above it, and two glances along other planes.
// Only changes are redrawn, once per frame. It does not depend on tools or the server.

import { joined } from "./drawing.js";

const OFFSET = 32768;
const HALO = "rgba(0, 0, 0, 0.55)";
// Level and width in HU.
export const PRESETS = { Abdomen: [40, 350], Liver: [80, 150], Wide: [50, 700], Bone: [500, 2000], Lung: [-600, 1500] };

// Grey as RGBA for each int16 value.
export class Lookup {
  constructor() {
    this.table = new Uint32Array(65536);
  }

  set(level, width) {
    const low = level - width / 2;
    for (let i = 0; i < 65536; i++) {
      const grey = Math.min(Math.max(((i - OFFSET - low) / width) * 255, 0), 255) & 255;
      this.table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
  }

  paint(values, canvas, columns, rows) {
    if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
    if (this.picture?.width !== columns || this.picture.height !== rows) this.picture = new ImageData(columns, rows);
    const grey = new Uint32Array(this.picture.data.buffer), { table } = this;
    for (let i = 0; i < values.length; i++) grey[i] = table[values[i] + OFFSET];
    canvas.getContext("2d").putImageData(this.picture, 0, 0);
  }
}

// A mask above a slice: a tint, and an outline along the edges of pixels with the same width at every zoom.
export class Layer {
  constructor(rows, columns, colour) {
    Object.assign(this, { rows, columns, colour, shown: true, hidden: false, tint: 0.14, changed: null });
    this.canvas = new OffscreenCanvas(columns, rows);
    this.mask = new Uint8Array(rows * columns);
    this.across = Array.from({ length: rows + 1 }, () => []); // for each row the parts of its upper edge, from, to, …
    this.down = Array.from({ length: rows }, () => []); // and the places of edges between its pixels
  }

  // Set the mask of 0 and 1 of this layer, which was empty before.
  take(mask) {
    this.mask = mask;
    const { columns } = this, first = mask.indexOf(1), last = mask.lastIndexOf(1);
    if (first >= 0) this.change([0, Math.floor(first / columns), columns, Math.floor(last / columns) + 1]);
  }

  // Update the layer after a change of the mask within a box.
  change(box) {
    this.changed = joined(this.changed, box);
  }

  #update([left, top, right, bottom]) {
    const { mask, rows, columns } = this;
    if (right <= left || bottom <= top) return;
    const context = this.canvas.getContext("2d"), picture = context.createImageData(right - left, bottom - top);
    const pixels = new Uint32Array(picture.data.buffer), [r, g, b] = this.colour;
    const colour = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
    for (let y = top, k = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, k++) if (mask[y * columns + x]) pixels[k] = colour;
    }
    context.putImageData(picture, left, top);
    for (let y = top; y <= bottom; y++) {
      const across = (this.across[y] = []);
      const here = y * columns, above = here - columns;
      for (let x = 0, from = -1; x <= columns; x++) {
        const edge = x < columns && (y < rows ? mask[here + x] : 0) !== (y > 0 ? mask[above + x] : 0);
        if (edge && from < 0) from = x;
        if (!edge && from >= 0) {
          across.push(from, x);
          from = -1;
        }
      }
      if (y === rows) break;
      const down = (this.down[y] = []);
      for (let x = 0, last = 0; x <= columns; x++) {
        const next = x < columns ? mask[here + x] : 0;
        if (next !== last) down.push(x);
        last = next;
      }
    }
  }

  draw(context, view, [, top, , bottom]) {
    if (this.changed) this.#update(this.changed);
    this.changed = null;
    if (!this.shown || this.hidden) return;
    const { kx, ky, ox, oy } = view;
    context.globalAlpha = this.tint;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.canvas, ox, oy, this.columns * kx, this.rows * ky);
    context.globalAlpha = 1;
    const path = new Path2D();
    for (let y = Math.max(top, 0); y <= Math.min(bottom, this.rows); y++) {
      const at = oy + y * ky, across = this.across[y];
      for (let k = 0; k < across.length; k += 2) {
        path.moveTo(ox + across[k] * kx, at);
        path.lineTo(ox + across[k + 1] * kx, at);
      }
      if (y === this.rows) break;
      for (const x of this.down[y]) {
        path.moveTo(ox + x * kx, at);
        path.lineTo(ox + x * kx, at + ky);
      }
    }
    context.lineCap = "square";
    context.strokeStyle = HALO;
    context.lineWidth = 3 * view.ratio;
    context.stroke(path);
    context.strokeStyle = `rgb(${this.colour.join()})`;
    context.lineWidth = 1.5 * view.ratio;
    context.stroke(path);
  }
}

// Bytes above a slice as colours from dark red to pale yellow; 0 is transparent.
const HEAT = Uint32Array.from({ length: 256 }, (_, value) => {
  const part = value / 255, [red, green, blue] = [90 + 420 * part, 620 * part - 180, 560 * part - 330];
  const alpha = Math.min(2.2 * part, 0.85);
  return [red, green, blue, 255 * alpha].reduce((colour, byte, k) => colour + Math.round(Math.min(Math.max(byte, 0), 255)) * 256 ** k, 0);
});

export class Heat {
  constructor(values, rows, columns) {
    Object.assign(this, { values, rows, columns, canvas: new OffscreenCanvas(columns, rows) });
    const picture = new ImageData(columns, rows), pixels = new Uint32Array(picture.data.buffer);
    for (let i = 0; i < values.length; i++) pixels[i] = HEAT[values[i]];
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  draw(context, { kx, ky, ox, oy }) {
    context.imageSmoothingEnabled = false;
    context.drawImage(this.canvas, ox, oy, this.columns * kx, this.rows * ky);
  }
}

export class View {
  // `decorate(context, view)` draws on top of everything: cursor, lines in progress.
  constructor(canvas, above, decorate) {
    Object.assign(this, { canvas, above, decorate, layers: [], rows: 1, columns: 1, values: null });
    this.lookup = new Lookup();
    Object.assign(this, { kx: 1, ky: 1, ox: 0, oy: 0, ratio: 1, fitted: true, level: 40, width: 350, aspect: [1, 1] });
    Object.assign(this, { frame: [0, 0, 1, 1], framed: null });
    this.picture = new OffscreenCanvas(1, 1);
    this.context = canvas.getContext("2d", { alpha: false });
    this.pending = this.dirty = null;
    this.stale = true;
    this.lookup.set(this.level, this.width);
    this.resized = () => {};
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    this.ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    for (const canvas of [this.canvas, this.above]) {
      canvas.width = Math.max(Math.round(box.width * this.ratio), 1);
      canvas.height = Math.max(Math.round(box.height * this.ratio), 1);
    }
    if (this.fitted) this.fit();
    this.draw();
    this.resized();
  }

  // Show a slice: int16 HU, row by row, or nothing while it is loaded; spacing of rows and columns in mm; `framed` is
  // new where the body on it is what `fit` is to show.
  show(values, rows, columns, spacing, framed = null) {
    const other = rows !== this.rows || columns !== this.columns;
    Object.assign(this, { values, rows, columns, stale: true });
    const least = Math.min(...spacing);
    this.aspect = [spacing[1] / least, spacing[0] / least];
    if (other || (framed && framed !== this.framed)) {
      this.frame = (values && bodyOf(values, rows, columns)) || [0, 0, columns, rows];
      this.framed = framed;
    }
    if (other || this.fitted) this.fit();
    this.draw();
  }

  window(level, width) {
    this.level = Math.min(Math.max(Math.round(level), -1024), 3000);
    this.width = Math.min(Math.max(Math.round(width), 2), 4000);
    this.lookup.set(this.level, this.width);
    this.stale = true;
    this.draw();
  }

  fit() {
    const [ax, ay] = this.aspect, { width, height } = this.canvas, [left, top, right, bottom] = this.frame;
    const scale = 0.94 * Math.min(width / ((right - left) * ax), height / ((bottom - top) * ay));
    this.place(scale, (width - (right + left) * ax * scale) / 2, (height - (bottom + top) * ay * scale) / 2);
    this.fitted = true;
  }

  place(scale, ox, oy) {
    this.scale = scale;
    [this.kx, this.ky] = [scale * this.aspect[0], scale * this.aspect[1]];
    // Part of the slice always stays visible.
    const { width, height } = this.canvas, margin = 60 * this.ratio;
    this.ox = Math.min(Math.max(ox, margin - this.columns * this.kx), width - margin);
    this.oy = Math.min(Math.max(oy, margin - this.rows * this.ky), height - margin);
    this.fitted = false;
    this.draw();
  }

  // Zoom by a factor around a point of the screen, in CSS pixels of the canvas.
  zoom(factor, x, y) {
    const scale = Math.min(Math.max(this.scale * factor, 0.1), 40 * this.ratio), by = scale / this.scale;
    const px = x * this.ratio, py = y * this.ratio;
    this.place(scale, px - (px - this.ox) * by, py - (py - this.oy) * by);
  }

  pan(dx, dy) {
    this.place(this.scale, this.ox + dx * this.ratio, this.oy + dy * this.ratio);
  }

  // From CSS pixels of the canvas to pixels of the slice, and back.
  toSlice(x, y) {
    return [(x * this.ratio - this.ox) / this.kx, (y * this.ratio - this.oy) / this.ky];
  }

  toScreen(x, y) {
    return [(this.ox + x * this.kx) / this.ratio, (this.oy + y * this.ky) / this.ratio];
  }

  // Redraw a box of the slice, or everything, in the next frame; `decorations`: only the top layer.
  draw(box = [-1e9, -1e9, 1e9, 1e9]) {
    this.dirty = joined(this.dirty, box);
    this.redecorate();
  }

  redecorate() {
    this.pending ??= requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    this.pending = null;
    const { context, canvas, dirty } = this;
    if (this.stale && this.values) {
      this.lookup.paint(this.values, this.picture, this.columns, this.rows);
      this.stale = false;
    }
    if (dirty) {
      const margin = 3 * this.ratio;
      const left = Math.max(Math.floor(this.ox + dirty[0] * this.kx - margin), 0);
      const top = Math.max(Math.floor(this.oy + dirty[1] * this.ky - margin), 0);
      const right = Math.min(Math.ceil(this.ox + dirty[2] * this.kx + margin), canvas.width);
      const bottom = Math.min(Math.ceil(this.oy + dirty[3] * this.ky + margin), canvas.height);
      if (left < right && top < bottom) {
        context.save();
        context.beginPath();
        context.rect(left, top, right - left, bottom - top);
        context.clip();
        context.fillStyle = "#000";
        context.fillRect(left, top, right - left, bottom - top);
        if (this.values) {
          context.imageSmoothingEnabled = true;
          context.drawImage(this.picture, this.ox, this.oy, this.columns * this.kx, this.rows * this.ky);
          const rows = [0, (top - this.oy) / this.ky - 1, 0, (bottom - this.oy) / this.ky + 1].map(Math.floor);
          for (const layer of this.layers) layer.draw(context, this, rows);
        }
        context.restore();
      }
      this.dirty = null;
    }
    const above = this.above.getContext("2d");
    if (this.decorated) above.clearRect(0, 0, this.above.width, this.above.height);
    this.decorated = this.decorate(above, this);
  }
}

// The box around everything denser than air and lung; null if there is nothing.
function bodyOf(values, rows, columns) {
  let box = null;
  for (let y = 0; y < rows; y++) {
    let left = -1, right = -1;
    for (let x = 0; x < columns; x++) {
      if (values[y * columns + x] < -250) continue;
      if (left < 0) left = x;
      right = x + 1;
    }
    if (left >= 0) box = joined(box, [left, y, right, y + 1]);
  }
  return box && box[2] - box[0] > columns / 8 && box[3] - box[1] > rows / 8 ? box : null;
}

// A glance along another plane, with the head above, and a line at the slice.
export class Glance {
  constructor(canvas, lookup) {
    Object.assign(this, { canvas, lookup, values: null, rows: 1, columns: 1, lines: [] });
    this.picture = new OffscreenCanvas(1, 1);
    this.stale = true;
    this.pending = null;
  }

  show(values, rows, columns, spacing) {
    Object.assign(this, { values, rows, columns, spacing, stale: true });
    this.draw();
  }

  // lines: [row, column or null, colour], drawn over the plane.
  mark(lines) {
    this.lines = lines;
    this.draw();
  }

  windowed() {
    this.stale = true;
    this.draw();
  }

  // Return the row of a click at a height in CSS pixels.
  rowAt(y) {
    return Math.floor(this.rows - (y * (window.devicePixelRatio || 1) - this.oy) / this.ky);
  }

  draw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      const { canvas, rows, columns } = this, ratio = window.devicePixelRatio || 1;
      const box = canvas.getBoundingClientRect(), context = canvas.getContext("2d", { alpha: false });
      [canvas.width, canvas.height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
      if (!this.values) return;
      if (this.stale) this.lookup.paint(this.values, this.picture, columns, rows);
      this.stale = false;
      const scale = Math.min(canvas.width / (columns * this.spacing[1]), canvas.height / (rows * this.spacing[0]));
      [this.kx, this.ky] = [scale * this.spacing[1], scale * this.spacing[0]];
      [this.ox, this.oy] = [(canvas.width - columns * this.kx) / 2, (canvas.height - rows * this.ky) / 2];
      context.save();
      context.translate(this.ox, this.oy + rows * this.ky);
      context.scale(1, -1);
      context.drawImage(this.picture, 0, 0, columns * this.kx, rows * this.ky);
      context.restore();
      for (const [row, column, colour] of this.lines) {
        context.strokeStyle = colour;
        context.lineWidth = ratio;
        context.beginPath();
        const y = Math.round(this.oy + (rows - row - 0.5) * this.ky) + 0.5;
        const x = Math.round(this.ox + ((column ?? 0) + 0.5) * this.kx) + 0.5;
        if (column === null) context.moveTo(this.ox, y), context.lineTo(this.ox + columns * this.kx, y);
        else context.moveTo(x, this.oy), context.lineTo(x, this.oy + rows * this.ky);
        context.stroke();
      }
    });
  }
}
