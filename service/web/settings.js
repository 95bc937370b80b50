/** What the user can set: its bounds, what of it the service is told, and how it is kept. The API key is no setting. */

/**
 * `model`: "" is the service's own. `maxAgeMs`: 0 is none. `longest`: side of what is sent, pixels. `perSecond`: frames,
 * 0 is as many as come.
 * @typedef {object} Settings
 * @property {string} model
 * @property {number} faces
 * @property {number} smoothingMs
 * @property {number} maxAgeMs
 * @property {boolean} faceOnly
 * @property {number} longest
 * @property {number} perSecond
 * @property {boolean} raw
 * @property {boolean} shortcuts
 */

/** Smoothing takes most of the flicker for a fifth of a second (docs/faces.md). @type {Readonly<Settings>} */
export const DEFAULTS = Object.freeze({
  model: "",
  faces: 1,
  smoothingMs: 250,
  maxAgeMs: 1_000,
  faceOnly: false,
  longest: 640,
  perSecond: 0,
  raw: false,
  shortcuts: true,
});

/** @type {Record<string, readonly number[]>} */
export const CHOICES = {
  faces: [1, 2, 3, 4, 5, 6, 7, 8],
  smoothingMs: [0, 250, 500, 1_000, 2_000],
  maxAgeMs: [0, 250, 500, 1_000, 2_000],
  longest: [320, 480, 640, 960, 1_280],
  perSecond: [0, 5, 10, 15, 25],
};

const STORED = "timeconv.settings";

/**
 * Settings of anything: what is missing or not allowed is as by default.
 * @param {any} given
 * @returns {Settings}
 */
export function checked(given) {
  const settings = { ...DEFAULTS };
  for (const name of /** @type {(keyof Settings)[]} */ (Object.keys(DEFAULTS))) {
    const value = given?.[name];
    const allowed = typeof value === typeof DEFAULTS[name] && (CHOICES[name]?.includes(value) ?? true);
    if (allowed) Object.assign(settings, { [name]: value });
  }
  return settings;
}

/** Settings kept in this browser; those by default where it keeps none, or may not. */
export function load() {
  try {
    return checked(JSON.parse(localStorage.getItem(STORED) ?? "{}"));
  } catch {
    return { ...DEFAULTS };
  }
}

/** @param {Settings | null} settings null: keep none */
export function keep(settings) {
  try {
    if (settings) localStorage.setItem(STORED, JSON.stringify(settings));
    else localStorage.removeItem(STORED);
  } catch {
    // A browser that may keep nothing has them for as long as the page is open.
  }
}

/**
 * Options of a stream.
 * @param {Settings} settings
 * @returns {import("./timeconv.js").Options}
 */
export function optionsOf({ model, faces, smoothingMs, maxAgeMs }) {
  return { ...(model && { model }), faces, smoothing_ms: smoothingMs, max_age_ms: maxAgeMs || null };
}

/**
 * What a stream has to be told, for its options to be those of `after`.
 * @param {Settings} before
 * @param {Settings} after
 * @param {string} ownModel the service's, by name
 * @returns {import("./timeconv.js").OptionChanges}
 */
export function changesOf(before, after, ownModel) {
  const then = { model: ownModel, ...optionsOf(before) };
  const now = { model: ownModel, ...optionsOf(after) };
  const differ = Object.entries(now).filter(([name, value]) => value !== /** @type {any} */ (then)[name]);
  return Object.fromEntries(differ);
}

/** Whether the face alone can be sent. @param {Settings} settings */
export function sendsFaceOnly({ faceOnly, faces }) {
  return faceOnly && faces === 1;
}

/** The form that the settings are set in. */
export class SettingsForm {
  #form;

  /**
   * @param {HTMLFormElement} form its fields are named as the settings
   * @param {(settings: Settings) => void} changed
   */
  constructor(form, changed) {
    this.#form = form;
    form.addEventListener("change", () => changed(this.read()));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      changed({ ...DEFAULTS });
    });
  }

  /** @returns {Settings} */
  read() {
    const given = Object.entries(DEFAULTS).map(([name, standard]) => [name, this.#value(name, typeof standard)]);
    return checked(Object.fromEntries(given));
  }

  /** @param {Settings} settings */
  show(settings) {
    for (const [name, value] of Object.entries(settings)) {
      const field = this.#field(name);
      if (field instanceof HTMLInputElement && field.type === "checkbox") field.checked = Boolean(value);
      else field.value = String(value);
      // The list of networks may not have come yet.
      if (field instanceof HTMLSelectElement && field.selectedIndex < 0) field.add(new Option(String(value), String(value), true, true));
    }
    const faceOnly = this.#field("faceOnly");
    faceOnly.disabled = settings.faces > 1;
  }

  /**
   * @param {any[]} models of `v1/models`
   * @param {string} chosen
   */
  offerModels(models, chosen) {
    const field = /** @type {HTMLSelectElement} */ (this.#field("model"));
    const named = models.map(({ name, for_people: forPeople }) => new Option(forPeople ? name : `${name} (drawn faces only: never sure)`, name));
    const own = field.options[0];
    field.replaceChildren(own, ...new Map(named.map((option) => [option.value, option])).values());
    // One that was kept and is gone is the service's own.
    field.value = chosen;
    if (field.selectedIndex < 0) field.value = "";
  }

  /**
   * @param {string} name
   * @param {string} type
   */
  #value(name, type) {
    const field = this.#field(name);
    if (field instanceof HTMLInputElement && field.type === "checkbox") return field.checked;
    return type === "number" ? Number(field.value) : field.value;
  }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement | HTMLSelectElement} */ (this.#form.elements.namedItem(name));
  }
}
