/** The status line, and the voice of screen readers: neither changes faster than it can be read or heard. */

import { element, write } from "./elements.js";
import { Steady } from "./steady.js";

/** What differs from frame to frame is said once it has stayed so. */
const FRAMES = { settleMs: 300 };
const VOICE = { settleMs: 800, dwellMs: 2_500 };

export class Telling {
  #line = element("status", HTMLElement);
  #announcer = element("announcer", HTMLElement);
  #frames = new Steady(FRAMES);
  #voice = new Steady(VOICE);

  /**
   * @param {{text: string, problem: boolean, spoken: string}} status
   * @param {boolean} ofFrames whether it goes by the newest frames
   * @param {number} nowMs
   */
  say({ text, problem, spoken }, ofFrames, nowMs) {
    if (ofFrames && this.#frames.shown) this.#frames.see(text, nowMs);
    else this.#frames.set(ofFrames ? text : "", nowMs);
    if (ofFrames && this.#frames.shown !== text) return;
    write(this.#line, text);
    this.#line.classList.toggle("problem", problem);
    if (spoken) this.#announce(spoken, nowMs);
  }

  /**
   * What the face shows, to who does not see it.
   * @param {string} word
   * @param {number} nowMs
   */
  voice(word, nowMs) {
    write(this.#announcer, this.#voice.see(word, nowMs));
  }

  /**
   * There is no word of now: who looks for what was said last finds none, unless there is something else to say.
   * @param {{spoken: string}} status
   * @param {number} nowMs
   */
  hush({ spoken }, nowMs) {
    if (!spoken) this.#announce("", nowMs);
  }

  /**
   * @param {string} text
   * @param {number} nowMs
   */
  #announce(text, nowMs) {
    this.#voice.set(text, nowMs);
    write(this.#announcer, text);
  }
}
