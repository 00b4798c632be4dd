// Bytes of an answer to events, incrementally. Pure: knows no fetch, no page, no clock.
//
// The stream is server-sent events whose data are chat completion chunks. Each chunk becomes small events of our own:
// waiting, reasoning, text, tool, finished, usage, failed. `[DONE]` becomes whole: without it, an answer broke off.

/** Splits a stream of text into the data of its server-sent events, wherever the text was cut. */
export class Frames {
  #rest = '';
  #data = [];

  /** Takes more text; gives the data of every event that is complete now. */
  feed(text) {
    const found = [];
    this.#rest += text;
    let start = 0;
    const end = /\r\n|\n|\r(?!$)/g; // a last \r may be half of \r\n
    for (let match; (match = end.exec(this.#rest)); start = end.lastIndex) {
      this.#line(this.#rest.slice(start, match.index), found);
    }
    this.#rest = this.#rest.slice(start);
    return found;
  }

  #line(line, found) {
    if (line === '') {
      if (this.#data.length) found.push(this.#data.join('\n'));
      this.#data = [];
    } else if (line.startsWith('data:')) {
      this.#data.push(line.slice(line[5] === ' ' ? 6 : 5));
    }
  }
}

/** One event's data to a list of events. Data that cannot be read is a failure, never an exception. */
export function events(data) {
  if (data === '[DONE]') return [{ type: 'whole' }];
  const chunk = parse(data);
  if (chunk === undefined) return [{ type: 'failed', message: 'The server sent something this page cannot read.' }];
  if (chunk.error) return [{ type: 'failed', message: sentence(chunk.error), code: chunk.error.code ?? null }];
  const found = [];
  if (chunk.model) found.push({ type: 'model', model: chunk.model });
  if (chunk.queue) {
    found.push({ type: 'waiting', position: chunk.queue.position, eta: chunk.queue.eta_seconds ?? null });
  }
  for (const choice of chunk.choices ?? []) said(choice.delta ?? {}, choice.finish_reason, found);
  if (chunk.usage) found.push(usage(chunk.usage));
  return found;
}

/** A whole answer's body to the events that its stream would have had. */
export function whole(body) {
  const answer = parse(body);
  const choice = answer?.choices?.[0];
  if (!choice) return [{ type: 'failed', message: 'The server sent something this page cannot read.' }];
  const found = [{ type: 'model', model: answer.model }];
  said(choice.message ?? {}, choice.finish_reason, found);
  if (answer.usage) found.push(usage(answer.usage));
  return [...found, { type: 'whole' }];
}

/** What a status of 400 or more says: a sentence, a code, and milliseconds until it makes sense to come back. */
export function refusal(status, header, body) {
  const error = parse(body)?.error ?? {};
  const wait = Number(header('retry-after-ms')) || Number(header('retry-after')) * 1000 || null;
  return {
    status,
    message: sentence(error, `The server answered with status ${status}.`),
    code: error.code ?? null,
    param: error.param ?? null,
    wait: status === 429 || status === 503 ? wait : null,
  };
}

function said(delta, finish, found) {
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  if (reasoning) found.push({ type: 'reasoning', text: reasoning });
  const text = delta.content || delta.refusal;
  if (text) found.push({ type: 'text', text });
  for (const call of delta.tool_calls ?? []) {
    found.push({ type: 'tool', name: call.function?.name ?? '', arguments: call.function?.arguments ?? '' });
  }
  if (finish) found.push({ type: 'finished', reason: finish });
}

function usage(counted) {
  return {
    type: 'usage',
    prompt: counted.prompt_tokens ?? null,
    completion: counted.completion_tokens ?? null,
    reasoning: counted.completion_tokens_details?.reasoning_tokens ?? null,
  };
}

function sentence(error, otherwise = 'The answer failed.') {
  return typeof error.message === 'string' && error.message ? error.message : otherwise;
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}
