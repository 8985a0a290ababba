// The list of a round: thumbnails, uncertainty, who has done what; and the summary at its end.

import { thumbnail } from "./api.js";

const WORDS = {
  open: "open", begun: "begun", answered: "answered by you", taken: "in work", done: "done",
};

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const minutes = (seconds) =>
  seconds < 60 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min ${String(Math.round(seconds % 60)).padStart(2, "0")} s`;

export const finished = (row) => row.by.length >= row.people;

export const title = (state) => (state.number ? `Round ${state.number}` : "First round");

// Cards of all slices, and of earlier ones that can be corrected; `take(row)` opens one.
export function fillList(body, state, annotator, current, take) {
  const top = Math.max(...state.items.map((row) => row.score), 1e-9);
  const grid = (rows) => element("div", { className: "cards" }, ...rows.map((row) => card(row, top, annotator, current, take)));
  body.replaceChildren(grid(state.items));
  if (state.earlier.length) body.append(element("h3", { textContent: "Earlier rounds" }), grid(state.earlier));
}

function card(row, top, annotator, current, take) {
  const mine = row.answers[annotator];
  const others = row.by.filter((name) => name !== annotator);
  const who = [
    row.people > 1 ? `${row.by.length} of ${row.people} people` : null,
    others.length ? `by ${others.join(", ")}` : null,
    row.reserved.length ? `with ${row.reserved.join(", ")}` : null,
    mine ? `${mine.answer === "mask" ? "drawn" : mine.answer}, ${minutes(mine.seconds)}` : null,
    row.agreement === null ? null : `Dice ${row.agreement.toFixed(2)}`,
  ].filter(Boolean);
  const bar = element("i");
  bar.style.width = `${Math.max((100 * row.score) / top, 2)}%`;
  const made = element(
    "button",
    { className: `card ${row.state}${row === current ? " current" : ""}`, title: mine?.comment ?? "" },
    element("img", { src: thumbnail(annotator, row), loading: "lazy", alt: "" }),
    element("b", { textContent: `${row.volume} · ${row.slice}` }),
    element("span", { className: "bar", title: `uncertainty ${row.score.toPrecision(3)}` }, bar),
    element("span", { className: "state", textContent: WORDS[row.state] }),
    element("small", { textContent: who.join(" · ") }),
  );
  made.disabled = row.state === "taken";
  made.addEventListener("click", () => take(row));
  return made;
}

// Who has answered how much in which time.
export function peopleTable(state) {
  const rows = Object.entries(state.people).map(([name, { answers, seconds }]) =>
    element("tr", {}, ...[name, answers, minutes(seconds), minutes(seconds / answers)].map((cell) => element("td", { textContent: cell }))));
  const head = ["", "answers", "at work", "an answer"].map((cell) => element("th", { textContent: cell }));
  return element("table", {}, element("tr", {}, ...head), ...rows);
}

export function summary(state, annotator) {
  const left = state.items.filter((row) => !finished(row));
  const made = [];
  if (!state.open) {
    made.push(element("p", { textContent: `All that was asked for is in: ${state.items.length} slices. To go on, run the same snakemake command again; this page then shows the next round.` }));
  } else if (!state.items.some((row) => ["open", "begun"].includes(row.state))) {
    const second = left.filter((row) => row.by.includes(annotator)).length, taken = left.filter((row) => row.state === "taken").length;
    const parts = [second ? `${second} wait for a second person` : null, taken ? `${taken} are in work by others` : null].filter(Boolean);
    made.push(element("p", { textContent: `You have done all that you can: of ${left.length} slices left, ${parts.join(" and ")}.` }));
  }
  if (!made.length) {
    made.push(element("p", { textContent: `${state.items.length - left.length} of ${state.items.length} slices are answered. The most uncertain come first; the bar is the model's uncertainty.` }));
  }
  const both = state.items.filter((row) => row.agreement !== null);
  if (Object.keys(state.people).length) made.push(peopleTable(state));
  if (both.length) {
    const mean = both.reduce((sum, row) => sum + row.agreement, 0) / both.length;
    made.push(element("p", { textContent: `Two people agree with a mean Dice index of ${mean.toFixed(3)} on ${both.length} slices.` }));
  }
  return made;
}
