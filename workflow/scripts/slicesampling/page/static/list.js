// The list of a round: thumbnails, uncertainty and annotators; and its summary.

import { thumbnail } from "./api.js";

const WORDS = {
  open: "open", begun: "begun", answered: "answered by you", taken: "reserved", done: "done",
};

export const SAID = { mask: "drawn", "no structure": "no liver", "cannot tell": "cannot tell" };

// properties: those of the element, or its text.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, typeof properties === "string" ? { textContent: properties } : properties);
  made.append(...children);
  return made;
}

export function minutes(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole}\u00a0s` : `${Math.floor(whole / 60)}\u00a0min\u00a0${whole % 60}\u00a0s`;
}

export const finished = (row) => row.by.length >= row.people;

export const title = (state) => (state.number ? `Round ${state.number}` : "First round");

// Cards of all slices, and of earlier ones for correction; `take(row)` opens one.
export function fillList(body, state, annotator, current, take) {
  const top = Math.max(...state.items.map((row) => row.score), 1e-9);
  const grid = (rows) => {
    const cards = rows.map((row) => card(row, top, annotator, current, take));
    return element("div", { className: "cards" }, ...cards);
  };
  body.replaceChildren(grid(state.items));
  if (state.earlier.length) body.append(element("h3", "Earlier rounds"), grid(state.earlier));
}

const pictures = new Map(); // by address, so that a refilled list does not load them again

function card(row, top, annotator, current, take) {
  const source = thumbnail(annotator, row);
  if (!pictures.has(source)) pictures.set(source, element("img", { src: source, loading: "lazy", alt: "" }));
  const mine = row.answers[annotator];
  const others = row.by.filter((name) => name !== annotator);
  const who = [
    row.people > 1 ? `${row.by.length} of ${row.people} people` : null,
    others.length ? `by ${others.join(", ")}` : null,
    row.reserved.length ? `with ${row.reserved.join(", ")}` : null,
    mine ? [SAID[mine.answer], mine.seconds === null ? null : minutes(mine.seconds)].filter(Boolean).join(", ") : null,
    row.agreement === null ? null : `Dice ${row.agreement.toFixed(2)}`,
  ].filter(Boolean);
  const bar = element("i");
  bar.style.width = `${Math.max((100 * row.score) / top, 2)}%`;
  const made = element(
    "button",
    { className: `card ${row.state}${row === current ? " current" : ""}`, title: mine?.comment ?? "" },
    pictures.get(source),
    element("b", {}, element("span", row.volume), ` · ${row.slice}`),
    element("span", { className: "bar", title: `uncertainty ${row.score.toPrecision(3)}` }, bar),
    element("span", { className: "state", textContent: WORDS[row.state] }),
    element("small", who.join(" · ")),
  );
  made.disabled = row.state === "taken";
  made.addEventListener("click", () => take(row));
  return made;
}

// Answers and times of each annotator.
function peopleTable(state) {
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell) => element(kind, String(cell))));
  const rows = Object.entries(state.people).map(([name, { answers, timed, seconds }]) =>
    line("td", [name, answers, ...(timed ? [minutes(seconds), minutes(seconds / timed)] : ["unknown", ""])]));
  return element("table", {}, line("th", ["", "answers", "at work", "an answer"]), ...rows);
}

// The slices that are left out if the round ends now.
export function leftOut(state) {
  const left = state.items.filter((row) => !row.by.length).length;
  const second = state.items.filter((row) => row.by.length && !finished(row)).length;
  const begun = state.items.filter((row) => row.reserved.length || row.state === "begun").length;
  const parts = [
    `No answer yet: ${left} of ${state.items.length} slices.`,
    second ? `One answer where two people were asked: ${second}.` : "",
    begun ? `Unfinished drawings, which do not count: ${begun}.` : "",
    "This ends the round for everybody. The next model is trained on the answers so far.",
  ];
  return parts.filter(Boolean).join(" ");
}

// The progress of the round for an annotator: paragraphs and a table.
export function summary(state, annotator) {
  const left = state.items.filter((row) => !finished(row));
  const count = state.items.length, made = [];
  if (!state.open) {
    const all = left.length ? `The round has ended with ${count - left.length} of ${count} slices.`
      : `All that was asked for is in: ${count} slices.`;
    made.push(`${all} To continue, run the same snakemake command again; this page then shows the next round.`);
  } else if (state.items.some((row) => ["open", "begun"].includes(row.state))) {
    made.push(`${count - left.length} of ${count} slices are answered. The most uncertain come first; the bar is the ` +
      "model's uncertainty.");
  } else {
    const second = left.filter((row) => row.by.includes(annotator)).length;
    const taken = left.filter((row) => row.state === "taken").length;
    const one = (count, text, more) => count && `${count} ${count === 1 ? text : more}`;
    const parts = [one(second, "waits for a second person", "wait for a second person"),
      one(taken, "is reserved by another annotator", "are reserved by others")];
    made.push(`You have done all your slices. Slices left: ${left.length}; ${parts.filter(Boolean).join(", ")}.`);
  }
  const both = state.items.filter((row) => row.agreement !== null);
  if (both.length) {
    const mean = both.reduce((sum, row) => sum + row.agreement, 0) / both.length;
    const slices = both.length === 1 ? "1 slice" : `${both.length} slices`;
    made.push(`Two people agree with a mean Dice index of ${mean.toFixed(3)} on ${slices}.`);
  }
  const people = Object.keys(state.people).length ? [peopleTable(state)] : [];
  return [...made.map((text) => element("p", text)), ...people];
}
