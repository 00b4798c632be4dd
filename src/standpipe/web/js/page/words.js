// Numbers as words, in the reader's own language. Pure.

let whole;
let small;

/** Writes numbers from now on as a language does; undefined: as the browser does. */
export function numbers(language) {
  whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  small = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

numbers(undefined);

export function count(number) {
  return whole.format(number);
}

export function decimal(number) {
  return number !== 0 && number < 100 ? small.format(number) : whole.format(number);
}

/** Milliseconds as seconds or minutes: `0.4 s`, `12 s`, `2 min 5 s`. */
export function seconds(milliseconds) {
  const value = milliseconds / 1000;
  if (value < 0.05) return '0 s';
  if (value < 9.95) return `${small.format(value)} s`;
  const rounded = Math.round(value);
  if (rounded < 60) return `${rounded} s`;
  return `${Math.floor(rounded / 60)} min${rounded % 60 ? ` ${rounded % 60} s` : ''}`;
}
