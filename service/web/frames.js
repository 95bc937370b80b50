/** From the picture that a video element shows to the bytes of one message. */

const LONGEST_SIDE = 640;
const QUALITY = 0.85;

/**
 * Size at which a picture is sent: never larger than it is, its longest side at most `longest`.
 * @param {number} width
 * @param {number} height
 * @param {number} [longest]
 * @returns {{width: number, height: number}}
 */
export function fittedSize(width, height, longest = LONGEST_SIDE) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/**
 * A message with its time stamp: 8 bytes, microseconds, big-endian, then the JPEG.
 * @param {Blob} jpeg
 * @param {number} capturedMs
 * @returns {Blob}
 */
export function stamped(jpeg, capturedMs) {
  const stamp = new DataView(new ArrayBuffer(8));
  stamp.setBigUint64(0, BigInt(Math.round(capturedMs * 1000)));
  return new Blob([stamp.buffer, jpeg]);
}

/** Takes one picture at a time, on one canvas. */
export class JpegEncoder {
  #canvas = newCanvas();
  // The pixels are wanted in main memory, for the encoder; a canvas on the GPU would have to be read back each time.
  #context = /** @type {CanvasRenderingContext2D} */ (
    this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true })
  );

  /**
   * The picture the video shows now, or null when it shows none.
   * @param {HTMLVideoElement} video
   * @returns {Promise<{jpeg: Blob, width: number, height: number} | null>}
   */
  async encode(video) {
    if (!video.videoWidth || !video.videoHeight) return null;
    const { width, height } = fittedSize(video.videoWidth, video.videoHeight);
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#context.drawImage(video, 0, 0, width, height);
    const jpeg = await toJpeg(this.#canvas);
    return jpeg && { jpeg, width, height };
  }
}

/** @returns {OffscreenCanvas | HTMLCanvasElement} */
function newCanvas() {
  return "OffscreenCanvas" in globalThis && "convertToBlob" in OffscreenCanvas.prototype
    ? new OffscreenCanvas(1, 1)
    : document.createElement("canvas");
}

/**
 * @param {OffscreenCanvas | HTMLCanvasElement} canvas
 * @returns {Promise<Blob | null>}
 */
function toJpeg(canvas) {
  return canvas instanceof HTMLCanvasElement
    ? new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY))
    : canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
}
