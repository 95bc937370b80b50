/** The one line that says how it is, and what to do about it. It decides by values alone. */

/**
 * `state`: `none`: not started. `standing`: no new picture comes. `chosen`: what Start would show.
 * @typedef {{kind: import("./sources.js").Kind, chosen: import("./sources.js").Kind, state: "none" | "asking" | "playing" | "standing" | "paused" | "ended", problem: string, hasFile: boolean}} SourceState
 */

/**
 * The newest answer; one that came too late is `expired`, wherever it was late. `old`: it has got too old since.
 * @typedef {{outcome: string, needed?: number, face?: import("./timeconv.js").FaceResult | null, away?: number | null, gone?: number | null, old: boolean}} Seen
 */

/** Outcomes in words, in the order they are told. @type {Record<string, string>} */
export const OUTCOMES = {
  prediction: "answered",
  window_filling: "filling the window",
  no_face: "no face",
  skipped: "skipped",
  superseded: "replaced by a newer one",
  expired: "too old",
  rate_limited: "over the rate limit",
  bad_image: "not readable",
  overloaded: "server overloaded",
  failed: "failed",
  abandoned: "abandoned",
};

/** Below these, of a face's `quality`, the network was given less than it has pixels for, or next to nothing. */
const SMALL_PX = 48;
const DARK = 0.15;
const BRIGHT = 0.88;
const BLURRED = 0.05;

/** As a part of a sentence. */
const NAMES = { camera: "camera", screen: "shared screen", file: "video" };
const ASKING = {
  camera: "Waiting for the camera. Allow it if the browser asks.",
  screen: "Choose the tab, window or screen to read.",
  file: "Opening the file.",
};

/**
 * @param {SourceState} source
 * @param {import("./link.js").LinkState} link
 * @param {boolean} hasKey
 * @param {Seen | null} seen
 * @returns {{text: string, problem: boolean, spoken: string}} `problem`: somebody has to do something, or to wait;
 *   `spoken`: what a screen reader should say at once, if anything: it does not count seconds
 */
export function statusOf(source, link, hasKey, seen) {
  const [text, problem, spoken = problem ? text : ""] =
    ofSource(source) ?? ofLink(link, hasKey) ?? ofChange(source) ?? ofReturn(link, seen) ?? ofFaces(source, seen);
  return { text, problem, spoken };
}

/**
 * @param {SourceState} source
 * @returns {[string, boolean] | null}
 */
function ofSource({ kind, chosen, state, problem, hasFile }) {
  if (problem) return [problem, true];
  if (state === "asking") return [ASKING[kind], false];
  if (state === "paused" && chosen === kind) return ["Paused. Press Start to go on.", false];
  if (state === "ended" && chosen === kind) return ["The video is at its end. Press Start to play it again.", false];
  return state === "playing" || state === "standing" ? null : [howToStart(chosen, hasFile), false];
}

/**
 * @param {import("./sources.js").Kind} kind
 * @param {boolean} hasFile
 */
function howToStart(kind, hasFile) {
  if (kind === "camera") return "Press Start to use the camera.";
  if (kind === "screen") return "Press Start, then choose a tab, a window or the screen.";
  return hasFile ? "Press Start to play the file." : "Choose a video file, or drop one here.";
}

/**
 * Another source is chosen than the one that is read.
 * @param {SourceState} source
 * @returns {[string, boolean, string] | null}
 */
function ofChange({ kind, chosen, hasFile }) {
  if (chosen === kind) return null;
  const text = `${howToStart(chosen, hasFile)} Until then the ${NAMES[kind]} goes on.`;
  return [text, false, text];
}

/**
 * The server is there again, and has not answered yet.
 * @param {import("./link.js").LinkState} link
 * @param {Seen | null} seen
 * @returns {[string, boolean, string] | null}
 */
function ofReturn({ again }, seen) {
  const text = "Connected again. Waiting for the first picture.";
  return again && !seen ? [text, false, text] : null;
}

/**
 * @param {import("./link.js").LinkState} link
 * @param {boolean} hasKey
 * @returns {[string, boolean, string?] | null}
 */
function ofLink({ name, message, retryInMs, again }, hasKey) {
  const what = message || "The server is away";
  switch (name) {
    case "away":
    case "busy":
      return [`${what}. Trying again in ${Math.max(1, Math.round(retryInMs / 1000))} s.`, true, `${what}. Trying again.`];
    case "connecting":
      return again ? [`${what}. Trying again now.`, true, `${what}. Trying again.`] : ["Connecting to the server.", false];
    case "locked":
      return [hasKey ? "The server does not know this key. Enter another." : "The server asks for an API key. Enter it below.", true];
    case "refused":
      return [`The server refused: ${message}`, true];
    case "paused":
      return ["Paused while this page is hidden.", false];
    case "closed":
      return ["Not connected. Press Start.", false];
    case "open":
      return null;
  }
}

/**
 * @param {SourceState} source
 * @param {Seen | null} seen
 * @returns {[string, boolean]}
 */
function ofFaces({ kind, state }, seen) {
  if (state === "standing") {
    return [kind === "screen" ? "What is shared stands still, or is hidden: no new picture comes." : "No new picture comes.", true];
  }
  if (!seen) return ["Connected. Waiting for the first picture.", false];
  switch (seen.outcome) {
    case "prediction":
    case "window_filling":
    case "no_face":
      return seen.old ? ["No answer from the server just now.", true] : ofAnswer(kind, seen);
    case "expired":
    case "superseded":
      return [LATE, true];
    default:
      return [`The server did not read a frame: ${OUTCOMES[seen.outcome]}.`, true];
  }
}

const LATE = "The answers come too late to show. Try a smaller picture or fewer frames in the settings.";

/** What to do where there is no face. */
const SHOW_A_FACE = {
  camera: "Come closer, turn to the camera, or make more light.",
  screen: "Choose the part with the face, or make what is shared larger.",
  file: "Where there is one that is small, choose the part with it.",
};

/**
 * @param {import("./sources.js").Kind} kind
 * @param {Seen} seen
 * @returns {[string, boolean]}
 */
function ofAnswer(kind, seen) {
  if (seen.outcome === "prediction") return ofFace(kind, seen);
  if (seen.outcome === "window_filling") return [`A face. ${framesMore(seen.needed ?? 0)} for a reading.`, false];
  return [`No face in the picture. ${SHOW_A_FACE[kind]}`, false];
}

/**
 * @param {import("./sources.js").Kind} kind
 * @param {Seen} seen
 * @returns {[string, boolean]}
 */
function ofFace(kind, { face, away, gone }) {
  if (away !== undefined && away !== null) return [`Face ${away} is not seen just now.`, false];
  const whose = gone === undefined || gone === null ? "" : `Face ${gone} is gone; the largest is read. `;
  if (!face) return [`${whose}Reading.`, false];
  const advice = adviceOn(face.quality, kind);
  if (advice) return [`${whose}${advice}`, false];
  if (face.state === "filling") return [`${whose}A face. ${framesMore(face.frames_needed)} for a reading.`, false];
  return [`${whose}Reading the face.`, false];
}

/**
 * What makes a face hard to read, and what would help.
 * @param {import("./timeconv.js").Quality} quality
 * @param {import("./sources.js").Kind} kind
 * @returns {string} "" where nothing does
 */
export function adviceOn({ size, brightness, sharpness }, kind) {
  const isCamera = kind === "camera";
  if (brightness < DARK) return `The face is very dark.${isCamera ? " Make more light, or turn to it." : ""}`;
  if (brightness > BRIGHT) return `The face is very bright.${isCamera ? " Turn away from the light." : ""}`;
  if (size < SMALL_PX) return `The face is very small. ${isCamera ? "Come closer." : "Choose the part with it."}`;
  if (sharpness < BLURRED) return `The face is blurred.${isCamera ? " Hold still, or clean the lens." : ""}`;
  return "";
}

/** @param {number} count */
function framesMore(count) {
  return count === 1 ? "1 more frame is needed" : `${count} more frames are needed`;
}
