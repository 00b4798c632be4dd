import assert from 'node:assert/strict';
import { test } from 'node:test';
import { events, Frames, refusal, whole } from '../../src/standpipe/web/js/api/stream.js';

const STREAM = 'data: {"a":1}\n\n: a comment\n\ndata: two\ndata: lines\n\nevent: x\r\ndata:tight\r\n\r\ndata: \u00e9\r\rdata: [DONE]\n\n';
const DATA = ['{"a":1}', 'two\nlines', 'tight', '\u00e9', '[DONE]'];

test('frames are found wherever the text was cut', () => {
  for (let size = 1; size <= STREAM.length; size += 1) {
    const frames = new Frames();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...frames.feed(STREAM.slice(at, at + size)));
    assert.deepEqual(found, DATA, `cut every ${size}`);
  }
});

test('an event that is not complete is not given yet', () => {
  const frames = new Frames();
  assert.deepEqual(frames.feed('data: a\n'), []);
  assert.deepEqual(frames.feed('\n'), ['a']);
});

test('a chunk becomes events', () => {
  const chunk = { model: 'm', choices: [{ delta: { reasoning: 'hm', reasoning_content: 'hm' } }] };
  assert.deepEqual(events(JSON.stringify(chunk)), [{ type: 'model', model: 'm' }, { type: 'reasoning', text: 'hm' }]);
  const last = { choices: [{ delta: { content: 'hi' }, finish_reason: 'stop' }], usage: { prompt_tokens: 3, completion_tokens: 2 } };
  assert.deepEqual(events(JSON.stringify(last)), [
    { type: 'text', text: 'hi' },
    { type: 'finished', reason: 'stop' },
    { type: 'usage', prompt: 3, completion: 2, reasoning: null },
  ]);
  assert.deepEqual(events('[DONE]'), [{ type: 'whole' }]);
});

test('a place in line is told', () => {
  const chunk = { choices: [{ delta: { content: '' } }], queue: { position: 3, eta_seconds: 12.4 } };
  assert.deepEqual(events(JSON.stringify(chunk)), [{ type: 'waiting', position: 3, eta: 12.4 }]);
});

test('errors and nonsense are failures, never exceptions', () => {
  assert.deepEqual(events('{"error":{"message":"broke","code":"engine_failed"}}'), [{ type: 'failed', message: 'broke', code: 'engine_failed' }]);
  for (const data of ['', 'x', '1', 'null', '"text"', '{"error":5}', '{"error":{}}', '[]']) {
    const types = events(data).map((event) => event.type);
    assert.ok(types.every((type) => type === 'failed') || data === '[]', data);
  }
});

test('a whole answer has the events that its stream would have had', () => {
  const body = JSON.stringify({ model: 'm', choices: [{ message: { content: 'hi', reasoning: 'hm' }, finish_reason: 'stop' }] });
  assert.deepEqual(whole(body).map((event) => event.type), ['model', 'reasoning', 'text', 'finished', 'whole']);
  assert.equal(whole('{}')[0].type, 'failed');
});

test('a refusal says when to come back, in the finer of two spellings', () => {
  const head = (headers) => (name) => headers[name] ?? null;
  const body = '{"error":{"message":"Too soon.","code":"rate_limit_exceeded"}}';
  assert.deepEqual(refusal(429, head({ 'retry-after': '2', 'retry-after-ms': '1500' }), body), {
    status: 429, message: 'Too soon.', code: 'rate_limit_exceeded', param: null, wait: 1500,
  });
  assert.equal(refusal(503, head({ 'retry-after': '2' }), body).wait, 2000);
  assert.equal(refusal(400, head({ 'retry-after': '2' }), body).wait, null);
  assert.equal(refusal(502, head({}), '<html>').message, 'The server answered with status 502.');
});
