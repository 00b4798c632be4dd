import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { KINDS, sample } from '../../src/standpipe/web/js/api/samples.js';

const WHERE = { address: '{{address}}', model: '{{model}}' };
const HELLO = { messages: [{ role: 'user', content: 'Hello!' }], stream: true };
const NASTY = 'It\'s "quoted", \\back\\, $HOME `id` ${x} {{y}}\n\ttab </script> é 🌊 \u2028 end';
const HARD = {
  messages: [{ role: 'system', content: NASTY }, { role: 'user', content: NASTY }],
  temperature: 0.3, top_p: 0.5, max_tokens: 7, reasoning_effort: 'low', stream: true,
};

test('the quick start of the documentation is made of these samples', () => {
  const page = readFileSync(new URL('../../src/standpipe/web/pages/index.md', import.meta.url), 'utf8');
  const start = page.slice(page.indexOf('## Quick start'), page.indexOf('## Parameters'));
  const shown = [...start.matchAll(/^```(\w+) (\w+)[^\n]*\n([\s\S]*?)^```$/gm)];
  assert.deepEqual(shown.map(([, language, id]) => [language, id]), KINDS.map(({ language, id }) => [language, id]));
  for (const [, , id, code] of shown) assert.equal(code, sample(id, HELLO, WHERE), id);
});

test('whatever a conversation holds, a shell and JavaScript read it as it was', () => {
  const said = execFileSync('sh', ['-c', sample('curl', HARD, WHERE).replace('curl', 'printf "%s\\0"')], { encoding: 'utf8' });
  const body = JSON.parse(said.split('\0')[4]);
  assert.deepEqual(body, { ...HARD, stream: false });
  for (const id of ['fetch', 'stream']) {
    const code = sample(id, HARD, WHERE);
    const json = /body: JSON\.stringify\(([\s\S]*?)\),\n\}\);/.exec(code)[1];
    assert.deepEqual({ ...new Function(`return ${json}`)(), stream: true }, HARD, id);
  }
});

test('whatever a conversation holds, Python reads it as it was', () => {
  const check = 'import ast,json,sys\nfor code in json.load(sys.stdin):\n    calls=[n for n in ast.walk(ast.parse(code)) if isinstance(n,ast.Call)]\n    texts=[c.value for call in calls for c in ast.walk(call) if isinstance(c,ast.Constant) and isinstance(c.value,str)]\n    print(json.dumps(texts))';
  const kinds = KINDS.filter(({ language }) => language === 'python');
  const codes = JSON.stringify(kinds.map(({ id }) => sample(id, HARD, WHERE)));
  const lines = execFileSync('python3', ['-c', check], { input: codes, encoding: 'utf8' }).trim().split('\n');
  assert.equal(lines.length, kinds.length);
  lines.forEach((line, index) => assert.ok(JSON.parse(line).includes(NASTY), kinds[index].id));
});

test('each format gets the parameters by its own names', () => {
  assert.match(sample('ollama', HARD, WHERE), /"num_predict": 7/);
  assert.match(sample('anthropic', HARD, WHERE), /max_tokens=7/);
  assert.match(sample('anthropic', HELLO, WHERE), /max_tokens=1024/);
  assert.match(sample('responses', HARD, WHERE), /max_output_tokens=7/);
  assert.match(sample('responses', HARD, WHERE), /reasoning=\{"effort": "low"\}/);
  assert.doesNotMatch(sample('responses', HARD, WHERE), /"role": "system"/);
});
