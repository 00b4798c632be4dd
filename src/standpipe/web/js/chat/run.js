// What happens to one answer while it comes: events to the fields of its node. Pure; times are milliseconds.
//
// A node's `state` is waiting, answering, done, stopped, failed or refused. `facts` are what is shown below it.

/** The fields of an answer that was just asked for. `before` is what there is already of one that shall go on. */
export function asked(at, { text = '', reasoning = '' } = {}) {
  return { text, reasoning, state: 'waiting', queue: null, error: null, model: null, facts: { asked: at } };
}

/** The fields after a batch of events that came at one instant. */
export function after(node, events, at) {
  const next = { ...node, facts: { ...node.facts } };
  for (const event of events) take(next, event, at);
  return next;
}

function take(node, event, at) {
  switch (event.type) {
    case 'model':
      node.model = event.model;
      break;
    case 'waiting':
      node.queue = { position: event.position, eta: event.eta, at };
      break;
    case 'reasoning':
      begin(node, at);
      node.reasoning += event.text;
      break;
    case 'text':
      begin(node, at);
      node.facts.spoke ??= at;
      node.text += event.text;
      break;
    case 'tool':
      begin(node, at);
      node.text += event.name ? `\n\`${event.name}\` ${event.arguments}` : event.arguments;
      break;
    case 'finished':
      node.facts.finish = event.reason;
      break;
    case 'usage':
      Object.assign(node.facts, { prompt: event.prompt, completion: event.completion, thought: event.reasoning });
      break;
    case 'whole':
      end(node, 'done', at);
      break;
    case 'failed':
      end(node, 'failed', at);
      node.error = { message: event.message, code: event.code ?? null };
      break;
  }
}

function begin(node, at) {
  node.state = 'answering';
  node.queue = null;
  node.facts.first ??= at;
  node.facts.last = at;
  node.facts.pieces = (node.facts.pieces ?? 0) + 1;
}

/** Ends an answer in place: its state, and the instant. */
function end(node, state, at) {
  node.state = state;
  node.queue = null;
  node.facts.ended = at;
}

/** The fields of an answer that its reader stopped. */
export function stopped(node, at) {
  const next = { ...node, facts: { ...node.facts } };
  end(next, 'stopped', at);
  return next;
}

/** The fields of an answer that was refused; `retryAt` is the instant of the next try, null when there is none. */
export function refused(node, error, retryAt, at) {
  const next = { ...node, facts: { ...node.facts }, error: { ...error, retryAt } };
  end(next, 'refused', at);
  return next;
}

/** What is told of an answer, in numbers: milliseconds to the first token, tokens, tokens per second. */
export function figures({ facts }) {
  const tokens = facts.completion ?? facts.pieces ?? 0;
  const seconds = facts.first === undefined ? 0 : (facts.last - facts.first) / 1000;
  return {
    first: facts.first === undefined ? null : facts.first - facts.asked,
    tokens,
    rate: seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : null,
    waited: facts.waited ?? null,
    total: facts.ended === undefined ? null : facts.ended - facts.asked,
  };
}

/** Milliseconds that remain of a predicted wait, which was told some time ago; null when none was told. */
export function remaining(queue, now) {
  return queue?.eta == null ? null : Math.max(0, queue.eta * 1000 - (now - queue.at));
}
