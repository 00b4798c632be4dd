// Conversations in this browser and nowhere else: IndexedDB, or memory where the browser keeps nothing.
//
// A change counts when its transaction is complete. What is put is merged with what is there, in one transaction, so
// that two tabs with one conversation lose nothing; a removal leaves a mark, so that another tab does not bring back
// what was removed, unless somebody went on with it later.

import { head, merge } from './conversation.js';

const NAME = 'standpipe';
const TALKS = 'conversations';
const HEADS = 'heads'; // what the list shows, so that it never reads whole conversations
const GONE = 'gone'; // {id, at} of what was removed
const FORGET = 30 * 86_400_000; // milliseconds after which such a mark goes

/** Opens the history. `lasting` tells whether it outlives the page. */
export async function openHistory(now) {
  try {
    const kept = new Kept(await openDatabase());
    await kept.tidy(now - FORGET);
    return kept;
  } catch {
    return new Remembered();
  }
}

class Kept {
  lasting = true;
  #database;

  constructor(database) {
    this.#database = database;
    database.onversionchange = () => database.close(); // another tab has a newer page
  }

  /** What the list shows, the conversation that changed last first. */
  async heads() {
    return newestFirst(await answer(this.#tables([HEADS], 'readonly')[HEADS].getAll()));
  }

  async all() {
    return newestFirst((await answer(this.#tables([TALKS], 'readonly')[TALKS].getAll())).map(settled));
  }

  /** One conversation. An answer that is under way in another tab is given as it is when `live` is its id. */
  async get(id, live) {
    const talk = await answer(this.#tables([TALKS], 'readonly')[TALKS].get(id));
    return talk && settled(talk, live);
  }

  /** Merges a conversation into what is kept; gives the whole, or undefined when it was removed since it changed. */
  async put(talk) {
    const { tables, complete } = this.#change([TALKS, HEADS, GONE]);
    const gone = await answer(tables[GONE].get(talk.id));
    if (gone && gone.at >= talk.updated) return undefined;
    const there = await answer(tables[TALKS].get(talk.id));
    const whole = there ? merge(talk, { ...there, tree: { gone: {}, ...there.tree } }) : talk;
    tables[TALKS].put(whole);
    tables[HEADS].put(head(whole));
    if (gone) tables[GONE].delete(talk.id);
    await complete;
    return whole;
  }

  async remove(id, at) {
    const { tables, complete } = this.#change([TALKS, HEADS, GONE]);
    tables[TALKS].delete(id);
    tables[HEADS].delete(id);
    tables[GONE].put({ id, at });
    await complete;
  }

  async clear(at) {
    const { tables, complete } = this.#change([TALKS, HEADS, GONE]);
    for (const id of await answer(tables[HEADS].getAllKeys())) tables[GONE].put({ id, at });
    tables[TALKS].clear();
    tables[HEADS].clear();
    await complete;
  }

  /** Forgets marks of what was removed before an instant. */
  async tidy(before) {
    const { tables, complete } = this.#change([GONE]);
    for (const { id, at } of await answer(tables[GONE].getAll())) if (at < before) tables[GONE].delete(id);
    await complete;
  }

  #tables(names, mode) {
    const transaction = this.#database.transaction(names, mode);
    return Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)]));
  }

  #change(names) {
    const transaction = this.#database.transaction(names, 'readwrite');
    const complete = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error('aborted'));
    });
    complete.catch(() => {}); // whoever awaits it hears of it; a request before may have failed first
    return { tables: Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)])), complete };
  }
}

/** The same in memory, for browsers that keep nothing: private windows, blocked storage. */
class Remembered {
  lasting = false;
  #talks = new Map();

  async heads() {
    return newestFirst([...this.#talks.values()].map(head));
  }

  async all() {
    return newestFirst([...this.#talks.values()]);
  }

  async get(id) {
    return this.#talks.get(id);
  }

  async put(talk) {
    this.#talks.set(talk.id, talk);
    return talk;
  }

  async remove(id) {
    this.#talks.delete(id);
  }

  async clear() {
    this.#talks.clear();
  }
}

const newestFirst = (talks) => talks.sort((one, other) => other.updated - one.updated);

/** An answer that was under way when its page was left is one that was stopped. */
function settled(talk, live) {
  const nodes = Object.values(talk.tree.nodes).map((node) =>
    ['waiting', 'answering'].includes(node.state) && node.id !== live
      ? [node.id, { ...node, state: 'stopped', queue: null }]
      : [node.id, node],
  );
  return { ...talk, tree: { gone: {}, ...talk.tree, nodes: Object.fromEntries(nodes) } };
}

/** Opens the database, and makes it what it is to be. */
export function openDatabase() {
  const opening = indexedDB.open(NAME, 2);
  opening.onupgradeneeded = () => {
    const { result: database, transaction } = opening;
    if (!database.objectStoreNames.contains(TALKS)) database.createObjectStore(TALKS, { keyPath: 'id' });
    database.createObjectStore(GONE, { keyPath: 'id' });
    const heads = database.createObjectStore(HEADS, { keyPath: 'id' });
    const every = transaction.objectStore(TALKS).openCursor();
    every.onsuccess = () => {
      if (!every.result) return;
      heads.put(head(every.result.value));
      every.result.continue();
    };
  };
  return answer(opening);
}

/** Calls `see` with each conversation, one at a time. */
export async function eachTalk(database, see) {
  const every = database.transaction([TALKS], 'readonly').objectStore(TALKS).openCursor();
  await new Promise((resolve, reject) => {
    every.onerror = () => reject(every.error);
    every.onsuccess = () => {
      if (!every.result) return resolve();
      see(every.result.value);
      return every.result.continue();
    };
  });
}

function answer(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error('blocked'));
  });
}
