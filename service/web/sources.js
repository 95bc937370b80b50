/**
 * Where pictures come from: a camera, a screen or a video file, shown in a video element, and when each was taken.
 *
 * A source is had until the `signal` that it was opened with is aborted, be it open by then or not: nobody knows how long
 * the user takes to allow a camera, and until then another source may be shown.
 */

/** @typedef {"camera" | "screen" | "file"} Kind */

/**
 * @typedef {object} Source
 * @property {Kind} kind
 * @property {string} name
 * @property {boolean} mirrored shown as in a mirror, as one knows oneself
 * @property {string} device of a camera: its id
 * @property {(shown: ShownFrame) => number} stampMs capture time to send for a frame, milliseconds since 1970
 */

/**
 * A picture on the screen. `takenMs`: when it was taken, as far as is known, else shown (time of `performance.now()`);
 * `mediaS`: its place in the video; `rate`: how fast the video plays.
 * @typedef {{takenMs: number, mediaS: number, rate: number}} ShownFrame
 */

/** A source that cannot be had; `message` is for the user. */
export class SourceError extends Error {}

/** Cameras say when a picture was taken; a time further back than this is not believed. */
const OLDEST_CAPTURE_MS = 2_000;
/** Playing time and clock may differ by this much from one frame to the next before it counts as a jump. */
const JUMP_MS = 500;
/** A gap that empties the server's window, which should hold one motion. A little over its `gap_reset_ms`. */
const JUMP_GAP_MS = 1_100;

/** Just under the time between two pictures of most cameras and videos. */
const LEAST_INTERVAL_MS = 30;

/** @type {Record<string, string>} */
const CAMERA_PROBLEMS = {
  NotAllowedError: "The camera is not allowed. Allow it for this page in the browser’s settings, then press Start.",
  NotFoundError: "No camera was found. Connect one and press Start, or read a video file.",
  NotReadableError: "The camera does not answer. Another program may be using it: close that, then press Start.",
  OverconstrainedError: "This camera is gone. Choose another, then press Start.",
};
/** @type {Record<string, string>} */
const SCREEN_PROBLEMS = {
  NotAllowedError: "No screen or window was shared. Press Start to choose one.",
  NotFoundError: "There is no screen to share.",
  NotReadableError: "The system does not let the browser see the screen. Allow it there, then press Start.",
};

/** What this browser has, here. @returns {Record<Kind, boolean>} */
export function available() {
  const devices = navigator.mediaDevices;
  return { camera: Boolean(devices?.getUserMedia), screen: Boolean(devices?.getDisplayMedia), file: true };
}

/**
 * Cameras to choose from; before one was allowed browsers do not tell them apart, and there is no choice.
 * @returns {Promise<{value: string, name: string}[]>}
 */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices
    .filter(({ kind, deviceId }) => kind === "videoinput" && deviceId)
    .map(({ deviceId, label }, i) => ({ value: deviceId, name: label || `Camera ${i + 1}` }));
}

/**
 * @param {HTMLVideoElement} video
 * @param {{device: string, widthPx: number}} wanted id of a camera; "": the one that faces the user
 * @param {(problem: SourceError) => void} onLost the camera was taken away
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 * @throws {SourceError}
 */
export async function openCamera(video, { device, widthPx }, onLost, signal) {
  if (!navigator.mediaDevices) {
    throw new SourceError("Browsers give the camera only to pages from https or localhost. A video file works here.");
  }
  const which = device ? { deviceId: { exact: device } } : { facingMode: "user" };
  const asked = { audio: false, video: { ...which, width: { ideal: widthPx }, height: { ideal: (widthPx * 3) / 4 } } };
  const stream = await granted(navigator.mediaDevices.getUserMedia(asked), CAMERA_PROBLEMS, "camera", signal);
  const onEnded = () => onLost(new SourceError("The camera has stopped. Press Start to try again."));
  const source = live("camera", video, stream, onEnded, signal);
  const { facingMode, deviceId } = stream.getVideoTracks()[0].getSettings();
  return { ...source, mirrored: facingMode !== "environment", device: deviceId ?? "" };
}

/**
 * A tab, a window or the whole screen: the browser asks which.
 * @param {HTMLVideoElement} video
 * @param {(problem: SourceError) => void} onLost sharing was stopped
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 * @throws {SourceError}
 */
export async function openScreen(video, onLost, signal) {
  if (!navigator.mediaDevices?.getDisplayMedia) throw new SourceError("This browser cannot share a screen with a page.");
  const asking = navigator.mediaDevices.getDisplayMedia({ audio: false, video: { frameRate: { ideal: 25 } } });
  const stream = await granted(asking, SCREEN_PROBLEMS, "screen", signal);
  const onEnded = () => onLost(new SourceError("Sharing was stopped. Press Start to share again."));
  return live("screen", video, stream, onEnded, signal);
}

/**
 * @param {Promise<MediaStream>} asking
 * @param {Record<string, string>} problems by the name of the error
 * @param {string} what
 * @param {AbortSignal} signal
 * @returns {Promise<MediaStream>}
 */
async function granted(asking, problems, what, signal) {
  const stream = await asking.catch((error) => {
    const name = error instanceof Error ? error.name : "";
    throw new SourceError(problems[name] ?? `The ${what} cannot be used (${name || error}).`);
  });
  if (signal.aborted) stop(stream);
  signal.throwIfAborted();
  return stream;
}

/** @param {MediaStream} stream */
function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/**
 * @param {Kind} kind
 * @param {HTMLVideoElement} video
 * @param {MediaStream} stream
 * @param {() => void} onEnded not by `signal`
 * @param {AbortSignal} signal
 * @returns {Source}
 */
function live(kind, video, stream, onEnded, signal) {
  const [track] = stream.getVideoTracks();
  track.addEventListener("ended", onEnded, { signal });
  signal.addEventListener("abort", () => {
    stop(stream);
    video.srcObject = null;
  });
  video.srcObject = stream;
  video.controls = false;
  // Refused or interrupted playing shows as a picture that does not come, which the page says anyway.
  video.play().catch(() => {});
  return {
    kind,
    name: track.label,
    mirrored: false,
    device: "",
    stampMs: ({ takenMs }) => performance.timeOrigin + takenMs,
  };
}

/**
 * @param {HTMLVideoElement} video
 * @param {File} file
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 * @throws {SourceError}
 */
export async function openFile(video, file, signal) {
  const url = URL.createObjectURL(file);
  signal.addEventListener("abort", () => {
    URL.revokeObjectURL(url);
    video.removeAttribute("src");
    video.load();
  });
  video.src = url;
  video.controls = true;
  try {
    await hasPicture(video, signal);
  } catch {
    throw new SourceError(`This browser cannot play ${file.name}. MP4 (H.264) and WebM play nearly everywhere.`);
  }
  const times = new MediaTimes();
  return {
    kind: "file",
    name: file.name,
    mirrored: false,
    device: "",
    stampMs: (shown) => performance.timeOrigin + times.stampMs(shown),
  };
}

/**
 * Resolves once the video is known to have pictures; a sound file has none.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function hasPicture(video, signal) {
  return new Promise((resolve, reject) => {
    const once = new AbortController();
    const settle = () => {
      once.abort();
      if (!signal.aborted && !video.error && video.videoWidth > 0) resolve();
      else reject(new Error(video.error?.message ?? "It has no picture"));
    };
    for (const event of ["loadedmetadata", "error"]) video.addEventListener(event, settle, { signal: once.signal });
    signal.addEventListener("abort", settle, { signal: once.signal });
  });
}

/**
 * Places in a video as capture times: apart as in the video, at the speed it plays, and never going back. A seek, a
 * pause or a standstill becomes a gap that empties the window and leaves the age of later frames right.
 */
export class MediaTimes {
  /** @type {{stampMs: number, shown: ShownFrame} | null} */
  #last = null;

  /**
   * @param {ShownFrame} shown
   * @returns {number} on the time line of `performance.now()`
   */
  stampMs(shown) {
    const stampMs = this.#last ? this.#after(this.#last, shown) : shown.takenMs;
    this.#last = { stampMs, shown };
    return stampMs;
  }

  /**
   * @param {{stampMs: number, shown: ShownFrame}} last
   * @param {ShownFrame} shown
   * @returns {number}
   */
  #after(last, shown) {
    const playedMs = ((shown.mediaS - last.shown.mediaS) * 1000) / shown.rate;
    const passedMs = shown.takenMs - last.shown.takenMs;
    const jumped = playedMs <= 0 || Math.abs(playedMs - passedMs) > JUMP_MS;
    return last.stampMs + (jumped ? Math.max(passedMs, JUMP_GAP_MS) : playedMs);
  }
}

/**
 * Call back for every new picture that the video shows, for as long as the page is seen.
 * @param {HTMLVideoElement} video
 * @param {(shown: ShownFrame) => void} callback
 */
export function eachFrame(video, callback) {
  if ("requestVideoFrameCallback" in video) eachVideoFrame(video, callback);
  else eachAnimationFrame(video, callback);
}

/**
 * @param {HTMLVideoElement} video
 * @param {(shown: ShownFrame) => void} callback
 */
function eachVideoFrame(video, callback) {
  video.requestVideoFrameCallback((nowMs, { captureTime, mediaTime }) => {
    callback({ takenMs: believable(captureTime, nowMs), mediaS: mediaTime, rate: video.playbackRate });
    eachVideoFrame(video, callback);
  });
}

/**
 * For browsers that do not tell of new pictures. The playing time moves on between them too, so it goes by the clock.
 * @param {HTMLVideoElement} video
 * @param {(shown: ShownFrame) => void} callback
 */
function eachAnimationFrame(video, callback) {
  let last = { atMs: -Infinity, mediaS: NaN };
  const look = (/** @type {number} */ nowMs) => {
    const mediaS = video.currentTime;
    if (mediaS !== last.mediaS && nowMs - last.atMs >= LEAST_INTERVAL_MS && video.videoWidth > 0) {
      last = { atMs: nowMs, mediaS };
      callback({ takenMs: nowMs, mediaS, rate: video.playbackRate });
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/**
 * @param {number | undefined} captureMs
 * @param {number} nowMs
 * @returns {number}
 */
function believable(captureMs, nowMs) {
  return captureMs !== undefined && captureMs <= nowMs && nowMs - captureMs <= OLDEST_CAPTURE_MS ? captureMs : nowMs;
}
