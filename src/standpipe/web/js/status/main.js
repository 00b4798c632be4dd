// The status page, live: numbers and charts from a stream of events, or by asking where streams are not to be had.

import { api, copyButtons, watch } from '../page/live.js';
import { count, decimal, seconds } from '../page/words.js';
import { bars, ceiling, curve } from './chart.js';

const wait = (value) => seconds(value * 1000);
const FORMS = { count, decimal, seconds: wait };
const CHARTS = [
  { of: 'minute_requests', kind: 'bars', word: count },
  { of: 'minute_tokens', kind: 'curve', word: decimal },
  { of: 'minute_wait', kind: 'curve', word: wait },
  { of: 'minute_queue', kind: 'bars', word: count },
  { of: 'minute_rejected', kind: 'bars', word: count },
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
}

function head(up, word, reason, name) {
  id('dot').toggleAttribute('data-up', up);
  id('dot').toggleAttribute('data-down', !up);
  const headline = `${name ?? document.body.dataset.name} is ${word}`;
  if (id('headline').textContent !== headline) id('headline').textContent = headline;
  id('reason').textContent = reason;
}

function engine({ name, up, busy, slots, reason, draining }) {
  const item = document.createElement('li');
  const dot = document.createElement('span');
  dot.className = 'dot';
  dot.setAttribute(up ? 'data-up' : 'data-down', '');
  const label = document.createElement('span');
  label.textContent = name;
  const load = document.createElement('small');
  const note = reason ? `. ${reason}` : draining ? ', draining' : '';
  load.textContent = (up ? `${busy} of ${slots} slots busy` : 'down') + note;
  item.append(dot, label, load);
  return item;
}

/** One chart: the page has it empty, so that nothing moves when numbers come; only its paths and words change. */
function draw({ of, kind, word }, values) {
  const top = ceiling(values);
  const figure = id(of);
  const [area, line] = figure.querySelectorAll('path');
  if (kind === 'bars') area.setAttribute('d', bars(values, top));
  else {
    const paths = curve(values, top);
    area.setAttribute('d', paths.area);
    line.setAttribute('d', paths.line);
  }
  area.classList.toggle('solid', kind === 'bars');
  figure.querySelector('.top-mark').textContent = word(top);
  const known = values.filter((value) => value !== null);
  const now = known.length ? `peak ${word(Math.max(...known))}` : 'no data yet';
  figure.querySelector('small').textContent = now;
  figure.querySelector('svg').setAttribute('aria-label', `${figure.querySelector('span').textContent} over the last hour: ${now}`);
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
