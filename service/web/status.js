/** The one line that says how it is, and what to do about it. It decides by values alone. */

/**
 * `state`: `none`: not started. `standing`: no new picture comes.
 * @typedef {{kind: import("./sources.js").Kind, state: "none" | "asking" | "playing" | "standing" | "paused" | "ended", problem: string, hasFile: boolean}} SourceState
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
 * @returns {{text: string, problem: boolean}} `problem`: somebody has to do something, or to wait
 */
export function statusOf(source, link, hasKey, seen) {
  const [text, problem] = ofSource(source) ?? ofLink(link, hasKey) ?? ofFaces(source, seen);
  return { text, problem };
}

/**
 * @param {SourceState} source
 * @returns {[string, boolean] | null}
 */
function ofSource({ kind, state, problem, hasFile }) {
  if (problem) return [problem, true];
  if (state === "asking") return [ASKING[kind], false];
  if (state === "paused") return ["Paused. Press Start to go on.", false];
  if (state === "ended") return ["The video is at its end. Press Start to play it again.", false];
  if (state !== "none") return null;
  if (kind === "camera") return ["Press Start to use the camera.", false];
  if (kind === "screen") return ["Press Start, then choose a tab, a window or the screen.", false];
  return [hasFile ? "Press Start to play the file." : "Choose a video file, or drop one here.", false];
}

/**
 * @param {import("./link.js").LinkState} link
 * @param {boolean} hasKey
 * @returns {[string, boolean] | null}
 */
function ofLink({ name, message, retryInMs, again }, hasKey) {
  const what = message || "The server is away";
  switch (name) {
    case "away":
    case "busy":
      return [`${what}. Trying again in ${Math.max(1, Math.round(retryInMs / 1000))} s.`, true];
    case "connecting":
      return again ? [`${what}. Trying again now.`, true] : ["Connecting to the server.", false];
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
      return seen.old ? ["No answer from the server just now.", true] : ofAnswer(seen);
    case "expired":
    case "superseded":
      return [LATE, true];
    default:
      return [`The server did not read a frame: ${OUTCOMES[seen.outcome]}.`, true];
  }
}

const LATE = "The answers come too late to show. Try a smaller picture or fewer frames in the settings.";

/**
 * @param {Seen} seen
 * @returns {[string, boolean]}
 */
function ofAnswer(seen) {
  if (seen.outcome === "prediction") return ofFace(seen);
  if (seen.outcome === "window_filling") return [`A face. ${framesMore(seen.needed ?? 0)} for a reading.`, false];
  return ["No face in the picture. Come closer, turn to the camera, or make more light.", false];
}

/**
 * @param {Seen} seen
 * @returns {[string, boolean]}
 */
function ofFace({ face, away, gone }) {
  if (away !== undefined && away !== null) return [`Face ${away} is not seen just now.`, false];
  const whose = gone === undefined || gone === null ? "" : `Face ${gone} is gone; the largest is read. `;
  if (!face) return [`${whose}Reading.`, false];
  const advice = adviceOn(face.quality);
  if (advice) return [`${whose}${advice}`, false];
  if (face.state === "filling") return [`${whose}A face. ${framesMore(face.frames_needed)} for a reading.`, false];
  return [`${whose}Reading the face.`, false];
}

/**
 * What would make a face easier to read.
 * @param {import("./timeconv.js").Quality} quality
 * @returns {string} "" where nothing would
 */
export function adviceOn({ size, brightness, sharpness }) {
  if (brightness < DARK) return "The face is very dark. Make more light, or turn to it.";
  if (brightness > BRIGHT) return "The face is very bright. Turn away from the light.";
  if (size < SMALL_PX) return "The face is very small. Come closer.";
  if (sharpness < BLURRED) return "The face is blurred. Hold still, or clean the lens.";
  return "";
}

/** @param {number} count */
function framesMore(count) {
  return count === 1 ? "1 more frame is needed" : `${count} more frames are needed`;
}
