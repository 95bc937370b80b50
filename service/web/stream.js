/**
 * One session of `timeconv.v1` on a WebSocket, with credit: at most `max_in_flight` frames are without an outcome, so
 * that nothing queues on the way and an answer is about what the camera sees now.
 */

export const SUBPROTOCOL = "timeconv.v1";

const OPENING_MS = 10_000;
/** Frames are out but no word comes: on a dead network the browser itself notices only after minutes. */
const SILENCE_MS = 8_000;
const CLOSING_MS = 3_000;

/**
 * A frame that was sent, as its answer needs it. Times are those of `performance.now()`.
 * @typedef {{width: number, height: number, takenMs: number, sentMs: number}} SentFrame
 */

/**
 * How a session ended. `error`: the server's reason, if it gave one; `lost`: frames that will get no outcome.
 * @typedef {{started: boolean, lost: number, error: {code: string, message: string, retryable: boolean,
 *   retry_after_ms: number | null} | null}} Ending
 */

/**
 * @typedef {object} SessionListener
 * @property {(session: Session, message: any) => void} started
 * @property {(session: Session, outcome: string, message: any, frame: SentFrame) => void} outcome once for every frame
 * @property {(session: Session, totals: {received: number, outcomes: Record<string, number>}) => void} closed
 * @property {(session: Session, ending: Ending) => void} ended last, and always
 */

/**
 * @typedef {{freshness: "latest" | "every", timestamps: 0 | 1}} SessionOptions
 */

/**
 * Address of the stream, beside the page.
 * @param {SessionOptions} options
 * @param {string} [base]
 * @returns {string}
 */
export function streamUrl(options, base = document.baseURI) {
  const url = new URL("v1/stream", base);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams(Object.entries(options).map(([name, value]) => [name, String(value)])).toString();
  return url.href;
}

export class Session {
  /** @type {Map<number, SentFrame>} */
  #open = new Map();
  #nextSeq = 0;
  #credit = 0;
  #started = false;
  #closing = false;
  #ended = false;
  /** @type {Ending["error"]} */
  #error = null;
  /** @type {number | undefined} */
  #timer;
  #socket;
  #listener;

  /**
   * @param {string} url
   * @param {SessionListener} listener
   * @param {string[]} [subprotocols]
   */
  constructor(url, listener, subprotocols = [SUBPROTOCOL]) {
    this.#listener = listener;
    this.#socket = new WebSocket(url, subprotocols);
    this.#socket.addEventListener("message", (event) => this.#receive(JSON.parse(event.data)));
    this.#socket.addEventListener("close", () => this.#end());
    this.#giveUpAfter(OPENING_MS);
  }

  /** Frames sent without an outcome. */
  get inFlight() {
    return this.#open.size;
  }

  /** Whether a frame may be sent now. */
  get takesFrame() {
    return this.#started && !this.#closing && this.#open.size < this.#credit;
  }

  /**
   * Send a frame. Nothing is sent, and the answer is false, when `takesFrame` is no longer true.
   * @param {Blob} message
   * @param {{width: number, height: number, takenMs: number}} frame
   * @returns {boolean}
   */
  send(message, frame) {
    if (!this.takesFrame || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(message);
    this.#open.set(this.#nextSeq, { ...frame, sentMs: performance.now() });
    this.#nextSeq += 1;
    if (this.#open.size === 1) this.#giveUpAfter(SILENCE_MS);
    return true;
  }

  /** Have what was sent answered, then end. */
  close() {
    if (this.#closing) return;
    this.#closing = true;
    if (this.#started && this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ type: "session.close" }));
      this.#giveUpAfter(CLOSING_MS);
    } else {
      this.#socket.close();
    }
  }

  /** @param {any} message */
  #receive(message) {
    if (this.#ended) return;
    switch (message.type) {
      case "session.started":
        return this.#start(message);
      case "prediction":
        return this.#settle(message.seq, message.seq, "prediction", message);
      case "frame":
        return this.#settle(message.seq, message.seq, message.outcome, message);
      case "frames":
        return this.#settle(message.from, message.to, message.outcome, message);
      case "session.closed":
        return this.#listener.closed(this, message.totals);
      case "goaway":
        return this.close();
      case "error":
        this.#error = message;
    }
  }

  /** @param {any} message */
  #start(message) {
    clearTimeout(this.#timer);
    this.#started = true;
    this.#credit = message.max_in_flight;
    this.#nextSeq = message.next_seq;
    this.#listener.started(this, message);
  }

  /**
   * Frames `from` to `to` have their outcome, which gives their credit back.
   * @param {number} from
   * @param {number} to
   * @param {string} outcome
   * @param {any} message
   */
  #settle(from, to, outcome, message) {
    if (!this.#closing) this.#giveUpAfter(SILENCE_MS);
    for (let seq = from; seq <= to; seq += 1) {
      const frame = this.#open.get(seq);
      if (!frame) continue;
      this.#open.delete(seq);
      this.#listener.outcome(this, outcome, message, frame);
    }
    if (this.#open.size === 0 && !this.#closing) clearTimeout(this.#timer);
  }

  /** @param {number} ms */
  #giveUpAfter(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abandon(), ms);
  }

  /** The close handshake of a dead connection takes a minute, so the end is told at once. */
  #abandon() {
    this.#socket.close();
    this.#end();
  }

  #end() {
    if (this.#ended) return;
    this.#ended = this.#closing = true;
    clearTimeout(this.#timer);
    const lost = this.#open.size;
    this.#open.clear();
    this.#listener.ended(this, { started: this.#started, lost, error: this.#error });
  }
}
