// Dictation by the browser's own recognition of speech, where it has one. Some browsers send the sound to their makers:
// the button says so, and nothing is heard before it is pressed.

let recognition = null;

/**
 * Begins to listen, or ends it. `heard(text)` is called with all that was heard, again and again while more is;
 * `listening(whether)` when it begins and ends, `failed()` when nothing could be heard.
 */
export function dictate({ language, heard, listening, failed }) {
  if (recognition) return recognition.stop();
  const Recognition = globalThis.SpeechRecognition ?? globalThis.webkitSpeechRecognition;
  recognition = new Recognition();
  recognition.lang = navigator.languages.find((code) => code.startsWith(language)) ?? language;
  recognition.interimResults = true;
  recognition.continuous = true;
  recognition.onresult = ({ results }) => heard(Array.from(results, ([best]) => best.transcript).join('').trim());
  recognition.onerror = ({ error }) => error !== 'aborted' && failed();
  recognition.onend = () => {
    recognition = null;
    listening(false);
  };
  listening(true);
  return recognition.start();
}
