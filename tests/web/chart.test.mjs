import assert from 'node:assert/strict';
import { test } from 'node:test';
import { command } from '../../src/standpipe/web/js/chat/keys.js';
import { bars, ceiling, curve, HEIGHT } from '../../src/standpipe/web/js/status/chart.js';

test('the top of a chart is round and not below any value', () => {
  assert.deepEqual([[], [0], [1], [1.2], [17], [42], [99], [0.03]].map(ceiling), [1, 1, 1, 2, 20, 50, 100, 0.05]);
  assert.equal(ceiling([null, 3]), 5);
});

test('bars stand on the ground, and nothing has none', () => {
  assert.equal(bars([0, null], 1), '');
  assert.match(bars([1, 2], 2), new RegExp(`^M\\S+ ${HEIGHT}v-60h.*M\\S+ ${HEIGHT}v-120h`));
});

test('a curve has gaps where nothing is known', () => {
  const { line, area } = curve([1, null, 1, 2], 2);
  assert.equal(line.match(/M/g).length, 2);
  assert.equal(area.match(/z/g).length, 2);
  assert.deepEqual(curve([null], 1), { line: '', area: '' });
});

const press = (key, fields = {}, facts = {}) =>
  command({ key, target: {}, ...fields }, { running: null, open: null, empty: true, typing: false, ...facts });
const draft = { target: { id: 'draft' } };

test('keys do what the sheet says', () => {
  assert.equal(press('Enter', draft, { typing: true }), 'send');
  assert.equal(press('Enter', { ...draft, shiftKey: true }, { typing: true }), undefined);
  assert.equal(press('Enter', { ...draft, isComposing: true }, { typing: true }), undefined);
  assert.equal(press('Escape', draft, { running: 'a' }), 'stop');
  assert.equal(press('Escape', draft, { open: 'api' }), 'close');
  assert.equal(press('ArrowUp', draft, { typing: true }), 'editLast');
  assert.equal(press('ArrowUp', draft, { typing: true, empty: false }), undefined);
  assert.equal(press('k', { ctrlKey: true }), 'search');
  assert.equal(press('k', { metaKey: true }), 'search');
  assert.equal(press('O', { ctrlKey: true, shiftKey: true }), 'new');
  assert.equal(press('?'), 'keys');
  assert.equal(press('?', draft, { typing: true, empty: false }), undefined);
  assert.equal(press('a'), undefined);
});
