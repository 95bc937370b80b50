/** What is read, written beside the picture: the word, the bars, and the faces with their words. It decides nothing. */

import { child, element, throttled, write } from "./elements.js";
import { wordOf } from "./faces.js";
import { colourOf } from "./palette.js";

/** Words and numbers that change more often cannot be read; the style sheet has the bars move on meanwhile. */
const WORD_MS = 200;
const LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/** @typedef {{row: HTMLElement, fill: HTMLElement, raw: HTMLElement, meter: HTMLElement, value: HTMLElement}} Bar */

/** `scores`, `raw`: null: there is no reading. @typedef {{word: string, sure: boolean, scores: Record<string, number> | null, raw: Record<string, number> | null}} Reading */

/** @type {Reading} */
export const NO_READING = { word: "–", sure: false, scores: null, raw: null };

export class ReadingView {
  #word = element("word", HTMLElement);
  #bars = element("bars", HTMLUListElement);
  #faces = element("faces", HTMLElement);
  #list = element("face-list", HTMLUListElement);
  #largest = element("largest", HTMLButtonElement);
  /** @type {Map<string, Bar>} */
  #rows = new Map();
  /** @type {Map<number, {row: HTMLElement, button: HTMLButtonElement, word: HTMLElement}>} */
  #buttons = new Map();
  #pick;

  /** @param {(id: number | null) => void} pick a face was chosen; null: the largest */
  constructor(pick) {
    this.#pick = pick;
    this.setLabels(LABELS);
    this.#largest.addEventListener("click", () => pick(null));
  }

  /**
   * One bar for each label; those that are there already stay.
   * @param {string[]} labels
   */
  setLabels(labels) {
    if (labels.join() === [...this.#rows.keys()].join()) return;
    this.#rows = new Map(labels.map((label) => [label, newBar(label)]));
    this.#bars.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
  }

  /** Show the scores without smoothing too. @param {boolean} shown */
  showRaw(shown) {
    this.#bars.classList.toggle("with-raw", shown);
  }

  /** @param {Reading} reading */
  show(reading) {
    this.#write(reading);
    // What is not of now any more is not left standing until it is its turn.
    if (reading.word === NO_READING.word) this.#writeNow(reading);
  }

  #write = throttled(WORD_MS, (/** @type {Reading} */ reading) => this.#writeNow(reading));

  /** @param {Reading} reading */
  #writeNow({ word, sure, scores, raw }) {
    for (const [label, { row, fill, raw: mark, meter, value }] of this.#rows) {
      fill.style.transform = `scaleX(${scores?.[label] ?? 0})`;
      mark.style.left = `${(raw?.[label] ?? 0) * 100}%`;
      mark.hidden = !raw;
      const percent = scores && Math.round((scores[label] ?? 0) * 100);
      row.classList.toggle("winner", sure && label === word);
      write(value, percent === null ? "–" : `${percent} %`);
      meter.setAttribute("aria-valuenow", String(percent ?? 0));
      meter.setAttribute("aria-valuetext", percent === null ? "no reading" : `${percent} %`);
    }
    this.#word.classList.toggle("quiet", !sure);
    write(this.#word, word);
  }

  /** @param {import("./faces.js").Faces} faces */
  listFaces = throttled(WORD_MS, (/** @type {import("./faces.js").Faces} */ faces) => {
    this.#faces.hidden = faces.all.length < 2 && faces.picked === null;
    if (this.#faces.hidden) return;
    this.#largest.setAttribute("aria-pressed", String(faces.picked === null));
    const ids = new Set(faces.all.map(({ id }) => id));
    if (faces.picked !== null) ids.add(faces.picked);
    for (const [id, { row }] of this.#buttons) {
      if (ids.has(id)) continue;
      // Who has the keyboard there goes on from "Largest".
      if (row.contains(document.activeElement)) this.#largest.focus();
      row.remove();
      this.#buttons.delete(id);
    }
    for (const id of [...ids].sort((a, b) => a - b)) this.#listFace(id, faces);
  });

  /**
   * @param {number} id
   * @param {import("./faces.js").Faces} faces
   */
  #listFace(id, faces) {
    const { button, word } = this.#buttons.get(id) ?? this.#newFace(id);
    const face = faces.all.find((each) => each.id === id);
    button.setAttribute("aria-pressed", String(faces.picked === id));
    button.classList.toggle("read", faces.read?.id === id);
    write(word, face ? wordOf(face) : "not seen");
  }

  /** @param {number} id */
  #newFace(id) {
    const row = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    child(button, "face-id", `Face ${id}`);
    const word = child(button, "face-word");
    button.addEventListener("click", () => this.#pick(id));
    row.append(button);
    const made = { row, button, word };
    this.#buttons.set(id, made);
    // By number, so that they do not change places under the finger.
    const after = [...this.#buttons].filter(([other]) => other > id).sort(([a], [b]) => a - b)[0];
    this.#list.insertBefore(row, after?.[1].row ?? null);
    return made;
  }
}

/** @param {string} label @returns {Bar} */
function newBar(label) {
  const row = document.createElement("li");
  child(row, "name", label);
  const meter = child(row, "track");
  meter.setAttribute("role", "meter");
  meter.setAttribute("aria-label", label);
  meter.setAttribute("aria-valuemin", "0");
  meter.setAttribute("aria-valuemax", "100");
  meter.setAttribute("aria-valuenow", "0");
  const fill = child(meter, "fill");
  fill.style.setProperty("--bar", colourOf(label));
  const raw = child(meter, "raw");
  raw.hidden = true;
  return { row, fill, raw, meter, value: child(row, "value", "–") };
}
