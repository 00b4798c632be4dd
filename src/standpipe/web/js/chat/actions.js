// What a reader can do on the chat page, each as one function: the view calls them, and so do keys. They know what
// happens in which order; what it does to the state is the store's business.

import { copy, remember } from '../page/live.js';
import { DEFAULTS } from './conversation.js';
import { fromJson, toFragment, toJson, toMarkdown } from './portable.js';
import { path } from './tree.js';

export const newId = () => crypto.randomUUID();

/** `page` is {state, dispatch, run, runner, keeper, open, notify, fetchProse, follow}: see `main`. */
export function actions({ state, dispatch, run, runner, keeper, open, notify, fetchProse, follow }) {
  const box = () => document.getElementById('draft');
  const show = (fields) => dispatch({ type: 'show', ...fields });
  let discarded = null;

  const act = {
    show,
    copy,
    panel: (name) => show({ panel: state().panel === name ? null : name }),
    current: (name) => state().talk.parameters[name],
    stop: () => runner.stop(),
    retryNow: () => runner.retry(),

    typed({ target }) {
      fetchProse();
      show({ draft: target.value });
      fit(target);
    },
    submit(event) {
      event.preventDefault();
      if (state().running || !state().draft.trim()) return;
      run({ type: 'send', text: state().draft, ids: [newId(), newId()], at: Date.now() });
      requestAnimationFrame(() => fit(box()));
    },
    suggest(text, temperature) {
      dispatch({ type: 'parameter', name: 'temperature', value: temperature });
      run({ type: 'send', text, ids: [newId(), newId()], at: Date.now() });
      box().focus();
    },
    regenerate: (node) => run({ type: 'regenerate', id: node.id, newId: newId(), at: Date.now() }),

    edit(node) {
      dispatch({ type: 'editing', id: node.id, text: node.text });
      afterDraw(() => document.getElementById('edited')?.focus());
    },
    editLast() {
      const last = path(state().talk.tree).findLast((node) => node.role === 'user');
      if (last && !state().running) act.edit(last);
    },
    cancelEdit() {
      dispatch({ type: 'editing', id: null });
      box().focus();
    },
    finishEdit(text, event) {
      event?.preventDefault();
      run({ type: 'edit', id: state().editing.id, text, ids: [newId(), newId()], at: Date.now() });
      box().focus();
    },
    step(node, by) {
      dispatch({ type: 'step', id: node.id, by });
      void keeper.save();
    },
    async remove(node) {
      discarded = state().talk;
      dispatch({ type: 'remove', id: node.id, at: Date.now() });
      if (path(state().talk.tree).length) await keeper.save();
      else await keeper.remove(discarded.id);
      notify('Message deleted.', { undo: true });
    },

    fresh() {
      if (state().running) runner.stop();
      follow();
      dispatch({ type: 'new', id: newId(), at: Date.now() });
      keeper.leave();
      afterDraw(() => box().focus());
    },
    async open(id) {
      const talk = await keeper.get(id);
      if (talk) open(talk);
    },
    async discard(talk) {
      discarded = talk;
      if (talk.id === state().talk.id) act.fresh();
      await keeper.remove(talk.id);
      notify('Conversation deleted.', { undo: true });
    },
    async undo() {
      await keeper.put(discarded);
      open(discarded);
    },
    async clear() {
      act.fresh();
      await keeper.clear();
    },

    parameter(name, value) {
      dispatch({ type: 'parameter', name, value });
      keeper.saveSoon();
    },
    defaults() {
      dispatch({ type: 'parameters', parameters: DEFAULTS });
      keeper.saveSoon();
    },
    system(text) {
      dispatch({ type: 'system', text });
      keeper.saveSoon();
    },
    language(id) {
      remember('localStorage', 'standpipe.language', id);
      show({ language: id });
    },

    async share() {
      const link = `${location.origin}/chat#${await toFragment(state().talk)}`;
      await copy(link);
      const long = link.length > 8000;
      notify(long ? 'Link copied. It is very long, so some programs may cut it off.' : 'Link copied. Anyone who has it can read this conversation.');
    },
    exportOne: () => download(fileName(state().talk, 'json'), toJson([state().talk]), 'application/json'),
    exportMarkdown: () => download(fileName(state().talk, 'md'), toMarkdown(state().talk), 'text/markdown'),
    exportAll: async () => download('conversations.json', toJson(await keeper.all()), 'application/json'),
    async import({ target }) {
      const [file] = target.files;
      if (!file) return;
      try {
        const talks = fromJson(await file.text(), newId, Date.now());
        for (const talk of talks) await keeper.put(talk);
        if (talks.length) open(talks[0]);
        notify(`${talks.length} conversation${talks.length === 1 ? '' : 's'} imported.`);
      } catch (error) {
        notify(error.message, { bad: true });
      } finally {
        target.value = '';
      }
    },
  };
  return act;
}

/** As high as its text, up to what the style allows. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}

/** Once what was dispatched is on the page. */
export function afterDraw(act) {
  requestAnimationFrame(() => requestAnimationFrame(act));
}

function fileName(talk, ending) {
  return `${(talk.title || 'conversation').replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40)}.${ending}`;
}

function download(name, text, type) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
