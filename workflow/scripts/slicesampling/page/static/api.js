// Requests to the server, with errors in one line, and a cache of planes in HU that are fetched in advance.

const PATIENCE = 15000; // ms until a request times out
const KEPT = 300e6; // bytes of planes
const AHEAD = 3; // simultaneous requests for planes in advance

export class Refusal extends Error {
  // status 0: no connection.
  constructor(line, status, reason) {
    super(line);
    Object.assign(this, { status, reason });
  }

  // Whether the same request may succeed later.
  get passing() {
    return this.status === 0 || this.status >= 500 || this.reason === "token";
  }
}

async function request(path, options = {}, given = null) {
  let answer;
  try {
    const lost = AbortSignal.timeout(PATIENCE), signal = given ? AbortSignal.any([lost, given]) : lost;
    answer = await fetch(path, { signal, cache: "no-store", ...options });
  } catch {
    throw new Refusal("no connection to the server", 0, "lost");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refusal(told.error ?? `the server answers ${answer.status}`, answer.status, told.reason);
}

export async function get(path, values) {
  return body(await request(`/api/${path}?${new URLSearchParams(values)}`));
}

export async function post(path, values, last = false) {
  const text = JSON.stringify(values);
  // With keepalive, the browser sends a small request even after the page is closed.
  return body(await request(`/api/${path}`, { method: "POST", body: text, keepalive: last && text.length < 60000 }));
}

async function body(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refusal("no connection to the server", 0, "lost");
  }
}

export const thumbnail = (annotator, row) =>
  `/api/thumbnail?${new URLSearchParams({
    annotator, volume: row.volume, slice: row.slice, newest: Object.values(row.answers).map((a) => a.record).join(),
  })}`;

const keyOf = (volume, axis, index) => `${axis} ${index} ${volume}`;

// Planes by volume, axis (or model) and index; the least recently used ones are dropped first.
export class Planes {
  constructor(path = "plane", axis = "axis", Values = Int16Array) {
    Object.assign(this, { path, axis, Values });
    this.kept = new Map();
    this.bytes = 0;
    this.wanted = [];
    this.running = new Map(); // requests in advance by key, with their abort controllers
  }

  now(volume, axis, index) {
    const found = this.kept.get(keyOf(volume, axis, index));
    return found instanceof this.Values ? found : null;
  }

  async get(volume, axis, index) {
    this.running.delete(keyOf(volume, axis, index)); // no longer a request in advance
    return this.#get([volume, axis, index]);
  }

  async #get([volume, axis, index], signal) {
    const key = keyOf(volume, axis, index);
    let found = this.kept.get(key);
    if (!found) {
      found = this.#fetch(key, { volume, [this.axis]: axis, index }, signal);
      found.catch(() => this.kept.get(key) === found && this.kept.delete(key));
    }
    this.kept.delete(key);
    this.kept.set(key, found);
    return found;
  }

  async #fetch(key, values, signal) {
    try {
      const answer = await request(`/api/${this.path}?${new URLSearchParams(values)}`, {}, signal);
      if (answer.status === 202) throw new Refusal("the server is still computing it", 202, "unready");
      const plane = new this.Values(await answer.arrayBuffer());
      this.kept.set(key, plane);
      this.bytes += plane.byteLength;
      for (const [old, value] of this.kept) {
        if (this.bytes < KEPT) break;
        if (value instanceof this.Values && old !== key) this.kept.delete(old), (this.bytes -= value.byteLength);
      }
      return plane;
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal("no connection to the server", 0, "lost");
    }
  }

  // Fetch these [volume, axis, index] in advance, in this order; earlier requests in advance are cancelled.
  ahead(wanted) {
    const keys = new Set(wanted.map((which) => keyOf(...which)));
    for (const [key, end] of this.running) if (!keys.has(key)) end.abort(), this.kept.delete(key);
    this.wanted = wanted.filter((which) => !this.kept.has(keyOf(...which)));
    this.#more();
  }

  #more() {
    while (this.running.size < AHEAD && this.wanted.length) {
      const which = this.wanted.shift(), key = keyOf(...which), end = new AbortController();
      this.running.set(key, end);
      this.#get(which, end.signal).catch(() => end.signal.aborted || (this.wanted = [])).finally(() => {
        if (this.running.get(key) === end) this.running.delete(key);
        this.#more();
      });
    }
  }
}
