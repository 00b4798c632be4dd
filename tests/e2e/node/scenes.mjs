// What the scripts beside this one share: where the servers are, and how a client's scenes are played.
//
//     node with-LIBRARY.mjs CLIENT:SCENE,SCENE,... ...
//
// The test gives the addresses by environment variables. Each server has engines for this client alone, by the client's
// name: CLIENT-plain reasons four tokens, calls get_weather in three turns where it is declared, and says twelve words;
// CLIENT-slow does it slowly, one ask at a time and with one call. A line of JSON tells how each scene went.

// `house` serves whoever asks; `paced` refuses who asks too fast with 429; `narrow` who comes when one runs and one waits with 503.
export const { HOUSE: house, PACED: paced, NARROW: narrow } = process.env;
// Whose scenes are played now, and the models that it alone asks for.
export let [name, plain, slow, broken] = [];
export const [WORDS, CALLS] = [12, 3];
export const words = (text) => text.trim().split(/\s+/).length;
export const atOnce = (count, ask) => Promise.all(Array.from({ length: count }, ask));

export async function play(scenes) {
  for (const argument of process.argv.slice(2)) {
    const [client, wanted] = argument.split(":");
    [name, plain, slow, broken] = [client, `${client}-plain`, `${client}-slow`, `${client}-broken`];
    for (const scene of wanted.split(",")) {
      let fault = null;
      try {
        await scenes[scene]();
      } catch (error) {
        fault = error?.stack ?? String(error);
      }
      console.log(JSON.stringify({ client, scene, fault }));
    }
  }
  process.exit();
}
