// One message of a conversation: what was said, how it went, and what can be done with it. (node, context) to a template.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { count, decimal, seconds } from '../page/words.js';
import { figures, remaining } from './run.js';
import { pathTo, place } from './tree.js';

const LONG = 1500; // characters of a message of the reader's from which on it is folded

/** `context` is {state, act, here}: the page's state, what can be done, and whether an answer of this page is under way. */
export function message(node, context) {
  return node.role === 'user' ? mine(node, context) : answer(node, context);
}

function mine(node, { state, act, here }) {
  if (state.editing?.id === node.id) return editor(node, state.editing, act);
  return html`<article class="message mine" aria-label="You">
    ${node.text.length > LONG ? folded(node.text) : node.text ? html`<div class="bubble" dir="auto">${node.text}</div>` : nothing}
    ${(node.attached ?? []).map(quoted)}
    ${tools(node, state, act, here, html`${tool('edit', 'Edit', () => act.edit(node))}${copy(node, act)}`)}
  </article>`;
}

function folded(text) {
  return html`<details class="bubble folded" dir="auto">
    <summary><span class="begin">${text.slice(0, 400)}…</span><span class="more">Show all ${count(text.length)} characters</span><span class="less">Show less</span></summary>${text}</details>`;
}

function quoted({ name, text }) {
  return html`<details class="quoted-file"><summary dir="auto">${name} <small>${count(text.length)} characters</small></summary><pre tabindex="0" dir="auto">${text}</pre></details>`;
}

function editor(node, editing, act) {
  const keys = (event) => {
    if (event.key === 'Escape') act.cancelEdit();
    else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229 && !matchMedia('(pointer: coarse)').matches) {
      event.preventDefault();
      act.finishEdit(event.target.value);
    }
  };
  return html`<form class="message mine editing" @submit=${(event) => act.finishEdit(event.target.elements.text.value, event)}>
    <label class="hidden" for="edited">Edit your message</label>
    <textarea id="edited" name="text" rows="3" dir="auto" .value=${editing.text} @keydown=${keys}></textarea>
    <div class="row end">
      <button type="button" class="quiet" @click=${act.cancelEdit}>Cancel</button>
      <button class="primary">Send</button>
    </div>
  </form>`;
}

function answer(node, context) {
  const { state, act, here } = context;
  const busy = node.state === 'waiting' || node.state === 'answering';
  const again = tool('again', 'Regenerate', () => act.regenerate(node));
  return html`<article class="message answer" aria-label="Answer" aria-busy=${busy}>
    ${node.reasoning ? thinking(node) : nothing}
    ${node.text || !busy ? html`<standpipe-prose .source=${[node.text, !busy]}></standpipe-prose>` : nothing}
    ${node.state === 'waiting' ? waiting(node, state.now) : nothing}
    ${node.error ? trouble(node, state, act, here) : nothing}
    ${node.state === 'stopped' ? html`<p class="note">Stopped.</p>` : nothing}
    ${node.facts.finish === 'length' ? html`<p class="note">The answer hit the length limit.</p>` : nothing}
    ${busy ? nothing : tools(node, state, act, here, html`${node.text ? copy(node, act) : nothing}${again}`, facts(node))}
  </article>`;
}

/** Opens by itself while the model only thinks, and folds when it speaks; whoever opens it again keeps it open. */
function thinking(node) {
  const open = node.state === 'answering' && node.text === '';
  const { first, spoke, last } = node.facts;
  const spent = first === undefined ? null : (spoke ?? last) - first;
  const label = open ? 'Thinking…' : spent >= 1000 ? `Thought for ${seconds(spent)}` : 'Reasoning';
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
      ? html`<strong>Position ${queue.position} in the queue</strong>${left === null ? nothing : html`<span>, about ${seconds(Math.max(1000, left))}</span>`}`
      : html`<span>${since < 1500 ? 'Sending…' : 'Waiting for the first word…'}</span>`;
  return html`<p class="waiting"><span class="drop" aria-hidden="true"></span><span>${place}</span></p>`;
}

const TOO_LONG = ['context_length_exceeded', 'too_large'];

function trouble(node, state, act, here) {
  const { message: text, retryAt, code } = node.error;
  const shorter = TOO_LONG.includes(code) && pathTo(state.talk.tree, node.parent).length > 1;
  const counting = retryAt != null && state.running === node.id;
  return html`<div class="trouble">
    <p>${code === 'context_length_exceeded' ? html`This conversation has become too long for the model. <small>${text}</small>` : text}</p>
    <div class="row">
      ${counting
        ? html`<span class="countdown">Retrying in ${seconds(Math.max(0, retryAt - state.now))}</span>
            <button type="button" class="quiet" @click=${act.retryNow}>Retry now</button>
            <button type="button" class="quiet" @click=${act.stop}>Cancel</button>`
        : html`${shorter ? html`<button type="button" class="primary" ?disabled=${here} @click=${() => act.shorten(node)}>Continue without the oldest messages</button>` : nothing}
            <button type="button" class="quiet" ?disabled=${here} @click=${() => act.regenerate(node)}>Try again</button>`}
    </div>
  </div>`;
}

function facts(node) {
  const { first, tokens, rate, waited, total } = figures(node);
  const parts = [
    tokens ? `${count(tokens)} token${tokens === 1 ? '' : 's'}` : '',
    rate ? `${decimal(rate)} tokens/s` : '',
    first === null ? '' : `first token after ${seconds(first)}`,
    waited >= 0.1 ? `queued ${seconds(waited * 1000)}` : '',
    total === null ? '' : `${seconds(total)} total`,
  ];
  return html`<span class="facts">${parts.filter(Boolean).join(' · ')}</span>
    ${node.model ? html`<span class="facts model">${node.model}</span>` : nothing}`;
}

function tools(node, state, act, here, buttons, more = nothing) {
  const { index, count: among } = place(state.talk.tree, node.id);
  return html`<div class="tools" ?inert=${here}>
    ${among > 1 ? branches(node, index, among, act) : nothing}
    ${buttons} ${tool('bin', 'Delete this and everything below', () => act.remove(node))} ${more}
  </div>`;
}

function branches(node, index, among, act) {
  return html`<span class="branches">
    ${tool('left', 'Previous version', () => act.step(node, -1), index === 0)}
    <span aria-label="Version ${index + 1} of ${among}">${index + 1}/${among}</span>
    ${tool('right', 'Next version', () => act.step(node, 1), index === among - 1)}
  </span>`;
}

function copy(node, act) {
  return tool('copy', 'Copy', (event) => act.copy(node.text, event.currentTarget));
}

function tool(name, label, act, disabled = false) {
  return html`<button type="button" class="tool" title=${label} aria-label=${label} ?disabled=${disabled} @click=${act}>
    ${icon(name)}
  </button>`;
}
