// Keeps what is drawn with the server, within two seconds and until it has it; and counts the seconds at work.

import { Refusal, post } from "./api.js";

const SOON = 600, LATEST = 1500; // ms after the last stroke, and after the first that is not kept
const PAUSE = 30; // seconds without input after which nobody is at work

// The drawing of one slice. `which`: annotator, tab, round, volume, slice; `state()` gives what is to be kept.
export class Keeper {
  constructor(which, opened, state, revision, tell) {
    Object.assign(this, { which, opened, state, revision, tell, dirty: 0, timer: null, sending: null, wait: 1000 });
    this.key = `slicesampling ${JSON.stringify([which.annotator, which.round, which.volume, which.slice])}`;
    this.stopped = false;
  }

  // What a browser has kept of a slice that the server has not got, if it is newer than what that has.
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

  // Send what is new; resolves when there is nothing that the server has not got, or it refuses to take it.
  async send(last = false) {
    clearTimeout(this.timer);
    if (this.stopped || !this.dirty) return;
    if (this.sending && !last) {
      await this.sending.catch(() => {}); // whoever sent it has seen to it
      return this.send();
    }
    const state = { ...this.state(), revision: this.revision };
    const since = this.dirty;
    try {
      localStorage.setItem(this.key, JSON.stringify({ opened: this.opened, state }));
    } catch {
      // Full: the server's copy has to do.
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

  // Send what is new, again and again until the server has got it or refuses it.
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

// Seconds at work: each input counts from the one before, but for no more than a pause.
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
