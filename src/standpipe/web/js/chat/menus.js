// What opens above the page for a moment: menus, and dialogs. Fetched when the first one is opened. (state, act) to a
// template; changes nothing.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { t } from '../page/language.js';

/** The menu and the dialog, of which each is open or not. */
export function menus(state, act) {
  const items = state.menu ? MENUS[state.menu.name](state, act, state.menu.id) : nothing;
  return html`
    <div id="menu" class="menu" popover role="menu" aria-label=${t('More')} @toggle=${({ newState }) => newState === 'closed' && act.show({ menu: null })}
      @click=${(event) => event.currentTarget.hidePopover()} @keydown=${walk}>${items}</div>
    <dialog class="sheet" id="dialog" aria-labelledby="dialog-name" @close=${() => act.show({ dialog: null })} @click=${outside}>
      ${state.dialog ? DIALOGS[state.dialog.name](state, act) : nothing}
    </dialog>`;
}

function walk(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const items = [...event.currentTarget.querySelectorAll('button')];
  items.at((items.indexOf(document.activeElement) + by) % items.length).focus();
}

function item(name, act, hint) {
  return html`<button type="button" role="menuitem" @click=${act}>${name}${hint ? html`<small>${hint}</small>` : nothing}</button>`;
}

const MENUS = {
  share: (_, act) => html`
    ${item(t('Copy a link'), act.share, t('The link contains the whole conversation'))}
    ${item(t('Save as Markdown'), act.exportMarkdown)} ${item(t('Save as JSON'), act.exportOne)}`,

  talk(state, act, id) {
    const head = state.list.find((one) => one.id === id);
    if (!head) return nothing;
    return html`
      ${item(t('Rename'), () => act.dialog('rename', { id, title: head.title }))}
      ${item(head.pinned ? t('Unpin') : t('Pin'), () => act.amend(id, { pinned: !head.pinned }))}`;
  },

  answer(state, act, id) {
    const node = state.talk.tree.nodes[id];
    if (!node) return nothing;
    const { model, temperature } = state.talk.parameters;
    const others = state.models.filter((name) => name !== (node.changes?.model ?? (model || state.tap?.model)));
    const again = (changes) => () => act.regenerate(node, changes);
    return html`
      ${item(t('Fork from here'), () => act.fork(node), t('A new conversation that begins with these messages'))}
      ${item(t('More precise'), again({ temperature: 0.2 }), t('Answer again with temperature {0}', 0.2))}
      ${item(t('More varied'), again({ temperature: Math.max(1.2, temperature) }), t('Answer again with temperature {0}', Math.max(1.2, temperature)))}
      ${others.map((name) => item(t('Answer again with {0}', name), again({ model: name })))}`;
  },
};

const KEYS = () => [
  ['Enter', t('Send')],
  ['Shift + Enter', t('New line')],
  ['Esc', t('Stop the answer, or close what is open')],
  ['↑', t('Edit your last message (when the box is empty)')],
  ['Ctrl + K', t('Search conversations')],
  ['Ctrl + B', t('Show or hide the list')],
  ['Ctrl + Shift + O', t('New chat')],
  ['?', t('Show this list')],
];

const DIALOGS = {
  keys: () => html`
    <h2 id="dialog-name">${t('Keyboard shortcuts')}</h2>
    <dl>${KEYS().map(([key, what]) => html`<div><dt>${key.split(' + ').map((part, index) => html`${index ? ' + ' : ''}<kbd>${part}</kbd>`)}</dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog" class="row end"><button class="primary">${t('Close')}</button></form>`,

  clear: (_, act) => html`
    <h2 id="dialog-name">${t('Delete all conversations?')}</h2>
    <p>${t('They are stored only in this browser, so there is no other copy. Export them first if you might need them.')}</p>
    <form method="dialog" class="row end">
      <button class="quiet">${t('Cancel')}</button>
      <button class="primary" @click=${act.clear}>${t('Delete all')}</button>
    </form>`,

  rename: ({ dialog: { id, title } }, act) => html`
    <h2 id="dialog-name">${t('Rename the conversation')}</h2>
    <form method="dialog" @submit=${(event) => act.amend(id, { title: event.target.elements.title.value.trim() })}>
      <label class="hidden" for="new-title">${t('Name')}</label>
      <input id="new-title" name="title" maxlength="200" required dir="auto" autocomplete="off" .value=${title}>
      <div class="row end">
        <button type="button" class="quiet" @click=${(event) => event.target.closest('dialog').close()}>${t('Cancel')}</button>
        <button class="primary">${t('Rename')}</button>
      </div>
    </form>`,
};

function outside(event) {
  if (event.target === event.currentTarget) event.currentTarget.close();
}
