// Keeps the page's conversation in the history, and the list beside it up to date. Owns one timer.

import { forget, remember } from '../page/live.js';
import { openHistory } from './history.js';
import { path } from './tree.js';

const SOON = 800; // milliseconds from a change to its writing
export const OPEN = 'standpipe.open'; // the conversation that this tab shows

export class Keeper {
  #state;
  #dispatch;
  #history = null;
  #timer = 0;

  constructor(state, dispatch) {
    this.#state = state;
    this.#dispatch = dispatch;
  }

  async open() {
    this.#history = await openHistory();
    await this.refresh();
  }

  /** Keeps the conversation as it is. One that says nothing is not kept. */
  async save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { talk } = this.#state();
    if (this.#history && path(talk.tree).length) await this.put(talk);
  }

  /** Keeps it after a moment, for changes that come in numbers. */
  saveSoon() {
    this.#timer ||= setTimeout(() => void this.save(), SOON);
  }

  async put(talk) {
    remember('sessionStorage', OPEN, talk.id);
    const others = this.#state().list.filter(({ id }) => id !== talk.id);
    this.#dispatch({ type: 'list', list: [talk, ...others].sort((a, b) => b.updated - a.updated) });
    await this.#history.put(talk);
  }

  async remove(id) {
    await this.#history.remove(id);
    await this.refresh();
  }

  async clear() {
    await this.#history.clear();
    await this.refresh();
  }

  get(id) {
    return this.#history.get(id);
  }

  all() {
    return this.#history.all();
  }

  /** Looks anew what is kept: another tab may have changed it. */
  async refresh() {
    if (this.#history) this.#dispatch({ type: 'list', list: await this.#history.all() });
  }

  /** No conversation is this tab's own any more. */
  leave() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    forget('sessionStorage', OPEN);
  }
}
