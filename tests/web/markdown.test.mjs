import assert from 'node:assert/strict';
import { test } from 'node:test';
import { html, lex, mended, settled } from '../../src/standpipe/web/js/text/markdown.js';

const show = (text) => html(lex(text)).trim();

test('raw HTML is shown as text, but for harmless tags', () => {
  assert.equal(show('a <img src=x onerror=alert(1)> b'), '<p>a &lt;img src=x onerror=alert(1)&gt; b</p>');
  assert.equal(show('<script>alert(1)</script>'), '<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>');
  assert.equal(show('H<sub>2</sub>O<br>'), '<p>H<sub>2</sub>O<br></p>');
  assert.equal(show('<b onclick=x>no</b>'), '<p>&lt;b onclick=x&gt;no</b></p>');
});

test('links lead to the web or to a mailbox, and images are links', () => {
  assert.equal(show('[a](javascript:alert(1)) [b](https://e.org/?a=1&b=2)'), '<p>a <a href="https://e.org/?a=1&amp;b=2">b</a></p>');
  assert.equal(show('[a](data:text/html,x) [a](vbscript:x) [a](/x)'), '<p>a a a</p>');
  assert.equal(show('![cat](https://e.org/cat.png)'), '<p><a href="https://e.org/cat.png">cat (image)</a></p>');
  assert.equal(show('![" onerror="x](data:x)'), '<p>&quot; onerror=&quot;x</p>');
});

test('a fence cannot break out of its attribute', () => {
  assert.equal(show('```"><img/onerror=x>\ncode\n```'), '<pre><code>code</code></pre>');
  assert.equal(show('```c++\n<b>\n```'), '<pre><code class="language-c++">&lt;b&gt;</code></pre>');
});

test('formulas are found, and prices are not', () => {
  assert.equal(show('\\(a<b\\) and $x^2$'), '<p><code class="math">a&lt;b</code> and <code class="math">x^2</code></p>');
  assert.equal(show('It costs $5, or $6 for two.'), '<p>It costs $5, or $6 for two.</p>');
  assert.equal(show('\\[\nx\n\\]'), '<p><code class="math display">x</code></p>');
  assert.equal(show('`$x$`'), '<p><code>$x$</code></p>');
});

const TEXT = '# Title\n\nSome **bold** text\nand more.\n\n- one\n- two\n\n  still two\n\n```py\ncode\n\n# more\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n\n1. x\n2. y\n\nEnd.';

test('what is settled stays as it is, whatever comes', () => {
  let done = 0;
  let shown = '';
  for (let length = 1; length <= TEXT.length; length += 1) {
    const tokens = lex(TEXT.slice(done, length));
    const count = settled(tokens);
    shown += html(tokens.slice(0, count));
    done += tokens.slice(0, count).reduce((sum, token) => sum + token.raw.length, 0);
  }
  shown += html(lex(TEXT.slice(done)));
  assert.equal(shown, html(lex(TEXT)));
});

test('the last block is never settled, and all before it are', () => {
  assert.equal(settled(lex('one')), 0);
  assert.equal(settled(lex('one\n\n')), 0);
  assert.ok(settled(lex('one\n\ntwo')) > 0);
});

test('open marks are closed while a text comes', () => {
  const cases = [
    ['**bo', '**bo**'], ['a **b** c *', 'a **b** c '], ['x `co', 'x `co`'], ['x `', 'x '], ['~~gone', '~~gone~~'],
    ['see [here](http://e', 'see here'], ['* item', '* item'], ['plain', 'plain'], ['a `**b', 'a `**b`'], ['', ''],
    ['```py\nx = "**', '```py\nx = "**'],
  ];
  for (const [text, wanted] of cases) assert.equal(mended(text), wanted, text);
});
