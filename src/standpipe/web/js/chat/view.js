// The whole chat page as one template of its state. Small functions, one per part; nothing here changes anything.

import { guard } from '../../vendor/lit-html/directives/guard.js';
import { repeat } from '../../vendor/lit-html/directives/repeat.js';
import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { byAge, fullness } from './conversation.js';
import { message } from './message.js';
import { isHere } from './store.js';
import { path } from './tree.js';

const DRAWN = 100; // messages of a long conversation, the last ones, until the reader wants all

/** `page` is what hardly changes: {name, welcome, logo, narrow, panel, whole}. */
export function view(state, act, page) {
  return html`
    ${history(state, act, page)}
    <div class="stage">
      ${bar(state, act)} ${kept(state, act)} ${shared(state, act, page)}
      <main class="talk" id="talk" tabindex="-1" @scroll=${act.scrolled}>${conversation(state, act, page)}</main>
      ${composer(state, act)}
    </div>
    ${page.panel?.(state, act) ?? nothing} ${sheet(state, act)} ${question(state, act)}`;
}

function history(state, act, page) {
  const found = state.found ? state.list.filter(({ id }) => state.found.includes(id)) : state.list;
  const midnight = new Date(state.now).setHours(0, 0, 0, 0);
  return html`<aside class="history" aria-label="Conversations" ?data-open=${state.drawer} ?inert=${page.narrow() && !state.drawer}>
      <div class="history-head">
        <a class="brand" href="./">${page.logo()}<span>${page.name}</span></a>
        <button type="button" class="tool only-narrow" aria-label="Close the list" @click=${() => act.show({ drawer: false })}>${icon('close')}</button>
      </div>
      <button type="button" class="new" @click=${act.fresh}>${icon('plus')}<span>New chat</span></button>
      <label class="hidden" for="search">Search conversations</label>
      <input id="search" type="search" placeholder="Search" .value=${state.query} dir="auto" @input=${(event) => act.search(event.target.value)}>
      <nav class="talks" aria-label="Conversations" @scroll=${(event) => more(event.target, found.length, state, act)}>
        ${found.length ? byAge(found.slice(0, state.listed), midnight).map(([name, talks]) => group(name, talks, state, act)) : html`<p class="hint">${state.query ? 'No matches.' : 'Conversations are stored only in this browser. They will be listed here.'}</p>`}
      </nav>
      <div class="history-foot">
        <button type="button" class="quiet small" @click=${act.exportAll}>Export</button>
        <button type="button" class="quiet small" @click=${pick}>Import</button>
        <input type="file" hidden id="import" accept="application/json,.json" @change=${act.import}>
        <button type="button" class="quiet small" ?disabled=${!state.list.length} @click=${() => act.show({ question: true })}>Delete all</button>
        <nav class="elsewhere" aria-label="Pages"><a href="./">Documentation</a><a href="status">Status</a><a href="privacy">Privacy</a></nav>
      </div>
    </aside>
    <div class="veil only-narrow" ?hidden=${!state.drawer} @click=${() => act.show({ drawer: false })}></div>`;
}

/** Draws more of a long list once its end comes near. */
function more({ scrollHeight, scrollTop, clientHeight }, length, { listed }, act) {
  if (listed < length && scrollHeight - scrollTop - clientHeight < 400) act.show({ listed: listed + 100 });
}

function pick(event) {
  event.currentTarget.nextElementSibling.click();
}

function group(name, talks, state, act) {
  return html`<section>
    <h2>${name}</h2>
    <ul>
      ${repeat(talks, (talk) => talk.id, (talk) => html`<li ?data-current=${talk.id === state.talk.id}>
        <button type="button" class="open" dir="auto" aria-current=${talk.id === state.talk.id ? 'true' : nothing} @click=${() => act.open(talk.id)}>${talk.title || 'Untitled'}${away(talk, state)}</button>
        <button type="button" class="tool" aria-label="Delete ${talk.title}" title="Delete" @click=${() => act.discard(talk)}>${icon('bin')}</button>
      </li>`)}
    </ul>
  </section>`;
}

/** A dot beside the conversation whose answer comes, or came, while another is shown. */
function away({ id }, state) {
  if (state.away?.id !== id) return nothing;
  const label = state.running && !isHere(state) ? 'Answering' : 'New answer';
  return html` <span class="dot" data-up title=${label}><span class="hidden">${label}</span></span>`;
}

const KEEPING = {
  memory: 'This browser does not save conversations for this site, for example in a private window. They are gone when you close this tab.',
  full: 'The browser’s storage is full, so your latest messages are not saved. Export them, or delete old conversations.',
  failed: 'The browser could not save your latest messages. Export them, so that they are not lost.',
};

/** Says, as long as it is so, that conversations are not kept. */
function kept({ keeping, list }, act) {
  if (keeping === 'kept') return nothing;
  return html`<div class="strip" role="alert" data-bad>
    <p>${KEEPING[keeping]}</p>
    <button type="button" class="quiet small" ?disabled=${!list.length} @click=${act.exportAll}>Export conversations</button>
  </div>`;
}

/** Says, as long as it is so, that somebody else wrote this conversation, and shows what it tells the model. */
function shared({ talk }, act, page) {
  if (!talk.shared) return nothing;
  return html`<div class="strip">
    <p>This conversation came from a link. ${page.name} has not checked it, and anyone can write such a link.</p>
    ${talk.system.trim() ? html`<details open><summary>System prompt from the link</summary><p class="quoted" dir="auto">${talk.system}</p></details>` : nothing}
  </div>`;
}

function bar(state, act) {
  const { tap } = state;
  const up = tap?.status === 'ok';
  const said = state.talk.title !== '';
  const button = (name, label, act, on) => html`<button type="button" class="tool wide" aria-label=${label} title=${label} aria-pressed=${on} @click=${act}>${icon(name)}<span>${label}</span></button>`;
  return html`<header class="bar">
    <button type="button" class="tool only-narrow" aria-label="Conversations" @click=${() => act.show({ drawer: true })}>${icon('menu')}</button>
    <p class="live">
      <span class="dot" ?data-up=${up} ?data-down=${tap && !up}></span>
      <span class="model">${tap ? tap.model : 'Connecting…'}</span>
      ${tap?.queue?.waiting ? html`<span class="line">${tap.queue.waiting} queued</span>` : nothing}
      ${tap && !up ? html`<span class="line">no engine available</span>` : nothing}
    </p>
    <div class="bar-tools">
      ${said ? html`<button type="button" class="tool wide" title="Share or save" aria-haspopup="menu" popovertarget="share-menu" aria-label="Share">${icon('share')}<span>Share</span></button>
        <div id="share-menu" class="menu" popover @beforetoggle=${below} @click=${(event) => event.currentTarget.hidePopover()}>
          <button type="button" @click=${act.share}>Copy a link<small>The link contains the whole conversation</small></button>
          <button type="button" @click=${act.exportMarkdown}>Save as Markdown</button>
          <button type="button" @click=${act.exportOne}>Save as JSON</button>
        </div>` : nothing}
      ${button('code', 'API', () => act.panel('api'), state.panel === 'api')}
      ${button('sliders', 'Settings', () => act.panel('settings'), state.panel === 'settings')}
      <button type="button" class="tool theme" data-theme-toggle aria-label="Dark mode" title="Dark mode"></button>
    </div>
  </header>`;
}

/** Puts a menu below its button; menus are on the page's top layer, so their place is in pixels. */
function below({ target, newState }) {
  if (newState !== 'open') return;
  const button = document.querySelector(`[popovertarget=${target.id}]`).getBoundingClientRect();
  target.style.top = `${button.bottom + 4}px`;
  target.style.right = `${Math.max(8, document.documentElement.clientWidth - button.right)}px`;
}

function conversation(state, act, page) {
  const nodes = path(state.talk.tree);
  if (!nodes.length) return welcome(act, page);
  const drawn = page.whole ? nodes : nodes.slice(-DRAWN);
  const from = nodes.findIndex(({ id }) => id === state.talk.from);
  const here = isHere(state);
  const context = { state, act, here };
  const one = (node) => {
    const live = node.id === state.running || state.editing?.id === node.id;
    const first = from > 0 && node.id === state.talk.from;
    const seen = [node, live ? state.now : 0, state.editing?.id === node.id, here, first, state.talk.tree.children[node.parent]];
    return guard(seen, () => html`${first ? cut(act) : nothing}${message(node, context)}`);
  };
  const earlier = nodes.length - drawn.length;
  return html`<div class="messages">
    <h1 class="hidden">${state.talk.title || 'Conversation'}</h1>
    ${earlier ? html`<button type="button" class="quiet earlier" @click=${act.showAll}>Show ${earlier} earlier message${earlier === 1 ? '' : 's'}</button>` : nothing}
    ${repeat(drawn, (node) => node.id, one)}
  </div>`;
}

function cut(act) {
  return html`<p class="cut"><span>Messages above are no longer sent to the model.</span> <button type="button" class="link" @click=${act.lengthen}>Send them again</button></p>`;
}

const IDEAS = [
  ['Explain', 'Explain how a standpipe works, in words a child would understand.', 0.7],
  ['Write code', 'Write a Python function that tells whether a number is prime, with a short explanation.', 0.2],
  ['Compare', 'Compare tea and coffee in a table: origin, caffeine, taste.', 0.3],
  ['Imagine', 'Tell me a very short story about a lighthouse that is afraid of the dark.', 1.2],
];

function welcome(act, page) {
  return html`<div class="welcome">
    ${page.logo()}
    <h1>${page.welcome}</h1>
    <ul class="ideas">
      ${IDEAS.map(([name, text, temperature]) => html`<li><button type="button" @click=${() => act.suggest(text, temperature)}><strong>${name}</strong><span>${text}</span></button></li>`)}
    </ul>
    <p class="hint">Answers can be wrong. Conversations are stored only in this browser.</p>
  </div>`;
}

function composer(state, act) {
  const running = isHere(state);
  const nothingSaid = !state.draft.trim() && !state.attached.length;
  return html`<footer class="dock" @dragover=${(event) => event.preventDefault()} @drop=${act.dropped}>
    ${toast(state, act)}
    <button type="button" class="tool jump" ?hidden=${state.stuck !== false} aria-label="Scroll to the end" title="Scroll to the end" @click=${act.toEnd}>${icon('down')}</button>
    ${state.attached.length ? html`<ul class="attached" aria-label="Attached">${state.attached.map((one, index) => chip(one, index, act))}</ul>` : nothing}
    <form class="composer" @submit=${act.submit}>
      <button type="button" class="tool" aria-label="Attach a text file" title="Attach a text file" @click=${pick}>${icon('clip')}</button>
      <input type="file" hidden multiple @change=${({ target }) => void act.attachFiles([...target.files]).then(() => (target.value = ''))}>
      <label class="hidden" for="draft">Your message</label>
      <textarea id="draft" rows="1" placeholder="Ask anything" dir="auto" autocomplete="off" .value=${state.draft} @input=${act.typed} @paste=${act.pasted}></textarea>
      ${running
        ? html`<button type="button" class="primary round" aria-label="Stop" title="Stop (Esc)" @click=${act.stop}>${icon('stop')}</button>`
        : html`<button class="primary round" aria-label="Send" title="Send (Enter)" ?disabled=${nothingSaid}>${icon('send')}</button>`}
    </form>
    <p class="under">${pace(state.tap)}${full(state)}<button type="button" class="link" @click=${() => act.show({ sheet: true })}>Shortcuts</button></p>
  </footer>`;
}

function chip({ name, text }, index, act) {
  return html`<li><span dir="auto">${name}</span><small>${Math.ceil(text.length / 1000)}k characters</small>
    <button type="button" class="tool" aria-label="Remove ${name}" title="Remove" @click=${() => act.detach(index)}>${icon('close')}</button></li>`;
}

/** How full the model's context is, once that is worth knowing. */
function full({ talk, tap }) {
  const part = fullness(path(talk.tree), tap?.limits?.context_tokens);
  if (part === null || part < 0.5) return nothing;
  return html`<span ?data-bad=${part > 0.85}>Context ${Math.round(part * 100)}% full</span>`;
}

function pace(tap) {
  const interval = tap?.rate_limit?.interval_seconds;
  if (!interval) return nothing;
  return html`<span>One message every ${interval} s<span class="more">; faster ones are delayed</span></span>`;
}

function toast({ notice }, act) {
  if (!notice) return nothing;
  return html`<div class="toast" ?data-bad=${notice.bad}>
    <span>${notice.text}</span>
    ${notice.action ? html`<button type="button" class="quiet small" @click=${notice.action.act}>${notice.action.label}</button>` : nothing}
    <button type="button" class="tool" aria-label="Dismiss" @click=${() => act.show({ notice: null })}>${icon('close')}</button>
  </div>`;
}

const KEYS = [
  ['Enter', 'Send'],
  ['Shift + Enter', 'New line'],
  ['Esc', 'Stop the answer, or close what is open'],
  ['↑', 'Edit your last message (when the box is empty)'],
  ['Ctrl + K', 'Search conversations'],
  ['Ctrl + Shift + O', 'New chat'],
  ['?', 'Show this list'],
];

function sheet(state, act) {
  return html`<dialog class="sheet" id="sheet" aria-labelledby="sheet-name" @close=${() => act.show({ sheet: false })} @click=${outside}>
    <h2 id="sheet-name">Keyboard shortcuts</h2>
    <dl>${KEYS.map(([key, what]) => html`<div><dt>${key.split(' + ').map((part, index) => html`${index ? ' + ' : ''}<kbd>${part}</kbd>`)}</dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog" class="row end"><button class="primary">Close</button></form>
  </dialog>`;
}

function question(state, act) {
  return html`<dialog class="sheet" id="question" aria-labelledby="question-name" @close=${() => act.show({ question: false })} @click=${outside}>
    <h2 id="question-name">Delete all conversations?</h2>
    <p>They are stored only in this browser, so there is no other copy. Export them first if you might need them.</p>
    <form method="dialog" class="row end">
      <button class="quiet">Cancel</button>
      <button class="primary" @click=${act.clear}>Delete all</button>
    </form>
  </dialog>`;
}

function outside(event) {
  if (event.target === event.currentTarget) event.currentTarget.close();
}
