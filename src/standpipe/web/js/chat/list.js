// The list of conversations beside the one that is shown. (state, act, page) to a template; changes nothing.

import { repeat } from '../../vendor/lit-html/directives/repeat.js';
import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { t } from '../page/language.js';
import { byAge } from './conversation.js';
import { isHere } from './store.js';

/** The list, its search, and what can be done with all conversations. */
export function list(state, act, page) {
  const found = state.found ? state.list.filter(({ id }) => state.found.includes(id)) : state.list;
  const midnight = new Date(state.now).setHours(0, 0, 0, 0);
  const groups = byAge(found.slice(0, state.listed), midnight);
  const none = state.query ? t('No matches.') : t('Conversations are stored only in this browser. They will be listed here.');
  return html`<aside class="history" aria-label=${t('Conversations')} ?data-open=${state.drawer} ?data-folded=${state.folded} ?inert=${page.narrow() && !state.drawer}>
      <div class="history-head">
        <a class="brand" href="./">${page.logo()}<span>${page.name}</span></a>
        <button type="button" class="tool only-narrow" aria-label=${t('Close the list')} @click=${() => act.show({ drawer: false })}>${icon('close')}</button>
      </div>
      <button type="button" class="new" @click=${act.fresh}>${icon('plus')}<span>${t('New chat')}</span></button>
      <label class="hidden" for="search">${t('Search conversations')}</label>
      <input id="search" type="search" placeholder=${t('Search')} .value=${state.query} dir="auto" @input=${(event) => act.search(event.target.value)}>
      <nav class="talks" aria-label=${t('Conversations')} @scroll=${(event) => more(event.target, found.length, state, act)}>
        ${found.length ? groups.map(([name, talks]) => group(name, talks, state, act)) : html`<p class="hint">${none}</p>`}
      </nav>
      <div class="history-foot">
        <button type="button" class="quiet small" @click=${act.exportAll}>${t('Export')}</button>
        <button type="button" class="quiet small" title=${t('From this page, ChatGPT, Open WebUI or LibreChat')} @click=${pick}>${t('Import')}</button>
        <input type="file" hidden id="import" accept="application/json,.json" @change=${act.import}>
        <button type="button" class="quiet small" ?disabled=${!state.list.length} @click=${() => act.dialog('clear')}>${t('Delete all')}</button>
        <nav class="elsewhere" aria-label=${t('Pages')}><a href="./">${t('Documentation')}</a><a href="status">${t('Status')}</a><a href="privacy">${t('Privacy')}</a></nav>
      </div>
    </aside>
    <div class="veil only-narrow" ?hidden=${!state.drawer} @click=${() => act.show({ drawer: false })}></div>`;
}

/** Draws more of a long list once its end comes near. */
function more({ scrollHeight, scrollTop, clientHeight }, length, { listed }, act) {
  if (listed < length && scrollHeight - scrollTop - clientHeight < 400) act.show({ listed: listed + 100 });
}

/** Opens the file picker that stands behind a button. */
export function pick(event) {
  event.currentTarget.nextElementSibling.click();
}

function group(name, talks, state, act) {
  return html`<section>
    <h2>${name}</h2>
    <ul>
      ${repeat(talks, (talk) => talk.id, (talk) => html`<li ?data-current=${talk.id === state.talk.id}>
        <button type="button" class="open" dir="auto" aria-current=${talk.id === state.talk.id ? 'true' : nothing} @click=${() => act.open(talk.id)}>${talk.title || t('Untitled')}${away(talk, state)}</button>
        <button type="button" class="tool" aria-haspopup="menu" aria-label=${t('More about {0}', talk.title)} title=${t('More')} @click=${(event) => act.menu('talk', talk.id, event)}>${icon('more')}</button>
        <button type="button" class="tool" aria-label=${t('Delete {0}', talk.title)} title=${t('Delete')} @click=${() => act.discard(talk)}>${icon('bin')}</button>
      </li>`)}
    </ul>
  </section>`;
}

/** A dot beside the conversation whose answer comes, or came, while another is shown. */
function away({ id }, state) {
  if (state.away?.id !== id) return nothing;
  const label = state.running && !isHere(state) ? t('Answering') : t('New answer');
  return html` <span class="dot" data-up title=${label}><span class="hidden">${label}</span></span>`;
}
