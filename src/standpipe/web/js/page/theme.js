// Dark or light, before anything is drawn: a classic script in the head of every page.

(() => {
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const read = () => {
    try {
      return localStorage.getItem('standpipe.theme');
    } catch {
      return null; // storage is switched off
    }
  };
  const show = () => {
    const theme = read() ?? (dark.matches ? 'dark' : 'light');
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll('[data-theme-toggle]')) button.setAttribute('aria-pressed', theme === 'dark');
  };
  root.dataset.script = '';
  // A page whose scripts do not come, or fail before they drew anything, must not stay empty: styles show its sentence.
  const failed = ({ target }) => {
    if (target !== window && target?.localName !== 'script') return;
    if (!('started' in root.dataset)) root.dataset.failed = '';
  };
  addEventListener('error', failed, true);
  addEventListener('unhandledrejection', () => failed({ target: window }));
  show();
  dark.addEventListener('change', show);
  addEventListener('storage', show);
  document.addEventListener('DOMContentLoaded', show);
  document.addEventListener('click', (event) => {
    if (!event.target.closest?.('[data-theme-toggle]')) return;
    const next = root.dataset.theme === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem('standpipe.theme', next);
    } catch {
      root.dataset.theme = next;
      return;
    }
    show();
  });
})();
