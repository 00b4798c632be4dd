import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byAge, conversation, DEFAULTS, matches, messages, request, set, title } from '../../src/standpipe/web/js/chat/conversation.js';
import { figures, remaining } from '../../src/standpipe/web/js/chat/run.js';
import { initial, reduce } from '../../src/standpipe/web/js/chat/store.js';
import { path } from '../../src/standpipe/web/js/chat/tree.js';

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
  const state = play(...ANSWERED.slice(0, 3), events(2500, { type: 'failed', message: 'The engine broke off.', code: 'engine_failed' }), { type: 'ended', at: 2500 });
  assert.equal(state.talk.tree.nodes.a1.state, 'failed');
  assert.equal(state.talk.tree.nodes.a1.error.message, 'The engine broke off.');
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
  const state = play(...ANSWERED, { type: 'parameter', name: 'temperature', value: '0.3' }, { type: 'system', text: 'Be brief.' });
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

test('a new conversation has the settings of the one before', () => {
  const state = play({ type: 'system', text: 'Be brief.' }, { type: 'new', id: 't2', at: 5 });
  assert.equal(state.talk.id, 't2');
  assert.equal(state.talk.system, 'Be brief.');
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
