// Markdown of a model to HTML text. Pure; the text is hostile, and what comes out of here is sanitised once more.
//
// Raw HTML is shown as the text that it is, but for a few harmless tags without attributes. Images become links, so
// nothing is ever fetched from elsewhere. Formulas become <code class="math">, which `prose` hands to the math library.

import { Marked } from '../../vendor/marked/marked.js';

const HARMLESS = /^<\/?(?:br|sub|sup|kbd|b|i|em|strong|u|s)\s*\/?>$/i;
const LINK = /^(?:https?:\/\/|mailto:)/i;

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function escape(text) {
  return text.replace(/[&<>"']/g, (character) => escapes[character]);
}

/** Formulas: `\[ \]` and `$$ $$` stand alone, `\( \)` and `$ $` are in the text. A price is not a formula. */
const block = /^(?:\\\[([\s\S]+?)\\\]|\$\$([\s\S]+?)\$\$)[ \t]*(?:\n|$)/;
const inline = /^(?:\\\((.+?)\\\)|\\\[([\s\S]+?)\\\]|\$\$([^$]+?)\$\$|\$(?![\s\d])((?:\\.|[^$\\\n])*?[^\s\\])\$(?!\d))/;

const MATH = [
  {
    name: 'formula',
    level: 'block',
    start: (text) => text.match(/(?:^|\n)(?:\\\[|\$\$)/)?.index,
    tokenizer(text) {
      const match = block.exec(text);
      if (match) return { type: 'formula', raw: match[0], text: (match[1] ?? match[2]).trim() };
      return undefined;
    },
    renderer: ({ text }) => `<p><code class="math display">${escape(text)}</code></p>\n`,
  },
  {
    name: 'inlineFormula',
    level: 'inline',
    start: (text) => text.match(/\\\(|\\\[|\$/)?.index,
    tokenizer(text) {
      const match = inline.exec(text);
      if (!match) return undefined;
      const display = match[2] ?? match[3];
      const tex = (display ?? match[1] ?? match[4]).trim();
      return { type: 'inlineFormula', raw: match[0], text: tex, display: display !== undefined };
    },
    renderer: ({ text, display }) => `<code class="math${display ? ' display' : ''}">${escape(text)}</code>`,
  },
];

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html({ text, block: alone }) {
      if (HARMLESS.test(text.trim())) return text;
      return alone ? `<p>${escape(text.trim())}</p>\n` : escape(text);
    },
    code: ({ text, lang }) => {
      const language = /^[\w+#.-]{1,24}/.exec(lang ?? '')?.[0] ?? '';
      return `<pre><code${language && ` class="language-${escape(language)}"`}>${escape(text)}</code></pre>\n`;
    },
    link({ href, title, tokens }) {
      const text = this.parser.parseInline(tokens);
      return LINK.test(href) ? `<a href="${escape(href)}"${title ? ` title="${escape(title)}"` : ''}>${text}</a>` : text;
    },
    image({ href, text }) {
      const shown = escape(text || 'image');
      return LINK.test(href) ? `<a href="${escape(href)}">${shown} (image)</a>` : shown;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});
marked.use({ extensions: MATH });

/** Markdown to top-level tokens. */
export function lex(text) {
  return marked.lexer(text);
}

/** Tokens to HTML text. */
export function html(tokens) {
  return marked.parser(tokens);
}

/**
 * How many of the first tokens will stay as they are, whatever text still comes: all but the last one that is more than
 * empty lines, for that one may go on.
 */
export function settled(tokens) {
  let last = tokens.length - 1;
  while (last >= 0 && tokens[last].type === 'space') last -= 1;
  return Math.max(0, last);
}

/** The text of an unfinished block with its open `**`, `` ` `` and `~~` closed, so that nothing flickers as it comes. */
export function mended(text) {
  if (/^ {0,3}(?:```|~~~|\$\$|\\\[)/.test(text)) return text; // the lexer closes a fence itself
  const line = text.slice(text.lastIndexOf('\n\n') + 1);
  const code = (line.match(/(?<!\\)`/g) ?? []).length;
  if (code % 2) return line.endsWith('`') ? text.slice(0, -1) : `${text}\``;
  const plain = line.replace(/`[^`]*`/g, '');
  let end = text.replace(/(?:\*\*?|~~?|__?)$/, ''); // a marker that has only begun
  const open = plain.slice(0, plain.length - (text.length - end.length));
  for (const marker of ['**', '~~']) {
    if ((open.split(marker).length - 1) % 2) end = `${end.trimEnd()}${marker}`;
  }
  return end.replace(/!?\[([^\]]*)\]\([^)\s]*$/, '$1'); // a link whose address is still coming
}
