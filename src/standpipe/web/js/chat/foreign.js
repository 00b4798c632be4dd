// Exports of other chat pages (ChatGPT, Open WebUI, LibreChat) in the shape of our own file, which `portable` takes apart
// like any other. Pure, and trusts nothing: what is not as expected is left out. Only words are taken, no images.

/** The conversations of a parsed file, in our shape; undefined when nobody we know wrote it. */
export function foreign(file) {
  const all = Array.isArray(file) ? file : [file];
  const form = FORMS.find(({ is }) => all.some((one) => one && typeof one === 'object' && is(one)));
  return form && all.filter((one) => one && typeof one === 'object' && form.is(one)).map(form.read);
}

const FORMS = [
  { is: ({ mapping }) => isObject(mapping), read: chatgpt },
  { is: ({ chat, history }) => isObject((chat ?? {}).history ?? history), read: openWebui },
  { is: ({ conversationId, messages }) => conversationId !== undefined && Array.isArray(messages), read: librechat },
];

function chatgpt({ title, create_time: created, update_time: updated, mapping, current_node: last }) {
  const said = Object.entries(mapping).map(([id, node]) => {
    const { author, content, metadata, recipient = 'all' } = node?.message ?? {};
    const spoken = ['text', 'multimodal_text'].includes(content?.content_type) && recipient === 'all';
    const hidden = metadata?.is_visually_hidden_from_conversation === true;
    return {
      ...{ id, parent: node?.parent, role: author?.role, model: metadata?.model_slug, at: 1000 * node?.message?.create_time },
      text: spoken && !hidden ? list(content.parts).filter((part) => typeof part === 'string').join('\n\n') : '',
    };
  });
  return shaped({ title, created: 1000 * created, updated: 1000 * updated }, said, last);
}

const THOUGHT = /^\s*<details type="reasoning"[^>]*>\s*(?:<summary>[^<]*<\/summary>)?([\s\S]*?)<\/details>\s*/;

function openWebui({ title, pinned, created_at: created, updated_at: updated, chat, history }) {
  const { messages, currentId: last } = chat?.history ?? history;
  const said = Object.entries(messages ?? {}).map(([id, message]) => {
    const { parentId: parent, role, model, content, timestamp } = message ?? {};
    const text = words(content);
    const thought = THOUGHT.exec(text)?.[1].replace(/^(?:&gt;|>) ?/gm, '').trim() ?? '';
    return { id, parent, role, model, at: 1000 * timestamp, text: text.replace(THOUGHT, ''), reasoning: thought };
  });
  const system = words(chat?.system ?? chat?.params?.system);
  return shaped({ title: title ?? chat?.title, pinned, created: 1000 * created, updated: 1000 * updated, system }, said, last);
}

function librechat({ title, options, messages }) {
  const said = [];
  const open = messages.map((message) => [message, message?.parentMessageId]);
  for (const [message, parent] of open) { // which grows meanwhile: answers may lie within what they answer
    const { messageId: id, text, content, isCreatedByUser, model, createdAt, children } = message ?? {};
    const parts = list(content);
    said.push({
      ...{ id, parent, model, role: isCreatedByUser ? 'user' : 'assistant', at: Date.parse(createdAt) },
      text: words(text) || parts.filter(({ type }) => type === 'text').map((part) => words(part.text)).join('\n\n'),
      reasoning: parts.filter(({ type }) => type === 'think').map(({ think }) => words(think)).join('\n\n'),
    });
    for (const child of list(children)) open.push([child, id]);
    if (open.length > MOST) break;
  }
  const { temperature, top_p: topP, promptPrefix } = options ?? {};
  return shaped({ title, system: words(promptPrefix), parameters: { temperature, top_p: topP } }, said, said.at(-1)?.id);
}

const MOST = 20_000; // messages of one conversation that are looked at

/** What was said, as our file has it: without those that say nothing, whose answers hang on what came before. */
function shaped(head, said, last) {
  const known = new Map(said.filter(({ id }) => typeof id === 'string').map((one) => [one.id, one]));
  const kept = ({ role, text }) => ['user', 'assistant'].includes(role) && text.trim() !== '';
  const above = (id) => {
    for (let left = known.size; left > 0 && known.has(id); left -= 1) {
      if (kept(known.get(id))) return id;
      id = known.get(id).parent;
    }
    return '';
  };
  const tree = { nodes: {}, children: {}, chosen: {} };
  for (const { id, parent, ...node } of known.values()) {
    if (!kept(node)) continue;
    tree.nodes[id] = node;
    (tree.children[above(parent)] ??= []).push(id);
  }
  let steps = known.size;
  for (let id = above(last); id && steps > 0; steps -= 1) {
    const parent = above(known.get(id).parent);
    tree.chosen[parent] = id;
    id = parent;
  }
  const system = said.find(({ role, text }) => role === 'system' && text.trim())?.text;
  return { ...head, title: words(head.title), system: head.system || system || '', tree };
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const list = (value) => (Array.isArray(value) ? value : []);

/** A text; some pages put one into an object. */
function words(value) {
  if (typeof value === 'string') return value;
  return typeof value?.value === 'string' ? value.value : '';
}
