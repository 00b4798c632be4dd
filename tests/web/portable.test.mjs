import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conversation } from '../../src/standpipe/web/js/chat/conversation.js';
import { fromFragment, fromJson, fromPrompt, toFragment, toJson, toMarkdown } from '../../src/standpipe/web/js/chat/portable.js';
import { add, EMPTY, grown, path } from '../../src/standpipe/web/js/chat/tree.js';

let ids = 0;
const newId = () => `new${(ids += 1)}`;
const tree = [
  { id: 'a', parent: '', role: 'user', text: 'Grüße 🌊 "quoted"', at: 1 },
  { id: 'b', parent: 'a', role: 'assistant', text: 'old', at: 2 },
  { id: 'c', parent: 'a', role: 'assistant', text: 'new', reasoning: 'hm', at: 3 },
].reduce(add, EMPTY);
const TALK = { ...conversation('t', 100, { system: 'Be brief.' }), title: 'Talk', tree };
const shown = (talk) => path(talk.tree).map(({ role, text }) => [role, text]);

test('a file brings back what was written, branches included', () => {
  const [talk] = fromJson(toJson([TALK]), newId, 1000);
  assert.deepEqual(shown(talk), shown(TALK));
  assert.equal(Object.keys(talk.tree.nodes).length, 3);
  assert.equal(talk.system, 'Be brief.');
  assert.notEqual(talk.id, 't');
});

test('a file that does not fit is refused in words', () => {
  assert.throws(() => fromJson('{', newId, 1), /not JSON/);
  assert.throws(() => fromJson('{"messages":[]}', newId, 1), /not an export/);
  const broken = (change) => {
    const file = JSON.parse(toJson([TALK]));
    change(file.conversations[0]);
    return () => fromJson(JSON.stringify(file), newId, 1000);
  };
  assert.throws(broken((talk) => (talk.tree.nodes.a.role = 'root')), /Conversation 1 .* unknown role/);
  assert.throws(broken((talk) => (talk.tree.nodes.a.text = 5)), /text is missing/);
  assert.throws(broken((talk) => (talk.tree.children.c = ['a'])), /are not connected/);
  assert.throws(broken((talk) => (talk.tree.children[''] = ['__proto__'])), /are not connected/);
});

test('what a file says too much is left out', () => {
  const file = JSON.parse(toJson([TALK]));
  Object.assign(file.conversations[0], { evil: '<script>', parameters: { temperature: 99, n: 3 } });
  file.conversations[0].tree.nodes.c.state = 'waiting';
  const [talk] = fromJson(JSON.stringify(file), newId, 1000);
  assert.equal(talk.evil, undefined);
  assert.equal(talk.parameters.temperature, 2);
  assert.equal(talk.parameters.n, undefined);
  assert.ok(Object.values(talk.tree.nodes).every((node) => node.state !== 'waiting'));
});

test('a link carries what is shown', async () => {
  const fragment = await toFragment(TALK);
  assert.match(fragment, /^talk=[\w-]+$/);
  const talk = await fromFragment(`#${fragment}`, newId, 1000);
  assert.deepEqual(shown(talk), shown(TALK));
  assert.equal(talk.title, 'Talk');
  assert.equal(await fromFragment('', newId, 1), undefined);
});

test('a damaged link is refused in words', async () => {
  for (const fragment of ['#talk=', '#talk=!!!', '#talk=AAAA', `#${(await toFragment(TALK)).slice(0, -8)}`]) {
    await assert.rejects(fromFragment(fragment, newId, 1), /link is damaged/, fragment);
  }
});

test('a link that unpacks to very much is refused', async () => {
  const bomb = new Blob(['0'.repeat(5_000_000)]).stream().pipeThrough(new CompressionStream('deflate-raw'));
  const packed = Buffer.from(await new Response(bomb).arrayBuffer()).toString('base64url');
  await assert.rejects(fromFragment(`#talk=${packed}`, newId, 1), /cannot be opened: it holds more than 2 MB/);
});

test('a short link with very many messages is refused, and one with many opens in linear time', async () => {
  const link = async (count) => {
    const json = JSON.stringify({ m: Array.from({ length: count }, (_, index) => [index % 2, '']) });
    const packed = new Blob([json]).stream().pipeThrough(new CompressionStream('deflate-raw'));
    return `#talk=${Buffer.from(await new Response(packed).arrayBuffer()).toString('base64url')}`;
  };
  const bomb = await link(5000);
  assert.ok(bomb.length < 300);
  let made = 0;
  await assert.rejects(fromFragment(bomb, () => String((made += 1)), 1), /more than 2000 messages/);
  assert.equal(made, 0);
  const talk = await fromFragment(await link(2000), newId, 1000);
  assert.equal(path(talk.tree).length, 2000);
  assert.equal(talk.shared, true);
});

test('a conversation that no link could hold is not made into one', async () => {
  const nodes = Array.from({ length: 2001 }, (_, index) => ({ id: `n${index}`, parent: index ? `n${index - 1}` : '', role: 'user', text: 'x', at: 1 }));
  await assert.rejects(toFragment({ ...TALK, tree: grown(nodes) }), /as a file instead/);
});

test('what was attached travels along', async () => {
  const said = { id: 'a', parent: '', role: 'user', text: 'Look', at: 1, attached: [{ name: 'a.txt', text: 'inside' }] };
  const talk = { ...TALK, tree: grown([said]) };
  const [back] = fromJson(toJson([talk]), newId, 1000);
  assert.deepEqual(path(back.tree)[0].attached, said.attached);
  const [shared] = path((await fromFragment(`#${await toFragment(talk)}`, newId, 1000)).tree);
  assert.match(shared.text, /^Look[\s\S]*a\.txt:[\s\S]*inside/);
});

test('a link may ask for a prompt and a temperature', () => {
  assert.equal(fromPrompt('#x=1'), undefined);
  const { text, parameters } = fromPrompt('#ask=Why%20is%20it%3F&temperature=0.2');
  assert.equal(text, 'Why is it?');
  assert.equal(parameters.temperature, 0.2);
});

test('Markdown has what is shown', () => {
  assert.equal(toMarkdown(TALK), '# Talk\n\n## System\n\nBe brief.\n\n## User\n\nGrüße 🌊 "quoted"\n\n## Assistant\n\nnew\n');
});
