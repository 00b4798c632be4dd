// What every page does: says things to screen readers, copies texts, and asks the server how it is.

/** Has a screen reader say something, without moving anybody's focus. The page has one element for it. */
export function announce(text) {
  const region = document.getElementById('announcer');
  if (region && region.textContent !== text) region.textContent = text;
}

/** Copies a text, and shows on the button that it did; `told` is what screen readers say. */
export async function copy(text, button, told = 'Copied') {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    byHand(text); // no clipboard without HTTPS, except on this machine
  }
  announce(told);
  if (!button) return;
  button.dataset.done = '';
  setTimeout(() => delete button.dataset.done, 1200);
}

function byHand(text) {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'hidden';
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

/** Copies the code beside any button that is marked for it, wherever one appears. */
export function copyButtons(told = () => 'Copied') {
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-copy]');
    if (button) void copy(button.closest('.code').querySelector('code').textContent, button, told());
  });
}

/** Remembers a small thing in `localStorage` or `sessionStorage`, by its name: to touch one may already be forbidden. */
export function remember(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch {
    // switched off or full: it holds for this page only
  }
}

/** What was remembered, or null. */
export function recall(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

/** The address of one of the server's paths, wherever a proxy put it: all pages lie beside them. */
export function api(path) {
  return new URL(path, document.baseURI).href;
}

/** Calls `take` with what `path` tells as JSON, now and every `every` milliseconds while somebody looks. null: no answer. */
export function watch(path, every, take) {
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    take(await fetch(api(path)).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null));
    timer = setTimeout(look, every);
  };
  document.addEventListener('visibilitychange', look);
  void look();
  return look;
}
