// The annotation page: connects view, tools, drawing, list and server.

import { get, post } from "./api.js";
import { $, desk, guarded, hint, persist, same, tell, trouble } from "./desk.js";
import { toRuns } from "./drawing.js";
import { bindKeys } from "./keys.js";
import { SAID, element, fillList, finished, leftOut, summary, title } from "./list.js";
import {
  goTo, host, nextFree, onlyThis, scroll, setWindow, show, showButtons, showGlances, showTools, tab, tools, view,
} from "./slice.js";
import { PRESETS } from "./view.js";

const POLL = 10000; // polling interval for the state of the round, in ms

let trail = [], spot = -1; // slices in the order of opening, and the index of the current one

// -- the round --------------------------------------------------------------------------------------------------------

async function refresh() {
  const before = JSON.stringify(desk.round);
  desk.round = await get("round", { annotator: desk.me });
  const done = desk.round.items.filter(finished).length;
  $("round").textContent = title(desk.round);
  $("count").textContent = `${done} of ${desk.round.items.length}`;
  $("progress").firstElementChild.style.width = `${(100 * done) / Math.max(desk.round.items.length, 1)}%`;
  if ($("overview").open && JSON.stringify(desk.round) !== before) showList();
}

const current = () => desk.round.items.concat(desk.round.earlier).find((row) => same(row, desk.open?.item));

function showList() {
  $("overview").querySelector("h2").textContent = title(desk.round);
  $("summary").replaceChildren(...summary(desk.round, desk.me));
  fillList($("cards"), desk.round, desk.me, current(), guarded(async (row) => {
    if (await take(row)) return $("overview").close();
    await refresh();
    return hint("Another annotator has just taken it");
  }));
  $("enough").hidden = !desk.round.open || !desk.round.items.some((row) => row.by.length);
  if (!$("overview").open) $("overview").showModal();
}

async function endRound() {
  await refresh();
  if (!desk.round.open) return showList();
  $("left").textContent = leftOut(desk.round);
  return $("end").showModal();
}

// By the last list; the list is requested again if needed.
async function goOn() {
  const known = desk.round?.open && nextFree();
  if (known && (await take(known))) return void refresh().catch(() => {});
  for (;;) {
    await refresh();
    const row = desk.round.open ? nextFree() : null;
    if (!row) {
      if (!desk.open || desk.open.answered || !desk.round.open) close();
      return showList();
    }
    if (await take(row)) return undefined;
  }
}

// Open a slice; false if another annotator was faster.
async function take(row, back = false) {
  if (same(row, desk.open?.item) && !desk.open.answered) return true;
  onlyThis(row);
  await leave();
  let opened;
  try {
    opened = await post("open", { annotator: desk.me, tab, volume: row.volume, slice: row.slice });
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
  if (!desk.open || desk.open.answered || desk.open.read_only) return;
  const { keeper } = desk.open;
  await keeper.flush();
  if (!keeper.revision) post("leave", { ...keeper.which }).catch(() => {}); // otherwise its reservation expires later
}

function close() {
  desk.open?.keeper?.stop();
  desk.open = host.values = null;
  view.layers = [];
  tools.reset();
  view.show(null, view.rows, view.columns, [1, 1]);
  $("which").textContent = "";
  $("away").hidden = true;
  showButtons();
}

// -- answers ----------------------------------------------------------------------------------------------------------

async function answer(kind) {
  if (!desk.open || desk.open.read_only || desk.open.answered || desk.busy) return;
  if (desk.at !== desk.open.item.slice) return goTo(desk.open.item.slice);
  if (kind === "mask" && tools.points.length > 2) {
    tools.apply();
    return hint("The polygon is filled. Enter again: done");
  }
  tools.reset();
  const { drawing } = host;
  const runs = kind === "mask" ? toRuns(drawing.mask) : [];
  if (kind === "mask" && !runs.length) return hint("Nothing is drawn. N: no liver here. U: cannot tell");
  if (kind === "no structure" && drawing.past.length && drawing.count() && !desk.noneAsked++) {
    return hint("You have drawn something. N again: no liver here");
  }
  const { keeper, clock } = desk.open;
  const given = {
    ...keeper.which, answer: kind, runs, seconds: clock.rounded, opened: desk.open.opened,
    start: drawing.start, comment: $("comment").value,
  };
  delete given.tab;
  desk.busy = true;
  showButtons();
  try {
    clearTimeout(keeper.timer);
    const told = await persist(() => post("answer", given));
    keeper.done();
    desk.open.answered = true;
    Object.assign(current() ?? {}, { state: "answered" });
    if (told.closed) desk.round.open = false;
    tell("answered");
    if (told.also.length) hint(`${told.also.join(" and ")} has answered it too; both answers are kept`);
    else hint(`Answered: ${SAID[kind]}`);
  } catch (error) {
    trouble(error);
    return undefined;
  } finally {
    desk.busy = false;
    showButtons();
  }
  return guarded(goOn)();
}

function previous() {
  const to = same(trail[spot], desk.open?.item) ? spot - 1 : spot;
  if (to < 0) return hint("There is no previous slice");
  spot = to;
  return guarded(take)(trail[to], true);
}

// -- buttons and keys -------------------------------------------------------------------------------------------------

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
  if (!desk.open?.proposal) return hint("This slice starts without a proposal");
  if (!host.editable()) return host.refused();
  const { drawing } = host, to = drawing.start === "proposal" ? "empty" : "proposal";
  drawing.begin();
  host.redraw(drawing.replace(to === "proposal" ? desk.open.startMask : new Uint8Array(drawing.mask.length)));
  if (drawing.commit(to)) host.changed();
  return hint(to === "proposal" ? "From the model's mask" : "From an empty mask");
}

function unsure() {
  if (!desk.open || desk.open.read_only) return;
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
  if (!desk.open || !tools.cursor) return;
  const [x, y] = view.toSlice(...tools.cursor).map(Math.floor);
  desk.through = [Math.min(Math.max(x, 0), view.columns - 1), Math.min(Math.max(y, 0), view.rows - 1)];
  showGlances().catch(trouble);
}

const zoomed = (factor) => () =>
  view.zoom(factor, view.canvas.width / 2 / view.ratio, view.canvas.height / 2 / view.ratio);

const home = () => desk.open && goTo(desk.open.item.slice);

const ACTIONS = {
  b: () => tools.choose("brush"), e: () => tools.choose("eraser"), c: () => tools.choose("contour"),
  p: () => tools.choose("polygon"), w: () => tools.choose("window"), m: () => tools.choose("pan"),
  "[": () => tools.resize(1 / 1.2), "]": () => tools.resize(1.2), h: limit,
  ",": () => tools.resize(1 / 1.2), ".": () => tools.resize(1.2), // for keyboards on which brackets need a modifier
  f: whole("fillHoles"), l: whole("keepLargest"),
  s: switchStart, z: step("undo"), y: step("redo"), v: () => hideMask(view.layers[0]?.shown), g: glanceHere,
  q: home, Home: home, ArrowUp: () => scroll(1), ArrowDown: () => scroll(-1),
  0: () => view.fit(), "+": zoomed(1.25), "=": zoomed(1.25), "-": zoomed(0.8),
  n: () => answer("no structure"), u: unsure, Enter: () => answer("mask"),
  PageDown: () => guarded(goOn)(), PageUp: previous,
  o: () => guarded(refresh)().then(showList), "?": () => $("card").showModal(),
  Escape: () => (tools.points.length && desk.open?.keeper?.changed(), tools.reset()),
  Backspace: () => tools.back(), Delete: () => tools.back(),
};
Object.keys(PRESETS).forEach((name, k) => {
  ACTIONS[k + 1] = () => setWindow(...PRESETS[name]);
  const button = element("button", name);
  button.title = `level ${PRESETS[name][0]}, width ${PRESETS[name][1]} (${k + 1})`;
  button.dataset.name = name;
  button.addEventListener("click", ACTIONS[k + 1]);
  $("presets").append(button);
});

bindKeys(ACTIONS, tools, (what) => step(what)());
for (const name of ["pointerdown", "pointermove", "wheel"]) {
  window.addEventListener(name, () => desk.open?.clock?.input(), { capture: true, passive: true });
}

const press = (id, what) => $(id).addEventListener("click", () => (what(), $("above").focus({ preventScroll: true })));
for (const button of document.querySelectorAll("nav [data-tool]")) {
  button.addEventListener("click", () => tools.choose(button.dataset.tool));
}
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
$("comment").addEventListener("input", () => desk.open?.keeper?.changed());
$("enough").addEventListener("click", guarded(endRound));
$("end").addEventListener("close", guarded(async () => {
  if ($("end").returnValue !== "end") return;
  await post("close", { annotator: desk.me, round: desk.round.round });
  await goOn();
}));
$("why").addEventListener("close", () => {
  if ($("why").returnValue !== "answer" || !$("reason").value.trim()) return;
  $("comment").value = $("reason").value.trim();
  answer("cannot tell");
});
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

// -- begin and end ----------------------------------------------------------------------------------------------------

window.addEventListener("pagehide", () => desk.open?.keeper?.send(true));
document.addEventListener("visibilitychange", () => document.hidden && desk.open?.keeper?.send(true));
window.addEventListener("beforeunload", (event) => {
  if ($("saved").className === "lost") event.preventDefault();
});

$("name").addEventListener("click", askName);
function askName() {
  $("given").value = desk.me;
  $("who").showModal();
  $("given").select();
}
$("who").addEventListener("cancel", (event) => desk.me || event.preventDefault());
$("who").addEventListener("close", async () => {
  const name = $("given").value.trim();
  if (!name || name === desk.me) return desk.me || askName();
  if (desk.open) await leave().catch(() => {});
  close();
  trail = [];
  spot = -1;
  desk.me = name;
  localStorage.setItem("slicesampling annotator", desk.me);
  return begin();
});

async function begin() {
  $("name").textContent = desk.me;
  const next = guarded(async () => {
    await refresh();
    const begun = desk.round.open && desk.round.items.find((row) => row.state === "begun");
    return begun && (await take(begun)) ? undefined : goOn();
  });
  await next();
}

setInterval(() => {
  if (!desk.me || document.hidden || desk.busy) return;
  const shown = desk.round?.round;
  refresh().then(() => {
    // The next round is open.
    if (!desk.open && desk.round.open && desk.round.round !== shown) $("overview").close(), guarded(goOn)();
  }).catch(() => {}); // drafts report errors to the annotator
}, POLL);

tools.choose("brush");
setWindow(...PRESETS.Abdomen);
$("tint").value = 14;
showTools();
showButtons();
if (desk.me) begin();
else askName();
