// Errors in the language of the page.

import { say } from "./dom.js";
import { problem } from "./i18n.js";

/** Say at the foot of the page what went wrong. */
export function sayError(error) {
  const { text, lang } = problem(error);
  say(text, "error", lang);
}
