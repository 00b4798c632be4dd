// The frame around a block of code: its language, and what can be done with it. HTML and SVG can be looked at, in a
// frame of an origin of its own, whose policy lets nothing run and nothing be fetched (`preview`).

import { html, nothing, render } from '../../vendor/lit-html/lit-html.js';
import { download } from '../page/download.js';
import { icon } from '../page/icons.js';
import { t } from '../page/language.js';
import { api } from '../page/live.js';

const ENDINGS = {
  bash: 'sh', c: 'c', cpp: 'cpp', csharp: 'cs', css: 'css', csv: 'csv', diff: 'diff', go: 'go', html: 'html', java: 'java',
  javascript: 'js', js: 'js', json: 'json', kotlin: 'kt', markdown: 'md', md: 'md', php: 'php', python: 'py', py: 'py',
  ruby: 'rb', rust: 'rs', sh: 'sh', shell: 'sh', sql: 'sql', svg: 'svg', swift: 'swift', toml: 'toml', typescript: 'ts',
  ts: 'ts', xml: 'xml', yaml: 'yaml', yml: 'yaml',
}; // prettier-ignore

/** Puts a frame around a block. `whole` says whether nothing more will come. */
export function frame(pre, language, whole) {
  pre.tabIndex = 0; // it may scroll, and keys must reach it
  pre.dir = 'ltr';
  const block = document.createElement('div');
  const bar = document.createElement('div');
  block.className = 'code';
  bar.className = 'code-bar';
  pre.replaceWith(block);
  block.append(bar, pre);
  draw(block, language, whole);
}

/** Draws the bar of a framed block anew: for another language, or when something was switched. */
export function draw(block, language, whole) {
  const text = () => block.querySelector('code').textContent;
  const on = (name) => block.hasAttribute(`data-${name}`);
  const button = (name, label, act, pressed) => html`<button type="button" class="tool" aria-label=${label} title=${label} aria-pressed=${pressed ?? nothing} @click=${act}>${icon(name)}</button>`;
  const toggle = (name) => () => {
    block.toggleAttribute(`data-${name}`);
    draw(block, language, whole);
  };
  const look = () => {
    const shown = block.querySelector('iframe');
    if (shown) shown.remove();
    else block.append(preview(text()));
    toggle('preview')();
  };
  const visible = whole && (/^(?:html|svg)$/i.test(language) || (/^xml$/i.test(language) && text().includes('<svg')));
  const template = html`
    <button type="button" class="fold" aria-expanded=${!on('folded')} title=${on('folded') ? t('Show the code') : t('Hide the code')} @click=${toggle('folded')}><span>${language || 'text'}</span></button>
    ${visible ? button('eye', t('Preview'), look, on('preview')) : nothing}
    ${button('wrap', t('Wrap long lines'), toggle('wrap'), on('wrap'))}
    ${whole ? button('save', t('Download'), () => download(`code.${ENDINGS[language.toLowerCase()] ?? 'txt'}`, text())) : nothing}
    <button type="button" class="quiet small" data-copy>${t('Copy')}</button>`;
  render(template, block.firstElementChild);
}

function preview(text) {
  const shown = document.createElement('iframe');
  shown.title = t('Preview');
  shown.sandbox = 'allow-scripts'; // for the one that takes the text: what is in the text may not run
  shown.src = api('preview');
  shown.addEventListener('load', () => shown.contentWindow.postMessage(text, '*'), { once: true });
  return shown;
}
