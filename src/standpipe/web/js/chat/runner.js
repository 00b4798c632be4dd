// Runs requests for the page: sends, batches what comes into one dispatch per frame, looks up the place in the queue,
// retries when a refusal says when. Owns what must be stopped: one fetch and its timers.

import { ask } from '../api/ask.js';
import { refusal } from '../api/stream.js';
import { t } from '../page/language.js';
import { api } from '../page/live.js';
import { continuation, excess, request } from './conversation.js';
import { runningTalk } from './store.js';
import { pathTo } from './tree.js';

const HIDDEN = 250; // milliseconds between batches while nobody looks, for then there are no frames
const LOOK = [1000, 2500, 4500, 7000]; // milliseconds after asking: when to look up the place, until the stream tells it
const MOST_RAW = 200_000; // characters of a raw response that are shown
const JITTER = 0.25; // of a wait, at most: those who were refused together do not come back together

export class Runner {
  #state;
  #dispatch;
  #ended;
  #control = null;
  #timers = new Set();
  #retry = 0;

  /** `state()` gives the page's state, `dispatch(action)` changes it, `ended(id)` is called when an answer is over. */
  constructor(state, dispatch, ended) {
    this.#state = state;
    this.#dispatch = dispatch;
    this.#ended = ended;
  }

  /** Asks for the answer that is under way. Never rejects. */
  async start() {
    const { running, tap } = this.#state();
    if (!running) return;
    const talk = runningTalk(this.#state());
    const node = talk.tree.nodes[running];
    const body = node.text
      ? continuation(talk, pathTo(talk.tree, node.id), node.changes)
      : request(talk, pathTo(talk.tree, node.parent), node.changes);
    const tooLong = excess(body, tap?.limits?.body_limit);
    if (tooLong) {
      this.#refused({ status: 413, code: 'too_large', message: tooLong });
      this.#ended(running);
      return;
    }
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
      this.#refused(error);
    } finally {
      raw.flush();
      if (this.#control === control) this.#clear();
      this.#ended(running);
    }
  }

  /** Stops the answer, or the wait for the next try. */
  stop() {
    const { running } = this.#state();
    clearTimeout(this.#retry);
    this.#control?.abort();
    this.#clear();
    this.#dispatch({ type: 'stopped', at: Date.now() });
    this.#ended(running);
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

  /** A refusal that says when to come back is waited out, as often as it takes, until somebody cancels. */
  #refused(error) {
    const known = error.status ? error : refusal(0, () => null, '');
    if (!error.status) known.message = t('Cannot reach the server. Are you online?');
    const at = Date.now();
    const { message, code, status } = known;
    const wait = known.wait ? known.wait * (1 + JITTER * Math.random()) : null;
    this.#dispatch({ type: 'refused', error: { message, code, status }, retryAt: wait && at + wait, at });
    if (wait) this.#retry = setTimeout(() => this.retry(), wait);
  }

  /** Headers come with the first event, up to seconds later; meanwhile another path tells the place in the queue. */
  #look() {
    for (const after of LOOK) {
      const timer = setTimeout(() => void this.#place(after), after);
      this.#timers.add(timer);
    }
  }

  async #place(after) {
    const signal = this.#control?.signal;
    const answer = await fetch(api('api/limits'), { signal }).then((response) => response.json()).catch(() => null);
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
