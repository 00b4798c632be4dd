// The two panels beside a conversation: its settings, and what goes over the wire. (state, act) to a template.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { KINDS, sample } from '../api/samples.js';
import { icon } from '../page/icons.js';
import { api } from '../page/live.js';
import { count } from '../page/words.js';
import { DEFAULTS, PARAMETERS, request } from './conversation.js';
import { path } from './tree.js';

/** The open panel, or nothing. */
export function panel(state, act) {
  if (state.panel === null) return nothing;
  const [name, content] = state.panel === 'settings' ? ['Settings', settings(state, act)] : ['API', wire(state, act)];
  return html`<aside class="panel" aria-label=${name}>
    <header class="panel-head">
      <h2>${name}</h2>
      <button type="button" class="tool" aria-label="Close" title="Close" @click=${() => act.panel(null)}>${icon('close')}</button>
    </header>
    <div class="panel-body">${content}</div>
  </aside>`;
}

function settings(state, act) {
  const { parameters, system } = state.talk;
  const cap = state.tap?.limits?.max_tokens;
  const own = Object.keys(DEFAULTS).some((name) => parameters[name] !== DEFAULTS[name]);
  return html`
    <label class="field">
      <span class="name">System prompt</span>
      <textarea rows="4" dir="auto" .value=${system} placeholder="None. Example: Answer in one sentence." @input=${(event) => act.system(event.target.value)}></textarea>
    </label>
    ${slider('temperature', 'Temperature', 'Low is focused, high is creative.', parameters, act)}
    ${slider('top_p', 'Top p', 'Sample only from the most likely words that add up to this probability.', parameters, act)}
    <label class="field">
      <span class="name">Max tokens <span class="default">default −1</span></span>
      <input type="number" min="-1" max="1048576" .value=${String(parameters.max_tokens)} @change=${(event) => {
        act.parameter('max_tokens', event.target.value);
        event.target.value = String(act.current('max_tokens'));
      }}>
      <span class="hint">−1 means no limit of your own${cap ? `; this server stops at ${count(cap)}` : ''}.</span>
    </label>
    <label class="field">
      <span class="name">Reasoning effort <span class="default">default: the model’s own</span></span>
      <select @change=${(event) => act.parameter('reasoning_effort', event.target.value)}>
        ${PARAMETERS.reasoning_effort.choices.map((choice) => html`<option value=${choice} ?selected=${parameters.reasoning_effort === choice}>${choice || 'the model’s own'}</option>`)}
      </select>
    </label>
    <label class="field check">
      <input type="checkbox" .checked=${parameters.stream} @change=${(event) => act.parameter('stream', event.target.checked)}>
      <span class="name">Stream <span class="default">default on</span></span>
    </label>
    <button type="button" class="quiet" ?disabled=${!own} @click=${act.defaults}>Reset to defaults</button>`;
}

function slider(name, label, hint, parameters, act) {
  const { low, high, step, value } = PARAMETERS[name];
  const given = (event) => act.parameter(name, event.target.value);
  return html`<div class="field">
    <label class="name" for="parameter-${name}">${label} <span class="default">default ${value}</span></label>
    <div class="row">
      <input type="range" tabindex="-1" aria-hidden="true" min=${low} max=${high} step=${step} .value=${String(parameters[name])} @input=${given}>
      <input type="number" id="parameter-${name}" min=${low} max=${high} step="any" .value=${String(parameters[name])} @change=${given}>
    </div>
    <span class="hint">${hint}</span>
  </div>`;
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
  const where = { address: api('.').replace(/\/$/, ''), model: state.tap?.model ?? 'default' };
  const kind = KINDS.some(({ id }) => id === state.language) ? state.language : 'curl';
  const code = sample(kind, asked(state), where);
  return html`
    <section class="field">
      <h3 class="name"><label for="copy-as">Copy this conversation as</label></h3>
      <div class="row">
        <select id="copy-as" @change=${(event) => act.language(event.target.value)}>
          ${KINDS.map(({ id, label }) => html`<option value=${id} ?selected=${id === kind}>${label}</option>`)}
        </select>
        <button type="button" class="primary" @click=${(event) => act.copy(code, event.currentTarget)}>Copy</button>
      </div>
      <pre class="plain" id="copy-as-code" tabindex="0" aria-label="Code">${code}</pre>
    </section>
    ${state.raw ? last(state.raw, act) : html`<p class="hint">Your next request and its response will appear here, exactly as sent.</p>`}`;
}

function last({ request: sent, status, headers, body }, act) {
  return html`
    <section class="field">
      <h3 class="name">Request</h3>
      <pre class="plain" tabindex="0" aria-label="Request"><b>POST /api</b>${'\n'}${sent}</pre>
    </section>
    <section class="field">
      <div class="row spread">
        <h3 class="name">Response</h3>
        <button type="button" class="quiet small" @click=${(event) => act.copy(body ?? '', event.currentTarget)}>Copy</button>
      </div>
      <pre class="plain" tabindex="0" aria-label="Response"><b>${status ?? 'no response yet'}</b>${'\n'}${headers ?? ''}${'\n'}${body ?? ''}</pre>
    </section>`;
}
