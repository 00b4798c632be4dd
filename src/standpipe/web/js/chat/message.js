// One message of a conversation: what was said, how it went, and what can be done with it. (node, context) to a template.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { t } from '../page/language.js';
import { count, decimal, seconds } from '../page/words.js';
import './picture.js';
import { figures, remaining } from './run.js';
import { pathTo, place } from './tree.js';

const LONG = 1500; // characters of a message of the reader's from which on it is folded

/** `context` is {state, act, here}: the page's state, what can be done, and whether an answer of this page is under way. */
export function message(node, context) {
  return node.role === 'user' ? mine(node, context) : answer(node, context);
}

function mine(node, { state, act, here }) {
  if (state.editing?.id === node.id) return editor(state.editing, act, 'mine', t('Send'));
  return html`<article class="message mine" aria-label=${t('You')}>
    ${node.text.length > LONG ? folded(node.text) : node.text ? html`<div class="bubble" dir="auto">${node.text}</div>` : nothing}
    ${(node.attached ?? []).map(quoted)}
    ${tools(node, state, act, here, html`${tool('edit', t('Edit'), () => act.edit(node))}${copy(node, act)}`)}
  </article>`;
}

function folded(text) {
  return html`<details class="bubble folded" dir="auto">
    <summary><span class="begin">${text.slice(0, 400)}…</span><span class="more">${t('Show all {0} characters', count(text.length))}</span><span class="less">${t('Show less')}</span></summary>${text}</details>`;
}

function quoted({ name, text, image }) {
  if (image) return html`<standpipe-picture .source=${image} .name=${name}></standpipe-picture>`;
  return html`<details class="quoted-file"><summary dir="auto">${name} <small>${t('{0} characters', count(text.length))}</small></summary><pre tabindex="0" dir="auto">${text}</pre></details>`;
}

/** The field in which a message is changed; `done` names what happens with it then. */
function editor(editing, act, whose, done) {
  const keys = (event) => {
    if (event.key === 'Escape') act.cancelEdit();
    else if (event.key === 'Enter' && whose === 'mine' && !event.shiftKey && !event.isComposing && event.keyCode !== 229 && !matchMedia('(pointer: coarse)').matches) {
      event.preventDefault();
      act.finishEdit(event.target.value);
    }
  };
  return html`<form class="message ${whose} editing" @submit=${(event) => act.finishEdit(event.target.elements.text.value, event)}>
    <label class="hidden" for="edited">${whose === 'mine' ? t('Edit your message') : t('Edit the answer')}</label>
    <textarea id="edited" name="text" rows="3" dir="auto" .value=${editing.text} @keydown=${keys}></textarea>
    <div class="row end">
      <button type="button" class="quiet" @click=${act.cancelEdit}>${t('Cancel')}</button>
      <button class="primary">${done}</button>
    </div>
  </form>`;
}

function answer(node, context) {
  const { state, act, here } = context;
  const busy = node.state === 'waiting' || node.state === 'answering';
  if (state.editing?.id === node.id) return editor(state.editing, act, 'answer', t('Save as a version'));
  const buttons = html`
    ${node.text ? html`${copy(node, act)}${tool('edit', t('Edit'), () => act.edit(node))}` : nothing}
    ${tool('again', t('Regenerate'), () => act.regenerate(node))}
    ${cut(node) ? tool('go', t('Continue'), () => act.goOn(node)) : nothing}
    ${tool('more', t('More'), (event) => act.menu('answer', node.id, event))}`;
  return html`<article class="message answer" aria-label=${t('Answer')} aria-busy=${busy}>
    ${node.reasoning ? thinking(node) : nothing}
    ${node.text || !busy ? html`<standpipe-prose .source=${[node.text, !busy]}></standpipe-prose>` : nothing}
    ${node.state === 'waiting' ? waiting(node, state.now) : nothing}
    ${node.error ? trouble(node, state, act, here) : nothing}
    ${node.state === 'stopped' ? html`<p class="note">${t('Stopped.')}</p>` : nothing}
    ${node.facts.finish === 'length' ? html`<p class="note">${t('The answer hit the length limit.')}</p>` : nothing}
    ${node.edited ? html`<p class="note">${t('Edited by you.')}</p>` : nothing}
    ${busy ? live(node) : tools(node, state, act, here, buttons, facts(node))}
  </article>`;
}

/** Whether an answer ended before its end, and something of it came. */
function cut({ text, state, facts: { finish } }) {
  return text !== '' && (['stopped', 'failed', 'refused'].includes(state) || finish === 'length');
}

/** How fast an answer comes, while it does. */
function live(node) {
  const { tokens, rate } = figures(node);
  return rate ? html`<p class="facts">${t('{0} tokens', count(tokens))} · ${t('{0} tokens/s', decimal(rate))}</p>` : nothing;
}

/** Opens by itself while the model only thinks, and folds when it speaks; whoever opens it again keeps it open. */
function thinking(node) {
  const open = node.state === 'answering' && node.text === '';
  const { first, spoke, last } = node.facts;
  const spent = first === undefined ? null : (spoke ?? last) - first;
  const label = open ? t('Thinking…') : spent >= 1000 ? t('Thought for {0}', seconds(spent)) : t('Reasoning');
  return html`<details class="thinking" ?open=${open}>
    <summary>${label}</summary>
    <standpipe-prose .source=${[node.reasoning, !open]}></standpipe-prose>
  </details>`;
}

function waiting({ queue, facts }, now) {
  const left = remaining(queue, now);
  const since = now - facts.asked;
  const place =
    queue?.position != null
      ? html`<strong>${t('Position {0} in the queue', queue.position)}</strong>${left === null ? nothing : html`<span>${t(', about {0}', seconds(Math.max(1000, left)))}</span>`}`
      : html`<span>${since < 1500 ? t('Sending…') : t('Waiting for the first word…')}</span>`;
  return html`<p class="waiting"><span class="drop" aria-hidden="true"></span><span>${place}</span></p>`;
}

const TOO_LONG = ['context_length_exceeded', 'too_large'];

function trouble(node, state, act, here) {
  const { message: text, retryAt, code } = node.error;
  const shorter = TOO_LONG.includes(code) && pathTo(state.talk.tree, node.parent).length > 1;
  const counting = retryAt != null && state.running === node.id;
  return html`<div class="trouble">
    <p>${code === 'context_length_exceeded' ? html`${t('This conversation has become too long for the model.')} <small>${text}</small>` : t(text)}</p>
    <div class="row">
      ${counting
        ? html`<span class="countdown">${t('Retrying in {0}', seconds(Math.max(0, retryAt - state.now)))}</span>
            <button type="button" class="quiet" @click=${act.retryNow}>${t('Retry now')}</button>
            <button type="button" class="quiet" @click=${act.stop}>${t('Cancel')}</button>`
        : html`${shorter ? html`<button type="button" class="primary" ?disabled=${here} @click=${() => act.shorten(node)}>${t('Continue without the oldest messages')}</button>` : nothing}
            <button type="button" class="quiet" ?disabled=${here} @click=${() => act.regenerate(node)}>${t('Try again')}</button>`}
    </div>
  </div>`;
}

function facts(node) {
  const { first, tokens, rate, waited, total } = figures(node);
  const parts = [
    tokens === 1 ? t('1 token') : tokens ? t('{0} tokens', count(tokens)) : '',
    rate ? t('{0} tokens/s', decimal(rate)) : '',
    first === null ? '' : t('first token after {0}', seconds(first)),
    waited >= 0.1 ? t('queued {0}', seconds(waited * 1000)) : '',
    total === null ? '' : t('{0} total', seconds(total)),
    node.changes?.temperature === undefined ? '' : t('temperature {0}', decimal(node.changes.temperature)),
  ];
  return html`<span class="facts">${parts.filter(Boolean).join(' · ')}</span>
    ${node.model ? html`<span class="facts model">${node.model}</span>` : nothing}`;
}

function tools(node, state, act, here, buttons, more = nothing) {
  const { index, count: among } = place(state.talk.tree, node.id);
  return html`<div class="tools" ?inert=${here}>
    ${among > 1 ? branches(node, index, among, act) : nothing}
    ${buttons} ${tool('bin', t('Delete this and everything below'), () => act.remove(node))} ${more}
  </div>`;
}

function branches(node, index, among, act) {
  return html`<span class="branches">
    ${tool('left', t('Previous version'), () => act.step(node, -1), index === 0)}
    <span aria-label=${t('Version {0} of {1}', index + 1, among)}>${index + 1}/${among}</span>
    ${tool('right', t('Next version'), () => act.step(node, 1), index === among - 1)}
  </span>`;
}

function copy(node, act) {
  return tool('copy', t('Copy'), (event) => act.copy(node.text, event.currentTarget));
}

function tool(name, label, act, disabled = false) {
  return html`<button type="button" class="tool" title=${label} aria-label=${label} ?disabled=${disabled} @click=${act}>
    ${icon(name)}
  </button>`;
}
