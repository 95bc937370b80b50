/** What opens a session: the server is asked beforehand, since a browser cannot read why an upgrade was refused. */

import { SUBPROTOCOL } from "./stream.js";

const ASKING_MS = 10_000;

/** The server's answer is that no session opens now. */
export class Refusal extends Error {
  /** @param {{code?: string, detail?: string, retryable?: boolean, retry_after_ms?: number | null}} problem */
  constructor({ code = "", detail = "", retryable = false, retry_after_ms = null }) {
    super(detail);
    this.code = code;
    this.retryable = retryable;
    this.retryMs = retry_after_ms ?? 0;
  }
}

export class Access {
  /** Lives in this page alone: neither in its address nor in any storage. */
  #key = "";

  /** @param {string} key */
  useKey(key) {
    this.#key = key;
  }

  /** Whether a key was given: one that is refused then is not valid. */
  get hasKey() {
    return this.#key !== "";
  }

  /**
   * @returns {Promise<string[]>} the subprotocols that open a session, within a minute
   * @throws {Refusal} what the server says; anything else: nobody answers
   */
  async subprotocols() {
    const reply = await fetch("v1/tokens", {
      method: "POST",
      headers: this.#key ? { Authorization: `Bearer ${this.#key}` } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(ASKING_MS),
    });
    const said = await reply.json();
    if (!reply.ok) throw new Refusal(said);
    return said.subprotocol ? [SUBPROTOCOL, said.subprotocol] : [SUBPROTOCOL];
  }
}
