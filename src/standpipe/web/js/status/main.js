// The status page, live: numbers and charts from a stream of events, or by asking where streams are not to be had.

import { api, copyButtons, watch } from '../page/live.js';
import { count, decimal, seconds } from '../page/words.js';
import { bars, ceiling, curve, HEIGHT, WIDTH } from './chart.js';

const wait = (value) => seconds(value * 1000);
const FORMS = { count, decimal, seconds: wait };
const CHARTS = [
  { name: 'Requests per minute', of: 'minute_requests', kind: 'bars', word: count },
  { name: 'Tokens per second', of: 'minute_tokens', kind: 'curve', word: decimal },
  { name: '95th percentile wait', of: 'minute_wait', kind: 'curve', word: wait },
  { name: 'Longest queue', of: 'minute_queue', kind: 'bars', word: count },
  { name: 'Rejected', of: 'minute_rejected', kind: 'bars', word: count },
];

const id = (name) => document.getElementById(name);

function show(told) {
  if (!told) {
    head(false, 'not reachable', 'This page cannot reach the server. It will keep trying.');
    return;
  }
  const up = told.status === 'ok';
  head(up, up ? 'up' : 'down', told.reason ?? `The model is ${told.model}.`, told.name);
  const values = { ...told.hour, ...told.queue };
  for (const { dataset, firstChild } of document.querySelectorAll('[data-value]')) {
    const value = values[dataset.value];
    firstChild.data = value === null ? '-' : FORMS[dataset.form](value);
  }
  id('engines').replaceChildren(...told.engines.map(engine));
  for (const chart of CHARTS) draw(chart, told.hour[chart.of]);
  id('charts').hidden = false;
}

function head(up, word, reason, name) {
  id('dot').toggleAttribute('data-up', up);
  id('dot').toggleAttribute('data-down', !up);
  const headline = `${name ?? document.body.dataset.name} is ${word}`;
  if (id('headline').textContent !== headline) id('headline').textContent = headline;
  id('reason').textContent = reason;
}

function engine({ name, up, busy, slots }) {
  const item = document.createElement('li');
  const dot = document.createElement('span');
  dot.className = 'dot';
  dot.setAttribute(up ? 'data-up' : 'data-down', '');
  const label = document.createElement('span');
  label.textContent = name;
  const load = document.createElement('small');
  load.textContent = up ? `${busy} of ${slots} slots busy` : 'down';
  item.append(dot, label, load);
  return item;
}

const SVG = 'http://www.w3.org/2000/svg';
const figures = new Map();

/** One chart: made once, then only its paths and words change. */
function draw({ name, of, kind, word }, values) {
  const top = ceiling(values);
  const figure = figures.get(of) ?? make(name, of);
  const [area, line] = figure.paths;
  if (kind === 'bars') area.setAttribute('d', bars(values, top));
  else {
    const paths = curve(values, top);
    area.setAttribute('d', paths.area);
    line.setAttribute('d', paths.line);
  }
  area.classList.toggle('solid', kind === 'bars');
  figure.top.textContent = word(top);
  const known = values.filter((value) => value !== null);
  const most = known.length ? Math.max(...known) : null;
  figure.now.textContent = most === null ? 'no data yet' : `peak ${word(most)}`;
  figure.svg.setAttribute('aria-label', `${name} over the last hour: ${figure.now.textContent}`);
}

function make(name, of) {
  const around = document.createElement('figure');
  const caption = document.createElement('figcaption');
  const title = document.createElement('span');
  title.textContent = name;
  const now = document.createElement('small');
  caption.append(title, now);
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const paths = ['area', 'line'].map((kind) => {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', kind);
    path.setAttribute('vector-effect', 'non-scaling-stroke');
    svg.append(path);
    return path;
  });
  const top = document.createElement('span');
  top.className = 'top-mark';
  const times = document.createElement('div');
  times.className = 'times';
  for (const text of ['1 hour ago', 'now']) times.append(Object.assign(document.createElement('span'), { textContent: text }));
  const plot = document.createElement('div');
  plot.className = 'plot';
  plot.append(svg, top);
  around.append(caption, plot, times);
  id('charts').append(around);
  const made = { svg, paths, top, now };
  figures.set(of, made);
  return made;
}

/** Follows the stream while the page is seen; asks every few seconds where the stream is refused or breaks. */
function follow() {
  let source = null;
  let polling = null;
  const open = () => {
    source?.close();
    source = document.hidden ? null : new EventSource(api('api/status/events'));
    if (!source) return;
    source.onmessage = ({ data }) => show(JSON.parse(data));
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && !polling) polling = watch('api/status', 5000, show);
      else if (source.readyState !== EventSource.CLOSED) show(null);
    };
  };
  document.addEventListener('visibilitychange', open);
  open();
}

copyButtons();
follow();
