// Actions of keys, and the card that lists them.

import { $, desk } from "./desk.js";
import { element } from "./list.js";

const KEYS = {
  Answer: [
    ["Done, and the next slice", "Enter"], ["No liver here", "N"], ["Cannot tell, with a comment", "U"],
    ["Skip to the next free slice", "PgDn"], ["Previous slice", "PgUp"], ["List of the round", "O"],
  ],
  Draw: [
    ["Brush", "B"], ["Eraser", "E"], ["Closed contour", "C"], ["Polygon", "P"], ["Erase instead of draw", "Shift"],
    ["Brush size", "[ ] or , . or Shift+wheel"], ["Brush only within HU", "H"], ["Fill holes", "F"],
    ["Keep the largest part", "L"], ["With or without the proposal", "S"], ["Undo", "Ctrl+Z  or Z"],
    ["Redo", "Ctrl+Y  or Y"],
  ],
  Polygon: [
    ["Close", "first point, or double click"], ["Move or insert a point", "drag"], ["Last point back", "Backspace"],
    ["Fill it", "Enter"], ["Discard", "Esc"],
  ],
  Look: [
    ["Neighbours", "wheel  or ↑ ↓"], ["Back to the slice", "Q"], ["Zoom", "Ctrl+wheel  or + −"],
    ["Move", "Space+drag, middle button"], ["The whole slice", "0"], ["Window and level", "right drag, or W"],
    ["Presets", "1 … 5"], ["Without the mask", "V"], ["Glances through the pointer", "G"],
  ],
  "Pen and touch": [["Zoom and move", "two fingers"], ["With a pen", "fingers move, the pen draws"]],
};

const ONCE = ["Enter", "n", "v", "s", "h", "PageDown", "PageUp"]; // actions that a held key must not repeat

// actions: functions by the browser's name of a key, letters in lower case.
export function bindKeys(actions, tools, history) {
  window.addEventListener("keydown", (event) => {
    desk.open?.clock?.input();
    if (document.querySelector("dialog[open]")) return;
    if (event.target.matches("textarea, input[type=number]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === " ") tools.space = true;
    if (key === "Shift") tools.shifted(true);
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      history(key === "y" || event.shiftKey ? "redo" : "undo");
    } else if (key === " " || (actions[key] && !event.altKey)) {
      event.preventDefault();
      if (key !== " " && !(event.repeat && ONCE.includes(key))) actions[key]();
    }
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") tools.space = false;
    if (event.key === "Shift") tools.shifted(false);
  });
  const card = $("card").querySelector(".columns");
  for (const [name, keys] of Object.entries(KEYS)) {
    card.append(element("h3", name));
    for (const [what, key] of keys) card.append(element("div", {}, element("span", what), element("kbd", key)));
  }
}
