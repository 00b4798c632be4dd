import assert from 'node:assert/strict';
import { test } from 'node:test';
import { add, change, EMPTY, grown as together, leaf, merged, path, pathTo, place, remove, restored, step } from '../../src/standpipe/web/js/chat/tree.js';

const grown = (...nodes) => nodes.reduce((tree, [id, parent]) => add(tree, { id, parent }), EMPTY);
const shown = (tree) => path(tree).map(({ id }) => id).join('');
const TREE = grown(['a', ''], ['b', 'a'], ['c', 'b'], ['d', 'c'], ['C', 'b'], ['e', 'C']);

test('the newest sibling is shown, and all below it', () => {
  assert.equal(shown(TREE), 'abCe');
  assert.deepEqual(place(TREE, 'C'), { index: 1, count: 2 });
});

test('a sibling comes back with what was below it', () => {
  const back = step(TREE, 'C', -1);
  assert.equal(shown(back), 'abcd');
  assert.equal(shown(step(back, 'c', 1)), 'abCe');
  assert.equal(step(TREE, 'C', 1), TREE);
});

test('nothing that was there is changed', () => {
  const before = JSON.stringify(TREE);
  add(TREE, { id: 'x', parent: 'e' });
  change(TREE, 'a', { text: 'new' });
  remove(TREE, 'a');
  step(TREE, 'C', -1);
  assert.equal(JSON.stringify(TREE), before);
});

test('a removed message takes all below it, and its neighbour is shown', () => {
  const less = remove(TREE, 'C');
  assert.equal(shown(less), 'abcd');
  assert.deepEqual(Object.keys(less.nodes).sort(), ['a', 'b', 'c', 'd']);
  assert.equal(shown(remove(less, 'c')), 'ab');
  const none = remove(TREE, 'a');
  assert.deepEqual(none, { ...EMPTY, gone: { a: 1 } });
  assert.equal(leaf(none), undefined);
});

test('removing what is not shown changes nothing that is', () => {
  assert.equal(shown(remove(TREE, 'c')), 'abCe');
  assert.equal(remove(TREE, 'nobody'), TREE);
});

test('a path leads to a node also where it is not shown', () => {
  assert.equal(pathTo(TREE, 'd').map(({ id }) => id).join(''), 'abcd');
  assert.deepEqual(pathTo(TREE, 'nobody'), []);
});

const node = (id, parent, at, more = {}) => ({ id, parent, at, role: 'user', text: id, ...more });
const BASE = together([node('a', '', 1), node('b', 'a', 2)]);

test('many nodes at once are the same tree as one after the other', () => {
  const nodes = [node('a', '', 1), node('b', 'a', 2), node('c', 'a', 3)];
  assert.deepEqual(together(nodes), nodes.reduce(add, EMPTY));
});

test('what two tabs added is in both, and each goes on showing its own', () => {
  const one = add(BASE, node('c', 'b', 3));
  const other = add(BASE, node('d', 'b', 4));
  assert.equal(shown(merged(one, other)), 'abc');
  assert.equal(shown(merged(other, one)), 'abd');
  assert.deepEqual(merged(one, other).children, merged(other, one).children);
  assert.deepEqual(merged(one, one), one);
});

test('what one tab removed does not come back from the other, nor what hung on it', () => {
  const less = remove(BASE, 'b');
  const more = add(BASE, node('c', 'b', 3));
  assert.equal(shown(merged(less, more)), 'a');
  assert.equal(shown(merged(more, less)), 'a');
});

test('a removal that was undone is undone in every tab', () => {
  const less = remove(BASE, 'b');
  const back = restored(BASE, less, 'b');
  assert.equal(shown(merged(back, less)), 'ab');
  assert.equal(shown(merged(less, back)), 'ab');
  assert.equal(shown(merged(remove(back, 'b'), back)), 'a');
});

test('of two states of an answer the later one counts', () => {
  const at = (fields) => together([node('a', '', 1, { role: 'assistant', ...fields })]);
  const after = (one, other) => merged(at(one), at(other)).nodes.a;
  const whole = { text: 'all of it', state: 'done' };
  const half = { text: 'all', state: 'stopped' };
  assert.equal(after(half, whole).state, 'done');
  assert.equal(after(whole, half).state, 'done');
  assert.equal(after({ text: 'all of', state: 'answering' }, { text: 'al', state: 'answering' }).text, 'all of');
  assert.equal(after({ text: '', state: 'waiting', attempt: 2 }, { text: '', state: 'refused' }).state, 'waiting');
});
