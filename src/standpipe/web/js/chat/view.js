// The whole chat page as one template of its state. Small functions, one per part; nothing here changes anything.

import { guard } from '../../vendor/lit-html/directives/guard.js';
import { repeat } from '../../vendor/lit-html/directives/repeat.js';
import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { byAge, matches } from './conversation.js';
import { message } from './message.js';
import { panel } from './panel.js';
import { path } from './tree.js';

/** `page` is what does not change: {name, welcome, logo, narrow}. */
export function view(state, act, page) {
  return html`
    ${history(state, act, page)}
    <div class="stage">
      ${bar(state, act)}
      <main class="talk" id="talk" @scroll=${act.scrolled}>${conversation(state, act, page)}</main>
      ${composer(state, act)}
    </div>
    ${panel(state, act)} ${toast(state, act)} ${sheet(state, act)} ${question(state, act)}`;
}

function history(state, act, page) {
  const found = state.list.filter((talk) => !state.query || matches(talk, state.query));
  const midnight = new Date(state.now).setHours(0, 0, 0, 0);
  return html`<aside class="history" aria-label="Conversations" ?data-open=${state.drawer} ?inert=${page.narrow() && !state.drawer}>
      <div class="history-head">
        <a class="brand" href="/">${page.logo()}<span>${page.name}</span></a>
        <button type="button" class="tool only-narrow" aria-label="Close the list" @click=${() => act.show({ drawer: false })}>${icon('close')}</button>
      </div>
      <button type="button" class="new" @click=${act.fresh}>${icon('plus')}<span>New chat</span></button>
      <label class="hidden" for="search">Search conversations</label>
      <input id="search" type="search" placeholder="Search" .value=${state.query} @input=${(event) => act.show({ query: event.target.value })}>
      <nav class="talks">
        ${found.length ? byAge(found, midnight).map(([name, talks]) => group(name, talks, state, act)) : html`<p class="hint">${state.query ? 'No matches.' : 'Conversations are stored only in this browser. They will be listed here.'}</p>`}
      </nav>
      <div class="history-foot">
        <button type="button" class="quiet small" @click=${act.exportAll}>Export</button>
        <button type="button" class="quiet small" @click=${pick}>Import</button>
        <input type="file" hidden id="import" accept="application/json,.json" @change=${act.import}>
        <button type="button" class="quiet small" ?disabled=${!state.list.length} @click=${() => act.show({ question: true })}>Delete all</button>
        <nav class="elsewhere" aria-label="Pages"><a href="/">Documentation</a><a href="/status">Status</a><a href="/privacy">Privacy</a></nav>
      </div>
    </aside>
    <div class="veil only-narrow" ?hidden=${!state.drawer} @click=${() => act.show({ drawer: false })}></div>`;
}

function pick(event) {
  event.currentTarget.nextElementSibling.click();
}

function group(name, talks, state, act) {
  return html`<section>
    <h2>${name}</h2>
    <ul>
      ${repeat(talks, (talk) => talk.id, (talk) => html`<li ?data-current=${talk.id === state.talk.id}>
        <button type="button" class="open" aria-current=${talk.id === state.talk.id ? 'true' : nothing} @click=${() => act.open(talk.id)}>${talk.title || 'Untitled'}</button>
        <button type="button" class="tool" aria-label="Delete ${talk.title}" title="Delete" @click=${() => act.discard(talk)}>${icon('bin')}</button>
      </li>`)}
    </ul>
  </section>`;
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
  const context = { state, act };
  const one = (node) => {
    const live = node.id === state.running || state.editing?.id === node.id;
    const seen = [node, live ? state.now : 0, state.editing?.id === node.id, Boolean(state.running), state.talk.tree.children[node.parent]];
    return guard(seen, () => message(node, context));
  };
  return html`<div class="messages">${repeat(nodes, (node) => node.id, one)}</div>`;
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
  const running = Boolean(state.running);
  return html`<footer class="dock">
    <button type="button" class="tool jump" ?hidden=${state.stuck !== false} aria-label="Scroll to the end" title="Scroll to the end" @click=${act.toEnd}>${icon('down')}</button>
    <form class="composer" @submit=${act.submit}>
      <label class="hidden" for="draft">Your message</label>
      <textarea id="draft" rows="1" placeholder="Ask anything" autocomplete="off" enterkeyhint="send" .value=${state.draft} @input=${act.typed}></textarea>
      ${running
        ? html`<button type="button" class="primary round" aria-label="Stop" title="Stop (Esc)" @click=${act.stop}>${icon('stop')}</button>`
        : html`<button class="primary round" aria-label="Send" title="Send (Enter)" ?disabled=${!state.draft.trim()}>${icon('send')}</button>`}
    </form>
    <p class="under">${pace(state.tap)}<button type="button" class="link" @click=${() => act.show({ sheet: true })}>Shortcuts</button></p>
  </footer>`;
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
    ${notice.undo ? html`<button type="button" class="quiet small" @click=${act.undo}>Undo</button>` : nothing}
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
