// <standpipe-prose>: shows markdown while it grows, without flicker and without trust.
//
// The text is cut into top-level blocks. A block that another one follows is settled: it is rendered once, its code is
// coloured, its formulas are set, and it is never touched again. Only the last block is rendered anew when text comes,
// once per frame at most (whoever sets `text` sees to that). A growing code block only gets more text.

import '../../vendor/dompurify/purify.js';
import { draw, frame } from './code.js';
import { colour } from './colour.js';
import { html, lex, mended, settled } from './markdown.js';

const purify = globalThis.DOMPurify;
const ALLOWED = {
  ALLOWED_TAGS: [
    ...['p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'ul', 'ol', 'li', 'blockquote', 'pre', 'code', 'em'],
    ...['strong', 'del', 's', 'u', 'b', 'i', 'sub', 'sup', 'kbd', 'a', 'table', 'thead', 'tbody', 'tr', 'th', 'td'],
  ],
  ALLOWED_ATTR: ['href', 'title', 'align', 'start', 'class'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ADD_URI_SAFE_ATTR: ['align', 'start'],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const CLASS = /^(?:language-[\w+#.-]+|math|math display|hljs-[\w-]+(?: [\w-]+_)*)$/;

purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.hasAttribute('class') && !CLASS.test(node.className)) node.removeAttribute('class');
  if (node.nodeName === 'A') {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer nofollow');
  }
});

class Prose extends HTMLElement {
  #text = '';
  #done = false;
  #settled = 0; // characters of text that are rendered for good
  #tail = null; // the element that holds the last block
  #type = ''; // the kind of the last block

  /** A source that was given before this class was fetched. */
  connectedCallback() {
    const early = Object.getOwnPropertyDescriptor(this, 'source')?.value;
    if (!early) return;
    delete this.source;
    this.source = early;
  }

  /** [text so far, whether it is whole]. Text only grows; anything else starts anew. */
  set source([text, done]) {
    if (text === this.#text && done === this.#done) return;
    if (!text.startsWith(this.#text) || this.#done) this.#clear();
    this.#text = text;
    this.#done = done;
    this.#render();
  }

  #clear() {
    this.replaceChildren();
    this.#text = '';
    this.#settled = 0;
    this.#tail = null;
    this.#type = '';
  }

  #render() {
    if (!this.#tail) {
      this.#tail = document.createElement('div');
      this.#tail.className = 'tail';
      this.append(this.#tail);
    }
    const tokens = lex(this.#text.slice(this.#settled));
    const count = this.#done ? tokens.length : settled(tokens);
    if (count) {
      this.#settle(tokens.slice(0, count));
      this.#type = '';
    }
    const rest = tokens.slice(count);
    const last = rest.find((token) => token.type !== 'space');
    if (!last) this.#tail.replaceChildren();
    else if (last.type !== 'code') this.#tail.replaceChildren(fragment(lex(mended(last.raw))));
    else if (this.#type !== 'code' || !this.#grow(last)) this.#begin(last);
    this.#type = last?.type ?? '';
  }

  /** Renders blocks for good, in front of the last one. */
  #settle(tokens) {
    this.#settled += tokens.reduce((length, token) => length + token.raw.length, 0);
    const made = fragment(tokens);
    const elements = [...made.children];
    this.#tail.before(made);
    for (const element of elements) finish(element);
  }

  /** Shows a code block that has just begun. */
  #begin(token) {
    this.#tail.replaceChildren(fragment([token]));
    frame(this.#tail.querySelector('pre'), token.lang ?? '', false);
  }

  /** Gives an open code block its new text; false when that is not just more of the same. */
  #grow({ text, lang }) {
    const node = this.#tail.querySelector('code')?.firstChild;
    if (!node || !text.startsWith(node.data)) return false;
    node.appendData(text.slice(node.data.length));
    draw(this.#tail.querySelector('.code'), lang ?? '', false);
    return true;
  }
}

/** Tokens to nodes that cannot do harm. */
function fragment(tokens) {
  const made = purify.sanitize(html(tokens), ALLOWED);
  for (const table of made.querySelectorAll('table')) wrap(table, 'scroll').tabIndex = 0;
  for (const block of made.querySelectorAll('p, h1, h2, h3, h4, h5, h6, li, th, td, blockquote, ul, ol')) block.dir = 'auto';
  return made;
}

/** What is done once a block is whole: its frame, colours, formulas. */
function finish(element) {
  const codes = element.matches('pre') ? [element] : element.querySelectorAll('pre');
  for (const pre of codes) {
    const language = /language-([\w+#.-]+)/.exec(pre.firstChild.className)?.[1] ?? '';
    frame(pre, language, true);
    if (language) void colour(pre.firstChild, language);
  }
  const formulas = element.querySelectorAll('code.math');
  if (formulas.length) void typeset(formulas);
}

function wrap(element, name) {
  const around = document.createElement('div');
  around.className = name;
  element.replaceWith(around);
  around.append(element);
  return around;
}

let math;

async function typeset(formulas) {
  try {
    math ??= import('./math.js');
    const { typeset: set } = await math;
    for (const formula of formulas) set(formula);
  } catch {
    math = undefined; // offline, or a new version of the page: the formula stays readable as it was written
  }
}

customElements.define('standpipe-prose', Prose);
