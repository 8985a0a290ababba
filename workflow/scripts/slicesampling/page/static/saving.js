// Stores the drawing on the server within two seconds, with retries; and measures the seconds at work.

import { Refusal, post } from "./api.js";

const SOON = 600, LATEST = 1500; // ms after the last stroke, and after the first unsaved one
const PAUSE = 30; // seconds without input after which the clock stops

// The drawing of one slice. `which`: annotator, tab, round, volume, slice; `state()` returns the state to store.
export class Keeper {
  constructor(which, opened, state, revision, tell) {
    Object.assign(this, { which, opened, state, revision, tell, dirty: 0, timer: null, sending: null, wait: 1000 });
    this.key = `slicesampling ${JSON.stringify([which.annotator, which.round, which.volume, which.slice])}`;
    this.stopped = false;
  }

  // The state of a slice in the browser's storage, if it is newer than the server's.
  static left(which, opened, draft) {
    const key = `slicesampling ${JSON.stringify([which.annotator, which.round, which.volume, which.slice])}`;
    const left = JSON.parse(localStorage.getItem(key) ?? "null");
    return left && left.opened === opened && left.state.revision > (draft?.revision ?? -1) ? left.state : null;
  }

  changed() {
    if (this.stopped) return;
    this.revision += 1;
    this.dirty ||= Date.now();
    this.tell("changed");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), Math.max(Math.min(SOON, this.dirty + LATEST - Date.now()), 0));
  }

  // Send unsaved changes; resolves when all are saved, or the server refuses them.
  async send(last = false) {
    clearTimeout(this.timer);
    if (this.stopped || !this.dirty) return;
    if (this.sending && !last) {
      await this.sending.catch(() => {}); // the sender handles errors
      return this.send();
    }
    const state = { ...this.state(), revision: this.revision };
    const since = this.dirty;
    try {
      localStorage.setItem(this.key, JSON.stringify({ opened: this.opened, state }));
    } catch {
      // The storage is full: rely on the server's copy.
    }
    this.dirty = 0;
    this.sending = post("draft", { ...this.which, opened: this.opened, state }, last);
    try {
      await this.sending;
      this.wait = 1000;
      if (this.revision === state.revision) localStorage.removeItem(this.key), this.tell("kept");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (!error.passing) {
        this.stopped = true;
        this.tell("refused", error);
      } else if (!this.stopped) {
        this.dirty = since;
        this.tell("lost", error);
        this.timer = setTimeout(() => this.send(), this.wait);
        this.wait = Math.min(this.wait * 1.6, 5000);
      }
    } finally {
      this.sending = null;
    }
  }

  // Send unsaved changes until the server accepts or refuses them.
  async flush() {
    while (this.dirty && !this.stopped) {
      await this.send();
      if (this.dirty) await new Promise((resolve) => setTimeout(resolve, this.wait));
    }
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  // The answer is in the log.
  done() {
    this.stop();
    localStorage.removeItem(this.key);
  }
}

// Seconds at work: the time since the previous input counts, up to the length of a pause.
export class Clock {
  constructor(seconds = 0, now = () => performance.now() / 1000) {
    Object.assign(this, { seconds, now, last: now() });
  }

  get rounded() {
    return Math.round(this.seconds * 10) / 10;
  }

  input() {
    const now = this.now();
    this.seconds += Math.min(now - this.last, PAUSE);
    this.last = now;
  }
}
