// What the scripts beside this one share: where the servers are, and how a client's scenes are played.
//
//     node with-LIBRARY.mjs CLIENT SCENE...
//
// The test gives the addresses by environment variables. Each server has engines for this client alone, by the client's
// name: CLIENT-plain reasons four tokens, calls get_weather in three turns where it is declared, and says twelve words;
// CLIENT-slow does it slowly, one ask at a time and with one call. A line of JSON tells how each scene went.

export const [name, ...wanted] = process.argv.slice(2);
// `house` serves whoever asks; `paced` refuses who asks too fast with 429; `narrow` who would have to wait with 503.
export const { HOUSE: house, PACED: paced, NARROW: narrow } = process.env;
export const [plain, slow, broken] = [`${name}-plain`, `${name}-slow`, `${name}-broken`];
export const [WORDS, CALLS] = [12, 3];
export const words = (text) => text.trim().split(/\s+/).length;
export const atOnce = (count, ask) => Promise.all(Array.from({ length: count }, ask));

export async function play(scenes) {
  for (const scene of wanted) {
    let fault = null;
    try {
      await scenes[scene]();
    } catch (error) {
      fault = error?.stack ?? String(error);
    }
    console.log(JSON.stringify({ scene, fault }));
  }
  process.exit();
}
