/** Keeps a session open for as long as one is wanted: connects, and after a failure connects again, ever more slowly. */

import { Refusal } from "./access.js";
import { Session } from "./stream.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

/** Sessions that ended so may be opened anew, whatever the error says of the same request. */
const NEW_SESSION_HELPS = new Set(["slow_reader", "idle_timeout"]);

/**
 * `closed`: no session is wanted. `away`, `busy`: another try comes. `locked`: a key is needed. `refused`: another try
 * would not help.
 * @typedef {{name: "closed" | "connecting" | "open" | "away" | "busy" | "locked" | "refused", retryMs?: number,
 *   message?: string}} LinkState
 */

/** @typedef {import("./stream.js").SessionListener & {state: (state: LinkState) => void}} LinkListener */

/**
 * Time until try number `attempt` (from 0), doubled each time, with jitter so that clients of a server that came back
 * do not all come at once.
 * @param {number} attempt
 * @param {number} leastMs
 * @param {() => number} [random]
 * @returns {number}
 */
export function retryDelayMs(attempt, leastMs, random = Math.random) {
  const delayMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return Math.max(leastMs, delayMs * (0.75 + 0.5 * random()));
}

export class Link {
  /** @type {Session | null} */
  #current = null;
  /** Sessions that are not at their end, those included that only wait for their last answers. @type {Set<Session>} */
  #sessions = new Set();
  #attempt = 0;
  /** @type {number | undefined} */
  #timer;
  /** Which try to connect is the newest: what comes of an older one comes too late. */
  #try = 0;
  #url;
  #access;
  #listener;

  /**
   * @param {string} url
   * @param {import("./access.js").Access} access
   * @param {LinkListener} listener
   */
  constructor(url, access, listener) {
    this.#url = url;
    this.#access = access;
    this.#listener = listener;
    this.wanted = false;
    addEventListener("online", () => this.retryNow());
  }

  /** The session that takes a frame now, if any. */
  get free() {
    return this.#current?.takesFrame ? this.#current : null;
  }

  /** Frames sent without an outcome, of all sessions. */
  get inFlight() {
    return [...this.#sessions].reduce((sum, session) => sum + session.inFlight, 0);
  }

  /** @param {Session} session */
  isCurrent(session) {
    return session === this.#current;
  }

  /** Have a session from now on. */
  open() {
    if (this.wanted) return;
    this.wanted = true;
    this.#attempt = 0;
    this.#connect();
  }

  /** Have none; frames on their way are still answered and counted. */
  close() {
    if (!this.wanted) return;
    this.wanted = false;
    this.#try += 1;
    clearTimeout(this.#timer);
    const session = this.#current;
    this.#current = null;
    session?.close();
    this.#listener.state({ name: "closed" });
  }

  /** Connect at once, if there is no session. */
  retryNow() {
    if (!this.wanted || this.#current) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  async #connect() {
    this.#try += 1;
    const mine = this.#try;
    try {
      const subprotocols = await this.#access.subprotocols();
      if (mine === this.#try) this.#open(subprotocols);
    } catch (problem) {
      if (mine === this.#try) this.#stayOut(problem instanceof Refusal ? problem : null);
    }
  }

  /** @param {string[]} subprotocols */
  #open(subprotocols) {
    this.#listener.state({ name: "connecting" });
    /** @type {import("./stream.js").SessionListener} */
    const listener = {
      ...this.#listener,
      started: (started, message) => {
        if (this.isCurrent(started)) this.#listener.state({ name: "open" });
        this.#listener.started(started, message);
      },
      outcome: (settled, ...rest) => {
        this.#attempt = 0;
        this.#listener.outcome(settled, ...rest);
      },
      ended: (ended, ending) => {
        this.#sessions.delete(ended);
        this.#listener.ended(ended, ending);
        if (this.isCurrent(ended)) this.#lose(ending);
      },
    };
    const session = new Session(this.#url, listener, subprotocols);
    this.#sessions.add(session);
    this.#current = session;
  }

  /** @param {import("./stream.js").Ending} ending */
  #lose({ error }) {
    this.#current = null;
    if (!error) return this.#stayOut(null);
    const { code, message: detail, retry_after_ms } = error;
    const retryable = error.retryable || NEW_SESSION_HELPS.has(code);
    this.#stayOut(new Refusal({ code, detail, retryable, retry_after_ms }));
  }

  /**
   * Wait, for the next try or for a key.
   * @param {Refusal | null} refusal null: nobody answers
   */
  #stayOut(refusal) {
    if (refusal && !refusal.retryable) {
      this.#listener.state({ name: refusal.code === "unauthorized" ? "locked" : "refused", message: refusal.message });
      return;
    }
    const retryMs = retryDelayMs(this.#attempt, refusal?.retryMs ?? 0);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), retryMs);
    this.#listener.state({ name: refusal ? "busy" : "away", retryMs, message: refusal?.message });
  }
}
