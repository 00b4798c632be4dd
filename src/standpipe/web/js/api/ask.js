// One ask over fetch: sends, reads, tells. The only module that talks to POST /api.

import { api } from '../page/live.js';
import { Frames, events, refusal, whole } from './stream.js';

/** The server refused, before any answer. Carries what `refusal` found. */
export class Refused extends Error {
  constructor(reason) {
    super(reason.message);
    Object.assign(this, reason);
  }
}

/**
 * Asks once. Resolves when the answer is whole or has failed in the middle (the events say which), rejects with
 * Refused, with the AbortError of `signal`, or with a TypeError when there is no connection.
 *
 * @param {object} request the body, as POST /api takes it
 * @param {{signal?: AbortSignal, onHead?: Function, onRaw?: Function, onEvents: Function, path?: string}} how
 *   `onHead(response)` once, `onRaw(text)` for every piece of the body, `onEvents(list)` for every batch
 */
export async function ask(request, { signal, onHead, onRaw, onEvents, path = 'api' }) {
  const response = await fetch(api(path), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(request),
    signal,
  });
  onHead?.(response);
  const streamed = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (!response.ok || !streamed) {
    const body = await response.text();
    onRaw?.(body);
    if (!response.ok) throw new Refused(refusal(response.status, (name) => response.headers.get(name), body));
    onEvents(whole(body));
    return;
  }
  await follow(response.body, onRaw, onEvents);
}

async function follow(body, onRaw, onEvents) {
  const frames = new Frames();
  let ended = false;
  const decoder = new TextDecoder();
  const reader = body.getReader(); // without a pipe between: one would drop what came right before an unclean end
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === 'AbortError') throw error;
      return { done: true }; // an unclean end: what matters is whether the answer was whole by then
    });
    if (done) break;
    const text = decoder.decode(value, { stream: true });
    onRaw?.(text);
    const batch = frames.feed(text).flatMap(events);
    ended ||= batch.some((event) => event.type === 'whole');
    if (batch.length) onEvents(batch);
    if (batch.some((event) => event.type === 'failed')) {
      void reader.cancel().catch(() => {}); // what ends here ends unclean, and only after a moment
      return;
    }
  }
  if (!ended) onEvents([{ type: 'failed', message: 'The connection was lost before the answer was complete.', code: 'broken' }]);
}
