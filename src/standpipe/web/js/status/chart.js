// An hour as a picture: numbers of sixty minutes to the paths of an SVG. Pure.

export const WIDTH = 600;
export const HEIGHT = 120;

/** A round number that is not less than the highest value: 1, 2 or 5 times a power of ten. */
export function ceiling(values) {
  const most = Math.max(...values.map((value) => value ?? 0));
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most * 0.999);
}

/** Bars, one a minute, as one path. A value of 0 or null has none. */
export function bars(values, top) {
  const wide = WIDTH / values.length;
  return values
    .map((value, index) => {
      if (!value) return '';
      const high = Math.max(1.5, (value / top) * HEIGHT);
      const x = round(index * wide + wide * 0.15);
      return `M${x} ${HEIGHT}v${round(-high)}h${round(wide * 0.7)}v${round(high)}z`;
    })
    .join('');
}

/** A line through what is known, with gaps where nothing is, and the area below it: {line, area}. */
export function curve(values, top) {
  const wide = WIDTH / values.length;
  let line = '';
  let area = '';
  let run = [];
  const close = () => {
    if (run.length) {
      const points = run.map(([x, y]) => `${x} ${y}`);
      const path = `M${points.join('L')}${run.length === 1 ? 'h0.01' : ''}`;
      line += path;
      area += `M${run[0][0]} ${HEIGHT}L${points.join('L')}L${run.at(-1)[0]} ${HEIGHT}z`;
    }
    run = [];
  };
  values.forEach((value, index) => {
    if (value === null) close();
    else run.push([round((index + 0.5) * wide), round(HEIGHT - (value / top) * HEIGHT)]);
  });
  close();
  return { line, area };
}

function round(number) {
  return Math.round(number * 10) / 10;
}
