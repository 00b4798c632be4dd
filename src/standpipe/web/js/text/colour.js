// Colours for code, fetched at the first code block. What cannot be fetched, or has an unknown language, stays plain.

const LANGUAGES = {
  bash: 'bash', sh: 'bash', zsh: 'bash', shell: 'bash', console: 'shell', c: 'c', h: 'c', cpp: 'cpp', 'c++': 'cpp',
  csharp: 'csharp', cs: 'csharp', 'c#': 'csharp', css: 'css', diff: 'diff', patch: 'diff', go: 'go', golang: 'go',
  html: 'xml', xml: 'xml', svg: 'xml', java: 'java', javascript: 'javascript', js: 'javascript', mjs: 'javascript',
  jsx: 'javascript', json: 'json', jsonc: 'json', kotlin: 'kotlin', kt: 'kotlin', markdown: 'markdown', md: 'markdown',
  php: 'php', python: 'python', py: 'python', python3: 'python', ruby: 'ruby', rb: 'ruby', rust: 'rust', rs: 'rust',
  sql: 'sql', swift: 'swift', typescript: 'typescript', ts: 'typescript', tsx: 'typescript', yaml: 'yaml', yml: 'yaml',
}; // prettier-ignore
const LONGEST = 20_000; // characters: beyond this, a phone would stall
const KEEP = { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], RETURN_DOM_FRAGMENT: true };

let core;
const loaded = new Map();

/** Colours the text of a <code> element in place. */
export async function colour(element, language) {
  const name = LANGUAGES[language.toLowerCase()];
  const text = element.textContent;
  if (!name || text.length > LONGEST) return;
  try {
    core ??= import('../../vendor/highlight/core.js');
    const { default: highlight } = await core;
    if (!loaded.has(name)) loaded.set(name, import(`../../vendor/highlight/languages/${name}.js`));
    highlight.registerLanguage(name, (await loaded.get(name)).default);
    const { value } = highlight.highlight(text, { language: name, ignoreIllegals: true });
    const spans = globalThis.DOMPurify.sanitize(value, KEEP); // `prose` has loaded it, with a hook that looks at classes
    if (spans.textContent === text) element.replaceChildren(spans);
  } catch {
    loaded.delete(name); // plain code is readable too
  }
}
