// Icons as paths on a grid of 24, drawn with one line width. Decoration only: names are in the buttons.

import { html } from '../../vendor/lit-html/lit-html.js';

const PATHS = {
  plus: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v10H9zM5 15V5h10',
  edit: 'M5 19h4L19 9l-4-4L5 15z',
  again: 'M19 12a7 7 0 1 1-2.05-4.95M19 4v4h-4',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  clip: 'M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L12.6 4.6a3 3 0 0 1 4.2 4.2l-7.4 7.4a1.5 1.5 0 0 1-2.1-2.1L14 7.4',
  down: 'M12 5v14M6 13l6 6 6-6',
  sliders: 'M4 8h9M17 8h3M15 6v4M4 16h3M11 16h9M9 14v4',
  code: 'M9 8l-4 4 4 4M15 8l4 4-4 4',
  share: 'M12 15V4M8 8l4-4 4 4M5 13v6h14v-6',
  bin: 'M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12',
  more: 'M5 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0M11 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0M17 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0',
  go: 'M6 5v14M10 5l9 7-9 7z',
  eye: 'M3 12c3-5 6-6.5 9-6.5s6 1.5 9 6.5c-3 5-6 6.5-9 6.5S6 17 3 12zM9.5 12a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0',
  wrap: 'M4 6h16M4 12h13a3 3 0 0 1 0 6h-5M14 15l-3 3 3 3M4 18h3',
  save: 'M12 4v11M8 11l4 4 4-4M5 19h14',
  voice: 'M12 4a2.5 2.5 0 0 0-2.5 2.5v5a2.5 2.5 0 0 0 5 0v-5A2.5 2.5 0 0 0 12 4zM6 11a6 6 0 0 0 12 0M12 17v3',
  keys: 'M4 7h16v10H4zM8 14h8M8 10h.01M12 10h.01M16 10h.01',
};

export function icon(name) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]}></path></svg>`;
}
