/**
 * Client of `timeconv.v1`: streams JPEG frames to a TimeConv service, and says what became of each of them.
 *
 * One file without dependencies, for browsers and Node (22 or newer, or with a WebSocket passed in). Its types are in
 * timeconv.d.ts; docs/javascript.md explains it by example, docs/protocol.md the conversation.
 *
 *     Stream       what a user has: connects, and connects again; credit, options, events
 *      ├─ Door     asks for a token beforehand, since a browser cannot read why an upgrade was refused
 *      └─ Session  one WebSocket, from the upgrade to its end
 *     FaceSender   sends the face alone once the service has told where it is (browsers)
 *      └─ Follower where the face is from frame to frame
 */

export const SUBPROTOCOL = "timeconv.v1";
const AUTH_PREFIX = "timeconv.auth.";
const RESUME_PREFIX = "timeconv.resume.";

const ASKING_MS = 10_000;
const OPENING_MS = 10_000;
const CLOSING_MS = 3_000;
/** Frames are out but no word comes: on a dead network the system itself notices only after minutes. */
const SILENCE_MS = { latest: 8_000, every: 30_000 };
/** Events that an iterator may leave lying; with more of them no frame is sent, as if there were no credit. */
const EVENT_BUFFER = 256;
/** A token that was good this lately is good for another upgrade. */
const TOKEN_REUSED_MS = 20_000;

const RETRY = { firstMs: 250, mostMs: 15_000, attempts: Infinity };

/** Sessions that ended so may be opened anew, whatever the error says of the same request. */
const NEW_SESSION_HELPS = new Set(["slow_reader", "idle_timeout"]);

/** Timers take a longer one for none. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What the service says, or what happened to the connection: `code` tells which. */
export class TimeConvError extends Error {
  /**
   * @param {string} code of docs/protocol.md, or `unreachable`, `connection_lost`, `not_timeconv`, `closed`
   * @param {string} message
   * @param {{retryable?: boolean, retryAfterMs?: number | null, status?: number | null, closeCode?: number | null,
   *   cause?: unknown}} [about]
   */
  constructor(code, message, { retryable = false, retryAfterMs = null, status = null, closeCode = null, cause } = {}) {
    super(message, { cause });
    this.name = "TimeConvError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
    this.closeCode = closeCode;
  }
}

/**
 * A stream to the service at `url`, which connects at once, and again for as long as that can help.
 * @param {string | URL} url the service, where its page is
 * @param {import("./timeconv.d.ts").StreamSettings} [settings]
 * @returns {Stream}
 */
export function connect(url, settings) {
  return new Stream(url, settings);
}

/**
 * Time until try number `attempt` (from 0), doubled each time, with jitter, so that the clients of a service that came
 * back do not all come at once; `leastMs` is what the service asked for.
 * @param {number} attempt
 * @param {number} [leastMs]
 * @param {{firstMs?: number, mostMs?: number}} [bounds]
 * @param {() => number} [random] 0..1
 * @returns {number}
 */
export function retryDelayMs(attempt, leastMs = 0, { firstMs = RETRY.firstMs, mostMs = RETRY.mostMs } = {}, random = Math.random) {
  const longestMs = attempt === Infinity ? mostMs : Math.min(mostMs, firstMs * 2 ** attempt);
  return Math.min(leastMs + longestMs * (0.5 + 0.5 * random()), LONGEST_TIMER_MS);
}

/**
 * Address of the stream beside the page at `base`, with these options.
 * @param {string | URL} base
 * @param {import("./timeconv.d.ts").Options} options
 * @returns {string}
 */
export function streamUrl(base, options) {
  const url = new URL("v1/stream", base);
  url.protocol = url.protocol.replace("http", "ws");
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
  const words = given.map(([name, value]) => [name, typeof value === "boolean" ? String(Number(value)) : String(value)]);
  url.search = new URLSearchParams(words).toString();
  return url.href;
}

/**
 * A message with its capture time: 8 bytes, microseconds, big-endian, then the JPEG.
 * @param {Blob | ArrayBuffer | ArrayBufferView} jpeg
 * @param {number} capturedUs
 * @returns {Blob | Uint8Array}
 * @throws {RangeError} the time is negative, or no number
 */
export function stamped(jpeg, capturedUs) {
  if (!(capturedUs >= 0 && capturedUs < 2 ** 64)) throw new RangeError(`capturedUs must be 0 or more: ${capturedUs}`);
  const stamp = new DataView(new ArrayBuffer(8));
  stamp.setBigUint64(0, BigInt(Math.round(capturedUs)));
  if (jpeg instanceof Blob) return new Blob([stamp.buffer, jpeg]);
  const bytes = ArrayBuffer.isView(jpeg)
    ? new Uint8Array(jpeg.buffer, jpeg.byteOffset, jpeg.byteLength)
    : new Uint8Array(jpeg);
  const message = new Uint8Array(8 + bytes.length);
  message.set(new Uint8Array(stamp.buffer));
  message.set(bytes, 8);
  return message;
}

/** Microseconds since 1970, as fine as this machine tells. */
export function nowUs() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

/** What opens a session: subprotocols, after the service was asked whether it would. */
class Door {
  /** @type {{subprotocols: string[], askedMs: number} | null} */
  #last = null;
  #base;
  #settings;

  /**
   * @param {string | URL} base
   * @param {import("./timeconv.d.ts").StreamSettings} settings
   */
  constructor(base, settings) {
    this.#base = new URL(base);
    this.#base.protocol = this.#base.protocol.replace("ws", "http");
    this.#settings = settings;
  }

  /** @param {string} path */
  address(path) {
    return new URL(path, this.#base).href;
  }

  /**
   * @param {boolean} known whether what the last asking gave will do, if it is not old: who goes on with a session that
   *   the service still takes for connected has a place, though one who asks for a token would be told there is none
   * @returns {Promise<string[]>}
   * @throws {TimeConvError}
   */
  async subprotocols(known) {
    if (known && this.#last && performance.now() - this.#last.askedMs < TOKEN_REUSED_MS) return this.#last.subprotocols;
    const askedMs = performance.now();
    const subprotocols = [SUBPROTOCOL];
    if (this.#settings.token) subprotocols.push(AUTH_PREFIX + (await provided(this.#settings.token)));
    else {
      const said = await this.#post("v1/tokens", null, await this.#bearer());
      if (said.subprotocol) subprotocols.push(said.subprotocol);
    }
    this.#last = { subprotocols, askedMs };
    return subprotocols;
  }

  /** What was given no longer opens: ask anew. */
  forget() {
    this.#last = null;
  }

  /**
   * Where the face is in one picture.
   * @param {Blob} jpeg
   * @param {string} model
   * @returns {Promise<any>} a `prediction`, or a `frame` with `no_face`
   * @throws {TimeConvError}
   */
  async look(jpeg, model) {
    const subprotocols = await this.subprotocols(true);
    const token = subprotocols.find((name) => name.startsWith(AUTH_PREFIX))?.slice(AUTH_PREFIX.length);
    return this.#post(`v1/predict?${new URLSearchParams({ model })}`, jpeg, token);
  }

  async #bearer() {
    return this.#settings.key ? provided(this.#settings.key) : undefined;
  }

  /**
   * @param {string} path
   * @param {Blob | null} body
   * @param {string | undefined} bearer
   */
  async #post(path, body, bearer) {
    const fetching = this.#settings.fetch ?? fetch;
    let reply;
    try {
      reply = await fetching(this.address(path), {
        method: "POST",
        headers: { ...(bearer && { Authorization: `Bearer ${bearer}` }), ...(body && { "Content-Type": "image/jpeg" }) },
        body,
        cache: "no-store",
        signal: AbortSignal.timeout(ASKING_MS),
      });
    } catch (cause) {
      throw unreachable(cause);
    }
    // A proxy's page while the service is away, or that of a hotel before one has logged in, is none of ours.
    const said = (await reply.json().catch(() => null)) ?? {};
    const isOurs = Object.keys(said).length > 0;
    if (reply.ok && isOurs) return said;
    const mayPass = reply.ok || reply.status >= 500;
    const { code = "not_timeconv", detail = `HTTP ${reply.status}`, retryable = mayPass } = said;
    throw new TimeConvError(code, detail, { retryable, retryAfterMs: said.retry_after_ms ?? null, status: reply.status });
  }
}

/** @param {TimeConvError | null} [error] why a stream is at its end, unless it was closed */
function ended(error) {
  return error ?? new TimeConvError("closed", "The stream was closed");
}

/** @param {unknown} [cause] */
function unreachable(cause) {
  return new TimeConvError("unreachable", "The service cannot be reached", { retryable: true, cause });
}

/**
 * @param {string | (() => string | undefined | Promise<string | undefined>)} secret
 * @returns {Promise<string | undefined>}
 * @throws {TimeConvError} who is asked for it does not answer in time
 */
async function provided(secret) {
  if (typeof secret !== "function") return secret;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(unreachable()), ASKING_MS);
  });
  try {
    return await Promise.race([secret(), /** @type {Promise<undefined>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @typedef {object} SessionListener
 * @property {(message: any) => void} started
 * @property {(frame: any, outcome: string, message: any) => void} settled once for every frame; `lost` has no message
 * @property {(message: any, changes: object) => void} updated `changes` that the client asked for
 * @property {(message: any) => void} goaway
 * @property {(error: TimeConvError | null, totals: any, updates: Update[]) => void} ended last, and always; with the
 *   updates that have no answer
 */

/** @typedef {{changes: object, resolve: (message: any) => void, reject: (error: unknown) => void}} Update */

/** One WebSocket. At most `max_in_flight` frames are without an outcome, so that nothing queues on the way. */
class Session {
  started = false;
  /** By `performance.now()`; of one that has not started: for ever. */
  startedMs = Infinity;
  /** @type {string | null} */
  resumeToken = null;
  /** @type {Map<number, any>} */
  #open = new Map();
  #nextSeq = 0;
  #credit = 0;
  #closing = false;
  #ended = false;
  /** @type {any} */
  #totals = null;
  /** @type {TimeConvError | null} */
  #error = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Answers to updates come in their order. @type {Update[]} */
  #updates = [];
  #socket;
  #listener;
  #silenceMs;

  /**
   * @param {new (url: string, subprotocols: string[]) => WebSocket} Socket
   * @param {string} url
   * @param {string[]} subprotocols
   * @param {() => number} silenceMs
   * @param {SessionListener} listener
   */
  constructor(Socket, url, subprotocols, silenceMs, listener) {
    this.#listener = listener;
    this.#silenceMs = silenceMs;
    this.#socket = new Socket(url, subprotocols);
    this.#socket.addEventListener("message", ({ data }) => this.#receive(data));
    this.#socket.addEventListener("close", ({ code }) => this.#end(code));
    // What it was is told by `close`; in Node an error without a listener ends the process.
    this.#socket.addEventListener("error", () => {});
    this.#giveUpAfter(OPENING_MS);
  }

  get inFlight() {
    return this.#open.size;
  }

  /** Whether a frame may be sent now. */
  get takesFrame() {
    return this.started && !this.#closing && this.#open.size < this.#credit && this.#socket.readyState === 1;
  }

  /**
   * Send a frame; only while `takesFrame`.
   * @param {any} message
   * @param {any} frame
   * @returns {number} its seq
   */
  send(message, frame) {
    this.#socket.send(message);
    const seq = this.#nextSeq++;
    this.#open.set(seq, frame);
    if (this.#open.size === 1) this.#giveUpAfter(this.#silenceMs());
    return seq;
  }

  /** @param {Update} update */
  update(update) {
    this.#updates.push(update);
    this.#socket.send(JSON.stringify({ type: "session.update", options: update.changes }));
  }

  /** Have what was sent answered, then end. */
  close() {
    if (this.#closing) return;
    this.#closing = true;
    if (this.started && this.#socket.readyState === 1) {
      this.#socket.send(JSON.stringify({ type: "session.close" }));
      this.#expectMore();
    } else {
      this.#abandon();
    }
  }

  /** @param {string} text */
  #receive(text) {
    if (this.#ended) return;
    const message = parsed(text);
    switch (message?.type) {
      case undefined:
        this.#error = new TimeConvError("not_timeconv", "The service said what is no message of timeconv.v1");
        return this.#abandon();
      case "session.started":
        return this.#start(message);
      case "prediction":
        return this.#settle(message.seq, message.seq, "prediction", message);
      case "frame":
        return this.#settle(message.seq, message.seq, message.outcome, message);
      case "frames":
        return this.#settle(message.from, message.to, message.outcome, message);
      case "session.updated":
        return this.#updated(message);
      case "session.closed":
        this.#totals = message.totals;
        return;
      case "goaway":
        this.#listener.goaway(message);
        return this.close();
      case "error":
        return this.#refuse(message);
    }
  }

  /** @param {any} message */
  #start(message) {
    clearTimeout(this.#timer);
    this.started = true;
    this.startedMs = performance.now();
    this.resumeToken = message.resume_token;
    this.#credit = message.max_in_flight;
    this.#nextSeq = message.next_seq;
    this.#listener.started(message);
  }

  /**
   * Frames `from` to `to` have their outcome, which gives their credit back.
   * @param {number} from
   * @param {number} to
   * @param {string} outcome
   * @param {any} message
   */
  #settle(from, to, outcome, message) {
    // Of the frames that wait, not of the range, which may be vast.
    for (const [seq, frame] of [...this.#open].filter(([seq]) => from <= seq && seq <= to)) {
      this.#open.delete(seq);
      this.#listener.settled(frame, outcome, message);
    }
    if (!this.#ended) this.#expectMore();
  }

  /** Something came, or is asked for: the time in which more has to come begins anew. */
  #expectMore() {
    if (this.#open.size) this.#giveUpAfter(this.#silenceMs());
    else if (this.#closing) this.#giveUpAfter(CLOSING_MS);
    else clearTimeout(this.#timer);
  }

  /** @param {any} message */
  #updated(message) {
    this.#credit = message.max_in_flight;
    const update = message.by === "service" ? undefined : this.#updates.shift();
    this.#listener.updated(message, update?.changes ?? {});
    update?.resolve(message);
  }

  /** @param {any} message why the session ends, or why a text message changes nothing */
  #refuse({ code, message, retryable, retry_after_ms: retryAfterMs, close_code: closeCode }) {
    const error = new TimeConvError(code, message, { retryable, retryAfterMs, closeCode });
    if (closeCode == null) this.#updates.shift()?.reject(error);
    else this.#error = error;
  }

  /** @param {number} ms */
  #giveUpAfter(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abandon(), ms);
  }

  /** The close handshake of a dead connection takes a minute, so the end is told at once. */
  #abandon() {
    this.#socket.close();
    this.#end(1006);
  }

  /** @param {number} code */
  #end(code) {
    if (this.#ended) return;
    this.#ended = this.#closing = true;
    clearTimeout(this.#timer);
    const closed = this.#totals !== null;
    const error = this.#error ?? (closed ? null : broken(this.started, code));
    if (closed || this.#error) this.resumeToken = null;
    const lost = [...this.#open.values()];
    this.#open.clear();
    for (const frame of lost) this.#listener.settled(frame, "lost", null);
    this.#listener.ended(error, this.#totals, this.#updates);
  }
}

/** @param {unknown} text @returns {any} what it says; undefined if it is no JSON */
function parsed(text) {
  try {
    return typeof text === "string" ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {boolean} started
 * @param {number} closeCode
 */
function broken(started, closeCode) {
  if (!started) return unreachable();
  return new TimeConvError("connection_lost", `The connection broke (close code ${closeCode})`, {
    retryable: true,
    closeCode,
  });
}

/** A stream of frames to one service, over as many sessions as it takes. Made by `connect`. */
export class Stream {
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();
  /** @type {Set<EventQueue>} */
  #queues = new Set();
  /** @type {Session | null} */
  #current = null;
  /** Sessions that are not at their end, those included that only wait for their last answers. @type {Set<Session>} */
  #sessions = new Set();
  /** @type {any} */
  #state = { type: "state", state: "connecting", attempt: 0, error: null, retryInMs: null, willResume: false };
  /** @type {string | null} */
  #resumeToken = null;
  #attempt = 0;
  /** Which try to connect is the newest: what comes of an older one comes too late. */
  #try = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Who wants no session now: the user, or the page, since nobody sees it. @type {Set<"user" | "page">} */
  #pausedBy = new Set();
  #closing = false;
  /** Why no other try can help. @type {TimeConvError | null} */
  #problem = null;
  /** @type {{totals: any, error: TimeConvError | null} | null} */
  #end = null;
  /** @type {any} */
  #totals = null;
  /** @type {any} */
  #started = null;
  #nextId = 0;
  /** @type {{sent: number, lost: number, outcomes: Record<string, number>}} */
  #counts = { sent: 0, lost: 0, outcomes: {} };
  /** Updates for the next session: none has answered them. @type {Update[]} */
  #updates = [];
  /** Who waits for credit, or for the end. @type {Set<() => void>} */
  #wakers = new Set();
  #page = new AbortController();
  #base;
  #settings;
  #options;
  #retry;
  #door;

  /**
   * @param {string | URL} url
   * @param {import("./timeconv.d.ts").StreamSettings} [settings]
   */
  constructor(url, settings = {}) {
    this.#base = url;
    this.#settings = settings;
    this.#options = { timestamps: true, ...settings.options };
    this.#retry = { ...RETRY, ...(settings.reconnect === false ? { attempts: 0 } : settings.reconnect) };
    this.#door = new Door(url, settings);
    this.#watchPage();
    queueMicrotask(() => this.#connect());
  }

  // What is known

  /** The newest `state` event. */
  get state() {
    return this.#state;
  }

  /** `session.started` of the newest session, with what updates have changed since; null before the first. */
  get session() {
    return this.#started;
  }

  /** Options of this session and the next. */
  get options() {
    return { ...this.#options };
  }

  /** Frames sent without an outcome. */
  get inFlight() {
    return [...this.#sessions].reduce((sum, session) => sum + session.inFlight, 0);
  }

  /** Frames since `connect`: sent = sum of outcomes + lost + in flight. */
  get counts() {
    return { ...this.#counts, outcomes: { ...this.#counts.outcomes }, inFlight: this.inFlight };
  }

  /** Whether a frame would be sent now. */
  get free() {
    return this.#current !== null && this.#current.takesFrame && [...this.#queues].every((queue) => queue.hasRoom);
  }

  // Frames out

  /**
   * Send a frame if there is credit now, else drop it at the source: it would be stale before it was answered.
   * @param {Blob | ArrayBuffer | ArrayBufferView} jpeg
   * @param {{capturedUs?: number, data?: unknown, place?: import("./timeconv.d.ts").Place}} [about]
   * @returns {import("./timeconv.d.ts").SentFrame | null} null: dropped
   */
  trySend(jpeg, { capturedUs = nowUs(), data, place } = {}) {
    // Anything else would be sent as text, which no answer gives the credit back for.
    if (!(jpeg instanceof Blob || jpeg instanceof ArrayBuffer || ArrayBuffer.isView(jpeg))) {
      throw new TypeError("A frame is the bytes of a JPEG");
    }
    const session = this.#current;
    if (!session || !this.free) return null;
    const frame = { id: this.#nextId, seq: 0, session: this.#started.session, capturedUs, sentMs: performance.now(), data, place };
    frame.seq = session.send(this.#options.timestamps ? stamped(jpeg, capturedUs) : jpeg, frame);
    this.#nextId += 1;
    this.#counts.sent += 1;
    return frame;
  }

  /**
   * Send a frame as soon as there is credit.
   * @param {Blob | ArrayBuffer | ArrayBufferView} jpeg
   * @param {{capturedUs?: number, data?: unknown}} [about]
   * @returns {Promise<import("./timeconv.d.ts").SentFrame>}
   * @throws {TimeConvError} the stream is at its end
   */
  async send(jpeg, about = {}) {
    for (;;) {
      if (this.#closing) throw ended(this.#end?.error);
      const sent = this.trySend(jpeg, about);
      if (sent) return sent;
      await new Promise((/** @type {(value?: unknown) => void} */ wake) => this.#wakers.add(wake));
    }
  }

  // Options

  /**
   * Change options for the frames sent from now on, and for sessions to come. Where there is no session, or its
   * connection breaks before it answers, the next one is asked, before it gets a frame.
   * @param {import("./timeconv.d.ts").OptionChanges} changes
   * @returns {Promise<any>} `session.updated`
   * @throws {TimeConvError} refused, and the old ones stay; or the stream has come to its end
   */
  async update(changes) {
    if ("timestamps" in changes) throw new TypeError("timestamps cannot be changed in a stream");
    if (this.#closing) throw ended(this.#end?.error);
    return new Promise((resolve, reject) => {
      const update = { changes, resolve, reject };
      if (this.#current?.started) this.#current.update(update);
      else this.#updates.push(update);
    });
  }

  /**
   * Where the face is in one picture, asked over REST, beside the session and without a trace in it.
   * @param {Blob} jpeg
   * @returns {Promise<any>} a `prediction`, or a `frame` with `no_face`
   * @throws {TimeConvError}
   */
  look(jpeg) {
    return this.#door.look(jpeg, (this.#started?.options ?? this.#options).model ?? "");
  }

  // Events

  /**
   * Call `listener` with each event of a type; `*` for all.
   * @param {string} type
   * @param {(event: any) => void} listener
   * @returns {() => void} stops it
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Every event from now on, until the stream is closed. Leaving the loop does not close it. */
  [Symbol.asyncIterator]() {
    const queue = new EventQueue(() => {
      this.#queues.delete(queue);
      this.#wake();
    }, () => this.#wake());
    if (this.#end) queue.end(this.#end.error);
    else this.#queues.add(queue);
    return queue;
  }

  /** @param {any} event */
  #emit(event) {
    for (const listener of [...(this.#listeners.get(event.type) ?? []), ...(this.#listeners.get("*") ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // A listener's mistake is its own: the others hear, and the console has it.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    for (const queue of this.#queues) queue.push(event);
  }

  #wake() {
    const wakers = [...this.#wakers];
    this.#wakers.clear();
    for (const wake of wakers) wake();
  }

  /**
   * @param {string} state
   * @param {{error?: TimeConvError | null, retryInMs?: number | null}} [about]
   */
  #goTo(state, { error = null, retryInMs = null } = {}) {
    const willResume = this.#resumeToken !== null;
    this.#state = { type: "state", state, attempt: this.#attempt, error, retryInMs, willResume };
    this.#emit(this.#state);
  }

  // From session to session

  /** Have no session until `unpause`; frames on their way are still answered and counted. */
  pause() {
    this.#pauseBy("user");
  }

  /** Have one again, as soon as the page is seen. */
  unpause() {
    this.#unpauseBy("user");
  }

  /** @param {"user" | "page"} who */
  #pauseBy(who) {
    const already = this.#pausedBy.size > 0;
    this.#pausedBy.add(who);
    if (already || this.#closing) return;
    this.#leave();
    this.#goTo("paused");
  }

  /** @param {"user" | "page"} who */
  #unpauseBy(who) {
    if (!this.#pausedBy.delete(who) || this.#pausedBy.size || this.#closing) return;
    this.#attempt = 0;
    this.#connect();
  }

  /** Connect at once where it waits for the next try. */
  reconnect() {
    if (this.#state.state === "waiting" || this.#state.state === "offline") this.#connect();
  }

  /**
   * End in order: frames sent are answered, then comes `closed`.
   * @returns {Promise<any>} the last session's totals; null if it did not end in order
   */
  async close() {
    if (!this.#closing) {
      this.#closing = true;
      this.#goTo("closing");
      this.#leave();
      this.#finish();
    }
    while (!this.#end) await new Promise((/** @type {(value?: unknown) => void} */ wake) => this.#wakers.add(wake));
    return this.#end.totals;
  }

  /** The stream is at its end once all its sessions are. */
  #finish() {
    if (this.#end || this.#sessions.size) return;
    const error = this.#problem;
    this.#page.abort();
    this.#end = { totals: this.#totals, error };
    for (const { reject } of this.#updates.splice(0)) reject(ended(error));
    this.#goTo("closed", { error });
    this.#emit({ type: "closed", ...this.#end });
    for (const queue of this.#queues) queue.end(error);
    this.#queues.clear();
    this.#wake();
  }

  /** The session that there is ends in order, and no other is sought. */
  #leave() {
    this.#try += 1;
    clearTimeout(this.#timer);
    const session = this.#current;
    this.#current = null;
    this.#resumeToken = null;
    session?.close();
    this.#wake();
  }

  async #connect() {
    if (this.#pausedBy.size || this.#closing) return;
    clearTimeout(this.#timer);
    const mine = ++this.#try;
    this.#goTo("connecting");
    try {
      const subprotocols = await this.#door.subprotocols(this.#resumeToken !== null);
      if (mine === this.#try) this.#open(subprotocols);
    } catch (error) {
      if (mine === this.#try) this.#stayOut(error instanceof TimeConvError ? error : unreachable(error));
    }
  }

  /** @param {string[]} subprotocols */
  #open(subprotocols) {
    const offered = this.#resumeToken ? [...subprotocols, RESUME_PREFIX + this.#resumeToken] : subprotocols;
    const silenceMs = () => this.#settings.silenceMs ?? SILENCE_MS[this.#options.freshness ?? "latest"];
    const Socket = this.#settings.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new TimeConvError("no_websocket", "This JavaScript has no WebSocket; pass one in");
    const session = new Session(Socket, streamUrl(this.#base, this.#options), offered, silenceMs, {
      started: (message) => {
        this.#started = message;
        this.#resumeToken = message.resume_token;
        // Before anybody sends a frame: it is meant for the options as they are now.
        for (const update of this.#updates.splice(0)) session.update(update);
        this.#goTo("open");
        this.#emit({ type: "started", message });
        this.#wake();
      },
      settled: (frame, outcome, message) => this.#settle(session, frame, outcome, message),
      updated: (message, changes) => {
        this.#options = { ...this.#options, ...changes };
        const { options, labels, crop } = message;
        this.#started = { ...this.#started, options, ...(labels && { labels }), ...(crop && { crop }) };
        this.#emit({ type: "updated", message });
        this.#wake();
      },
      goaway: (message) => this.#emit({ type: "goaway", message }),
      ended: (error, totals, updates) => {
        this.#updates.unshift(...updates);
        this.#ended(session, error, totals);
      },
    });
    this.#sessions.add(session);
    this.#current = session;
  }

  /**
   * @param {Session} session
   * @param {any} frame
   * @param {string} outcome
   * @param {any} message
   */
  #settle(session, frame, outcome, message) {
    const late = session !== this.#current;
    if (outcome === "lost") {
      this.#counts.lost += 1;
      return this.#emit({ type: "lost", outcome, frame, late });
    }
    this.#attempt = 0;
    const { outcomes } = this.#counts;
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    const isPrediction = outcome === "prediction";
    const placed = frame.place ? inPlace(message, frame.place) : message;
    this.#emit({ type: isPrediction ? "prediction" : "frame", outcome, message: placed, frame, late });
    this.#wake();
  }

  /**
   * @param {Session} session
   * @param {TimeConvError | null} error
   * @param {any} totals
   */
  #ended(session, error, totals) {
    this.#sessions.delete(session);
    this.#totals = totals;
    // One that was left before it began has ended as it should.
    this.#emit({ type: "ended", totals, error: session === this.#current || session.started ? error : null });
    if (session === this.#current) {
      this.#current = null;
      // One that never started has not used up the token it showed.
      this.#resumeToken = session.started ? session.resumeToken : this.#resumeToken;
      if (!session.started) this.#door.forget();
      if (performance.now() - session.startedMs > this.#retry.mostMs) this.#attempt = 0;
      this.#stayOut(error);
    } else if (this.#closing) {
      this.#finish();
    }
  }

  /**
   * Wait for the next try, unless none can help.
   * @param {TimeConvError | null} error null: the session ended in order, since the service goes away
   */
  #stayOut(error) {
    const helps = !error || error.retryable || NEW_SESSION_HELPS.has(error.code);
    if (!helps || this.#attempt >= this.#retry.attempts) {
      this.#closing = true;
      this.#problem = error;
      return this.#finish();
    }
    // Without a network only what runs on this machine can be there: now and then is enough until `online`.
    const isOffline = globalThis.navigator?.onLine === false;
    const attempt = isOffline ? Infinity : this.#attempt;
    const retryInMs = retryDelayMs(attempt, error?.retryAfterMs ?? 0, this.#retry);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), retryInMs);
    this.#goTo(isOffline ? "offline" : "waiting", { error, retryInMs });
  }

  /** A page that is not seen needs no session; a network that comes back is tried at once. */
  #watchPage() {
    const { signal } = this.#page;
    if (typeof document === "undefined" || typeof addEventListener === "undefined") return;
    addEventListener("online", () => this.reconnect(), { signal });
    if (this.#settings.pauseWhenHidden === false) return;
    const follow = () => (document.hidden ? this.#pauseBy("page") : this.#unpauseBy("page"));
    document.addEventListener("visibilitychange", follow, { signal });
    // A page that is kept for the way back comes to life again with `pageshow`.
    addEventListener("pagehide", () => this.#pauseBy("page"), { signal });
    addEventListener("pageshow", follow, { signal });
    if (document.hidden) queueMicrotask(() => this.#pauseBy("page"));
  }
}

/**
 * The answer about a cut-out face, in the pixels of the frame it was cut from.
 * @param {any} message
 * @param {import("./timeconv.d.ts").Place} place
 */
function inPlace(message, { box, cropBox, score, id }) {
  if (message.detail?.box) return { ...message, detail: { ...message.detail, box } };
  const faces = message.faces?.map((/** @type {any} */ face) => ({
    ...face,
    id,
    box,
    crop_box: cropBox,
    score,
    quality: { ...face.quality, size: cropBox[2] },
  }));
  return faces ? { ...message, faces } : message;
}

/** Events that came and were not taken yet. @implements {AsyncIterator<any>} */
class EventQueue {
  /** @type {any[]} */
  #events = [];
  /** @type {{resolve: (result: any) => void, reject: (error: unknown) => void}[]} */
  #takers = [];
  #over = false;
  /** @type {TimeConvError | null} */
  #error = null;
  #left;
  #taken;

  /**
   * @param {() => void} left who iterates has left the loop
   * @param {() => void} taken there is room again
   */
  constructor(left, taken) {
    this.#left = left;
    this.#taken = taken;
  }

  get hasRoom() {
    return this.#events.length < EVENT_BUFFER;
  }

  /** @param {any} event */
  push(event) {
    const taker = this.#takers.shift();
    if (taker) taker.resolve({ done: false, value: event });
    else this.#events.push(event);
  }

  /** @param {TimeConvError | null} error */
  end(error) {
    this.#over = true;
    this.#error = error;
    for (const taker of this.#takers.splice(0)) this.#settle(taker);
  }

  /** @returns {Promise<IteratorResult<any>>} */
  next() {
    return new Promise((resolve, reject) => {
      if (this.#events.length) {
        const wasFull = !this.hasRoom;
        resolve({ done: false, value: this.#events.shift() });
        if (wasFull) this.#taken();
      } else if (this.#over) this.#settle({ resolve, reject });
      else this.#takers.push({ resolve, reject });
    });
  }

  /** @returns {Promise<IteratorResult<any>>} */
  async return() {
    this.#events.length = 0;
    this.end(null);
    this.#left();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {{resolve: (result: any) => void, reject: (error: unknown) => void}} taker */
  #settle({ resolve, reject }) {
    const error = this.#error;
    this.#error = null;
    if (error) reject(error);
    else resolve({ done: true, value: undefined });
  }
}

// Pictures (browsers)

const PICTURE = { longest: 640, quality: 0.85 };

/**
 * Size at which a picture is sent: never larger than it is, its longest side at most `longest`.
 * @param {number} width
 * @param {number} height
 * @param {number} [longest]
 * @returns {{width: number, height: number}}
 */
export function fittedSize(width, height, longest = PICTURE.longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** Makes JPEGs of what a video element, canvas or picture shows; one at a time, on one canvas. */
export class JpegEncoder {
  #canvas = newCanvas();
  // The pixels are wanted in main memory, for the encoder; a canvas on the GPU would have to be read back each time.
  #context = context2d(this.#canvas);
  #longest;
  #quality;

  /** @param {{longest?: number, quality?: number}} [bounds] */
  constructor({ longest = PICTURE.longest, quality = PICTURE.quality } = {}) {
    this.#longest = longest;
    this.#quality = quality;
  }

  /**
   * The picture that `source` shows now, or null when it shows none.
   * @param {import("./timeconv.d.ts").PictureSource} source
   * @returns {Promise<{jpeg: Blob, width: number, height: number} | null>}
   */
  async encode(source) {
    const size = this.draw(source);
    const jpeg = size && (await this.jpeg());
    return jpeg && { jpeg, ...size };
  }

  /**
   * @param {import("./timeconv.d.ts").PictureSource} source
   * @returns {{width: number, height: number} | null} null: it shows nothing
   */
  draw(source) {
    const shown = /** @type {any} */ (source);
    const [fullWidth, fullHeight] = [shown.videoWidth ?? shown.displayWidth ?? shown.width, shown.videoHeight ?? shown.displayHeight ?? shown.height];
    if (!fullWidth || !fullHeight) return null;
    const { width, height } = fittedSize(fullWidth, fullHeight, this.#longest);
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#context.drawImage(shown, 0, 0, width, height);
    return { width, height };
  }

  /** What was drawn, as it is at this moment. @returns {Promise<Blob | null>} */
  jpeg() {
    return toJpeg(this.#canvas, this.#quality);
  }

  /**
   * What was drawn, in gray, within a rectangle if one is given.
   * @param {number[]} [rectangle] x, y, w, h in pixels
   * @returns {import("./timeconv.d.ts").GrayPicture}
   */
  gray([x, y, w, h] = [0, 0, this.#canvas.width, this.#canvas.height]) {
    const left = Math.min(Math.max(Math.floor(x), 0), this.#canvas.width - 1);
    const top = Math.min(Math.max(Math.floor(y), 0), this.#canvas.height - 1);
    const width = Math.min(Math.max(Math.ceil(x + w), left + 1), this.#canvas.width) - left;
    const height = Math.min(Math.max(Math.ceil(y + h), top + 1), this.#canvas.height) - top;
    const { data } = this.#context.getImageData(left, top, width, height);
    const pixels = new Uint8Array(width * height);
    // Y of JPEG: what the service, which decodes to gray, sees of a colour picture.
    for (let i = 0, at = 0; i < pixels.length; i += 1, at += 4) {
      pixels[i] = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2] + 0.5;
    }
    return { pixels, width, height, left, top };
  }

  /**
   * Draw a square picture in gray.
   * @param {Uint8Array} pixels side x side
   * @param {number} side
   */
  drawGray(pixels, side) {
    if (this.#canvas.width !== side) this.#canvas.width = side;
    if (this.#canvas.height !== side) this.#canvas.height = side;
    const image = this.#context.createImageData(side, side);
    pixels.forEach((gray, i) => image.data.set([gray, gray, gray, 255], 4 * i));
    this.#context.putImageData(image, 0, 0);
  }
}

/** @returns {OffscreenCanvas | HTMLCanvasElement} */
function newCanvas() {
  return "OffscreenCanvas" in globalThis && "convertToBlob" in OffscreenCanvas.prototype
    ? new OffscreenCanvas(1, 1)
    : document.createElement("canvas");
}

/**
 * @param {OffscreenCanvas | HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
function context2d(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false, willReadFrequently: true }));
}

/**
 * @param {OffscreenCanvas | HTMLCanvasElement} canvas
 * @param {number} quality
 * @returns {Promise<Blob | null>}
 */
function toJpeg(canvas, quality) {
  return "convertToBlob" in canvas
    ? canvas.convertToBlob({ type: "image/jpeg", quality })
    : new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

// Where the face is

const FACE_PX = 20;
const REACH_PX = 6;
const SEARCHED_PX = FACE_PX + 2 * REACH_PX;
/** From one frame to the next, of the face's size: a jump is the detector's to judge. */
const LARGEST_STEP = 0.25;
/** A talking face stays above 0.95; a turned, nearer, covered or other one falls below. */
const LEAST_LIKENESS = 0.85;
/** Less than this is reason to ask where the face is before the time. */
const DOUBTFUL_LIKENESS = 0.93;
const SOONEST_LOOK_MS = 250;
/** Gray levels (standard deviation) under which correlation is noise. */
const LEAST_CONTRAST = 6;
const MOST_GROWTH = 1.02;
/** Between two looks, to tell from them how fast a face grows. */
const LEAST_FRAMES = 8;
/** Where the detector finds the face nearly where it was followed to, the truth is taken to lie between. */
const SAME_PLACE_IOU = 0.85;
const SAME_FACE_IOU = 0.5;

/**
 * The square that the service cuts out around a box: its side is `scale` times the mean of the box's sides, its centre
 * the box's, moved by `dx` and `dy` of the square's sides.
 * @param {number[]} box x, y, w, h
 * @param {{scale: number, dx: number, dy: number}} crop of `session.started`
 * @returns {number[]} x, y, w, h; it may reach over the frame's edges
 */
export function cropSquare([x, y, w, h], { scale, dx, dy }) {
  const side = (scale * (w + h)) / 2;
  return [x + w / 2 + dx * side - side / 2, y + h / 2 + dy * side - side / 2, side, side];
}

/**
 * Resample a square to `pixels` x `pixels`, at fractions of a pixel, edges repeated: each pixel is the mean of n x n
 * bilinear samples, at most one pixel of the picture apart (n at most 4), as the service does it.
 * @param {import("./timeconv.d.ts").GrayPicture} picture
 * @param {number[]} square x, y, side in pixels of the frame
 * @param {number} pixels
 * @returns {Float32Array}
 */
export function resample({ pixels: gray, width, height, left, top }, [x, y, side], pixels) {
  const n = Math.min(4, Math.max(1, Math.ceil(side / pixels)));
  const step = side / (pixels * n);
  const out = new Float32Array(pixels * pixels);
  for (let row = 0; row < pixels * n; row += 1) {
    const down = clamp(y - top + (row + 0.5) * step - 0.5, 0, height - 1);
    const above = Math.min(Math.floor(down), Math.max(height - 2, 0));
    const lower = down - above;
    const line = above * width;
    const next = height > 1 ? line + width : line;
    const into = Math.floor(row / n) * pixels;
    for (let column = 0; column < pixels * n; column += 1) {
      const right = clamp(x - left + (column + 0.5) * step - 0.5, 0, width - 1);
      const before = Math.min(Math.floor(right), Math.max(width - 2, 0));
      const after = width > 1 ? before + 1 : before;
      const later = right - before;
      const upper = gray[line + before] * (1 - later) + gray[line + after] * later;
      const under = gray[next + before] * (1 - later) + gray[next + after] * later;
      out[into + Math.floor(column / n)] += (upper * (1 - lower) + under * lower) / (n * n);
    }
  }
  return out;
}

/** A face from frame to frame: looked for where it was, as a small picture of itself (Lewis 1995), to parts of a pixel. */
export class Follower {
  #template;
  #growth;

  /**
   * @param {import("./timeconv.d.ts").GrayPicture} picture a frame
   * @param {number[]} box where the face is in it
   * @param {number} [growth] of the box, from frame to frame
   */
  constructor(picture, box, growth = 1) {
    this.box = box;
    /** Of the last frame to the one that the small picture is from, 0..1. */
    this.likeness = 1;
    this.#template = centred(resample(picture, around(box, FACE_PX), FACE_PX), FACE_PX, 0, 0, FACE_PX);
    this.#growth = clamp(growth, 1 / MOST_GROWTH, MOST_GROWTH);
  }

  /**
   * @param {import("./timeconv.d.ts").GrayPicture} picture the next frame
   * @returns {number[] | null} the face's box; null: it is lost
   */
  follow(picture) {
    if (this.#template.deviation < LEAST_CONTRAST) return null;
    const [x, y, w, h] = grown(this.box, this.#growth);
    const searched = resample(picture, around([x, y, w, h], SEARCHED_PX), SEARCHED_PX);
    const likeness = this.#likeness(searched);
    this.likeness = Math.max(...likeness);
    const best = likeness.indexOf(this.likeness);
    const places = 2 * REACH_PX + 1;
    const [row, column] = [Math.floor(best / places), best % places];
    if (!(this.likeness >= LEAST_LIKENESS) || Math.min(row, column) === 0 || Math.max(row, column) === places - 1) return null;
    const right = column - REACH_PX + peak(likeness[best - 1], likeness[best], likeness[best + 1]);
    const down = row - REACH_PX + peak(likeness[best - places], likeness[best], likeness[best + places]);
    if (Math.hypot(right, down) > LARGEST_STEP * FACE_PX) return null;
    const pixel = (w + h) / 2 / FACE_PX;
    this.box = [x + right * pixel, y + down * pixel, w, h];
    return this.box;
  }

  /** Normalised cross-correlation at each place. @param {Float32Array} searched */
  #likeness(searched) {
    const places = 2 * REACH_PX + 1;
    const found = new Float32Array(places * places);
    for (let row = 0; row < places; row += 1) {
      for (let column = 0; column < places; column += 1) {
        const part = centred(searched, SEARCHED_PX, row, column, FACE_PX);
        let sum = 0;
        for (let i = 0; i < part.values.length; i += 1) sum += part.values[i] * this.#template.values[i];
        found[row * places + column] = sum / (part.values.length * part.deviation * this.#template.deviation || Infinity);
      }
    }
    return found;
  }
}

/**
 * A part of a square picture, its mean taken off.
 * @param {Float32Array} picture
 * @param {number} width
 * @param {number} top
 * @param {number} left
 * @param {number} side
 */
function centred(picture, width, top, left, side) {
  const values = new Float32Array(side * side);
  let sum = 0;
  for (let row = 0; row < side; row += 1) {
    for (let column = 0; column < side; column += 1) {
      sum += values[row * side + column] = picture[(top + row) * width + left + column];
    }
  }
  let squares = 0;
  for (let i = 0; i < values.length; i += 1) {
    values[i] -= sum / values.length;
    squares += values[i] ** 2;
  }
  return { values, deviation: Math.sqrt(squares / values.length) };
}

/**
 * The square around a box's centre in which the box is `FACE_PX` wide where the square is `pixels`.
 * @param {number[]} box
 * @param {number} pixels
 */
function around([x, y, w, h], pixels) {
  const side = (((w + h) / 2) * pixels) / FACE_PX;
  return [x + w / 2 - side / 2, y + h / 2 - side / 2, side];
}

/**
 * @param {number[]} box
 * @param {number} growth
 */
function grown([x, y, w, h], growth) {
  return [x - (w * (growth - 1)) / 2, y - (h * (growth - 1)) / 2, w * growth, h * growth];
}

/** Where between its neighbours the parabola through three values has its top, -0.5..0.5. */
function peak(/** @type {number} */ before, /** @type {number} */ at, /** @type {number} */ after) {
  const bend = before - 2 * at + after;
  return bend < 0 ? (0.5 * (before - after)) / bend : 0;
}

/**
 * Intersection over union of two boxes.
 * @param {number[]} a
 * @param {number[]} b
 */
export function iou([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const wide = Math.max(0, Math.min(ax + aw, bx + bw) - Math.max(ax, bx));
  const high = Math.max(0, Math.min(ay + ah, by + bh) - Math.max(ay, by));
  return (wide * high) / (aw * ah + bw * bh - wide * high);
}

function clamp(/** @type {number} */ value, /** @type {number} */ least, /** @type {number} */ most) {
  return Math.min(Math.max(value, least), most);
}

/** Faces that are found with less are looked at in whole frames. */
const LEAST_SCORE = 0.6;
/** Whole frames are sent again where no look has confirmed the face's place for three times its interval, or this. */
const UNCONFIRMED_MS = 3_000;
const NO_LOOKS_MS = 10_000;

/**
 * `frames`: since the last look; `foundPx`: its size then; `verifiedMs`: when that look was asked for.
 * @typedef {{follower: Follower, id: number, score: number, frames: number, foundPx: number, verifiedMs: number,
 *   looking: boolean}} FollowedFace
 */

/**
 * Sends the face alone once the service has told where it is. Whole frames go out until a face is predicted. From then
 * on it is followed here, cut out and sent with `region=whole`; every second, and sooner where it looks less like itself,
 * the service is asked over REST where it is in a whole frame, beside the session, whose window stays full so. Where the face is lost, by either, whole frames go
 * out again, and the window begins anew, as it must: five frames have to be one motion of one face.
 */
export class FaceSender {
  #frame;
  #crop;
  #stream;
  #side;
  #lookEveryMs;
  #busy = false;
  #size = { width: 0, height: 0 };
  /** Frames that wait for their answer. @type {WeakMap<object, import("./timeconv.d.ts").GrayPicture>} */
  #seen = new WeakMap();
  /** @type {FollowedFace | null} */
  #face = null;
  #noLooksUntilMs = 0;
  #counts = { whole: 0, faces: 0, looks: 0, lost: 0, bytes: 0 };
  /** @type {(() => void)[]} */
  #stops;

  /**
   * @param {Stream} stream
   * @param {import("./timeconv.d.ts").FaceSettings} [settings]
   */
  constructor(stream, { side = 96, lookEveryMs = 1_000, longest, quality, faceQuality = 0.9 } = {}) {
    this.#stream = stream;
    this.#side = side;
    this.#lookEveryMs = lookEveryMs;
    this.#frame = new JpegEncoder({ longest, quality });
    this.#crop = new JpegEncoder({ quality: faceQuality });
    this.#stops = [
      stream.on("prediction", (event) => this.#predicted(event)),
      // A frame that has its outcome may be kept for long: its picture need not be.
      stream.on("*", ({ frame }) => frame && this.#seen.delete(frame)),
      stream.on("frame", ({ outcome, frame }) => outcome === "no_face" && frame.place && this.#lose()),
    ];
  }

  /** What was sent: whole frames, faces, looks (whole frames over REST), how often the face was lost; bytes of all. */
  get counts() {
    return { ...this.#counts };
  }

  /** Whether the face alone is sent now. */
  get sendsFace() {
    return this.#face !== null;
  }

  /** Follow no face any more; the stream goes on with whole frames. */
  stop() {
    for (const stop of this.#stops.splice(0)) stop();
    this.#lose();
  }

  /**
   * Send what `source` shows now if there is credit, else nothing.
   * @param {import("./timeconv.d.ts").PictureSource} source
   * @param {{capturedUs?: number, data?: unknown}} [about]
   * @returns {Promise<import("./timeconv.d.ts").SentFrame | null>}
   */
  async trySend(source, { capturedUs = nowUs(), data } = {}) {
    if (this.#busy || !this.#stream.free) return null;
    this.#busy = true;
    try {
      const size = this.#frame.draw(source);
      if (!size) return null;
      // A place is in pixels of the picture: in one of another size (a phone that was turned, another source) it is none.
      if (!sameSize(size, this.#size)) this.#lose();
      this.#size = size;
      return await (this.#follow() ? this.#sendFace({ capturedUs, data }) : this.#sendWhole({ capturedUs, data }));
    } finally {
      this.#busy = false;
    }
  }

  /** @param {{capturedUs: number, data: unknown}} about */
  async #sendWhole(about) {
    const picture = this.#frame.gray();
    const jpeg = await this.#frame.jpeg();
    // Meanwhile an answer may have told where the face is.
    const frame = jpeg && !this.#face && this.#stream.trySend(jpeg, about);
    if (!frame) return null;
    this.#count("whole", jpeg);
    this.#seen.set(frame, picture);
    return frame;
  }

  /** @param {{capturedUs: number, data: unknown}} about */
  async #sendFace(about) {
    const face = /** @type {FollowedFace} */ (this.#face);
    const box = face.follower.box;
    const cropBox = cropSquare(box, this.#stream.session.crop);
    const picture = this.#frame.gray(reach(box, cropBox));
    this.#lookIfDue(face);
    this.#crop.drawGray(Uint8Array.from(resample(picture, cropBox, this.#side), Math.round), this.#side);
    const jpeg = await this.#crop.jpeg();
    if (!jpeg || face !== this.#face) return null;
    const place = { box, cropBox, score: face.score, id: face.id };
    const frame = this.#stream.trySend(jpeg, { ...about, place });
    if (frame) this.#count("faces", jpeg);
    return frame;
  }

  /** Whether a face is where it was followed to in the frame that is drawn. */
  #follow() {
    const face = this.#face;
    if (!face) return false;
    face.frames += 1;
    const unconfirmedMs = performance.now() - face.verifiedMs;
    const confirmed = unconfirmedMs <= Math.max(3 * this.#lookEveryMs, UNCONFIRMED_MS);
    if (confirmed && !this.#wantsMore && face.follower.follow(this.#frame.gray(reach(face.follower.box)))) return true;
    this.#lose();
    return false;
  }

  /** Of several faces a look tells of one, and who comes in later would be in no picture. */
  get #wantsMore() {
    return this.#stream.session.options.faces > 1;
  }

  #lose() {
    if (!this.#face) return;
    this.#face = null;
    this.#counts.lost += 1;
    this.#setRegion("detect");
  }

  /** What is sent next is so, in this session or the next; the answer is of no interest. */
  #setRegion(/** @type {"detect" | "whole"} */ region) {
    this.#stream.update({ region }).catch(() => {});
  }

  /** @param {any} event */
  #predicted({ message, frame, late }) {
    const picture = this.#seen.get(frame);
    if (!picture || this.#face || late || this.#wantsMore || performance.now() < this.#noLooksUntilMs) return;
    const [face] = message.faces;
    if (face.score < LEAST_SCORE || !sameSize(picture, this.#size)) return;
    const { id, score, box } = face;
    const follower = new Follower(picture, box);
    this.#face = { follower, id, score, frames: 0, foundPx: mean(box), verifiedMs: performance.now(), looking: false };
    this.#setRegion("whole");
  }

  /** @param {FollowedFace} face */
  async #lookIfDue(face) {
    const waitMs = face.follower.likeness < DOUBTFUL_LIKENESS ? SOONEST_LOOK_MS : this.#lookEveryMs;
    if (face.looking || performance.now() - face.verifiedMs < Math.min(waitMs, this.#lookEveryMs)) return;
    face.looking = true;
    const picture = this.#frame.gray();
    const [frames, box, askedMs] = [face.frames, face.follower.box, performance.now()];
    try {
      const jpeg = await this.#frame.jpeg();
      if (!jpeg) return;
      this.#count("looks", jpeg);
      const answer = await this.#stream.look(jpeg);
      if (face !== this.#face) return;
      const found = this.#sameFace(answer.faces ?? [], box);
      if (!found) return this.#lose();
      this.#verify(face, found, { picture, box, frames });
      face.verifiedMs = askedMs;
    } catch (error) {
      this.#noLooksUntilMs = performance.now() + Math.max(NO_LOOKS_MS, /** @type {any} */ (error)?.retryAfterMs ?? 0);
      if (face === this.#face) this.#lose();
    } finally {
      face.looking = false;
    }
  }

  /**
   * @param {any[]} faces
   * @param {number[]} box
   */
  #sameFace(faces, box) {
    return faces.find((face) => face.score >= LEAST_SCORE && iou(face.box, box) >= SAME_FACE_IOU) ?? null;
  }

  /**
   * Follow the face from where it was found in an older frame, as far as it has moved since.
   * @param {FollowedFace} face
   * @param {{box: number[], score: number}} found
   * @param {{picture: import("./timeconv.d.ts").GrayPicture, box: number[], frames: number}} then
   */
  #verify(face, found, then) {
    const near = iou(found.box, then.box) >= SAME_PLACE_IOU;
    const box = found.box.map((value, i) => (near ? (value + then.box[i]) / 2 : value));
    // Over a few frames it would be the detector's noise.
    const growth = then.frames < LEAST_FRAMES ? 1 : (mean(found.box) / face.foundPx) ** (1 / then.frames);
    const moved = face.follower.box.map((value, i) => value - then.box[i]);
    face.follower = new Follower(then.picture, box, growth);
    face.follower.box = [box[0] + moved[0], box[1] + moved[1], box[2], box[3]];
    face.score = found.score;
    face.foundPx = mean(found.box);
    face.frames -= then.frames;
  }

  /**
   * @param {"whole" | "faces" | "looks"} what
   * @param {Blob} jpeg
   */
  #count(what, jpeg) {
    this.#counts[what] += 1;
    this.#counts.bytes += jpeg.size;
  }
}

/**
 * @param {{width: number, height: number}} a
 * @param {{width: number, height: number}} b
 */
function sameSize(a, b) {
  return a.width === b.width && a.height === b.height;
}

/** @param {number[]} box */
function mean(box) {
  return (box[2] + box[3]) / 2;
}

/**
 * What of a frame is needed to follow a face that is at `box` now, and to cut `square` out.
 * @param {number[]} box
 * @param {number[]} [square]
 */
function reach(box, square = box) {
  const [x, y, side] = around(grown(box, MOST_GROWTH), SEARCHED_PX);
  const [left, top] = [Math.min(x, square[0]) - 2, Math.min(y, square[1]) - 2];
  const right = Math.max(x + side, square[0] + square[2]) + 2;
  return [left, top, right - left, Math.max(y + side, square[1] + square[3]) + 2 - top];
}
