// Numbers as words, in the reader's own language. Pure.

let whole;
let small;
let units; // how a number of seconds or minutes is written

/** Writes numbers from now on as a language does; undefined: as the browser does. */
export function numbers(language) {
  whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  small = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  units = language
    ? (value, unit, digits) => new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'short', minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value)
    : (value, unit, digits) => `${(digits ? small : whole).format(value)} ${unit === 'second' ? 's' : 'min'}`;
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
  if (value < 0.05) return units(0, 'second', 0);
  if (value < 9.95) return units(value, 'second', 1);
  const rounded = Math.round(value);
  if (rounded < 60) return units(rounded, 'second', 0);
  const minutes = units(Math.floor(rounded / 60), 'minute', 0);
  return rounded % 60 ? `${minutes} ${units(rounded % 60, 'second', 0)}` : minutes;
}
