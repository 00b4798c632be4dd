// Keeps conversations in the history, the list beside them up to date, and other tabs informed. When something cannot be
// kept it says so in `keeping`, and holds on to it, so that it can still be exported. Owns one timer, one channel and one
// worker.

import { head, matches } from './conversation.js';
import { openHistory } from './history.js';
import { runningTalk } from './store.js';
import { path } from './tree.js';

const SOON = 800; // milliseconds from a change to its writing

export class Keeper {
  #state;
  #dispatch;
  #history = null;
  #timer = 0;
  #unkept = new Map(); // conversations that could not be written, by id
  #tabs = globalThis.BroadcastChannel ? new BroadcastChannel('standpipe.conversations') : null;
  #finder = null;
  #serial = 0;

  /** `removed(id)` is called when another tab removed a conversation; null: all of them. */
  constructor(state, dispatch, removed) {
    this.#state = state;
    this.#dispatch = dispatch;
    this.#tabs?.addEventListener('message', ({ data }) => void this.#heard(data, removed));
  }

  async open() {
    this.#history = await openHistory(Date.now());
    if (!this.#history.lasting) this.#say('memory');
    await this.refresh();
  }

  /** Keeps what is shown and what was answered meanwhile. A conversation that says nothing is not kept. Never rejects. */
  async save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (!this.#history) return;
    const { talk, away } = this.#state();
    for (const one of [talk, away]) if (one && path(one.tree).length) await this.put(one);
  }

  /** Keeps it after a moment, for changes that come in numbers. */
  saveSoon() {
    this.#timer ||= setTimeout(() => void this.save(), SOON);
  }

  /** Keeps one conversation. Never rejects: what cannot be kept is told. */
  async put(talk) {
    const { list, running } = this.#state();
    const others = list.filter(({ id }) => id !== talk.id);
    this.#dispatch({ type: 'list', list: [head(talk), ...others].sort((a, b) => b.updated - a.updated) });
    try {
      const whole = await this.#history.put(talk);
      this.#unkept.delete(talk.id);
      if (!this.#unkept.size && this.#history.lasting) this.#say('kept');
      const live = running && runningTalk(this.#state())?.id === talk.id ? running : null;
      this.#tabs?.postMessage({ kept: talk.id, live });
      if (whole && Object.keys(whole.tree.nodes).length !== Object.keys(talk.tree.nodes).length) {
        this.#dispatch({ type: 'merge', talk: whole });
      }
      void ask();
    } catch (error) {
      this.#unkept.set(talk.id, talk);
      this.#say(error?.name === 'QuotaExceededError' ? 'full' : 'failed');
    }
  }

  async remove(id) {
    this.#unkept.delete(id);
    await this.#change(() => this.#history.remove(id, Date.now()));
    this.#tabs?.postMessage({ removed: id });
  }

  async clear() {
    this.#unkept.clear();
    await this.#change(() => this.#history.clear(Date.now()));
    this.#tabs?.postMessage({ removed: null });
  }

  async get(id) {
    return this.#unkept.get(id) ?? this.#history.get(id);
  }

  /** All conversations, also those that could not be written. */
  async all() {
    const kept = await this.#history.all().catch(() => []);
    return [...this.#unkept.values(), ...kept.filter(({ id }) => !this.#unkept.has(id))];
  }

  /** Looks anew what is kept: another tab may have changed it. */
  async refresh() {
    if (!this.#history) return;
    const heads = await this.#history.heads().catch(() => []);
    const unkept = [...this.#unkept.values()].map(head);
    const list = [...unkept, ...heads.filter(({ id }) => !this.#unkept.has(id))];
    this.#dispatch({ type: 'list', list: list.sort((a, b) => b.updated - a.updated) });
  }

  /** Finds the conversations that have a query, in a worker; an empty query is none. */
  async search(query) {
    const serial = (this.#serial += 1);
    const show = (found) => serial === this.#serial && this.#dispatch({ type: 'show', found });
    this.#dispatch({ type: 'show', query });
    if (!query.trim()) show(null);
    else if (!this.#history?.lasting) show((await this.all()).filter((talk) => matches(talk, query)).map(({ id }) => id));
    else {
      this.#finder ??= finder((data) => data.serial === this.#serial && this.#dispatch({ type: 'show', found: data.found }));
      this.#finder.postMessage({ query, serial });
    }
  }

  async #change(act) {
    await act().catch(() => this.#say('failed'));
    await this.refresh();
  }

  async #heard({ kept, live, removed }, tell) {
    await this.refresh();
    if (kept === undefined) return tell(removed);
    const { talk, away } = this.#state();
    if (kept !== talk.id && kept !== away?.id) return undefined;
    const now = await this.#history.get(kept, live).catch(() => undefined);
    if (now) this.#dispatch({ type: 'merge', talk: now });
    return undefined;
  }

  #say(keeping) {
    if (this.#state().keeping !== keeping) this.#dispatch({ type: 'show', keeping });
  }
}

let asked = false;

/** Asks the browser once not to throw conversations away when space is short. */
async function ask() {
  if (asked) return;
  asked = true;
  await navigator.storage?.persist?.().catch(() => false);
}

/** A worker may only come from this very folder: the page's policy wants that said. */
function finder(take) {
  const address = new URL('search.js', import.meta.url).href;
  const policy = globalThis.trustedTypes?.createPolicy('standpipe', {
    createScriptURL(url) {
      if (url !== address) throw new TypeError('not ours');
      return url;
    },
  });
  const worker = new Worker(policy ? policy.createScriptURL(address) : address, { type: 'module' });
  worker.addEventListener('message', ({ data }) => take(data));
  return worker;
}
