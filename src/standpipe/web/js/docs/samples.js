// Samples as tabs: one choice of language for the whole page, remembered; and a button that runs one for real.

import { ask, Refused } from '../api/ask.js';
import { announce, copy, recall, remember } from '../page/live.js';
import { count, decimal, seconds } from '../page/words.js';

const KEPT = 'standpipe.language';
const INSTEAD = { openai: 'requests', ollama: 'requests', anthropic: 'requests', responses: 'requests', stream: 'fetch', fetch: 'stream' };

/** Turns every group of samples into tabs. Without this they stand one below the other. */
export function tabs(groups) {
  const shown = [...groups].map((group, index) => tabbed(group, index, choose));
  function choose(name) {
    remember('localStorage', KEPT, name);
    for (const show of shown) show(name);
  }
  const kept = recall('localStorage', KEPT);
  for (const show of shown) show(kept ?? 'curl');
}

function tabbed(group, index, choose) {
  const panels = [...group.querySelectorAll('[data-sample]')];
  const list = element('div', { role: 'tablist', 'aria-label': 'Language', class: 'tab-list' });
  const buttons = panels.map((panel, place) => {
    const name = panel.dataset.sample;
    const button = element('button', { type: 'button', role: 'tab', id: `tab-${index}-${name}`, 'aria-controls': `sample-${index}-${name}` });
    button.textContent = panel.querySelector('.code-bar span').textContent;
    button.addEventListener('click', () => keepInView(button, () => choose(name)));
    button.addEventListener('keydown', (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const next = buttons[(place + by + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
    Object.assign(panel, { id: `sample-${index}-${name}` });
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', button.id);
    return button;
  });
  list.append(...buttons);
  const bar = element('div', { class: 'tab-bar' });
  bar.append(list, tools(group, panels));
  group.prepend(bar);
  group.dataset.tabbed = '';
  return (wanted) => {
    const names = panels.map((panel) => panel.dataset.sample);
    const name = [wanted, INSTEAD[wanted], names[0]].find((one) => names.includes(one));
    for (const [place, panel] of panels.entries()) {
      const on = panel.dataset.sample === name;
      panel.hidden = !on;
      buttons[place].setAttribute('aria-selected', on);
      buttons[place].tabIndex = on ? 0 : -1;
    }
  };
}

/** Other groups above may change their height: what was clicked stays under the pointer. */
function keepInView(node, act) {
  const before = node.getBoundingClientRect().top;
  act();
  const root = document.documentElement;
  root.scrollTo({ top: root.scrollTop + node.getBoundingClientRect().top - before, behavior: 'instant' });
}

function tools(group, panels) {
  const around = element('div', { class: 'tab-tools' });
  if (group.dataset.run) {
    const run = element('button', { type: 'button', class: 'primary small', 'data-run-button': '' });
    run.textContent = 'Run';
    run.addEventListener('click', () => runner(group, run));
    around.append(run);
  }
  const button = element('button', { type: 'button', class: 'quiet small', 'data-copy-shown': '' });
  button.textContent = 'Copy';
  button.addEventListener('click', () => {
    const shown = panels.find((panel) => !panel.hidden);
    void copy(shown.querySelector('code').textContent, button);
  });
  around.append(button);
  return around;
}

let running = null;

/** Asks what the samples of a group ask, and shows the answer below them as it comes. */
async function runner(group, button) {
  if (running) {
    running.abort();
    return;
  }
  const output = group.querySelector('.output') ?? group.appendChild(element('div', { class: 'output' }));
  const text = element('p', { class: 'said' });
  const note = element('p', { class: 'told' });
  output.replaceChildren(text, note);
  running = new AbortController();
  button.textContent = 'Stop';
  note.textContent = 'Sending…';
  announce('Sent.');
  try {
    await ask({ messages: [{ role: 'user', content: group.dataset.run }], stream: true, max_tokens: 200 }, follow(text, note, running.signal));
  } catch (error) {
    if (error.name === 'AbortError') note.textContent = 'Stopped.';
    else note.textContent = error instanceof Refused ? error.message : 'Cannot reach the server.';
  } finally {
    running = null;
    button.textContent = 'Run';
    announce(`${note.textContent} ${text.textContent}`);
  }
}

function follow(text, note, signal) {
  const asked = performance.now();
  let first = 0;
  let pieces = 0;
  const onEvents = (events) => {
    for (const event of events) {
      if (event.type === 'waiting') note.textContent = event.position ? `Position ${event.position} in the queue${event.eta == null ? '' : `, about ${seconds(event.eta * 1000)}`}` : 'Waiting…';
      else if (event.type === 'reasoning' && !text.textContent) note.textContent = 'Thinking…';
      else if (event.type === 'failed') throw new Refused({ message: event.message });
      if (event.type === 'text') text.append(event.text);
      if (event.type === 'text' || event.type === 'reasoning') {
        first ||= performance.now();
        pieces += 1;
      }
    }
    if (events.some((event) => event.type === 'whole')) {
      const rate = (pieces - 1) / Math.max(0.001, (performance.now() - first) / 1000);
      note.textContent = `${count(pieces)} tokens · ${decimal(rate)} tokens/s · first token after ${seconds(first - asked)}`;
    } else if (text.textContent) note.textContent = 'Answering…';
  };
  return { signal, onEvents };
}

function element(name, attributes) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
