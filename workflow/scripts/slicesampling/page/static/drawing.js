// The drawing on one slice: a mask of 0 and 1, row by row, the tools that change it, and the history of changes.
// Pure logic on arrays. Points are (x, y) in pixels from the upper left corner: a pixel's centre lies at a half.
// A box is [left, top, right, bottom] in pixels, without the right column and the lower row; null: nothing changed.

export class Drawing {
  constructor(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.mask = new Uint8Array(rows * columns);
    this.start = "empty";
    this.past = []; // changes, each with the runs of pixels that it toggled; toggling them again undoes it
    this.future = [];
    this.before = null; // the mask before the change in progress
    this.box = null;
  }

  // Begin a change; everything until `commit` is undone together.
  begin() {
    this.before = this.mask.slice();
    this.box = null;
  }

  // End a change; return whether it changed anything.
  commit(start = this.start) {
    const runs = this.box ? toggledRuns(this.before, this.mask, this.columns, this.box) : [];
    const changed = runs.length > 0 || start !== this.start;
    if (changed) {
      this.past.push({ runs: Uint32Array.from(runs), box: this.box, starts: [this.start, start] });
      this.future = [];
      this.start = start;
    }
    this.before = this.box = null;
    return changed;
  }

  // Revert the change in progress; return its box.
  cancel() {
    const box = this.box;
    if (this.before) this.mask.set(this.before);
    this.before = this.box = null;
    return box;
  }

  undo() {
    return this.#step(this.past, this.future, 0);
  }

  redo() {
    return this.#step(this.future, this.past, 1);
  }

  #step(from, to, which) {
    const change = from.pop();
    if (!change) return null;
    for (let k = 0; k < change.runs.length; k += 2) {
      const end = change.runs[k] + change.runs[k + 1];
      for (let i = change.runs[k]; i < end; i++) this.mask[i] ^= 1;
    }
    this.start = change.starts[which];
    to.push(change);
    return change.box ?? [0, 0, 0, 0];
  }

  // Set all pixels whose centres are within `radius` of the line between two points, and the pixel at its end.
  // `allowed(index)`: whether a pixel may be changed. Return the box of the change.
  line(x0, y0, x1, y1, radius, value, allowed = null) {
    const box = this.#clipped([
      Math.floor(Math.min(x0, x1) - radius), Math.floor(Math.min(y0, y1) - radius),
      Math.ceil(Math.max(x0, x1) + radius) + 1, Math.ceil(Math.max(y0, y1) + radius) + 1,
    ]);
    if (!box) return null;
    const dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy, limit = radius * radius;
    for (let y = box[1]; y < box[3]; y++) {
      for (let x = box[0]; x < box[2]; x++) {
        const px = x + 0.5 - x0, py = y + 0.5 - y0;
        const part = square ? Math.min(Math.max((px * dx + py * dy) / square, 0), 1) : 0;
        const ex = px - part * dx, ey = py - part * dy;
        if (ex * ex + ey * ey <= limit) this.#set(y * this.columns + x, value, allowed);
      }
    }
    const x = Math.floor(x1), y = Math.floor(y1);
    if (x >= 0 && x < this.columns && y >= 0 && y < this.rows) this.#set(y * this.columns + x, value, allowed);
    return this.#touch(box);
  }

  // Set all pixels with centres inside a closed line, by the non-zero winding rule.
  polygon(points, value) {
    if (points.length < 3) return null;
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const box = this.#clipped([
      Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys)), Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys)),
    ]);
    if (!box) return null;
    for (let y = box[1]; y < box[3]; y++) {
      const crossings = [];
      for (let k = 0; k < points.length; k++) {
        const [xa, ya] = points[k], [xb, yb] = points[(k + 1) % points.length], at = y + 0.5;
        if (ya <= at !== yb <= at) crossings.push([xa + ((at - ya) / (yb - ya)) * (xb - xa), ya < yb ? 1 : -1]);
      }
      crossings.sort((a, b) => a[0] - b[0]);
      for (let k = 0, winding = 0; k < crossings.length - 1; k++) {
        winding += crossings[k][1];
        if (!winding) continue;
        const first = Math.max(Math.ceil(crossings[k][0] - 0.5), 0);
        const last = Math.min(Math.ceil(crossings[k + 1][0] - 0.5), this.columns);
        if (first < last) this.mask.fill(value, y * this.columns + first, y * this.columns + last);
      }
    }
    return this.#touch(box);
  }

  // Fill all holes: background that is not connected to the border along rows and columns.
  fillHoles() {
    const outside = new Uint8Array(this.mask.length), stack = [];
    const visit = (i) => {
      if (!this.mask[i] && !outside[i]) {
        outside[i] = 1;
        stack.push(i);
      }
    };
    for (let x = 0; x < this.columns; x++) visit(x), visit((this.rows - 1) * this.columns + x);
    for (let y = 0; y < this.rows; y++) visit(y * this.columns), visit(y * this.columns + this.columns - 1);
    this.#flood(stack, visit, false);
    return this.replace(outside.map((value) => 1 - value));
  }

  // Keep the largest part, with 8-connectivity.
  keepLargest() {
    const parts = new Int32Array(this.mask.length);
    let best = 0, most = 0;
    for (let i = 0, part = 0; i < parts.length; i++) {
      if (!this.mask[i] || parts[i]) continue;
      let count = 0;
      const stack = [];
      part += 1;
      const visit = (k) => {
        if (this.mask[k] && !parts[k]) {
          parts[k] = part;
          count += 1;
          stack.push(k);
        }
      };
      visit(i);
      this.#flood(stack, visit, true);
      if (count > most) [best, most] = [part, count];
    }
    return this.replace(Uint8Array.from(parts, (part) => (part === best && best ? 1 : 0)));
  }

  // Replace the mask.
  replace(mask) {
    this.mask.set(mask);
    return this.#touch([0, 0, this.columns, this.rows]);
  }

  count() {
    let sum = 0;
    for (const value of this.mask) sum += value;
    return sum;
  }

  #set(index, value, allowed) {
    if (!allowed || allowed(index)) this.mask[index] = value;
  }

  #clipped([left, top, right, bottom]) {
    const box = [Math.max(left, 0), Math.max(top, 0), Math.min(right, this.columns), Math.min(bottom, this.rows)];
    return box[0] < box[2] && box[1] < box[3] ? box : null;
  }

  #touch(box) {
    this.box = joined(this.box, box);
    return box;
  }

  #flood(stack, visit, corners) {
    const { rows, columns } = this;
    while (stack.length) {
      const i = stack.pop(), x = i % columns, y = (i - x) / columns;
      const left = x > 0, right = x < columns - 1, up = y > 0, down = y < rows - 1;
      if (left) visit(i - 1);
      if (right) visit(i + 1);
      if (up) visit(i - columns);
      if (down) visit(i + columns);
      if (!corners) continue;
      if (left && up) visit(i - columns - 1);
      if (right && up) visit(i - columns + 1);
      if (left && down) visit(i + columns - 1);
      if (right && down) visit(i + columns + 1);
    }
  }
}

export function joined(a, b) {
  if (!a || !b) return a ?? b;
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

// Run lengths of a mask in the server's format: background and structure in turn; empty if all is background.
export function toRuns(mask) {
  const runs = [];
  let value = 0, length = 0;
  for (const next of mask) {
    if (next !== value) {
      runs.push(length);
      value = next;
      length = 0;
    }
    length += 1;
  }
  return runs.length ? [...runs, length] : [];
}

export function fromRuns(runs, size) {
  const mask = new Uint8Array(size);
  for (let k = 0, at = 0; k < runs.length; at += runs[k++]) if (k % 2) mask.fill(1, at, at + runs[k]);
  return mask;
}

function toggledRuns(before, after, columns, [left, top, right, bottom]) {
  const runs = [];
  for (let y = top; y < bottom; y++) {
    for (let i = y * columns + left, end = y * columns + right; i < end; i++) {
      if (before[i] === after[i]) continue;
      const first = i;
      while (i < end && before[i] !== after[i]) i++;
      runs.push(first, i - first);
    }
  }
  return runs;
}
