// The page on which one slice after another is annotated: puts view, tools, drawing, list and server together.

import { Planes, Refusal, get, post } from "./api.js";
import { Drawing, fromRuns, toRuns } from "./drawing.js";
import { element, fillList, finished, minutes, summary, title } from "./list.js";
import { Clock, Keeper } from "./saving.js";
import { Tools } from "./tools.js";
import { Glance, Layer, View } from "./view.js";

const $ = (id) => document.getElementById(id);
const MINE = [255, 196, 61], OTHERS = [[98, 168, 255], [180, 140, 255]];
const AHEAD_MM = 15; // of neighbours on either side, fetched before they are looked at
const POLL = 10000; // ms between two looks at what the others do
const PRESETS = { Abdomen: [40, 350], Liver: [80, 150], Wide: [50, 700], Bone: [500, 2000], Lung: [-600, 1500] };
const KEYS = [
  ["Answer", [["Done, and the next slice", "Enter"], ["No liver here", "N"], ["Cannot tell, with a comment", "U"],
    ["Skip to the next free slice", "PgDn"], ["Previous slice", "PgUp"], ["List of the round", "O"]]],
  ["Draw", [["Brush", "B"], ["Eraser", "E"], ["Closed contour", "C"], ["Polygon", "P"], ["Erase instead of draw", "Shift"],
    ["Brush size", "[  ]  or Shift+wheel"], ["Brush only within HU", "H"], ["Fill holes", "F"], ["Keep the largest part", "L"],
    ["With or without the proposal", "S"], ["Undo", "Ctrl+Z  or Z"], ["Redo", "Ctrl+Y  or Y"]]],
  ["Polygon", [["Close", "first point, or double click"], ["Move or insert a point", "drag"], ["Last point back", "Backspace"],
    ["Fill it", "Enter"], ["Discard", "Esc"]]],
  ["Look", [["Neighbours", "wheel  or ↑ ↓"], ["Back to the slice", "Q"], ["Zoom", "Ctrl+wheel  or + −"], ["Move", "Space+drag, middle button"],
    ["The whole slice", "0"], ["Window and level", "right drag, or W"], ["Presets", "1 … 5"], ["Without the mask", "V"],
    ["Glances through the pointer", "G"]]],
  ["Pen and touch", [["Zoom and move", "two fingers"], ["With a pen", "fingers move, the pen draws"]]],
];

const planes = new Planes();
const tab = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => (byte % 36).toString(36)).join("");
let me = localStorage.getItem("slicesampling annotator") ?? "";
let round = null; // as the server last told it
let open = null; // the slice in work: what the server sent, `keeper`, `clock`
let at = 0; // the slice shown, of the same volume
let through = [0, 0]; // column and row of the glances
let busy = false, hintTimer = null, noneAsked = 0, trail = [], spot = -1; // slices in the order in which they were opened

const host = {
  drawing: new Drawing(1, 1), layer: new Layer(1, 1, MINE), values: null,
  editable: () => Boolean(open && !open.read_only && at === open.item.slice && host.values && !busy),
  redraw(box) {
    if (!box) return;
    this.layer.update(box);
    view.draw(box);
  },
  changed() {
    noneAsked = 0;
    open.keeper?.changed();
    showButtons();
  },
  refused: () => hint(!open ? "" : open.read_only ? "Answered by somebody else: to look at, not to change" : at === open.item.slice ? "Loading…" : "A neighbour, only to look at. Q: back to the slice"),
  scroll,
  window: setWindow,
  shown: showTools,
  hovered,
};
const view = new View($("slice"), $("above"), () => false);
const tools = new Tools(view, $("above"), host);
const glances = { coronal: new Glance($("coronal"), view.lookup), sagittal: new Glance($("sagittal"), view.lookup) };
window.annotating = { view, tools, host, Drawing, get open() { return open; } }; // for tests and the curious

// -- the round --------------------------------------------------------------------------------------------------------

async function refresh() {
  round = await get("round", { annotator: me });
  const done = round.items.filter(finished).length;
  $("round").textContent = title(round);
  $("count").textContent = `${done} of ${round.items.length}`;
  $("progress").firstElementChild.style.width = `${(100 * done) / Math.max(round.items.length, 1)}%`;
  if ($("overview").open) showList();
  return round;
}

const same = (a, b) => Boolean(a && b && a.volume === b.volume && a.slice === b.slice);
const current = () => round.items.concat(round.earlier).find((row) => same(row, open?.item));

function showList() {
  $("overview").querySelector("h2").textContent = title(round);
  $("summary").replaceChildren(...summary(round, me));
  fillList($("cards"), round, me, current(), (row) => {
    $("overview").close();
    take(row);
  });
  if (!$("overview").open) $("overview").showModal();
}

// The next slice that is free for me, after the one in work; none: null.
function nextFree() {
  const from = round.items.findIndex((row) => same(row, open?.item)) + 1;
  const turned = [...round.items.slice(from), ...round.items.slice(0, from)];
  return turned.find((row) => !same(row, open?.item) && ["open", "begun"].includes(row.state)) ?? null;
}

async function goOn() {
  for (;;) {
    await refresh();
    const row = round.open ? nextFree() : null;
    if (!row) {
      if (!open || open.answered || !round.open) close();
      return showList();
    }
    if (await take(row)) return undefined;
  }
}

// Open a slice; false if somebody else was faster.
async function take(row, back = false) {
  if (same(row, open?.item) && !open.answered) return true;
  await leave();
  let opened;
  try {
    opened = await post("open", { annotator: me, tab, volume: row.volume, slice: row.slice });
  } catch (error) {
    if (error.reason === "taken") return false;
    throw error;
  }
  if (!back) {
    trail = [...trail.filter((other) => !same(other, row)), row];
    spot = trail.length - 1;
  }
  close();
  show(opened);
  return true;
}

async function leave() {
  if (!open || open.answered || open.read_only) return;
  await open.keeper.flush();
  const touched = open.keeper.revision > 0;
  if (!touched) await post("leave", { ...open.keeper.which }).catch(() => {});
}

function close() {
  open?.keeper?.stop();
  open = host.values = null;
  view.layers = [];
  tools.reset();
  view.show(null, view.rows, view.columns, [1, 1]);
  $("which").textContent = "";
  $("away").hidden = true;
  showButtons();
}

// -- one slice --------------------------------------------------------------------------------------------------------

const volume = () => round.volumes[open.item.volume];

function show(opened) {
  open = opened;
  const { item } = open, [, rows, columns] = round.volumes[item.volume].shape;
  const drawing = (host.drawing = new Drawing(rows, columns));
  const which = { annotator: me, tab, round: open.round, volume: item.volume, slice: item.slice };
  const left = open.read_only ? null : Keeper.left(which, open.opened, open.draft);
  const state = left ?? open.draft;
  const start = open.start === "answer" ? open.masks[me] : open.proposal ?? [];
  open.startMask = fromRuns(start, rows * columns);
  drawing.start = state?.start ?? open.start;
  drawing.mask.set(state ? fromRuns(state.runs, rows * columns) : open.startMask);
  host.layer = new Layer(rows, columns, MINE);
  host.layer.mask = drawing.mask;
  host.layer.tint = $("tint").value / 100;
  host.layer.update([0, 0, columns, rows]);
  view.layers = [host.layer];
  open.clock = new Clock(state?.seconds ?? 0);
  $("comment").value = state?.comment ?? item.answers[me]?.comment ?? "";
  tools.reset(state?.polygon ?? []);
  if (open.read_only) {
    view.layers = Object.values(open.masks).map((runs, k) => {
      const layer = new Layer(rows, columns, OTHERS[k % OTHERS.length]);
      layer.mask = fromRuns(runs, rows * columns);
      layer.update([0, 0, columns, rows]);
      return layer;
    });
  } else {
    open.keeper = new Keeper(which, open.opened, () => ({
      runs: toRuns(drawing.mask), start: drawing.start, seconds: Math.round(open.clock.seconds * 10) / 10,
      comment: $("comment").value, polygon: tools.points,
    }), state?.revision ?? 0, tell);
    tell(state ? "kept" : "new");
    if (left) open.keeper.changed();
  }
  through = middleOf(drawing) ?? [columns >> 1, rows >> 1];
  noneAsked = 0;
  view.fitted = true;
  const small = [`of ${volume().shape[0]}`, item.people > 1 ? "two people annotate it" : null,
    open.read_only ? `answered by ${item.by.join(" and ")}` : item.answers[me] ? "answered by you" : null];
  $("which").replaceChildren(`${item.volume} · slice ${item.slice}`, element("small", { textContent: small.filter(Boolean).join(" · ") }));
  goTo(item.slice);
  showButtons();
  if (state && !item.answers[me] && toRuns(drawing.mask).length) hint("As you left it");
}

function middleOf(drawing) {
  let x = 0, y = 0, count = 0;
  for (let i = 0; i < drawing.mask.length; i++) {
    if (drawing.mask[i]) (x += i % drawing.columns), (y += Math.floor(i / drawing.columns)), (count += 1);
  }
  return count ? [Math.round(x / count), Math.round(y / count)] : null;
}

function scroll(by) {
  if (open) goTo(Math.min(Math.max(at + by, 0), volume().shape[0] - 1));
}

async function goTo(slice) {
  const { item } = open, { shape: [, rows, columns], spacing } = volume();
  at = slice;
  const away = slice - item.slice;
  for (const layer of view.layers) layer.hidden = away !== 0;
  $("away").hidden = !away;
  $("away").firstElementChild.textContent = `${away > 0 ? "+" : "−"}${Math.abs(away)} slices, ${Math.abs(away * spacing[0]).toFixed(1)} mm ${away > 0 ? "above" : "below"}: only to look at`;
  $("slice").parentElement.classList.toggle("away", away !== 0);
  const wanted = () => open?.item === item && at === slice;
  const paint = (values) => {
    host.values = values;
    view.show(values, rows, columns, spacing.slice(1), !away && item);
    hovered(tools.cursor && view.toSlice(...tools.cursor));
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

// Neighbours from the nearest on, then what comes next.
function fetchAhead() {
  const { item } = open, { shape, spacing } = volume(), wanted = [];
  const far = Math.ceil(AHEAD_MM / spacing[0]);
  const next = nextFree();
  for (let k = 1; k <= far; k++) {
    for (const slice of [at + k, at - k]) if (slice >= 0 && slice < shape[0]) wanted.push([item.volume, "axial", slice]);
    if (k === 2 && next) wanted.push([next.volume, "axial", next.slice]);
  }
  planes.ahead(wanted);
}

async function showGlances() {
  const { item } = open, { shape: [slices, rows, columns], spacing: [z, y, x] } = volume();
  const [coronal, sagittal] = await Promise.all([
    planes.get(item.volume, "coronal", through[1]), planes.get(item.volume, "sagittal", through[0]),
  ]);
  if (open?.item !== item) return;
  glances.coronal.show(coronal, slices, columns, [z, x]);
  glances.sagittal.show(sagittal, slices, rows, [z, y]);
  markGlances();
}

function markGlances() {
  const lines = (column) => [[0, column, "#ffffff30"], [open.item.slice, null, "#ffc43d"], ...(at === open.item.slice ? [] : [[at, null, "#62a8ff"]])];
  glances.coronal.mark(lines(through[0]));
  glances.sagittal.mark(lines(through[1]));
}

for (const [name, glance] of Object.entries(glances)) {
  const look = (event) => {
    if (!open || !glance.values || !event.buttons) return;
    const slice = glance.rowAt(event.clientY - $(name).getBoundingClientRect().top);
    goTo(Math.min(Math.max(slice, 0), volume().shape[0] - 1));
  };
  $(name).addEventListener("pointerdown", (event) => ($(name).setPointerCapture(event.pointerId), look(event)));
  $(name).addEventListener("pointermove", look);
}
new ResizeObserver(() => Object.values(glances).forEach((glance) => glance.draw())).observe($("coronal"));

// -- answers ----------------------------------------------------------------------------------------------------------

async function answer(kind) {
  if (!open || open.read_only || open.answered || busy) return;
  if (at !== open.item.slice) return goTo(open.item.slice);
  if (kind === "mask" && tools.points.length > 2) return tools.apply(), hint("The polygon is filled. Enter again: done");
  tools.reset();
  const { drawing } = host;
  const runs = kind === "mask" ? toRuns(drawing.mask) : [];
  if (kind === "mask" && !runs.length) return hint("Nothing is drawn. N: no liver here. U: cannot tell");
  if (kind === "no structure" && drawing.past.length && drawing.count() && !noneAsked++) return hint("You have drawn something. N again: no liver here");
  const { keeper, clock } = open;
  const given = {
    ...keeper.which, answer: kind, runs, seconds: Math.round(clock.seconds * 10) / 10, opened: open.opened,
    start: drawing.start, comment: $("comment").value,
  };
  delete given.tab;
  busy = true;
  showButtons();
  try {
    clearTimeout(keeper.timer);
    const told = await persist(() => post("answer", given));
    keeper.done();
    open.answered = true;
    tell("answered");
    if (told.also.length) hint(`${told.also.join(" and ")} has answered it too; both answers are kept`);
    else hint(kind === "mask" ? "Answered" : kind === "no structure" ? "Answered: no liver" : "Answered: cannot tell");
  } catch (error) {
    trouble(error);
    return undefined;
  } finally {
    busy = false;
    showButtons();
  }
  return guarded(goOn)();
}

// Try until the server can be reached.
async function persist(what) {
  for (let wait = 1000; ; wait = Math.min(wait * 1.6, 5000)) {
    try {
      const told = await what();
      $("trouble").hidden = true;
      return told;
    } catch (error) {
      if (!(error instanceof Refusal) || !error.passing) throw error;
      tell("lost", error);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

// What becomes of what is drawn.
function tell(what, error) {
  const text = { new: "", changed: "Saving…", kept: "Draft saved", answered: "Answered", lost: "Not saved", refused: "Not saved" }[what];
  $("saved").textContent = text;
  $("saved").className = what;
  if (error) trouble(error);
  else if (what === "kept" || what === "answered") $("trouble").hidden = true;
}

function trouble(error) {
  if (!(error instanceof Refusal)) throw error;
  const more = error.reason === "token" ? ". What you draw is kept in this tab until then"
    : error.passing ? "; trying again. You can go on drawing: nothing is lost while this tab stays open" : "";
  $("trouble").textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}${more}.`;
  $("trouble").hidden = false;
}

const guarded = (what) => async (...values) => {
  try {
    return await persist(() => what(...values));
  } catch (error) {
    return trouble(error);
  }
};

function previous() {
  const to = same(trail[spot], open?.item) ? spot - 1 : spot;
  if (to < 0) return hint("There is no previous slice");
  spot = to;
  return guarded(take)(trail[to], true);
}

function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
  clearTimeout(hintTimer);
  hintTimer = setTimeout(() => ($("hint").hidden = true), 2600);
}

// -- what is shown beside the slice -----------------------------------------------------------------------------------

function showButtons() {
  const { drawing } = host, can = Boolean(open && !open.read_only && !busy);
  for (const id of ["done", "none", "unsure", "holes", "largest", "comment"]) $(id).disabled = !can;
  $("undo").disabled = !can || !(drawing.past.length || tools.points.length);
  $("redo").disabled = !can || !drawing.future.length;
  $("start").hidden = !open?.proposal;
  $("start").disabled = !can;
  $("start").firstChild.textContent = drawing.start === "proposal" ? "Without proposal " : "With proposal ";
}

function showTools() {
  for (const button of document.querySelectorAll("nav [data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tools.tool);
  $("size").value = (100 * Math.log(tools.size)) / Math.log(300);
  const mm = open ? (tools.size * volume().spacing[2]).toFixed(0) : tools.size;
  $("pixels").textContent = `${tools.size} px${open ? `, ${mm} mm` : ""}`;
  Object.assign($("limited"), { checked: tools.limited });
  Object.assign($("low"), { value: tools.low });
  Object.assign($("high"), { value: tools.high });
}

function setWindow(level, width) {
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
  $("zoom").textContent = `${Math.round((100 * view.scale) / view.ratio)} %`;
}

function showDepth() {
  $("depth").textContent = open ? `slice ${at}` : "";
  $("window").textContent = `level ${view.level}  width ${view.width}`;
}

// -- what is pressed --------------------------------------------------------------------------------------------------

const step = (what) => () => {
  if (!host.editable()) return host.refused();
  if (what === "undo" && tools.back()) return undefined;
  const box = host.drawing[what]();
  if (!box) return hint(`Nothing to ${what}`);
  host.redraw(box);
  return host.changed();
};

const whole = (what) => () => {
  if (!host.editable()) return host.refused();
  const { drawing } = host;
  if (tools.closed) tools.apply();
  drawing.begin();
  host.redraw(drawing[what]());
  return drawing.commit() ? host.changed() : hint("That changes nothing");
};

function switchStart() {
  if (!open?.proposal) return hint("This slice starts without a proposal");
  if (!host.editable()) return host.refused();
  const { drawing } = host, to = drawing.start === "proposal" ? "empty" : "proposal";
  drawing.begin();
  host.redraw(drawing.replace(to === "proposal" ? open.startMask : new Uint8Array(drawing.mask.length)));
  if (drawing.commit(to)) host.changed();
  return hint(to === "proposal" ? "From the model's mask" : "From nothing");
}

function unsure() {
  if (!open || open.read_only) return;
  $("reason").value = $("comment").value;
  $("why").showModal();
}

function hideMask(hidden) {
  for (const layer of view.layers) layer.shown = !hidden;
  view.draw();
}

function limit() {
  tools.limited = !tools.limited;
  showTools();
}

function glanceHere() {
  if (!open || !tools.cursor) return;
  const [x, y] = view.toSlice(...tools.cursor).map(Math.floor);
  through = [Math.min(Math.max(x, 0), view.columns - 1), Math.min(Math.max(y, 0), view.rows - 1)];
  showGlances().catch(trouble);
}

const zoomed = (factor) => () => {
  view.zoom(factor, view.canvas.width / 2 / view.ratio, view.canvas.height / 2 / view.ratio);
  hovered(tools.cursor && view.toSlice(...tools.cursor));
};

const ACTIONS = {
  b: () => tools.choose("brush"), e: () => tools.choose("eraser"), c: () => tools.choose("contour"),
  p: () => tools.choose("polygon"), w: () => tools.choose("window"), m: () => tools.choose("pan"),
  "[": () => tools.resize(1 / 1.2), "]": () => tools.resize(1.2), h: limit, f: whole("fillHoles"), l: whole("keepLargest"),
  s: switchStart, z: step("undo"), y: step("redo"), v: () => hideMask(view.layers[0]?.shown), g: glanceHere,
  q: () => open && goTo(open.item.slice), Home: () => open && goTo(open.item.slice), ArrowUp: () => scroll(1), ArrowDown: () => scroll(-1),
  0: () => (view.fit(), hovered(null)), "+": zoomed(1.25), "=": zoomed(1.25), "-": zoomed(0.8),
  n: () => answer("no structure"), u: unsure, Enter: () => answer("mask"),
  PageDown: () => guarded(goOn)(), PageUp: previous, o: () => guarded(refresh)().then(showList), "?": () => $("card").showModal(),
  Escape: () => (tools.points = [], tools.closed = false, tools.line = null, view.redecorate(), open?.keeper?.changed()),
  Backspace: () => tools.back(), Delete: () => tools.back(),
};
Object.keys(PRESETS).forEach((name, k) => {
  ACTIONS[k + 1] = () => setWindow(...PRESETS[name]);
  const button = element("button", { textContent: name, title: `level ${PRESETS[name][0]}, width ${PRESETS[name][1]} (${k + 1})` });
  button.dataset.name = name;
  button.addEventListener("click", ACTIONS[k + 1]);
  $("presets").append(button);
});

window.addEventListener("keydown", (event) => {
  open?.clock?.input();
  if (document.querySelector("dialog[open]") || event.target.matches("textarea, input[type=number]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.key === " ") tools.space = true;
  if (event.key === "Shift") (tools.shift = true), view.redecorate();
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" || key === "y") event.preventDefault(), step(key === "y" || event.shiftKey ? "redo" : "undo")();
    return;
  }
  if (key === "v" && event.repeat) return;
  if (key === " " || (ACTIONS[key] && !event.altKey)) {
    event.preventDefault();
    if (key !== " ") ACTIONS[key]();
  }
});
window.addEventListener("keyup", (event) => {
  if (event.key === " ") tools.space = false;
  if (event.key === "Shift") (tools.shift = false), view.redecorate();
});
for (const name of ["pointerdown", "pointermove", "wheel"]) window.addEventListener(name, () => open?.clock?.input(), { capture: true, passive: true });

const press = (id, what) => $(id).addEventListener("click", () => (what(), $("above").focus({ preventScroll: true })));
for (const button of document.querySelectorAll("nav [data-tool]")) button.addEventListener("click", () => tools.choose(button.dataset.tool));
press("undo", step("undo"));
press("redo", step("redo"));
press("fit", ACTIONS[0]);
press("holes", whole("fillHoles"));
press("largest", whole("keepLargest"));
press("start", switchStart);
press("home", ACTIONS.q);
press("done", ACTIONS.Enter);
press("none", ACTIONS.n);
press("next", ACTIONS.PageDown);
press("previous", previous);
$("unsure").addEventListener("click", unsure);
$("list").addEventListener("click", ACTIONS.o);
$("keys").addEventListener("click", ACTIONS["?"]);
$("size").addEventListener("input", () => tools.resize(Math.max(300 ** ($("size").value / 100), 1) / tools.size));
$("tint").addEventListener("input", () => {
  host.layer.tint = $("tint").value / 100;
  view.draw();
});
$("limited").addEventListener("change", limit);
for (const id of ["low", "high"]) $(id).addEventListener("change", () => {
  tools[id] = Number($(id).value);
  if (!tools.limited) limit();
});
$("comment").addEventListener("input", () => open?.keeper?.changed());
$("why").addEventListener("close", () => {
  if ($("why").returnValue !== "answer" || !$("reason").value.trim()) return;
  $("comment").value = $("reason").value.trim();
  answer("cannot tell");
});
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
for (const [name, keys] of KEYS) {
  $("card").querySelector(".columns").append(element("h3", { textContent: name }), ...keys.map(([what, key]) =>
    element("div", {}, element("span", { textContent: what }), element("kbd", { textContent: key }))));
}

// -- begin and end ----------------------------------------------------------------------------------------------------

window.addEventListener("pagehide", () => open?.keeper?.send(true));
document.addEventListener("visibilitychange", () => document.hidden && open?.keeper?.send(true));
window.addEventListener("beforeunload", (event) => {
  if ($("saved").className === "lost") event.preventDefault();
});

$("name").addEventListener("click", askName);
function askName() {
  $("given").value = me;
  $("who").showModal();
  $("given").select();
}
$("who").addEventListener("cancel", (event) => me || event.preventDefault());
$("who").addEventListener("close", async () => {
  const name = $("given").value.trim();
  if (!name || name === me) return me || askName();
  if (open) await leave().catch(() => {});
  close();
  trail = [];
  spot = -1;
  me = name;
  localStorage.setItem("slicesampling annotator", me);
  return begin();
});

async function begin() {
  $("name").textContent = me;
  const next = guarded(async () => {
    await refresh();
    const begun = round.open && round.items.find((row) => row.state === "begun");
    return begun && (await take(begun)) ? undefined : goOn();
  });
  await next();
}

setInterval(() => {
  if (!me || document.hidden || busy) return;
  const shown = round?.round;
  get("round", { annotator: me }).then(async () => {
    await refresh();
    // Somebody has closed the round, or the next one has come.
    if (!open && round.open && round.round !== shown) $("overview").close(), goOn().catch(trouble);
    else if (!open && !$("overview").open) showList();
  }).catch(() => {});
}, POLL);

tools.choose("brush");
setWindow(...PRESETS.Abdomen);
$("tint").value = 14;
showTools();
showButtons();
if (me) begin();
else askName();
