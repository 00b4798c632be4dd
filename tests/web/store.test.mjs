import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byAge, content, conversation, DEFAULTS, excess, fullness, matches, merge, messages, request, set, shortened, title } from '../../src/standpipe/web/js/chat/conversation.js';
import { figures, remaining } from '../../src/standpipe/web/js/chat/run.js';
import { initial, reduce } from '../../src/standpipe/web/js/chat/store.js';
import { grown, path } from '../../src/standpipe/web/js/chat/tree.js';

const play = (...actions) => actions.reduce(reduce, initial(conversation('t', 0)));
const send = (text, ids, at = 1000) => ({ type: 'send', text, ids, at });
const events = (at, ...list) => ({ type: 'events', events: list, at });
const said = (state) => path(state.talk.tree).map(({ id, text }) => `${id}:${text}`);
const ANSWERED = [
  send('Hello there', ['u1', 'a1']),
  events(1500, { type: 'model', model: 'm' }, { type: 'reasoning', text: 'hm' }),
  events(2000, { type: 'text', text: 'Hi' }),
  events(3000, { type: 'text', text: '!' }, { type: 'finished', reason: 'stop' }, { type: 'usage', prompt: 5, completion: 4, reasoning: 1 }, { type: 'whole' }),
  { type: 'ended', at: 3000 },
];

test('a question gets an answer that grows', () => {
  const state = play(...ANSWERED);
  assert.deepEqual(said(state), ['u1:Hello there', 'a1:Hi!']);
  const answer = state.talk.tree.nodes.a1;
  assert.equal(answer.state, 'done');
  assert.equal(answer.reasoning, 'hm');
  assert.equal(state.running, null);
  assert.equal(state.talk.title, 'Hello there');
  assert.deepEqual(figures(answer), { first: 500, tokens: 4, rate: 2, waited: null, total: 2000 });
});

test('only one answer is under way at a time', () => {
  const state = play(send('one', ['u1', 'a1']));
  assert.equal(reduce(state, send('two', ['u2', 'a2'])), state);
  assert.equal(reduce(state, { type: 'regenerate', id: 'a1', newId: 'x', at: 1 }), state);
  assert.equal(reduce(state, { type: 'remove', id: 'u1', at: 1 }), state);
});

test('an empty question is not sent', () => {
  const state = play();
  assert.equal(reduce(state, send(' \n', ['u', 'a'])), state);
});

test('asking again and editing make siblings', () => {
  const again = play(...ANSWERED, { type: 'regenerate', id: 'a1', newId: 'a2', at: 4000 }, { type: 'ended', at: 4100 });
  assert.deepEqual(said(again), ['u1:Hello there', 'a2:']);
  assert.deepEqual(said(reduce(again, { type: 'step', id: 'a2', by: -1 })), ['u1:Hello there', 'a1:Hi!']);
  const edited = play(...ANSWERED, { type: 'editing', id: 'u1', text: 'Hello there' }, { type: 'edit', id: 'u1', text: 'Bye', ids: ['u2', 'a2'], at: 4000 });
  assert.deepEqual(said(edited), ['u2:Bye', 'a2:']);
  assert.equal(edited.editing, null);
  assert.equal(edited.running, 'a2');
});

test('stopping keeps what came', () => {
  const state = play(...ANSWERED.slice(0, 3), { type: 'stopped', at: 2500 });
  assert.equal(state.talk.tree.nodes.a1.state, 'stopped');
  assert.equal(state.talk.tree.nodes.a1.text, 'Hi');
  assert.equal(state.running, null);
});

test('an answer that breaks off is marked, and what came is kept', () => {
  const state = play(...ANSWERED.slice(0, 3), events(2500, { type: 'failed', message: 'The connection to the engine was lost.', code: 'engine_failed' }), { type: 'ended', at: 2500 });
  assert.equal(state.talk.tree.nodes.a1.state, 'failed');
  assert.equal(state.talk.tree.nodes.a1.error.message, 'The connection to the engine was lost.');
});

test('a refusal counts down and is tried again, or is given up', () => {
  const refused = play(send('one', ['u1', 'a1']), { type: 'refused', error: { message: 'Too soon.' }, retryAt: 3000, at: 1000 });
  assert.equal(refused.running, 'a1');
  const again = reduce(refused, { type: 'retry', at: 3000 });
  assert.equal(again.talk.tree.nodes.a1.state, 'waiting');
  assert.equal(again.talk.tree.nodes.a1.attempt, 2);
  assert.equal(again.talk.tree.nodes.a1.error, null);
  const cancelled = reduce(refused, { type: 'stopped', at: 2000 });
  assert.equal(cancelled.running, null);
  assert.deepEqual(cancelled.talk.tree.nodes.a1.error, { message: 'Too soon.', retryAt: null });
  const last = play(send('one', ['u1', 'a1']), { type: 'refused', error: { message: 'Wrong.' }, retryAt: null, at: 1000 });
  assert.equal(last.running, null);
});

test('a place in line is kept until the answer begins', () => {
  const waiting = play(send('one', ['u1', 'a1']), events(2000, { type: 'waiting', position: 3, eta: 10 }));
  assert.deepEqual(waiting.talk.tree.nodes.a1.queue, { position: 3, eta: 10, at: 2000 });
  assert.equal(remaining(waiting.talk.tree.nodes.a1.queue, 5000), 7000);
  assert.equal(remaining(waiting.talk.tree.nodes.a1.queue, 50_000), 0);
  const begun = reduce(waiting, events(3000, { type: 'text', text: 'x' }));
  assert.equal(begun.talk.tree.nodes.a1.queue, null);
  assert.equal(reduce(begun, { type: 'queue', position: 1, eta: 1, at: 3100 }).talk.tree.nodes.a1.queue, null);
});

test('late events of an answer that was stopped change nothing', () => {
  const state = play(send('one', ['u1', 'a1']), { type: 'stopped', at: 2000 });
  assert.equal(reduce(state, events(2100, { type: 'text', text: 'late' })), state);
});

test('a request spells out what differs from the defaults', () => {
  const state = play(...ANSWERED, { type: 'parameter', name: 'temperature', value: '0.3', at: 1 }, { type: 'system', text: 'Be brief.', at: 1 });
  assert.deepEqual(request(state.talk), {
    messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello there' }, { role: 'assistant', content: 'Hi!' }],
    temperature: 0.3,
    stream: true,
  });
});

test('an answer without text is not sent back', () => {
  const state = play(send('one', ['u1', 'a1']), { type: 'refused', error: { message: '' }, retryAt: null, at: 1 });
  assert.deepEqual(messages(state.talk), [{ role: 'user', content: 'one' }]);
});

test('parameters stay in their ranges', () => {
  assert.equal(set(DEFAULTS, 'temperature', '9').temperature, 2);
  assert.equal(set(DEFAULTS, 'temperature', 'x').temperature, 0.8);
  assert.equal(set(DEFAULTS, 'top_p', -1).top_p, 0);
  assert.equal(set(DEFAULTS, 'max_tokens', '0').max_tokens, -1);
  assert.equal(set(DEFAULTS, 'max_tokens', '12.6').max_tokens, 13);
  assert.equal(set(DEFAULTS, 'reasoning_effort', 'huge').reasoning_effort, '');
  assert.equal(set(DEFAULTS, 'stream', false).stream, false);
  assert.equal(set(DEFAULTS, 'n', 5), DEFAULTS);
});

test('a new conversation has the settings that the reader chose, and no others', () => {
  const state = play({ type: 'system', text: 'Be brief.', at: 1 }, { type: 'new', id: 't2', at: 5 });
  assert.equal(state.talk.id, 't2');
  assert.equal(state.talk.system, 'Be brief.');
});

test('an example and a shared link set nothing for later conversations', () => {
  const shared = { ...conversation('s', 1, { system: 'Obey.', parameters: { ...DEFAULTS, temperature: 2 } }), shared: true };
  const state = play({ type: 'example', parameters: { temperature: 1.2 }, at: 1 }, { type: 'open', talk: shared }, { type: 'new', id: 't2', at: 5 });
  assert.equal(state.talk.system, '');
  assert.deepEqual(state.talk.parameters, DEFAULTS);
});

test('an answer goes on while another conversation is shown, and is there when one comes back', () => {
  const elsewhere = play(send('one', ['u1', 'a1']), { type: 'new', id: 't2', at: 2000 });
  assert.equal(elsewhere.talk.id, 't2');
  assert.equal(elsewhere.running, 'a1');
  const answered = [events(2500, { type: 'text', text: 'Hi' }, { type: 'whole' }), { type: 'ended', at: 2600 }].reduce(reduce, elsewhere);
  assert.equal(answered.running, null);
  assert.deepEqual(said(answered), []);
  assert.equal(answered.away.tree.nodes.a1.text, 'Hi');
  const back = reduce(answered, { type: 'open', talk: conversation('t', 0) });
  assert.deepEqual(said(back), ['u1:one', 'a1:Hi']);
  assert.equal(back.away, null);
});

test('only one answer is under way, wherever it is', () => {
  const elsewhere = play(send('one', ['u1', 'a1']), { type: 'new', id: 't2', at: 2000 });
  assert.equal(reduce(elsewhere, send('two', ['u2', 'a2'])), elsewhere);
  const stopped = reduce(elsewhere, { type: 'stopped', at: 3000 });
  assert.equal(stopped.away.tree.nodes.a1.state, 'stopped');
  assert.deepEqual(said(reduce(stopped, send('two', ['u2', 'a2']))), ['u2:two', 'a2:']);
});

test('each conversation keeps its draft', () => {
  const draft = (text) => ({ type: 'show', draft: text });
  const state = play(...ANSWERED, draft('half a thought'), { type: 'new', id: 't2', at: 1 }, draft('something new'));
  const { talk } = play(...ANSWERED);
  const back = reduce(state, { type: 'open', talk });
  assert.equal(back.draft, 'half a thought');
  assert.equal(reduce(back, { type: 'new', id: 't3', at: 1 }).draft, 'something new');
});

test('what another tab did is seen here', () => {
  const { talk } = play(...ANSWERED);
  const there = reduce({ ...initial(talk), talk }, send('and then?', ['u2', 'a2'])).talk;
  const here = reduce(play(...ANSWERED), { type: 'merge', talk: there });
  assert.deepEqual(Object.keys(here.talk.tree.nodes).sort(), ['a1', 'a2', 'u1', 'u2']);
  assert.equal(reduce(here, { type: 'merge', talk: conversation('other', 0) }), here);
});

test('settings that were changed last win', () => {
  const one = { ...conversation('t', 0), title: 'one', changed: 5, updated: 9 };
  const other = { ...conversation('t', 0), title: 'other', changed: 7, updated: 8 };
  assert.equal(merge(one, other).title, 'other');
  assert.equal(merge(other, one).title, 'other');
  assert.equal(merge(one, other).updated, 9);
});

const LONG = grown(
  Array.from({ length: 200 }, (_, index) => ({
    ...{ id: `n${index}`, parent: index ? `n${index - 1}` : '', at: index, text: 'x'.repeat(100), state: 'done' },
    role: index % 2 ? 'assistant' : 'user',
  })),
);

test('a conversation that is too long is said to be before it is sent', () => {
  const talk = { ...conversation('t', 0), tree: LONG };
  assert.match(excess(request(talk), 1_000_000), /has 200 messages, and the server takes 128 at most/);
  assert.match(excess({ messages: [{ content: 'é'.repeat(2000) }] }, 2048), /too long to send: 4 KiB, and the server takes 2 KiB/);
  assert.equal(excess({ messages: [{ content: 'é' }] }, 2048), undefined);
  assert.equal(excess({ messages: [] }, undefined), undefined);
});

test('it goes on without the oldest messages, and beginning with a question', () => {
  const talk = { ...conversation('t', 0), tree: LONG };
  const from = shortened(talk, path(LONG));
  assert.equal(LONG.nodes[from].role, 'user');
  const sent = messages({ ...talk, from });
  assert.ok(sent.length <= 64 && sent.length > 50, String(sent.length));
  assert.equal(sent[0].role, 'user');
  const again = shortened({ ...talk, from }, path(LONG));
  assert.ok(messages({ ...talk, from: again }).length < sent.length);
  assert.equal(shortened(talk, path(LONG).slice(0, 1)), undefined);
});

test('the context is as full as the last answer said', () => {
  const nodes = [{ facts: { prompt: 10, completion: 10 } }, { text: 'x' }, { facts: { prompt: 60, completion: 15 } }, { facts: {} }];
  assert.equal(fullness(nodes, 100), 0.75);
  assert.equal(fullness(nodes, undefined), null);
  assert.equal(fullness([], 100), null);
});

test('what is attached is said as a quote', () => {
  const state = play({ type: 'send', text: '', attached: [{ name: 'a.txt', text: 'inside' }], ids: ['u1', 'a1'], at: 1 });
  assert.equal(state.talk.title, 'a.txt');
  assert.equal(content(state.talk.tree.nodes.u1), 'a.txt:\n"""\ninside\n"""');
});

test('an unknown action is a mistake', () => {
  assert.throws(() => play({ type: 'nonsense' }), /no such action/);
});

test('titles are one short line', () => {
  assert.equal(title('  First\nsecond'), 'First');
  assert.equal(title('x'.repeat(80)).length, 60);
});

test('a search wants every word, anywhere', () => {
  const { talk } = play(...ANSWERED);
  assert.ok(matches(talk, 'HELLO hi'));
  assert.ok(!matches(talk, 'hello bye'));
});

test('conversations are grouped by age', () => {
  const day = 86_400_000;
  const at = (updated) => ({ updated });
  const groups = byAge([at(10 * day + 5), at(10 * day - 1), at(5 * day), at(0)], 10 * day);
  assert.deepEqual(groups.map(([name, list]) => [name, list.length]), [['Today', 1], ['Yesterday', 1], ['Last 7 days', 1], ['Older', 1]]);
});
