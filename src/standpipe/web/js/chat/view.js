// The whole chat page as one template of its state. Small functions, one per part; nothing here changes anything.

import { guard } from '../../vendor/lit-html/directives/guard.js';
import { repeat } from '../../vendor/lit-html/directives/repeat.js';
import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { t } from '../page/language.js';
import { fullness, sees } from './conversation.js';
import { list, pick } from './list.js';
import { isHere } from './store.js';
import { path } from './tree.js';

const DRAWN = 100; // messages of a long conversation, the last ones, until the reader wants all

/**
 * `page` is what hardly changes: {name, welcome, logo, narrow, voice, whole}, and what is fetched later and until then is
 * null: {message, panel, menus}.
 */
export function view(state, act, page) {
  return html`
    ${list(state, act, page)}
    <div class="stage">
      ${bar(state, act, page)} ${kept(state, act)} ${shared(state, act, page)}
      <main class="talk" id="talk" tabindex="-1" @scroll=${act.scrolled}>${conversation(state, act, page)}</main>
      ${composer(state, act, page)}
    </div>
    ${page.panel?.(state, act) ?? nothing}`;
}

const KEEPING = {
  memory: () => t('This browser does not save conversations for this site, for example in a private window. They are gone when you close this tab.'),
  full: () => t('The browser’s storage is full, so your latest messages are not saved. Export them, or delete old conversations.'),
  failed: () => t('The browser could not save your latest messages. Export them, so that they are not lost.'),
};

/** Says, as long as it is so, that conversations are not kept. */
function kept({ keeping, list: talks }, act) {
  if (keeping === 'kept') return nothing;
  return html`<div class="strip" role="alert" data-bad>
    <p>${KEEPING[keeping]()}</p>
    <button type="button" class="quiet small" ?disabled=${!talks.length} @click=${act.exportAll}>${t('Export conversations')}</button>
  </div>`;
}

/** Says, as long as it is so, that somebody else wrote this conversation, and shows what it tells the model. */
function shared({ talk }, act, page) {
  if (!talk.shared) return nothing;
  return html`<div class="strip">
    <p>${t('This conversation came from a link. {0} has not checked it, and anyone can write such a link.', page.name)}</p>
    ${talk.system.trim() ? html`<details open><summary>${t('System prompt from the link')}</summary><p class="quoted" dir="auto">${talk.system}</p></details>` : nothing}
  </div>`;
}

function bar(state, act, page) {
  const { tap } = state;
  const up = tap?.status === 'ok';
  const said = state.talk.title !== '';
  const button = (name, label, open, on) => html`<button type="button" class="tool wide" aria-label=${label} title=${label} aria-pressed=${on} @click=${open}>${icon(name)}<span>${label}</span></button>`;
  return html`<header class="bar">
    <button type="button" class="tool" aria-label=${t('Conversations')} title="${t('Conversations')} (Ctrl+B)" @click=${act.fold}>${icon('menu')}</button>
    <p class="live">
      <span class="dot" ?data-up=${up} ?data-down=${tap && !up}></span>
      ${model(state, act)}
      ${tap?.queue?.waiting ? html`<span class="line">${t('{0} queued', tap.queue.waiting)}</span>` : nothing}
      ${tap && !up ? html`<span class="line">${t('no engine available')}</span>` : nothing}
    </p>
    <div class="bar-tools">
      ${said ? html`<button type="button" class="tool wide" title=${t('Share or save')} aria-haspopup="menu" aria-label=${t('Share')} @click=${(event) => act.menu('share', null, event)}>${icon('share')}<span>${t('Share')}</span></button>` : nothing}
      ${button('code', 'API', () => act.panel('api'), state.panel === 'api')}
      ${button('sliders', t('Settings'), () => act.panel('settings'), state.panel === 'settings')}
      <button type="button" class="tool theme" data-theme-toggle aria-label=${t('Dark mode')} title=${t('Dark mode')}></button>
    </div>
    ${page.menus?.(state, act) ?? nothing}
  </header>`;
}

/** The model's name, or where there are several, the choice; '' is whatever the server prefers. */
function model({ tap, models, talk }, act) {
  const chosen = talk.parameters.model ?? '';
  if (!tap) return html`<span class="model">${t('Connecting…')}</span>`;
  if (models.length < 2 && !chosen) return html`<span class="model">${tap.model}</span>`;
  const others = models.filter((name) => name !== tap.model);
  const gone = chosen && chosen !== tap.model && !models.includes(chosen);
  return html`<select class="model" aria-label=${t('Model')} @change=${(event) => act.parameter('model', event.target.value)}>
    <option value="" .selected=${!chosen || chosen === tap.model}>${tap.model}</option>
    ${others.map((name) => html`<option value=${name} .selected=${name === chosen}>${name}</option>`)}
    ${gone ? html`<option value=${chosen} .selected=${true}>${t('{0} (not available)', chosen)}</option>` : nothing}
  </select>`;
}

function conversation(state, act, page) {
  const nodes = path(state.talk.tree);
  if (!nodes.length) return welcome(act, page);
  if (!page.message) return html`<div class="messages"><h1 class="hidden">${state.talk.title}</h1></div>`;
  const drawn = page.whole ? nodes : nodes.slice(-DRAWN);
  const from = nodes.findIndex(({ id }) => id === state.talk.from);
  const here = isHere(state);
  const context = { state, act, here };
  const one = (node) => {
    const live = node.id === state.running || state.editing?.id === node.id;
    const first = from > 0 && node.id === state.talk.from;
    const seen = [node, live ? state.now : 0, state.editing?.id === node.id, here, first, state.talk.tree.children[node.parent], document.documentElement.lang];
    return guard(seen, () => html`${first ? cut(act) : nothing}${page.message(node, context)}`);
  };
  const earlier = nodes.length - drawn.length;
  return html`<div class="messages">
    <h1 class="hidden">${state.talk.title || t('Conversation')}</h1>
    ${earlier ? html`<button type="button" class="quiet earlier" @click=${act.showAll}>${earlier === 1 ? t('Show 1 earlier message') : t('Show {0} earlier messages', earlier)}</button>` : nothing}
    ${repeat(drawn, (node) => node.id, one)}
  </div>`;
}

function cut(act) {
  return html`<p class="cut"><span>${t('Messages above are no longer sent to the model.')}</span> <button type="button" class="link" @click=${act.lengthen}>${t('Send them again')}</button></p>`;
}

const IDEAS = () => [
  [t('Explain'), t('Explain how a standpipe works, in words a child would understand.'), 0.7],
  [t('Write code'), t('Write a Python function that tells whether a number is prime, with a short explanation.'), 0.2],
  [t('Compare'), t('Compare tea and coffee in a table: origin, caffeine, taste.'), 0.3],
  [t('Imagine'), t('Tell me a very short story about a lighthouse that is afraid of the dark.'), 1.2],
];

function welcome(act, page) {
  return html`<div class="welcome">
    ${page.logo()}
    <h1 dir="auto">${t(page.welcome)}</h1>
    <ul class="ideas">
      ${IDEAS().map(([name, text, temperature]) => html`<li><button type="button" @click=${() => act.suggest(text, temperature)}><strong>${name}</strong><span>${text}</span></button></li>`)}
    </ul>
    <p class="hint">${t('Answers can be wrong. Conversations are stored only in this browser.')}</p>
  </div>`;
}

function composer(state, act, page) {
  const running = isHere(state);
  const nothingSaid = !state.draft.trim() && !state.attached.length;
  const attach = sees(state.talk, state.tap) ? t('Attach images or text files') : t('Attach a text file');
  return html`<footer class="dock" @dragover=${(event) => event.preventDefault()} @drop=${act.dropped}>
    ${toast(state, act)}
    <button type="button" class="tool jump" ?hidden=${state.stuck !== false} aria-label=${t('Scroll to the end')} title=${t('Scroll to the end')} @click=${act.toEnd}>${icon('down')}</button>
    ${state.attached.length ? html`<ul class="attached" aria-label=${t('Attached')}>${state.attached.map((one, index) => chip(one, index, act))}</ul>` : nothing}
    <form class="composer" @submit=${act.submit}>
      <button type="button" class="tool" aria-label=${attach} title=${attach} @click=${pick}>${icon('clip')}</button>
      <input type="file" hidden multiple @change=${({ target }) => void act.attachFiles([...target.files]).then(() => (target.value = ''))}>
      <label class="hidden" for="draft">${t('Your message')}</label>
      <textarea id="draft" rows="1" placeholder=${t('Ask anything')} dir="auto" autocomplete="off" .value=${state.draft} @input=${act.typed} @paste=${act.pasted}></textarea>
      ${page.voice ? html`<button type="button" class="tool" aria-pressed=${state.listening === true} aria-label=${t('Dictate')} title=${t('Dictate (your browser may send the sound to its maker)')} @click=${act.dictate}>${icon('voice')}</button>` : nothing}
      ${running
        ? html`<button type="button" class="primary round stop" aria-label=${t('Stop')} title="${t('Stop')} (Esc)" @click=${act.stop}>${icon('stop')}</button>`
        : html`<button class="primary round" aria-label=${t('Send')} title="${t('Send')} (Enter)" ?disabled=${nothingSaid}>${icon('send')}</button>`}
    </form>
    <p class="under">${pace(state.tap)}${full(state)}<button type="button" class="link" @click=${() => act.dialog('keys')}>${t('Shortcuts')}</button></p>
  </footer>`;
}

function chip({ name, text, image }, index, act) {
  return html`<li>${image ? html`<standpipe-picture .source=${image}></standpipe-picture>` : nothing}<span dir="auto">${name}</span>${image ? nothing : html`<small>${t('{0}k characters', Math.ceil(text.length / 1000))}</small>`}
    <button type="button" class="tool" aria-label=${t('Remove {0}', name)} title=${t('Remove')} @click=${() => act.detach(index)}>${icon('close')}</button></li>`;
}

/** How full the model's context is, once that is worth knowing. */
function full({ talk, tap }) {
  const part = fullness(path(talk.tree), tap?.limits?.context_tokens);
  if (part === null || part < 0.5) return nothing;
  return html`<span ?data-bad=${part > 0.85}>${t('Context {0}% full', Math.round(part * 100))}</span>`;
}

function pace(tap) {
  const interval = tap?.rate_limit?.interval_seconds;
  if (!interval) return nothing;
  return html`<span>${t('One message every {0} s', interval)}<span class="more">${t('; faster ones are delayed')}</span></span>`;
}

function toast({ notice }, act) {
  if (!notice) return nothing;
  return html`<div class="toast" ?data-bad=${notice.bad}>
    <span>${notice.text}</span>
    ${notice.action ? html`<button type="button" class="quiet small" @click=${notice.action.act}>${notice.action.label}</button>` : nothing}
    <button type="button" class="tool" aria-label=${t('Dismiss')} @click=${() => act.show({ notice: null })}>${icon('close')}</button>
  </div>`;
}
