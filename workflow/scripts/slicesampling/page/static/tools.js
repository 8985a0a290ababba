// Pointer, wheel and keys on the drawing surface: changes of the drawing by the chosen tool, or of the view.

const NEAR = 9; // CSS pixels within which a point of a polygon is hit
const PEN_ERASER = 5; // the button of a pointer event for the other end of a pen
const MINE = "#ffc43d", AWAY = "#ff6b6b";

export class Tools {
  // host: drawing, layer, values (of the slice shown), editable(), changed(), scroll(by), refused(), shown()
  constructor(view, surface, host) {
    Object.assign(this, { view, surface, host, tool: "brush", size: 16, limited: false, low: 0, high: 200 });
    Object.assign(this, { action: null, pointers: new Map(), cursor: null, line: null, points: [], closed: false });
    Object.assign(this, { held: -1, subtract: false, space: false, pen: false, wheel: 0, shift: false });
    view.decorate = (context) => this.decorate(context);
    view.resized = () => (this.box = null);
    const on = (name, handler) => surface.addEventListener(name, handler, { passive: false });
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event, false));
    on("pointercancel", (event) => this.up(event, true));
    on("pointerleave", () => this.hover(null));
    on("wheel", (event) => this.turn(event));
    on("contextmenu", (event) => event.preventDefault());
    on("dblclick", () => this.tool === "polygon" && this.close());
  }

  choose(tool) {
    if (this.closed && ["brush", "eraser", "contour"].includes(tool)) this.apply();
    this.tool = tool;
    this.surface.dataset.tool = tool;
    this.host.shown();
    this.view.redecorate();
  }

  resize(factor) {
    const size = Math.round(this.size * factor);
    this.size = Math.min(Math.max(size === this.size ? size + Math.sign(factor - 1) : size, 1), 300);
    this.host.shown();
    this.view.redecorate();
  }

  shifted(shift) {
    this.shift = shift;
    this.view.redecorate();
  }

  // Discard the state of another slice.
  reset(points = []) {
    this.points = points;
    this.closed = false;
    this.line = this.action = null;
    this.view.redecorate();
  }

  place(event) {
    this.box ??= this.surface.getBoundingClientRect(); // cached, because it forces a layout
    return [event.clientX - this.box.left, event.clientY - this.box.top];
  }

  down(event) {
    event.preventDefault();
    this.surface.focus({ preventScroll: true });
    const at = this.place(event);
    if (event.pointerType === "pen") this.pen = true;
    this.pointers.set(event.pointerId, at);
    try {
      this.surface.setPointerCapture(event.pointerId);
    } catch {
      // The pointer is already up.
    }
    if (this.pointers.size === 2) return this.pinch();
    if (this.action) return;
    const palm = event.pointerType === "touch" && this.pen;
    if (event.button === 1 || this.space || palm || this.tool === "pan") this.action = { kind: "pan", at };
    else if (event.button === 2 || this.tool === "window") {
      this.action = { kind: "window", at, level: this.view.level, width: this.view.width };
    } else if (event.button === 0 || event.button === PEN_ERASER) this.begin(event, at);
  }

  // A second finger: discard what the first one has begun to draw.
  pinch() {
    if (this.action?.kind === "brush") this.host.redraw(this.host.drawing.cancel());
    if (this.action?.kind === "contour") this.line = null;
    const [a, b] = [...this.pointers.values()];
    this.action = { kind: "pinch", middle: middle(a, b), apart: Math.hypot(a[0] - b[0], a[1] - b[1]) };
    this.view.redecorate();
  }

  begin(event, at) {
    if (!this.host.editable()) return this.host.refused();
    const point = this.view.toSlice(...at);
    // The other end of a pen erases with any tool.
    this.shift = event.button === PEN_ERASER ? this.tool !== "eraser" : event.shiftKey;
    if (this.tool === "brush" || this.tool === "eraser") {
      const value = (this.tool === "brush") !== this.shift ? 1 : 0;
      this.host.drawing.begin();
      this.action = { kind: "brush", value, last: point };
      this.stroke(point);
    } else if (this.tool === "contour") {
      this.line = [point];
      this.action = { kind: "contour", value: this.shift ? 0 : 1 };
    } else if (this.tool === "polygon") this.addPoint(at, point, this.shift);
    this.hover(at);
  }

  stroke(point) {
    const { drawing, values } = this.host, { value, last } = this.action;
    const { low, high } = this;
    const allowed = this.limited && value ? (i) => values[i] >= low && values[i] <= high : null;
    this.host.redraw(drawing.line(...last, ...point, this.size / 2, value, allowed));
    this.action.last = point;
  }

  move(event) {
    const at = this.place(event), action = this.action;
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    this.hover(event.pointerType === "touch" ? null : at);
    if (!action) return;
    if (action.kind === "pinch") {
      const [a, b] = [...this.pointers.values()];
      if (!b) return;
      const now = middle(a, b), apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      this.view.pan(now[0] - action.middle[0], now[1] - action.middle[1]);
      this.view.zoom(apart / Math.max(action.apart, 1), ...now);
      Object.assign(action, { middle: now, apart });
    } else if (action.kind === "pan") {
      this.view.pan(at[0] - action.at[0], at[1] - action.at[1]);
      action.at = at;
    } else if (action.kind === "window") {
      const step = Math.max(action.width / 350, 0.3) * 1.2;
      this.host.window(action.level + (at[1] - action.at[1]) * step, action.width + (at[0] - action.at[0]) * step);
    } else {
      // The browser joins events between two frames; a fast stroke needs all of them.
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) {
        const point = this.view.toSlice(...this.place(each));
        if (action.kind === "brush") this.stroke(point);
        else if (action.kind === "contour") this.line.push(point);
        else if (action.kind === "point") this.points[this.held] = point;
      }
    }
  }

  up(event, cancelled) {
    if (!this.pointers.delete(event.pointerId)) return;
    const action = this.action;
    if (action?.kind === "pinch" && this.pointers.size) return;
    this.action = null;
    if (action?.kind === "brush") {
      if (cancelled) this.host.redraw(this.host.drawing.cancel());
      else if (this.host.drawing.commit()) this.host.changed();
    } else if (action?.kind === "contour") {
      const line = this.line;
      this.line = null;
      if (!cancelled && line) this.fill(line, action.value);
    } else if (action?.kind === "point") {
      this.held = -1;
      this.host.changed();
    }
    this.view.redecorate();
  }

  fill(points, value) {
    const { drawing } = this.host;
    drawing.begin();
    this.host.redraw(drawing.polygon(points, value));
    if (drawing.commit()) this.host.changed();
  }

  addPoint(at, point, subtract) {
    const near = this.nearest(at);
    if (near === 0 && !this.closed && this.points.length > 2) return this.close(subtract);
    if (near >= 0) this.held = near;
    else if (!this.closed) this.held = this.points.push(point) - 1;
    else {
      const edge = this.edgeAt(at);
      if (edge < 0) return this.apply();
      this.points.splice(edge + 1, 0, point);
      this.held = edge + 1;
    }
    this.subtract = this.closed ? this.subtract : subtract;
    this.action = { kind: "point" };
  }

  nearest(at) {
    return this.points.findIndex((point) => {
      const [x, y] = this.view.toScreen(...point);
      return Math.hypot(x - at[0], y - at[1]) <= NEAR;
    });
  }

  edgeAt(at) {
    return this.points.findIndex((point, k) => {
      const [xa, ya] = this.view.toScreen(...point);
      const [xb, yb] = this.view.toScreen(...this.points[(k + 1) % this.points.length]);
      const square = (xb - xa) ** 2 + (yb - ya) ** 2 || 1;
      const part = Math.min(Math.max(((at[0] - xa) * (xb - xa) + (at[1] - ya) * (yb - ya)) / square, 0), 1);
      return Math.hypot(xa + part * (xb - xa) - at[0], ya + part * (yb - ya) - at[1]) <= NEAR;
    });
  }

  close(subtract = this.subtract) {
    // A double click has added the same point twice.
    this.points = this.points.filter((p, k, all) => !k || p[0] !== all[k - 1][0] || p[1] !== all[k - 1][1]);
    if (this.points.length < 3) return;
    this.subtract = subtract;
    this.closed = true;
    this.host.changed();
    this.view.redecorate();
  }

  // Fill and close the polygon.
  apply() {
    const points = this.points;
    if (!points.length) return false;
    this.points = [];
    this.closed = false;
    if (points.length > 2 && this.host.editable()) this.fill(points, this.subtract ? 0 : 1);
    this.host.changed();
    this.view.redecorate();
    return true;
  }

  // Remove the last point; return whether there was one.
  back() {
    if (!this.points.length) return false;
    if (this.closed) this.closed = false;
    else this.points.pop();
    this.host.changed();
    this.view.redecorate();
    return true;
  }

  turn(event) {
    event.preventDefault();
    const delta = Math.abs(event.deltaY) > Math.abs(event.deltaX) ? event.deltaY : event.deltaX;
    if (event.ctrlKey || event.metaKey) this.view.zoom(Math.exp(-delta * 0.002), ...this.place(event));
    else if (event.shiftKey || event.altKey) this.resize(delta > 0 ? 1 / 1.12 : 1.12);
    else {
      // A notch of a wheel is one slice; a touch pad's many small steps are added up.
      this.wheel = Math.abs(delta) >= 50 || event.deltaMode ? Math.sign(delta) * 30 : this.wheel + delta;
      const by = Math.trunc(this.wheel / 30);
      this.wheel -= by * 30;
      if (by) this.host.scroll(-by);
    }
  }

  hover(at) {
    this.cursor = at;
    this.view.redecorate();
  }

  // Draw the brush's circle, a contour in progress, and the polygon; return whether anything was drawn.
  decorate(context) {
    const { view, cursor } = this, ratio = view.ratio;
    this.host.hovered(cursor && view.toSlice(...cursor));
    const screen = ([x, y]) => [view.ox + x * view.kx, view.oy + y * view.ky];
    const stroke = (colour) => {
      context.lineWidth = 3 * ratio;
      context.strokeStyle = "rgba(0, 0, 0, 0.6)";
      context.stroke();
      context.lineWidth = 1.3 * ratio;
      context.strokeStyle = colour;
      context.stroke();
    };
    let drawn = false;
    if (this.line?.length) {
      context.beginPath();
      for (const point of this.line) context.lineTo(...screen(point));
      stroke(this.shift ? AWAY : MINE);
      context.setLineDash([4 * ratio, 4 * ratio]);
      context.beginPath();
      context.moveTo(...screen(this.line.at(-1)));
      context.lineTo(...screen(this.line[0]));
      stroke("#fff");
      context.setLineDash([]);
      drawn = true;
    }
    if (this.points.length && this.host.editable()) {
      context.beginPath();
      for (const point of this.points) context.lineTo(...screen(point));
      if (this.closed) {
        context.closePath();
        context.fillStyle = this.subtract ? "rgba(255, 107, 107, 0.25)" : "rgba(255, 196, 61, 0.25)";
        context.fill();
      } else if (cursor && this.tool === "polygon") context.lineTo(cursor[0] * ratio, cursor[1] * ratio);
      stroke(this.subtract ? AWAY : MINE);
      this.points.forEach((point, k) => {
        context.beginPath();
        context.arc(...screen(point), (k || this.closed ? 4 : 6) * ratio, 0, 7);
        context.fillStyle = "#14171c";
        context.fill();
        stroke(MINE);
      });
      drawn = true;
    }
    if (cursor && (this.tool === "brush" || this.tool === "eraser") && !["pan", "window"].includes(this.action?.kind)) {
      const erases = (this.tool === "eraser") !== this.shift;
      context.beginPath();
      const [x, y] = [cursor[0] * ratio, cursor[1] * ratio], half = this.size / 2;
      context.ellipse(x, y, Math.max(half * view.kx, ratio), Math.max(half * view.ky, ratio), 0, 0, 7);
      stroke(!this.host.editable() ? "#888" : erases ? AWAY : "#fff");
      drawn = true;
    }
    return drawn;
  }
}

const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
