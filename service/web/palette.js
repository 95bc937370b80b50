/** How each look of a face is drawn, so that people tell them apart whatever they see of colours. */

/** Colours of Okabe and Ito (2008). service/streaming/palette.py has the same. @type {Record<string, string>} */
export const COLOURS = {
  angry: "#d55e00",
  disgust: "#009e73",
  fear: "#cc79a7",
  happy: "#e69f00",
  sad: "#0072b2",
  surprise: "#56b4e9",
  neutral: "#787878",
};

/** In place of those that are too pale for a line on white: 3:1 at least (WCAG 2.2, 1.4.11). @type {Record<string, string>} */
const ON_LIGHT = { fear: "#c0659a", happy: "#b87f00", surprise: "#2f8fc9" };

const UNKNOWN = COLOURS.neutral;

/** Lengths of line and gap in turn, pixels; none is a whole line. @type {Record<string, number[]>} */
const DASHES = {
  angry: [8, 3],
  disgust: [9, 3, 2, 3, 2, 3],
  fear: [9, 3, 2, 3],
  happy: [],
  sad: [2, 3],
  surprise: [4, 3],
  neutral: [16, 4],
};

/**
 * @param {string} label
 * @param {"light" | "dark"} [ground] for a line or a small shape on such a ground: seen well there
 * @returns {string} a colour of CSS; gray for a label that is not known
 */
export function colourOf(label, ground) {
  return (ground === "light" && ON_LIGHT[label]) || (COLOURS[label] ?? UNKNOWN);
}

/**
 * @param {string} label
 * @returns {number[]} for `setLineDash`, so that lines differ without colour too
 */
export function dashOf(label) {
  return DASHES[label] ?? [];
}
