/** Speed and freshness in figures, and what became of the frames. */

import { element, throttled, write } from "./elements.js";
import { OUTCOMES } from "./status.js";

const FIGURES_MS = 400;

/** @typedef {ReturnType<import("./tally.js").Tally["figures"]>} Figures */

/** @typedef {import("./link.js").Link["counts"]} Counts */

export class FiguresView {
  #server = element("server", HTMLElement);
  #roundTrip = element("round-trip", HTMLElement);
  #age = element("age", HTMLElement);
  #rate = element("rate", HTMLElement);
  #dropped = element("dropped", HTMLElement);
  #bytes = element("bytes", HTMLElement);
  #counts = element("counts", HTMLElement);
  #fresh = element("fresh", HTMLElement);

  /** Figures and counts, read only as often as they are shown. */
  show = throttled(FIGURES_MS, (/** @type {() => {figures: Figures, counts: Counts}} */ read) => {
    const { figures, counts } = read();
    write(this.#server, milliseconds(figures.serverMs));
    write(this.#roundTrip, milliseconds(figures.roundTripMs));
    write(this.#age, milliseconds(figures.ageMs));
    write(this.#rate, figures.perSecond === null ? "–" : figures.perSecond.toFixed(1));
    write(this.#dropped, figures.dropped === null ? "–" : `${Math.round(figures.dropped * 100)} %`);
    write(this.#bytes, figures.bytesPerSecond === null ? "–" : `${Math.round(figures.bytesPerSecond / 1_000)} kB`);
    write(this.#counts, inWords(counts));
  });

  /**
   * Whether what is shown is of now.
   * @param {boolean} active whether pictures come
   * @param {number} sinceMs since the picture was taken that was last answered
   * @param {boolean} isOld whether that is shown no more
   * @param {number | null} ageMs how old answers are when they come
   */
  showFreshness(active, sinceMs, isOld, ageMs) {
    this.#fresh.hidden = !active;
    this.#fresh.dataset.state = isOld ? "old" : "live";
    if (!isOld) return write(this.#fresh, ageMs === null ? "Live" : `Live · ${Math.round(ageMs)} ms old`);
    write(this.#fresh, Number.isFinite(sinceMs) ? `Nothing new for ${Math.max(1, Math.round(sinceMs / 1_000))} s` : "Nothing yet");
  }
}

/** @param {Counts} counts */
function inWords({ sent, lost, inFlight, outcomes }) {
  const told = Object.entries(OUTCOMES).filter(([outcome]) => outcomes[outcome]);
  const parts = told.map(([outcome, words]) => `${outcomes[outcome]} ${words}`);
  if (lost) parts.push(`${lost} lost with the connection`);
  if (inFlight) parts.push(`${inFlight} on the way`);
  return sent ? `${sent} sent: ${parts.join(", ")}.` : "None yet.";
}

/** @param {number | null} value */
function milliseconds(value) {
  if (value === null) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
