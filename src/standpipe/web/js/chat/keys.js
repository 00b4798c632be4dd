// Keys to the names of what they do. Pure: an event's fields and a few facts of the page in, a name or undefined out.

/**
 * `facts` is {running, open, empty, typing, coarse}: an answer is under way, something can be closed, the box is empty,
 * the reader types into some field, and fingers write here, where Enter makes a new line as everywhere on a phone.
 */
export function command(event, { running, open, empty, typing, coarse }) {
  const { key, shiftKey, target } = event;
  const control = event.ctrlKey || event.metaKey;
  if (event.isComposing || event.keyCode === 229) return undefined; // 229: Safari, at the end of a composition
  if (control && !shiftKey && key.toLowerCase() === 'k') return 'search';
  if (control && !shiftKey && key.toLowerCase() === 'b') return 'fold';
  if (control && shiftKey && key.toLowerCase() === 'o') return 'new';
  if (control || event.altKey) return undefined;
  const inBox = target?.id === 'draft';
  if (key === 'Escape') return running ? 'stop' : open ? 'close' : undefined;
  if (key === 'Enter' && inBox && !shiftKey && !coarse) return 'send';
  if (key === 'ArrowUp' && inBox && empty) return 'editLast';
  if (key === '?' && (!typing || (inBox && empty))) return 'keys';
  return undefined;
}
