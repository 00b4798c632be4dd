// The panels beside a conversation: its settings (`settings`), and what goes over the wire. (state, act) to a template.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { KINDS, sample } from '../api/samples.js';
import { icon } from '../page/icons.js';
import { t } from '../page/language.js';
import { api } from '../page/live.js';
import { request } from './conversation.js';
import { settings } from './settings.js';
import { path } from './tree.js';

/** The open panel, or nothing. */
export function panel(state, act) {
  if (state.panel === null) return nothing;
  const [name, content] = state.panel === 'settings' ? [t('Settings'), settings(state, act)] : ['API', wire(state, act)];
  return html`<aside class="panel" aria-label=${name}>
    <header class="panel-head">
      <h2>${name}</h2>
      <button type="button" class="tool" aria-label=${t('Close')} title=${t('Close')} @click=${() => act.panel(null)}>${icon('close')}</button>
    </header>
    <div class="panel-body">${content}</div>
  </aside>`;
}

/** What a sample asks: the question that led to the last answer, or with a draft, the next one. */
export function asked(state) {
  const nodes = path(state.talk.tree).filter((node) => node.text !== '');
  const draft = state.draft.trim();
  if (draft) nodes.push({ role: 'user', text: draft });
  else while (nodes.at(-1)?.role === 'assistant') nodes.pop();
  if (!nodes.length) nodes.push({ role: 'user', text: 'Hello!' });
  return request(state.talk, nodes);
}

function wire(state, act) {
  const model = state.talk.parameters.model || (state.tap?.model ?? 'default');
  const where = { address: api('.').replace(/\/$/, ''), model };
  const body = asked(state);
  // Each API has its own way to write images; the samples know OpenAI's.
  const shows = body.messages.some(({ content }) => Array.isArray(content));
  const kinds = shows ? KINDS.filter(({ id }) => !['ollama', 'anthropic', 'responses'].includes(id)) : KINDS;
  const kind = kinds.some(({ id }) => id === state.language) ? state.language : 'curl';
  const code = sample(kind, body, where);
  return html`
    <section class="field">
      <h3 class="name"><label for="copy-as">${t('Copy this conversation as')}</label></h3>
      <div class="row">
        <select id="copy-as" @change=${(event) => act.language(event.target.value)}>
          ${kinds.map(({ id, label }) => html`<option value=${id} ?selected=${id === kind}>${label}</option>`)}
        </select>
        <button type="button" class="primary" @click=${(event) => act.copy(code, event.currentTarget)}>${t('Copy')}</button>
      </div>
      <pre class="plain" id="copy-as-code" tabindex="0" dir="ltr" aria-label=${t('Code')}>${code}</pre>
    </section>
    ${state.raw ? last(state.raw, act) : html`<p class="hint">${t('Your next request and its response will appear here, exactly as sent.')}</p>`}`;
}

function last({ request: sent, status, headers, body }, act) {
  return html`
    <section class="field">
      <h3 class="name">${t('Request')}</h3>
      <pre class="plain" tabindex="0" dir="ltr" aria-label=${t('Request')}><b>POST /api</b>${'\n'}${sent}</pre>
    </section>
    <section class="field">
      <div class="row spread">
        <h3 class="name">${t('Response')}</h3>
        <button type="button" class="quiet small" @click=${(event) => act.copy(body ?? '', event.currentTarget)}>${t('Copy')}</button>
      </div>
      <pre class="plain" tabindex="0" dir="ltr" aria-label=${t('Response')}><b>${status ?? t('no response yet')}</b>${'\n'}${headers ?? ''}${'\n'}${body ?? ''}</pre>
    </section>`;
}
