/** The part of the picture that is read: drawn on it with mouse or finger, or set with four sliders. */

import { element, write } from "./elements.js";

/**
 * In fractions of the picture, so that it stays where it is when the picture's size changes.
 * @typedef {{x: number, y: number, w: number, h: number}} Region
 */

/** @type {Readonly<Region>} */
export const WHOLE = Object.freeze({ x: 0, y: 0, w: 1, h: 1 });
/** A smaller part is a slip of the hand. */
const LEAST = 0.05;

/** @param {Region} region */
export function isWhole({ w, h }) {
  return w >= 1 && h >= 1;
}

/**
 * The rectangle between two corners, within the picture; null if it is too small to be meant.
 * @param {[number, number]} a
 * @param {[number, number]} b
 * @returns {Region | null}
 */
export function between(a, b) {
  const [left, right] = sorted(a[0], b[0]);
  const [top, bottom] = sorted(a[1], b[1]);
  return right - left < LEAST || bottom - top < LEAST ? null : { x: left, y: top, w: right - left, h: bottom - top };
}

function sorted(/** @type {number} */ a, /** @type {number} */ b) {
  return [Math.min(a, b), Math.max(a, b)].map((value) => Math.min(Math.max(value, 0), 1));
}

/**
 * The region with one of its edges elsewhere; an edge stops before the one it faces.
 * @param {Region} region
 * @param {string} edge left, right, top or bottom
 * @param {number} to
 * @returns {Region}
 */
export function moved({ x, y, w, h }, edge, to) {
  switch (edge) {
    case "left": {
      const left = Math.min(Math.max(to, 0), x + w - LEAST);
      return { x: left, y, w: x + w - left, h };
    }
    case "right":
      return { x, y, w: Math.max(Math.min(to, 1) - x, LEAST), h };
    case "top": {
      const top = Math.min(Math.max(to, 0), y + h - LEAST);
      return { x, y: top, w, h: y + h - top };
    }
    default:
      return { x, y, w, h: Math.max(Math.min(to, 1) - y, LEAST) };
  }
}

/**
 * The region in pixels of a picture, at least one.
 * @param {Region} region
 * @param {number} width
 * @param {number} height
 * @returns {[number, number, number, number]} x, y, w, h
 */
export function inPixels({ x, y, w, h }, width, height) {
  const [left, top] = [Math.round(x * width), Math.round(y * height)];
  return [left, top, Math.max(Math.round(w * width), 1), Math.max(Math.round(h * height), 1)];
}

/** @type {Record<string, (region: Region) => number>} */
const EDGES = { left: ({ x }) => x, right: ({ x, w }) => x + w, top: ({ y }) => y, bottom: ({ y, h }) => y + h };

/** The pane over the picture, and the sliders below it. */
export class RegionPicker {
  /** @type {Region} */
  region = WHOLE;
  editing = false;
  #pane = element("region-pane", HTMLElement);
  #panel = element("region-panel", HTMLElement);
  #toggle = element("region-toggle", HTMLButtonElement);
  #place;
  #changed;

  /**
   * @param {(event: PointerEvent) => [number, number]} place where in the picture a pointer is, in fractions
   * @param {() => void} changed
   */
  constructor(place, changed) {
    this.#place = place;
    this.#changed = changed;
    this.#toggle.addEventListener("click", () => this.edit(!this.editing));
    element("region-done", HTMLButtonElement).addEventListener("click", () => {
      this.edit(false);
      this.#toggle.focus();
    });
    element("region-whole", HTMLButtonElement).addEventListener("click", () => this.set(WHOLE));
    this.#panel.addEventListener("input", ({ target }) => {
      if (target instanceof HTMLInputElement) this.set(moved(this.region, target.name, Number(target.value) / 100));
    });
    this.#panel.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      this.edit(false);
      this.#toggle.focus();
    });
    this.#pane.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  /** Offer a choice, or none. @param {boolean} offered */
  offer(offered) {
    this.#toggle.hidden = !offered;
    if (offered) return;
    this.edit(false);
    this.set(WHOLE);
  }

  get offered() {
    return !this.#toggle.hidden;
  }

  /** @param {boolean} editing */
  edit(editing) {
    this.editing = editing;
    this.#pane.hidden = this.#panel.hidden = !editing;
    this.#toggle.setAttribute("aria-expanded", String(editing));
    this.set(this.region);
  }

  /** @param {Region} region */
  set(region) {
    this.region = region;
    for (const input of this.#panel.querySelectorAll("input")) {
      const percent = Math.round(EDGES[input.name](region) * 100);
      input.value = String(percent);
      input.setAttribute("aria-valuetext", `${percent} %`);
    }
    write(this.#toggle, isWhole(region) ? "Choose part…" : "Part chosen…");
    this.#changed();
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.#pane.setPointerCapture(event.pointerId);
    const from = this.#place(event);
    const until = new AbortController();
    const follow = (/** @type {PointerEvent} */ now) => {
      const drawn = between(from, this.#place(now));
      if (drawn) this.set(drawn);
    };
    this.#pane.addEventListener("pointermove", follow, { signal: until.signal });
    for (const end of ["pointerup", "pointercancel"]) {
      this.#pane.addEventListener(end, () => until.abort(), { signal: until.signal });
    }
  }
}
