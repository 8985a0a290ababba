// The page of a finished run: one volume at a time, with masks, queried slices, and uncertainty.

import { Planes, get } from "./api.js";
import { $ } from "./desk.js";
import { fromRuns } from "./drawing.js";
import { element } from "./list.js";
import { Glance, Heat, Layer, PRESETS, View } from "./view.js";

const COLOURS = [[255, 196, 61], [98, 168, 255], [95, 201, 139], [255, 123, 114], [180, 140, 255], [86, 211, 220], [240, 136, 200]];
const AHEAD = 5; // slices on either side

const POLL = 500; // polling interval for a map, in ms

const planes = new Planes(), maps = new Planes("entropy", "model", Uint8Array);
const view = new View($("slice"), $("above"), () => false);
const glances = { coronal: new Glance($("coronal"), view.lookup), sagittal: new Glance($("sagittal"), view.lookup) };
const shown = new Map([["reference", null]]); // visible masks, and their runs
const colours = new Map([["reference", 0]]); // of visible masks; no colour is used twice while there are enough
const state = { name: "", volume: null, at: 0, profile: [], poll: 0 };
window.viewing = { view, state, shown }; // for tests

const guarded = (what) => async (...values) => {
  try {
    await what(...values);
    $("trouble").hidden = true;
  } catch (error) {
    $("trouble").textContent = `${error.message}.`;
    $("trouble").hidden = false;
  }
};

const choose = guarded(async (name) => {
  const volume = await get("volume", { volume: name });
  Object.assign(state, { name, volume, at: state.name === name ? state.at : Math.floor(volume.shape[0] / 2) });
  fill($("profile"), volume.models, (model) => `uncertainty of ${model}`);
  fill($("entropy"), volume.sampled.length ? ["", ...volume.sampled] : [], (model) => (model ? `entropy of ${model}` : "no entropy map"));
  fill($("seed"), [...new Set(volume.asked.map((query) => query.seed))], (seed) => `queries of ${seed}`);
  for (const mask of shown.keys()) shown.set(mask, null);
  listMasks();
  const [slices, rows, columns] = volume.shape, [z, y, x] = volume.spacing;
  await Promise.all([loadProfile(), ...[...shown.keys()].map(load)]);
  const through = await Promise.all([
    planes.get(name, "coronal", rows >> 1), planes.get(name, "sagittal", columns >> 1),
  ]);
  if (state.name !== name) return;
  glances.coronal.show(through[0], slices, columns, [z, x]);
  glances.sagittal.show(through[1], slices, rows, [z, y]);
  await goTo(state.at);
});

const goTo = guarded(async (slice) => {
  const { name, volume } = state, [slices, rows, columns] = volume.shape;
  const at = (state.at = Math.min(Math.max(slice, 0), slices - 1));
  const [values, entropy] = await Promise.all([planes.get(name, "axial", at), entropyOf(name, at)]);
  if (state.name !== name || state.at !== at) return; // another slice has been chosen meanwhile
  view.layers = volume.masks.flatMap((mask) => {
    const runs = shown.get(mask)?.[at];
    if (!runs) return [];
    const layer = new Layer(rows, columns, COLOURS[colours.get(mask)]);
    layer.tint = 0;
    layer.take(fromRuns(runs, rows * columns));
    return [layer];
  });
  if (entropy) view.layers.unshift(new Heat(entropy, rows, columns));
  view.show(values, rows, columns, volume.spacing.slice(1), name);
  for (const glance of Object.values(glances)) glance.mark([[at, null, "#ffc43d"]]);
  $("which").textContent = `${name} · slice ${at} of ${slices}`;
  drawBar();
  const near = Array.from({ length: AHEAD }, (_, k) => [at + k + 1, at - k - 1]).flat();
  planes.ahead(near.filter((z) => z >= 0 && z < slices).map((z) => [name, "axial", z]));
});

// The entropy of a slice by the chosen model. Null while the server draws samples; then the slice is shown again.
async function entropyOf(name, at) {
  const model = $("entropy").value;
  clearTimeout(state.poll);
  $("legend").hidden = !model;
  $("sampling").hidden = true;
  if (!model) return null;
  try {
    return await maps.get(name, model, at);
  } catch (error) {
    if (error.reason !== "unready") throw error;
    $("sampling").hidden = false;
    state.poll = setTimeout(() => goTo(state.at), POLL);
    return null;
  }
}

async function load(mask) {
  const { name, volume } = state;
  if (!volume.masks.includes(mask)) return;
  const runs = await get("mask", { volume: name, mask });
  if (state.name === name && shown.has(mask)) shown.set(mask, runs);
}

async function loadProfile() {
  const { name } = state, model = $("profile").value;
  const profile = model ? await get("profile", { volume: name, model }) : [];
  if (state.name === name && $("profile").value === model) state.profile = profile;
}

function listMasks() {
  $("masks").replaceChildren(...state.volume.masks.map((mask) => {
    const box = element("input", { type: "checkbox", checked: shown.has(mask) }), swatch = element("i");
    const paint = () => swatch.style.setProperty("--swatch", shown.has(mask) ? `rgb(${COLOURS[colours.get(mask)]})` : "none");
    box.addEventListener("change", guarded(async () => {
      if (box.checked) {
        const free = COLOURS.findIndex((_, k) => ![...colours.values()].includes(k));
        colours.set(mask, free < 0 ? colours.size % COLOURS.length : free);
        shown.set(mask, null);
      } else {
        colours.delete(mask);
        shown.delete(mask);
      }
      paint();
      if (box.checked) await load(mask);
      await goTo(state.at);
    }));
    paint();
    const label = element("label");
    label.append(box, swatch, mask);
    return label;
  }));
}

function fill(select, values, text) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(text(value), value, false, value === before)));
  select.hidden = !values.length;
}

// The slices from the feet at the bottom to the head at the top: uncertainty as a profile from the left, and for each
// strategy a column of the slices that it asked for; earlier ones are brighter.
function drawBar() {
  const canvas = $("slices"), ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const context = canvas.getContext("2d"), { volume, at } = state;
  [canvas.width, canvas.height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
  context.scale(ratio, ratio);
  const slices = volume.shape[0], top = 26, step = (box.height - top - 6) / slices;
  const y = (slice) => top + (slices - 1 - slice) * step;
  const { profile } = state, most = Math.max(...profile, 1e-9), middle = 90;
  context.fillStyle = "#b48cff66";
  profile.forEach((value, slice) => context.fillRect(0, y(slice), (middle * value) / most, Math.max(step - 0.5, 0.5)));
  const asked = volume.asked.filter((query) => query.seed === $("seed").value);
  const strategies = [...new Set(asked.map((query) => query.strategy))];
  const width = (box.width - middle - 8) / Math.max(strategies.length, 1), high = Math.max(Math.min(step, 13), 3);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  strategies.forEach((strategy, k) => {
    context.fillStyle = "#8b949f";
    context.fillText(strategy, middle + 8 + (k + 0.5) * width, 15, width);
  });
  const last = Math.max(...asked.map((query) => query.iteration), 2);
  for (const query of asked) {
    const k = strategies.indexOf(query.strategy), left = middle + 8 + k * width;
    for (const slice of query.slices) {
      context.fillStyle = `hsl(160 35% ${80 - (45 * (query.iteration - 1)) / (last - 1)}%)`;
      context.fillRect(left + 1, y(slice) + step / 2 - high / 2 + 0.25, width - 2, high - 0.5);
      if (high < 10) continue;
      context.fillStyle = "#0c0e11";
      context.fillText(query.iteration, left + width / 2, y(slice) + step / 2 + 4, width);
    }
  }
  context.strokeStyle = "#ffc43d";
  context.strokeRect(0.5, y(at) + 0.5, box.width - 1, Math.max(step - 1, 1));
  const pick = (event) => goTo(slices - 1 - Math.floor((event.offsetY - top) / step));
  canvas.onpointerdown = (event) => (canvas.setPointerCapture(event.pointerId), pick(event));
  canvas.onpointermove = (event) => event.buttons && pick(event);
}

function windowed(level, width) {
  view.window(level, width);
  Object.values(glances).forEach((glance) => glance.windowed());
}

for (const [name, values] of Object.entries(PRESETS)) {
  const button = element("button", name);
  button.addEventListener("click", () => windowed(...values));
  $("presets").append(button);
}
$("above").addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey) view.zoom(event.deltaY > 0 ? 1 / 1.15 : 1.15, event.offsetX, event.offsetY);
  else if (event.deltaY) goTo(state.at - Math.sign(event.deltaY));
}, { passive: false });
$("above").addEventListener("pointerdown", (event) => $("above").setPointerCapture(event.pointerId));
$("above").addEventListener("contextmenu", (event) => event.preventDefault());
$("above").addEventListener("pointermove", ({ buttons, movementX: x, movementY: y }) => {
  if (buttons === 2) windowed(view.level + y, view.width + 2 * x);
  else if (buttons) view.pan(x, y);
});
for (const [name, glance] of Object.entries(glances)) {
  $(name).addEventListener("pointerdown", (event) => glance.values && goTo(glance.rowAt(event.offsetY)));
}
window.addEventListener("keydown", (event) => {
  const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (event.target.matches("select") || (!by && event.key !== "0")) return;
  event.preventDefault();
  if (by) goTo(state.at + by);
  else view.fit();
});
$("volume").addEventListener("change", () => choose($("volume").value));
$("seed").addEventListener("change", drawBar);
$("profile").addEventListener("change", guarded(async () => {
  await loadProfile();
  drawBar();
}));
$("entropy").addEventListener("change", () => goTo(state.at));
$("scale").getContext("2d").drawImage(new Heat(Uint8Array.from({ length: 256 }, (_, k) => k), 1, 256).canvas, 0, 0);
new ResizeObserver(() => state.volume && drawBar()).observe($("slices"));

const start = guarded(async () => {
  const splits = await get("run", {}), groups = new Map();
  for (const [name, split] of Object.entries(splits)) {
    if (!groups.has(split)) groups.set(split, element("optgroup", { label: split || "volumes" }));
    groups.get(split).append(new Option(name));
  }
  $("volume").replaceChildren(...groups.values());
  await choose($("volume").value);
});
start();
