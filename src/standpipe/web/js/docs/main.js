// The documentation, made lively: tabs, copies, runs, the state of the server, and where the reader is.

import { api, copyButtons, watch } from '../page/live.js';
import { tabs } from './samples.js';

const narrow = matchMedia('(max-width: 62rem)');

/** Commands that work when pasted: with the address under which this page was really reached. */
function address() {
  const told = document.body.dataset.address;
  const here = api('.').replace(/\/$/, '');
  if (told === here) return;
  const walk = document.createTreeWalker(document.getElementById('content'), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (node.data.includes(told)) node.data = node.data.replaceAll(told, here);
  }
}

function state(tap) {
  const place = document.getElementById('state');
  if (!place) return;
  const up = tap?.status === 'ok';
  const dot = place.querySelector('.dot');
  dot.toggleAttribute('data-up', up);
  dot.toggleAttribute('data-down', !up);
  place.querySelector('[data-model]').textContent = tap ? tap.model : 'server not reachable';
  const { waiting, running } = tap?.queue ?? {};
  const line = waiting ? `${waiting} queued` : running ? 'no queue' : 'idle';
  place.querySelector('[data-line]').textContent = up ? line : 'no engine available';
}

function contents() {
  const list = document.querySelector('.contents');
  if (!list) return;
  const fit = () => list.toggleAttribute('open', !narrow.matches);
  narrow.addEventListener('change', fit);
  fit();
  list.dataset.live = '';
  list.addEventListener('click', (event) => {
    if (narrow.matches && event.target.closest('a')) list.removeAttribute('open');
  });
  const links = new Map([...list.querySelectorAll('a')].map((link) => [link.hash.slice(1), link]));
  const headings = [...document.querySelectorAll('main h2[id]')];
  const mark = () => {
    const here = headings.findLast((heading) => heading.getBoundingClientRect().top < 140) ?? headings[0];
    for (const [id, link] of links) link.toggleAttribute('aria-current', id === here?.id);
  };
  addEventListener('scroll', () => requestAnimationFrame(mark), { passive: true });
  mark();
}

document.documentElement.dataset.started = '';
address();
tabs(document.querySelectorAll('.samples'));
copyButtons();
contents();
if (document.getElementById('state')) watch('api', 10_000, state);
