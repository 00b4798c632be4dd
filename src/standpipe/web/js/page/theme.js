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
