// A worker: searches all conversations in this browser for words, so that typing in the page never waits for it.

import { matches } from './conversation.js';
import { eachTalk, openDatabase } from './history.js';

let opened;
let latest = 0;

addEventListener('message', async ({ data: { query, serial } }) => {
  latest = serial;
  const found = [];
  try {
    opened ??= openDatabase();
    await eachTalk(await opened, (talk) => {
      if (latest === serial && matches(talk, query)) found.push(talk.id);
    });
  } catch {
    opened = undefined;
  }
  if (latest === serial) postMessage({ serial, found });
});
