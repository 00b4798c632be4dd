// Runs asks for the page: sends, batches what comes into one dispatch per frame, looks up the place in line, retries
// when a refusal says when. Owns what must be stopped: one fetch and its timers.

import { ask } from '../api/ask.js';
import { refusal } from '../api/stream.js';
import { request } from './conversation.js';
import { pathTo } from './tree.js';

const TRIES = 6; // asks for one answer, the first included
const HIDDEN = 250; // milliseconds between batches while nobody looks, for then there are no frames
const LOOK = [1000, 2500, 4500, 7000]; // milliseconds after asking: when to look up the place, until the stream tells it
const MOST_RAW = 200_000; // characters of a raw response that are shown

export class Runner {
  #state;
  #dispatch;
  #ended;
  #control = null;
  #timers = new Set();
  #retry = 0;

  /** `state()` gives the page's state, `dispatch(action)` changes it, `ended()` is called when an answer is over. */
  constructor(state, dispatch, ended) {
    this.#state = state;
    this.#dispatch = dispatch;
    this.#ended = ended;
  }

  /** Asks for the answer that is under way. Never rejects. */
  async start() {
    const { talk, running } = this.#state();
    if (!running) return;
    const node = talk.tree.nodes[running];
    const body = request(talk, pathTo(talk.tree, node.parent));
    const batches = new Batches((events) => this.#dispatch({ type: 'events', events, at: Date.now() }));
    const raw = new Raw((text) => this.#dispatch({ type: 'raw', raw: { body: text } }));
    const control = new AbortController();
    this.#control = control;
    this.#dispatch({ type: 'raw', raw: { request: JSON.stringify(body, null, 2), status: null, headers: '', body: '' } });
    this.#look();
    try {
      // The engine's own count of tokens is asked for as well; the samples do without.
      const asked = body.stream ? { ...body, stream_options: { include_usage: true } } : body;
      await ask(asked, {
        signal: control.signal,
        onHead: (response) => this.#head(response),
        onRaw: (text) => raw.add(text),
        onEvents: (events) => batches.add(events),
      });
      batches.flush();
      this.#dispatch({ type: 'ended', at: Date.now() });
    } catch (error) {
      batches.flush();
      if (control.signal.aborted) return;
      this.#refused(error, node.attempt ?? 1);
    } finally {
      raw.flush();
      if (this.#control === control) this.#clear();
      this.#ended();
    }
  }

  /** Stops the answer, or the wait for the next try. */
  stop() {
    clearTimeout(this.#retry);
    this.#control?.abort();
    this.#clear();
    this.#dispatch({ type: 'stopped', at: Date.now() });
    this.#ended();
  }

  /** Tries again at once, instead of at the time that was told. */
  retry() {
    clearTimeout(this.#retry);
    this.#dispatch({ type: 'retry', at: Date.now() });
    void this.start();
  }

  #head(response) {
    const waited = Number(response.headers.get('x-standpipe-waited'));
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
    this.#dispatch({ type: 'head', waited: Number.isFinite(waited) ? waited : null, status: response.status, headers });
  }

  #refused(error, attempt) {
    const known = error.status ? error : refusal(0, () => null, '');
    if (!error.status) known.message = 'Cannot reach the server. Are you online?';
    const again = known.wait && attempt < TRIES;
    const at = Date.now();
    const { message, code, status } = known;
    this.#dispatch({ type: 'refused', error: { message, code, status }, retryAt: again ? at + known.wait : null, at });
    if (again) this.#retry = setTimeout(() => this.retry(), known.wait);
  }

  /** Headers come with the first event, up to seconds later; meanwhile another path tells the place in line. */
  #look() {
    for (const after of LOOK) {
      const timer = setTimeout(() => void this.#place(after), after);
      this.#timers.add(timer);
    }
  }

  async #place(after) {
    const signal = this.#control?.signal;
    const answer = await fetch('/api/limits', { signal }).then((response) => response.json()).catch(() => null);
    const mine = answer?.requests?.toSorted?.((a, b) => Math.abs(a.waited_seconds - after / 1000) - Math.abs(b.waited_seconds - after / 1000));
    if (mine?.length && !signal?.aborted) {
      this.#dispatch({ type: 'queue', position: mine[0].position, eta: mine[0].eta_seconds, at: Date.now() });
    }
  }

  #clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#control = null;
  }
}

/** Collects events and hands them on once per frame. */
class Batches {
  #events = [];
  #frame = 0;
  #timer = 0;
  #take;

  constructor(take) {
    this.#take = take;
  }

  add(events) {
    this.#events.push(...events);
    if (this.#frame || this.#timer) return;
    if (document.hidden) this.#timer = setTimeout(() => this.flush(), HIDDEN);
    else this.#frame = requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = this.#timer = 0;
    const events = this.#events;
    this.#events = [];
    if (events.length) this.#take(events);
  }
}

/** Collects the raw response, and hands its beginning on twice a second: nobody reads it faster. */
class Raw {
  #text = '';
  #timer = 0;
  #take;

  constructor(take) {
    this.#take = take;
  }

  add(text) {
    if (this.#text.length < MOST_RAW) this.#text += text;
    this.#timer ||= setTimeout(() => this.flush(), 500);
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const cut = this.#text.length > MOST_RAW;
    this.#take(cut ? `${this.#text.slice(0, MOST_RAW)}\n… (truncated)` : this.#text);
  }
}
