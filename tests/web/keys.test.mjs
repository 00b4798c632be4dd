import assert from 'node:assert/strict';
import { test } from 'node:test';
import { command } from '../../src/standpipe/web/js/chat/keys.js';

const BOX = { id: 'draft' };
const FACTS = { running: false, open: false, empty: false, typing: true, coarse: false };

test('Enter sends, but not with Shift, not at the end of a composition, and not where fingers write', () => {
  assert.equal(command({ key: 'Enter', target: BOX }, FACTS), 'send');
  assert.equal(command({ key: 'Enter', target: BOX, shiftKey: true }, FACTS), undefined);
  assert.equal(command({ key: 'Enter', target: BOX, isComposing: true }, FACTS), undefined);
  assert.equal(command({ key: 'Enter', target: BOX, keyCode: 229 }, FACTS), undefined);
  assert.equal(command({ key: 'Enter', target: BOX }, { ...FACTS, coarse: true }), undefined);
});

test('Escape stops an answer before it closes anything', () => {
  assert.equal(command({ key: 'Escape' }, { ...FACTS, running: true, open: true }), 'stop');
  assert.equal(command({ key: 'Escape' }, { ...FACTS, open: true }), 'close');
  assert.equal(command({ key: 'Escape' }, FACTS), undefined);
});
