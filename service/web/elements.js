/** Small things that every part of the page needs of the document. */

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}

/**
 * @param {Element} parent
 * @param {string} className
 * @param {string} [text]
 */
export function child(parent, className, text = "") {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

/** Write what differs only: an element that is written to is laid out again, and told again by screen readers. */
export function write(/** @type {Element} */ target, /** @type {string} */ text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * A function that does at once what comes after a pause, and of what comes more often only the newest.
 * @template {any[]} Args
 * @param {number} leastMs
 * @param {(...args: Args) => void} act
 * @returns {(...args: Args) => void}
 */
export function throttled(leastMs, act) {
  /** @type {Args | null} */
  let waiting = null;
  let resting = false;
  const rest = () => {
    resting = true;
    setTimeout(() => {
      resting = false;
      if (!waiting) return;
      act(...waiting);
      waiting = null;
      rest();
    }, leastMs);
  };
  return (...args) => {
    if (resting) {
      waiting = args;
      return;
    }
    act(...args);
    rest();
  };
}

/** @param {Blob} blob @param {string} name */
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has its own hold on the blob once it has begun, which is not told.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
