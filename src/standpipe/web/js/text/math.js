// Formulas, fetched at the first one. TeX becomes MathML, which browsers set themselves.

import temml from '../../vendor/temml/temml.js';

const sheet = document.createElement('link');
sheet.rel = 'stylesheet';
sheet.href = new URL('../../vendor/temml/temml.css', import.meta.url).href;
document.head.append(sheet);

/** Sets one <code class="math"> in its place. What is not TeX stays as it was written. */
export function typeset(element) {
  const around = document.createElement('span');
  const displayMode = element.classList.contains('display');
  try {
    temml.render(element.textContent, around, { displayMode, throwOnError: true, trust: false, maxExpand: 100 });
  } catch {
    return;
  }
  around.className = displayMode ? 'formula display' : 'formula';
  element.replaceWith(around);
}
