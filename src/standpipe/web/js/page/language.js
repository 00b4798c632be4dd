// What the page says, in the reader's language. An English sentence is its own name; each other language is one table
// from English in `languages/`, fetched only for those who read it. `{0}` and `{1}` in a sentence are values.

import { numbers } from './words.js';

/** The languages by their codes, each by its own name. */
export const LANGUAGES = {
  en: 'English', ar: 'العربية', de: 'Deutsch', es: 'Español', fr: 'Français', hi: 'हिन्दी', ja: '日本語',
  pt: 'Português', ru: 'Русский', zh: '简体中文',
}; // prettier-ignore

let table = {};

/** A sentence in the reader's language; in English where that has none. */
export function t(sentence, ...values) {
  const text = table[sentence] ?? sentence;
  return values.length ? text.replace(/\{(\d)\}/g, (_, index) => values[index]) : text;
}

/** The first of some codes (`pt-BR`, `zh-Hans`) that is a language of ours; English when none is. */
export function known(codes) {
  return codes.map((code) => code.toLowerCase().split('-', 1)[0]).find((code) => code in LANGUAGES) ?? 'en';
}

/** Speaks a language from now on, and tells browsers and screen readers. Its table may fail to come: then English. */
export async function speak(code) {
  table = code === 'en' ? {} : await import(`./languages/${code}.js`).then((module) => module.default, () => ({}));
  const spoken = Object.keys(table).length ? code : 'en';
  numbers(spoken === 'en' ? undefined : spoken);
  document.documentElement.lang = spoken;
  document.documentElement.dir = spoken === 'ar' ? 'rtl' : 'ltr';
}
