// One slice on the page: image, neighbours, glances, drawing, and the text beside it.

import { Planes } from "./api.js";
import { $, desk, hint, same, tell, trouble, volume } from "./desk.js";
import { Drawing, fromRuns, toRuns } from "./drawing.js";
import { element } from "./list.js";
import { Clock, Keeper } from "./saving.js";
import { Tools } from "./tools.js";
import { Glance, Layer, PRESETS, View } from "./view.js";

const MINE = [255, 196, 61], OTHERS = [[98, 168, 255], [180, 140, 255]];
const AHEAD_MM = 15; // of neighbours on either side that are fetched in advance
const BAR_MM = 50;

const planes = new Planes();
let zoomShown = null;
// The identity of this tab; a slice can be drawn on in one tab only.
export const tab = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => (byte % 36).toString(36)).join("");

const mayDraw = () => Boolean(desk.open && !desk.open.read_only && !desk.open.answered && !desk.busy);

// The interface for tools, see tools.js.
export const host = {
  drawing: new Drawing(1, 1), layer: new Layer(1, 1, MINE), values: null,
  editable: () => mayDraw() && desk.at === desk.open.item.slice && Boolean(host.values),
  redraw(box) {
    if (!box) return;
    this.layer.change(box);
    view.draw(box);
  },
  changed() {
    desk.noneAsked = 0;
    desk.open.keeper?.changed();
    showButtons();
  },
  refused() {
    if (!desk.open || desk.busy) return;
    if (desk.open.read_only) hint("Read only");
    else hint(desk.at === desk.open.item.slice ? "Loading…" : "A neighbour, only to look at. Q: back to the slice");
  },
  scroll,
  window: setWindow,
  shown: showTools,
  hovered,
};
export const view = new View($("slice"), $("above"), () => false);
export const tools = new Tools(view, $("above"), host);
const glances = { coronal: new Glance($("coronal"), view.lookup), sagittal: new Glance($("sagittal"), view.lookup) };
window.annotating = { view, tools, host, Drawing, desk }; // for tests

// The next free slice after the current one; null if there is none.
export function nextFree() {
  const from = desk.round.items.findIndex((row) => same(row, desk.open?.item)) + 1;
  const turned = [...desk.round.items.slice(from), ...desk.round.items.slice(0, from)];
  return turned.find((row) => !same(row, desk.open?.item) && ["open", "begun"].includes(row.state)) ?? null;
}

// Show a slice that the server has opened, as it was left.
export function show(opened) {
  desk.open = opened;
  const { item } = desk.open, [, rows, columns] = desk.round.volumes[item.volume].shape;
  const drawing = (host.drawing = new Drawing(rows, columns));
  const which = { annotator: desk.me, tab, round: desk.open.round, volume: item.volume, slice: item.slice };
  const left = desk.open.read_only ? null : Keeper.left(which, desk.open.opened, desk.open.draft);
  const state = left ?? desk.open.draft;
  const start = desk.open.start === "answer" ? desk.open.masks[desk.me] : desk.open.proposal ?? [];
  desk.open.startMask = fromRuns(start, rows * columns);
  drawing.start = state?.start ?? desk.open.start;
  drawing.mask.set(state ? fromRuns(state.runs, rows * columns) : desk.open.startMask);
  host.layer = new Layer(rows, columns, MINE);
  host.layer.take(drawing.mask);
  host.layer.tint = $("tint").value / 100;
  view.layers = [host.layer];
  const clock = (desk.open.clock = new Clock(state?.seconds ?? 0));
  $("comment").value = state?.comment ?? item.answers[desk.me]?.comment ?? "";
  tools.reset(state?.polygon ?? []);
  tell(state ? "kept" : "new");
  if (desk.open.read_only) {
    view.layers = Object.values(desk.open.masks).map((runs, k) => {
      const layer = new Layer(rows, columns, OTHERS[k % OTHERS.length]);
      layer.take(fromRuns(runs, rows * columns));
      return layer;
    });
  } else {
    desk.open.keeper = new Keeper(which, desk.open.opened, () => ({
      runs: toRuns(drawing.mask), start: drawing.start, seconds: clock.rounded,
      comment: $("comment").value, polygon: tools.points,
    }), state?.revision ?? 0, tell);
    if (left) desk.open.keeper.changed();
  }
  desk.through = middleOf(drawing) ?? [columns >> 1, rows >> 1];
  desk.noneAsked = 0;
  view.fitted = true;
  zoomShown = null;
  const small = [`of ${volume().shape[0]}`, item.people > 1 ? "two people annotate it" : null,
    desk.open.read_only ? `answered by ${item.by.join(" and ")}` : item.answers[desk.me] ? "answered by you" : null];
  const more = element("small", small.filter(Boolean).join(" · "));
  $("which").replaceChildren(`${item.volume} · slice ${item.slice}`, more);
  goTo(item.slice);
  showButtons();
  if (state && !item.answers[desk.me] && drawing.count()) hint("As you left it");
  else if (drawing.start === "proposal" && !drawing.count()) hint("The model sees no liver here");
}

function middleOf(drawing) {
  let x = 0, y = 0, count = 0;
  for (let i = 0; i < drawing.mask.length; i++) {
    if (drawing.mask[i]) (x += i % drawing.columns), (y += Math.floor(i / drawing.columns)), (count += 1);
  }
  return count ? [Math.round(x / count), Math.round(y / count)] : null;
}

export function scroll(by) {
  if (desk.open) goTo(Math.min(Math.max(desk.at + by, 0), volume().shape[0] - 1));
}

export async function goTo(slice) {
  const { item } = desk.open, { shape: [, rows, columns], spacing } = volume();
  desk.at = slice;
  const away = slice - item.slice;
  for (const layer of view.layers) layer.hidden = away !== 0;
  $("away").hidden = !away;
  const mm = Math.abs(away * spacing[0]).toFixed(1);
  $("away").firstElementChild.textContent = `${mm} mm ${away > 0 ? "above" : "below"} the slice: only to look at`;
  $("slice").parentElement.classList.toggle("away", away !== 0);
  const wanted = () => desk.open?.item === item && desk.at === slice;
  const paint = (values) => {
    host.values = values;
    view.show(values, rows, columns, spacing.slice(1), !away && item);
    showDepth();
  };
  const kept = planes.now(item.volume, "axial", slice);
  if (kept) paint(kept);
  else if (!away) host.values = null;
  markGlances();
  try {
    if (!kept) {
      const values = await planes.get(item.volume, "axial", slice);
      if (wanted()) paint(values);
    }
    if (!away && wanted()) await showGlances();
    if (wanted()) fetchAhead();
  } catch (error) {
    if (wanted()) setTimeout(() => wanted() && goTo(slice), 2000);
    trouble(error);
  }
}

// Cancel requests in advance, so that they do not delay the image that is about to be opened.
export const onlyThis = (row) => planes.ahead([[row.volume, "axial", row.slice]]);

// Neighbours, the nearest first, then the next slice.
function fetchAhead() {
  const { item } = desk.open, { shape, spacing } = volume(), wanted = [];
  const far = Math.ceil(AHEAD_MM / spacing[0]);
  const next = nextFree();
  for (let k = 1; k <= far; k++) {
    for (const slice of [desk.at + k, desk.at - k]) {
      if (slice >= 0 && slice < shape[0]) wanted.push([item.volume, "axial", slice]);
    }
    if (k === 2 && next) wanted.push([next.volume, "axial", next.slice]);
  }
  planes.ahead(wanted);
}

export async function showGlances() {
  const { item } = desk.open, { shape: [slices, rows, columns], spacing: [z, y, x] } = volume();
  const [coronal, sagittal] = await Promise.all([
    planes.get(item.volume, "coronal", desk.through[1]), planes.get(item.volume, "sagittal", desk.through[0]),
  ]);
  if (desk.open?.item !== item) return;
  glances.coronal.show(coronal, slices, columns, [z, x]);
  glances.sagittal.show(sagittal, slices, rows, [z, y]);
  markGlances();
}

function markGlances() {
  const { slice } = desk.open.item, away = desk.at === slice ? [] : [[desk.at, null, "#62a8ff"]];
  const lines = (column) => [[0, column, "#ffffff30"], [slice, null, "#ffc43d"], ...away];
  glances.coronal.mark(lines(desk.through[0]));
  glances.sagittal.mark(lines(desk.through[1]));
}

for (const [name, glance] of Object.entries(glances)) {
  const look = (event) => {
    if (!desk.open || !glance.values || !event.buttons) return;
    const slice = glance.rowAt(event.clientY - $(name).getBoundingClientRect().top);
    goTo(Math.min(Math.max(slice, 0), volume().shape[0] - 1));
  };
  $(name).addEventListener("pointerdown", (event) => ($(name).setPointerCapture(event.pointerId), look(event)));
  $(name).addEventListener("pointermove", look);
}
new ResizeObserver(() => Object.values(glances).forEach((glance) => glance.draw())).observe($("coronal"));

// -- display beside the slice -----------------------------------------------------------------------------------------

export function showButtons() {
  const { drawing } = host, can = mayDraw();
  for (const id of ["done", "none", "unsure", "holes", "largest", "comment"]) $(id).disabled = !can;
  $("undo").disabled = !can || !(drawing.past.length || tools.points.length);
  $("redo").disabled = !can || !drawing.future.length;
  $("start").hidden = !desk.open?.proposal;
  $("start").disabled = !can;
  $("start").firstChild.textContent = drawing.start === "proposal" ? "Without proposal " : "With proposal ";
}

export function showTools() {
  for (const button of document.querySelectorAll("nav [data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === tools.tool);
  }
  $("size").value = (100 * Math.log(tools.size)) / Math.log(300);
  const mm = desk.open ? (tools.size * volume().spacing[2]).toFixed(0) : tools.size;
  $("pixels").textContent = `${tools.size} px${desk.open ? `, ${mm} mm` : ""}`;
  $("limited").checked = tools.limited;
  [$("low").value, $("high").value] = [tools.low, tools.high];
}

export function setWindow(level, width) {
  view.window(level, width);
  Object.values(glances).forEach((glance) => glance.windowed());
  for (const button of $("presets").children) {
    const [l, w] = PRESETS[button.dataset.name];
    button.setAttribute("aria-pressed", l === view.level && w === view.width);
  }
  showDepth();
}

function hovered(point) {
  const [x, y] = (point ?? [-1, -1]).map(Math.floor);
  const inside = host.values && x >= 0 && y >= 0 && x < view.columns && y < view.rows;
  $("hu").textContent = inside ? `${host.values[y * view.columns + x]} HU  at ${x}, ${y}` : "";
  if (view.kx === zoomShown) return;
  zoomShown = view.kx;
  $("zoom").textContent = `${Math.round((100 * view.scale) / view.ratio)} %`;
  $("bar").hidden = !desk.open;
  if (desk.open) $("bar").style.width = `${(BAR_MM / volume().spacing[2]) * (view.kx / view.ratio)}px`;
}

function showDepth() {
  $("depth").textContent = desk.open ? `slice ${desk.at}` : "";
  $("window").textContent = `level ${view.level}  width ${view.width}`;
}

