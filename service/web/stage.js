/** The picture, and what is drawn over it: boxes with their ids, and the part that is read. */

import { element } from "./elements.js";
import { isWhole } from "./region.js";

/** @typedef {import("./region.js").Region} Region */

/** `area`: in fractions of the picture. @typedef {{id: number | null, area: Region, words: string, read: boolean, ready: boolean}} Marked */

/**
 * Where a picture lies that fills a frame as `object-fit: contain` does.
 * @param {number} outerWidth
 * @param {number} outerHeight
 * @param {number} width
 * @param {number} height
 * @returns {{x: number, y: number, scale: number}}
 */
export function contained(outerWidth, outerHeight, width, height) {
  const scale = Math.min(outerWidth / width, outerHeight / height);
  return { x: (outerWidth - width * scale) / 2, y: (outerHeight - height * scale) / 2, scale };
}

/**
 * A box in pixels of what was sent, in fractions of the source's picture.
 * @param {number[]} box
 * @param {import("./sender.js").SeenFrame} frame
 * @returns {Region}
 */
export function inPicture([x, y, w, h], { width, height, region }) {
  const [right, down] = [region.w / width, region.h / height];
  return { x: region.x + x * right, y: region.y + y * down, w: w * right, h: h * down };
}

export class Stage {
  video = element("video", HTMLVideoElement);
  root = element("stage", HTMLElement);
  #overlay = element("overlay", HTMLCanvasElement);
  #placeholder = element("placeholder", HTMLElement);
  /** @type {Marked[]} */
  #marked = [];
  /** @type {Region | null} */
  #part = null;
  #mirrored = false;

  /** @param {(id: number) => void} picked a face was clicked */
  constructor(picked) {
    new ResizeObserver(() => this.#draw()).observe(this.root);
    this.video.addEventListener("resize", () => this.#fit());
    // In capture: a video's own controls would take the click for play or pause.
    this.root.addEventListener("click", (event) => this.#pick(event, picked), { capture: true });
    this.root.addEventListener("pointermove", (event) => this.root.classList.toggle("over-face", this.#hit(event) !== null));
  }

  /**
   * @param {boolean} shown
   * @param {boolean} mirrored
   */
  showVideo(shown, mirrored) {
    this.video.hidden = !shown;
    this.#placeholder.hidden = shown;
    this.#mirrored = mirrored;
    this.video.classList.toggle("mirrored", mirrored);
  }

  /** @param {Marked[]} marked */
  mark(marked) {
    if (!marked.length && !this.#marked.length) return;
    this.#marked = marked;
    this.#draw();
  }

  /** The part that is read; what is outside is dimmed. @param {Region} region */
  showPart(region) {
    this.#part = isWhole(region) ? null : region;
    this.#draw();
  }

  /**
   * Where in the picture a pointer is, in fractions of it; outside of it less than 0 or more than 1.
   * @param {MouseEvent} event
   * @returns {[number, number]}
   */
  place({ clientX, clientY }) {
    const { left, top } = this.root.getBoundingClientRect();
    const { x, y, width, height } = this.#picture();
    const across = (clientX - left - this.root.clientLeft - x) / width;
    return [this.#mirrored ? 1 - across : across, (clientY - top - this.root.clientTop - y) / height];
  }

  /** The picture's rectangle on the stage, pixels of CSS. */
  #picture() {
    const { clientWidth, clientHeight } = this.root;
    const [width, height] = [this.video.videoWidth || clientWidth, this.video.videoHeight || clientHeight];
    const { x, y, scale } = contained(clientWidth, clientHeight, width, height);
    return { x, y, width: width * scale, height: height * scale };
  }

  /**
   * @param {Region} area
   * @returns {[number, number, number, number]} on the stage, mirrored as the picture is
   */
  #onStage({ x, y, w, h }) {
    const picture = this.#picture();
    const left = this.#mirrored ? 1 - x - w : x;
    return [picture.x + left * picture.width, picture.y + y * picture.height, w * picture.width, h * picture.height];
  }

  /** Give the stage the picture's shape, so that no bars stand beside it. */
  #fit() {
    const { videoWidth, videoHeight } = this.video;
    if (videoWidth && videoHeight) this.root.style.aspectRatio = `${videoWidth} / ${videoHeight}`;
  }

  /** @param {MouseEvent} event */
  #hit(event) {
    const [x, y] = this.place(event);
    const within = this.#marked.filter(({ id, area }) => id !== null && x >= area.x && x <= area.x + area.w && y >= area.y && y <= area.y + area.h);
    // The smallest: it is the harder to hit.
    return within.sort((a, b) => a.area.w - b.area.w)[0]?.id ?? null;
  }

  /**
   * @param {MouseEvent} event
   * @param {(id: number) => void} picked
   */
  #pick(event, picked) {
    const id = this.#marked.length > 1 ? this.#hit(event) : null;
    if (id === null) return;
    event.preventDefault();
    event.stopPropagation();
    picked(id);
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const ratio = devicePixelRatio;
    this.#overlay.width = Math.round(width * ratio);
    this.#overlay.height = Math.round(height * ratio);
    const context = this.#overlay.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    if (this.#part) dimOutside(context, this.#onStage(this.#part), width, height);
    const several = this.#marked.length > 1;
    for (const marked of this.#marked.toSorted((a, b) => Number(a.read) - Number(b.read))) {
      outline(context, this.#onStage(marked.area), marked);
      if (several) tag(context, this.#onStage(marked.area), marked, width);
    }
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number, number, number]} part
 * @param {number} width
 * @param {number} height
 */
function dimOutside(context, part, width, height) {
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(...part);
  context.fillStyle = "rgb(0 0 0 / 60%)";
  context.fill("evenodd");
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.strokeRect(...part);
}

/**
 * White within dark, so that it is seen on any picture. The face that is read has the thickest line, one whose window
 * fills a broken one.
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number, number, number]} box
 * @param {Marked} marked
 */
function outline(context, box, { read, ready }) {
  context.beginPath();
  context.roundRect(...box, 8);
  context.setLineDash(ready ? [] : [7, 6]);
  context.lineWidth = read ? 6 : 4;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.stroke();
  context.lineWidth = read ? 3 : 1.5;
  context.strokeStyle = "#fff";
  context.stroke();
  context.setLineDash([]);
}

/**
 * Id and word, above the box, or in it where there is no room above.
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number, number, number]} box
 * @param {Marked} marked
 * @param {number} stageWidth
 */
function tag(context, [x, y], { words, read }, stageWidth) {
  context.font = `600 13px system-ui, sans-serif`;
  const wide = context.measureText(words).width + 14;
  const left = Math.min(Math.max(x - 1, 2), stageWidth - wide - 2);
  const top = y > 28 ? y - 26 : y + 6;
  context.beginPath();
  context.roundRect(left, top, wide, 21, 6);
  context.fillStyle = read ? "#fff" : "rgb(0 0 0 / 72%)";
  context.fill();
  context.fillStyle = read ? "#111" : "#fff";
  context.textBaseline = "middle";
  context.fillText(words, left + 7, top + 11);
}
