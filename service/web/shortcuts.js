/** Keys that work wherever nothing is typed. docs/page.md has the same table. */

/** @typedef {"toggle" | "word" | "next" | "largest" | "part" | "help"} Action */

/** @type {{key: string, action: Action, does: string}[]} */
export const SHORTCUTS = [
  { key: "s", action: "toggle", does: "Start or stop" },
  { key: "w", action: "word", does: "One word, and back; Escape goes back too" },
  { key: "n", action: "next", does: "Read the next face" },
  { key: "l", action: "largest", does: "Read the largest face" },
  { key: "p", action: "part", does: "Choose a part of the picture (screen, video file)" },
  { key: "?", action: "help", does: "Show these keys" },
];

/** Where letters mean something else. */
const TYPED = "input:not([type=radio], [type=checkbox], [type=range], [type=file]), select, textarea, [contenteditable]";

/**
 * @param {Record<Action, () => void>} actions
 * @param {() => boolean} isOn
 */
export function listen(actions, isOn) {
  addEventListener("keydown", (event) => {
    const typed = event.target instanceof Element && event.target.closest(TYPED);
    if (typed || event.defaultPrevented || event.repeat || event.ctrlKey || event.altKey || event.metaKey || !isOn()) return;
    const shortcut = SHORTCUTS.find(({ key }) => key === event.key.toLowerCase());
    if (!shortcut) return;
    event.preventDefault();
    actions[shortcut.action]();
  });
}

/** The table of keys, into a list of the page. @param {HTMLElement} list */
export function describe(list) {
  for (const { key, does } of SHORTCUTS) {
    const row = document.createElement("div");
    const [term, words] = [document.createElement("dt"), document.createElement("dd")];
    const cap = document.createElement("kbd");
    cap.textContent = key.toUpperCase();
    term.append(cap);
    words.textContent = does;
    row.append(term, words);
    list.append(row);
  }
}
