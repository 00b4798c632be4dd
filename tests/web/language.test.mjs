import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { known, LANGUAGES, t } from '../../src/standpipe/web/js/page/language.js';

const WEB = new URL('../../src/standpipe/web/js/', import.meta.url);
const sources = readdirSync(WEB, { recursive: true }).filter((name) => name.endsWith('.js') && !name.includes('languages'));
const texts = sources.map((name) => [name, readFileSync(new URL(name, WEB), 'utf8')]);

/** Every sentence that scripts say: named where it is said, or a failure that `message` says. */
function sentences() {
  const found = new Set();
  for (const [name, text] of texts) {
    for (const [, sentence] of text.matchAll(/\bt\(\s*'([^']+)'/g)) found.add(sentence);
    if (name.startsWith('api')) for (const [, sentence] of text.matchAll(/message: '([^']+)'/g)) found.add(sentence);
  }
  const settings = readFileSync(new URL('../../settings.py', WEB), 'utf8');
  return found.add(/welcome: .* = "([^"]+)"/.exec(settings)[1]);
}

const places = (sentence) => [...sentence.matchAll(/\{\d\}/g)].map(([place]) => place).sort();

for (const code of Object.keys(LANGUAGES).filter((one) => one !== 'en')) {
  test(`${LANGUAGES[code]} says every sentence, no other, and with the same values`, async () => {
    const { default: table } = await import(new URL(`page/languages/${code}.js`, WEB));
    assert.deepEqual(Object.keys(table).sort(), [...sentences()].sort());
    for (const [sentence, said] of Object.entries(table)) {
      assert.ok(said.trim(), sentence);
      assert.deepEqual(places(said), places(sentence), sentence);
    }
  });
}

test('a sentence is filled with values, and English when there is no other', () => {
  assert.equal(t('{1} of {0}', 'a', 'b'), 'b of a');
  assert.equal(t('Nobody says this.'), 'Nobody says this.');
});

test('the reader’s first language that we speak is taken', () => {
  assert.equal(known(['nl', 'pt-BR', 'en']), 'pt');
  assert.equal(known(['zh-Hans-CN']), 'zh');
  assert.equal(known(['nl']), 'en');
});
