// What a reader can do on the chat page, each as one function: the view calls them, and so do keys. They know what
// happens in which order; what it does to the state is the store's business.

import { copy, remember } from '../page/live.js';
import { DEFAULTS } from './conversation.js';
import { isHere, runningTalk } from './store.js';
import { path } from './tree.js';

const LONG = 4000; // characters of a paste from which on it becomes an attachment
const MOST_FILE = 1_000_000; // bytes of a file

/** An id that nobody else has. `crypto.randomUUID` is there in secure contexts only. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('-');

const portable = () => import('./portable.js');

/** `page` is {state, dispatch, run, runner, keeper, open, notify, fetchProse, follow, panels}: see `main`. */
export function actions({ state, dispatch, run, runner, keeper, open, notify, fetchProse, follow, panels }) {
  const box = () => document.getElementById('draft');
  const show = (fields) => dispatch({ type: 'show', ...fields });
  const now = () => Date.now();

  /** Runs an action that asks for an answer, once no other answer is under way. */
  function ask(action) {
    if (!state().running) return run(action);
    if (isHere(state())) return undefined;
    const title = runningTalk(state())?.title || 'another conversation';
    const go = () => {
      runner.stop();
      run(action);
    };
    return notify(`An answer is still coming in “${title}”.`, { action: { label: 'Stop it and send', act: go } });
  }

  const act = {
    show,
    copy,
    async panel(name) {
      if (name) await panels();
      show({ panel: state().panel === name ? null : name });
    },
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
      const { draft: text, attached } = state();
      if (isHere(state()) || (!text.trim() && !attached.length)) return;
      ask({ type: 'send', text, attached, ids: [newId(), newId()], at: now() });
      requestAnimationFrame(() => fit(box()));
    },
    suggest(text, temperature) {
      if (state().running) return void ask({ type: 'send', text, ids: [newId(), newId()], at: now() });
      dispatch({ type: 'example', parameters: { temperature }, at: now() });
      run({ type: 'send', text, ids: [newId(), newId()], at: now() });
      box().focus();
    },
    regenerate: (node) => ask({ type: 'regenerate', id: node.id, newId: newId(), at: now() }),
    shorten(node) {
      if (state().running) return;
      dispatch({ type: 'shorten', id: node.id, at: now() });
      act.regenerate(node);
    },
    lengthen() {
      dispatch({ type: 'lengthen', at: now() });
      keeper.saveSoon();
    },

    /** A long paste becomes an attachment, so that the box stays a box. */
    pasted(event) {
      const text = event.clipboardData?.getData('text/plain') ?? '';
      if (text.length < LONG) return;
      event.preventDefault();
      act.attach('Pasted text', text);
    },
    attach(name, text) {
      fetchProse();
      show({ attached: [...state().attached, { name, text }] });
    },
    detach: (index) => show({ attached: state().attached.filter((_, at) => at !== index) }),
    async attachFiles(files) {
      for (const file of files) {
        if (file.size > MOST_FILE) {
          notify(`“${file.name}” is too large: ${MOST_FILE / 1_000_000} MB at most.`, { bad: true });
          continue;
        }
        const text = await file.text();
        if (/[\0\ufffd]/.test(text)) notify(`“${file.name}” is not a text file.`, { bad: true });
        else if (text.trim()) act.attach(file.name, text);
      }
      box().focus();
    },
    async dropped(event) {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      await act.attachFiles(event.dataTransfer.files);
    },

    edit(node) {
      dispatch({ type: 'editing', id: node.id, text: node.text });
      afterDraw(() => document.getElementById('edited')?.focus());
    },
    editLast() {
      const last = path(state().talk.tree).findLast((node) => node.role === 'user');
      if (last && !isHere(state())) act.edit(last);
    },
    cancelEdit() {
      dispatch({ type: 'editing', id: null });
      box().focus();
    },
    finishEdit(text, event) {
      event?.preventDefault();
      ask({ type: 'edit', id: state().editing.id, text, ids: [newId(), newId()], at: now() });
      box().focus();
    },
    step(node, by) {
      dispatch({ type: 'step', id: node.id, by });
      void keeper.save();
    },
    async remove(node) {
      const before = state().talk;
      dispatch({ type: 'remove', id: node.id, at: now() });
      const undo = () => {
        if (state().talk.id !== before.id) open(before);
        dispatch({ type: 'restore', before: before.tree, id: node.id, at: now() });
        show({ notice: null });
        void keeper.save();
      };
      notify('Message deleted.', { action: { label: 'Undo', act: undo } });
      if (path(state().talk.tree).length) await keeper.save();
      else await keeper.remove(before.id);
    },

    fresh() {
      follow();
      dispatch({ type: 'new', id: newId(), at: now() });
      keeper.leave();
      afterDraw(() => box().focus());
    },
    async open(id) {
      const { away } = state();
      const talk = away?.id === id ? away : await keeper.get(id);
      if (talk) open(talk);
    },
    async discard({ id }) {
      if (state().running && runningTalk(state())?.id === id) runner.stop();
      const talk = await keeper.get(id);
      if (state().away?.id === id) show({ away: null });
      if (id === state().talk.id) act.fresh();
      await keeper.remove(id);
      const undo = async () => {
        const back = { ...talk, updated: now() + 1 }; // later than its removal
        await keeper.put(back);
        open(back);
      };
      notify('Conversation deleted.', talk ? { action: { label: 'Undo', act: undo } } : {});
    },
    async clear() {
      if (state().running) runner.stop();
      act.fresh();
      show({ away: null });
      await keeper.clear();
    },

    parameter(name, value) {
      dispatch({ type: 'parameter', name, value, at: now() });
      keeper.saveSoon();
    },
    defaults() {
      dispatch({ type: 'parameters', parameters: DEFAULTS, at: now() });
      keeper.saveSoon();
    },
    system(text) {
      dispatch({ type: 'system', text, at: now() });
      keeper.saveSoon();
    },
    language(id) {
      remember('localStorage', 'standpipe.language', id);
      show({ language: id });
    },
    search: (text) => keeper.search(text),

    async share() {
      try {
        const { toFragment } = await portable();
        const link = `${location.origin}${location.pathname}#${await toFragment(state().talk)}`;
        await copy(link);
        const long = link.length > 8000;
        notify(long ? 'Link copied. It is very long, so some programs may cut it off.' : 'Link copied. Anyone who has it can read this conversation.');
      } catch (error) {
        notify(error.message, { bad: true });
      }
    },
    async exportOne() {
      download(fileName(state().talk, 'json'), (await portable()).toJson([state().talk]), 'application/json');
    },
    async exportMarkdown() {
      download(fileName(state().talk, 'md'), (await portable()).toMarkdown(state().talk), 'text/markdown');
    },
    async exportAll() {
      await keeper.save();
      download('conversations.json', (await portable()).toJson(await keeper.all()), 'application/json');
    },
    async import({ target }) {
      const [file] = target.files;
      if (!file) return;
      try {
        const { fromJson } = await portable();
        const talks = fromJson(await file.text(), newId, now());
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
