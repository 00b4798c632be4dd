import assert from 'node:assert/strict';
import { test } from 'node:test';
import { add, change, EMPTY, leaf, path, pathTo, place, remove, step } from '../../src/standpipe/web/js/chat/tree.js';

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
  assert.deepEqual(none, EMPTY);
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
