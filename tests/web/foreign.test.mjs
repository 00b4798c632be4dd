import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson } from '../../src/standpipe/web/js/chat/portable.js';
import { path } from '../../src/standpipe/web/js/chat/tree.js';

let ids = 0;
const newId = () => `new${(ids += 1)}`;
const NOW = 2e12;
const read = (file) => fromJson(JSON.stringify(file), newId, NOW);
const shown = (talk) => path(talk.tree).map(({ role, text }) => `${role}: ${text}`);

const gpt = (id, parent, role, text, more = {}) => [
  id,
  { id, parent, children: [], message: { author: { role }, create_time: 1700000001.5, content: { content_type: 'text', parts: [text] }, ...more } },
];
const CHATGPT = {
  title: 'Rivers',
  create_time: 1700000000.25,
  update_time: 1700000100,
  current_node: 'a3',
  mapping: Object.fromEntries([
    ['root', { id: 'root', message: null, parent: null, children: ['s'] }],
    gpt('s', 'root', 'system', ''),
    gpt('u1', 's', 'user', 'Where?'),
    gpt('a1', 'u1', 'assistant', 'Here.'),
    gpt('t', 'u1', 'assistant', 'search("rivers")', { recipient: 'browser' }),
    gpt('r', 't', 'tool', 'found'),
    gpt('a3', 'r', 'assistant', 'There.', { metadata: { model_slug: 'gpt-x' } }),
  ]),
};

test('a conversation of ChatGPT comes with its branches, without what was said to tools', () => {
  const [talk] = read([CHATGPT]);
  assert.deepEqual(shown(talk), ['user: Where?', 'assistant: There.']);
  assert.equal(Object.keys(talk.tree.nodes).length, 3);
  assert.equal(talk.title, 'Rivers');
  assert.equal(talk.created, 1700000000250);
  assert.equal(path(talk.tree)[1].model, 'gpt-x');
});

test('a conversation of Open WebUI comes with its thoughts, its prompt and its pin', () => {
  const messages = {
    u: { id: 'u', parentId: null, childrenIds: ['a'], role: 'user', content: 'Why?', timestamp: 1700000000 },
    a: { id: 'a', parentId: 'u', role: 'assistant', model: 'm', timestamp: 1700000001, content: '<details type="reasoning" done="true">\n<summary>Thought for 2 seconds</summary>\n&gt; hm\n&gt; so\n</details>\nBecause.' },
  };
  const [talk] = read([{ title: 'Reasons', pinned: true, created_at: 1700000000, chat: { params: { system: 'Be brief.' }, history: { currentId: 'a', messages } } }]);
  assert.deepEqual(shown(talk), ['user: Why?', 'assistant: Because.']);
  assert.equal(path(talk.tree)[1].reasoning, 'hm\nso');
  assert.equal(talk.system, 'Be brief.');
  assert.equal(talk.pinned, true);
});

test('a conversation of LibreChat comes flat or nested', () => {
  const user = { messageId: 'u', parentMessageId: '00000000-0000-0000-0000-000000000000', isCreatedByUser: true, text: 'Hi', createdAt: '2024-01-01T00:00:00Z' };
  const answer = { messageId: 'a', parentMessageId: 'u', isCreatedByUser: false, content: [{ type: 'think', think: 'hm' }, { type: 'text', text: { value: 'Hello' } }] };
  const head = { conversationId: 'c', title: 'Greeting', options: { temperature: 0.3, promptPrefix: 'Be kind.' } };
  for (const messages of [[user, answer], [{ ...user, children: [answer] }]]) {
    const [talk] = read({ ...head, messages });
    assert.deepEqual(shown(talk), ['user: Hi', 'assistant: Hello']);
    assert.equal(talk.parameters.temperature, 0.3);
    assert.equal(talk.system, 'Be kind.');
    assert.equal(path(talk.tree)[1].reasoning, 'hm');
  }
});

test('what is not as expected is left out, and never ends in a loop', () => {
  const looped = { ...CHATGPT, mapping: { ...CHATGPT.mapping, s: { parent: 'r', message: null }, root: { parent: 's', message: null } } };
  assert.deepEqual(shown(read([looped])[0]), []);
  assert.deepEqual(read([{ mapping: { x: null, y: { message: { author: 5, content: 'text' } } } }]).map(shown), [[]]);
  assert.deepEqual(shown(read([{ chat: { history: { messages: { u: null, __proto__x: 5 }, currentId: {} } } }])[0]), []);
  assert.throws(() => read([1, 'two', null]), /not an export/);
});
