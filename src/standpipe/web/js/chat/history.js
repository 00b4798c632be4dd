// Conversations in this browser and nowhere else: IndexedDB, or memory where the browser keeps nothing.

const NAME = 'standpipe';
const TABLE = 'conversations';

/** Opens the history. `lasting` tells whether it outlives the page. */
export async function openHistory() {
  try {
    return new Kept(await request(openDatabase()));
  } catch {
    return new Remembered();
  }
}

class Kept {
  lasting = true;
  #database;

  constructor(database) {
    this.#database = database;
  }

  /** All conversations, the one that changed last first. */
  async all() {
    const talks = await request(this.#table('readonly').getAll());
    return talks.map(settled).sort((a, b) => b.updated - a.updated);
  }

  async get(id) {
    const talk = await request(this.#table('readonly').get(id));
    return talk && settled(talk);
  }

  async put(talk) {
    await request(this.#table('readwrite').put(talk));
  }

  async remove(id) {
    await request(this.#table('readwrite').delete(id));
  }

  async clear() {
    await request(this.#table('readwrite').clear());
  }

  #table(mode) {
    return this.#database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

class Remembered {
  lasting = false;
  #talks = new Map();

  async all() {
    return [...this.#talks.values()].sort((a, b) => b.updated - a.updated);
  }

  async get(id) {
    return this.#talks.get(id);
  }

  async put(talk) {
    this.#talks.set(talk.id, talk);
  }

  async remove(id) {
    this.#talks.delete(id);
  }

  async clear() {
    this.#talks.clear();
  }
}

/** An answer that was under way when its page was left is one that was stopped. */
function settled(talk) {
  const nodes = Object.values(talk.tree.nodes).map((node) =>
    ['waiting', 'answering'].includes(node.state) ? [node.id, { ...node, state: 'stopped', queue: null }] : [node.id, node],
  );
  return { ...talk, tree: { ...talk.tree, nodes: Object.fromEntries(nodes) } };
}

function openDatabase() {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: 'id' });
  return opening;
}

function request(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error('blocked'));
  });
}
