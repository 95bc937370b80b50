// A page of a site of your own: the camera's pictures go straight to the service, with a token that the site has fetched.
// backend.py says what it needs and how it is run.
import { JpegEncoder, TimeConvError, connect } from "./timeconv.js";

const word = document.querySelector("#word");
const state = document.querySelector("#state");
const video = document.querySelector("video");

/** Asked before each connection: the key stays with the site. */
async function token() {
  const reply = await fetch("token", { method: "POST" });
  const said = await reply.json();
  if (reply.ok) return said.token;
  throw new TimeConvError(said.code, said.detail, { retryable: said.retryable, retryAfterMs: said.retry_after_ms });
}

const { service } = await (await fetch("service")).json();
const stream = connect(service, { token, options: { smoothing_ms: 500, max_age_ms: 500 } });

let old;
/** A word that is no longer of now must not stand there: the camera may be gone, or the answers be late. */
function say(text) {
  word.textContent = text;
  clearTimeout(old);
  old = setTimeout(say, 1_000, "");
}

stream.on("prediction", ({ message }) => {
  const [face] = message.faces;
  say(face.uncertain ? "not sure" : face.emotion);
});
stream.on("frame", ({ outcome }) => {
  if (outcome === "no_face") say("no face");
});
stream.on("state", ({ state: now, error }) => {
  state.textContent = error ? `${now}: ${error.message}` : now;
  if (now !== "open") say("");
});

video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
const encoder = new JpegEncoder();

async function send() {
  const picture = stream.free ? await encoder.encode(video) : null;
  if (picture) stream.trySend(picture.jpeg);
  video.requestVideoFrameCallback(send);
}
video.requestVideoFrameCallback(send);
