/** The page's way to the server: one stream while there are pictures, and how it is with it, in a word. */

import { connect } from "./timeconv.js";

/** @typedef {import("./timeconv.js").Stream} Stream */

/** Somebody sits before the page and waits. */
const LONGEST_WAIT_MS = 3_000;

/**
 * `away`, `busy`: another try comes. `locked`: a key is needed. `refused`: another try would not help. `paused`: the tab
 * is hidden.
 * @typedef {"closed" | "connecting" | "open" | "away" | "busy" | "paused" | "locked" | "refused"} LinkName
 */

/**
 * `message`: in the server's words; `retryInMs`: from now; `again`: the last try failed, or the one before this connection.
 * @typedef {{name: LinkName, message: string, retryInMs: number, again: boolean}} LinkState
 */

/**
 * @typedef {object} LinkListener
 * @property {() => void} state
 * @property {(message: import("./timeconv.js").SessionStarted) => void} started
 * @property {(message: import("./timeconv.js").SessionUpdated) => void} updated
 * @property {(event: import("./timeconv.js").PredictionEvent | import("./timeconv.js").FrameEvent, isNow: boolean) => void} outcome
 *   `isNow`: of the stream that there is, not of one that was left
 * @property {(event: import("./timeconv.js").LostEvent) => void} lost
 * @property {() => void} counted some figure has changed
 */

export class Link {
  #state = { name: /** @type {LinkName} */ ("closed"), message: "", retryAtMs: 0, again: false };
  /** What frames go to, while there is a source. @type {Stream | null} */
  stream = null;
  /** Totals of the last session that ended in order. @type {any} */
  totals = null;
  /** Those that are not at their end: one that is left still gets its last answers. @type {Set<Stream>} */
  #streams = new Set();
  /** Of streams at their end. */
  #before = { sent: 0, lost: 0, outcomes: /** @type {Record<string, number>} */ ({}) };
  /** Lives in this page alone: neither in its address nor in any storage. */
  #key = "";
  #base;
  #listener;

  /**
   * @param {string} base
   * @param {LinkListener} listener
   */
  constructor(base, listener) {
    this.#base = base;
    this.#listener = listener;
  }

  /** @returns {LinkState} */
  get state() {
    const { retryAtMs, ...state } = this.#state;
    return { ...state, retryInMs: Math.max(0, retryAtMs - performance.now()) };
  }

  /** Whether a key was given. */
  get hasKey() {
    return this.#key !== "";
  }

  /** @param {string} key */
  setKey(key) {
    this.#key = key;
  }

  /**
   * Have a stream.
   * @param {import("./timeconv.js").Options} options
   */
  open(options) {
    if (this.stream) return;
    const stream = connect(this.#base, { key: () => this.#key, options, reconnect: { mostMs: LONGEST_WAIT_MS } });
    this.stream = stream;
    this.#streams.add(stream);
    stream.on("state", (event) => this.stream === stream && this.#follow(event));
    stream.on("started", ({ message }) => this.#listener.started(message));
    stream.on("updated", ({ message }) => this.#listener.updated(message));
    stream.on("prediction", (event) => this.#onOutcome(stream, event));
    stream.on("frame", (event) => this.#onOutcome(stream, event));
    stream.on("lost", (event) => this.#listener.lost(event));
    stream.on("ended", ({ totals }) => {
      this.totals = totals;
      this.#listener.counted();
    });
    stream.on("closed", ({ error }) => {
      this.#streams.delete(stream);
      this.#addUp(stream);
      if (this.stream === stream && error) this.#giveUp(error);
      this.#listener.counted();
    });
  }

  /** Have none; frames on their way are still answered and counted. */
  leave() {
    const left = this.stream;
    this.stream = null;
    left?.close();
    this.#goTo("closed");
  }

  /** Sent = sum of outcomes + in flight + lost, at any moment. */
  get counts() {
    const counts = { sent: this.#before.sent, lost: this.#before.lost, inFlight: 0, outcomes: { ...this.#before.outcomes } };
    for (const stream of this.#streams) {
      const { sent, lost, inFlight, outcomes } = stream.counts;
      counts.sent += sent;
      counts.lost += lost;
      counts.inFlight += inFlight;
      for (const [name, count] of Object.entries(outcomes)) counts.outcomes[name] = (counts.outcomes[name] ?? 0) + count;
    }
    return counts;
  }

  /** What `/readyz` says; null when nobody answers. @returns {Promise<any>} */
  async readiness() {
    try {
      return await (await fetch(new URL("readyz", this.#base), { cache: "no-store" })).json();
    } catch {
      return null;
    }
  }

  /** The networks there are; null where that is not told (no key, nobody there). @returns {Promise<any>} */
  async models() {
    try {
      const headers = this.#key ? { Authorization: `Bearer ${this.#key}` } : undefined;
      const reply = await fetch(new URL("v1/models", this.#base), { headers, cache: "no-store" });
      return reply.ok ? await reply.json() : null;
    } catch {
      return null;
    }
  }

  /** @param {Stream} stream */
  #addUp(stream) {
    const { sent, lost, outcomes } = stream.counts;
    this.#before.sent += sent;
    this.#before.lost += lost;
    for (const [name, count] of Object.entries(outcomes)) {
      this.#before.outcomes[name] = (this.#before.outcomes[name] ?? 0) + count;
    }
  }

  /**
   * @param {Stream} stream
   * @param {import("./timeconv.js").PredictionEvent | import("./timeconv.js").FrameEvent} event
   */
  #onOutcome(stream, event) {
    // The last answers of a session that is being closed count, but they are not of what is seen now.
    const isNow = this.stream === stream && !event.late;
    if (isNow && this.#state.name === "open") this.#state.again = false;
    this.#listener.outcome(event, isNow);
  }

  /** @param {import("./timeconv.js").StateEvent} event */
  #follow({ state, error, retryInMs }) {
    switch (state) {
      case "connecting":
        // After a failed try it is still that which there is to tell.
        return this.#goTo(state, { message: this.#state.message, again: this.#state.again });
      case "open":
        return this.#goTo(state, { again: this.#state.again });
      case "paused":
        return this.#goTo(state);
      case "waiting":
      case "offline": {
        // No error: the server goes away in order.
        const isAway = !error || error.code === "unreachable" || error.code === "connection_lost";
        return this.#goTo(isAway ? "away" : "busy", { message: isAway ? "" : error.message, retryInMs: retryInMs ?? 0, again: true });
      }
    }
  }

  /** @param {import("./timeconv.js").TimeConvError} error */
  #giveUp(error) {
    this.stream = null;
    this.#goTo(error.code === "unauthorized" ? "locked" : "refused", { message: error.message });
  }

  /**
   * @param {LinkName} name
   * @param {{message?: string, retryInMs?: number, again?: boolean}} [about]
   */
  #goTo(name, { message = "", retryInMs = 0, again = false } = {}) {
    this.#state = { name, message, retryAtMs: performance.now() + retryInMs, again };
    this.#listener.state();
  }
}
