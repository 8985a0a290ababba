// The state of the page, shared by all its parts, and its messages.

import { Refusal } from "./api.js";

export const $ = (id) => document.getElementById(id);

export const desk = {
  me: localStorage.getItem("slicesampling annotator") ?? "",
  round: null, // as the server last told it
  open: null, // the current slice: the server's data, `keeper`, `clock`
  at: 0, // the slice shown, of the same volume
  through: [0, 0], // column and row of the glances
  busy: false, // an answer is being sent
  noneAsked: 0, // how often "no liver" was chosen on a slice with a drawing
};

export const same = (a, b) => Boolean(a && b && a.volume === b.volume && a.slice === b.slice);

export const volume = () => desk.round.volumes[desk.open.item.volume];

let hintTimer = null, moving = false;

export function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
  clearTimeout(hintTimer);
  hintTimer = setTimeout(() => ($("hint").hidden = true), 2600);
}

// Try until the server is reachable.
export async function persist(what) {
  for (let wait = 1000; ; wait = Math.min(wait * 1.6, 5000)) {
    try {
      const told = await what();
      $("trouble").hidden = true;
      return told;
    } catch (error) {
      if (!(error instanceof Refusal) || !error.passing) throw error;
      trouble(error);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

// Show the state of the drawing.
export function tell(what, error) {
  const texts = { new: "", changed: "Saving…", kept: "Draft saved", answered: "Answered" };
  $("saved").textContent = texts[what] ?? "Not saved";
  $("saved").className = what;
  if (what === "refused") desk.open.read_only = true;
  if (error) trouble(error);
  else if (what === "kept" || what === "answered") $("trouble").hidden = true;
}

export function trouble(error) {
  if (!(error instanceof Refusal)) throw error;
  const more = error.reason === "token" ? ". What you draw is kept in this tab until then"
    : error.passing ? "; trying again. You can go on drawing: nothing is lost while this tab stays open" : "";
  $("trouble").textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}${more}.`;
  $("trouble").hidden = false;
}

// Requests to the server by an annotator who waits, one at a time.
export const guarded = (what) => async (...values) => {
  if (moving) return undefined;
  moving = true;
  try {
    return await persist(() => what(...values));
  } catch (error) {
    return trouble(error);
  } finally {
    moving = false;
  }
};
