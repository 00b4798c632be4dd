// Presets: named settings, {name, system, parameters}, in this browser. What is there was perhaps written by another
// version of the page, so it is built anew.

import { recall, remember } from '../page/live.js';
import { DEFAULTS, set } from './conversation.js';

const KEY = 'standpipe.presets';
const MOST = 50;

/** All presets, in the order of their making. */
export function presets() {
  return read(recall('localStorage', KEY));
}

/** Keeps a preset, in place of one with its name. */
export function keepPreset(preset) {
  write([...presets().filter(({ name }) => name !== preset.name), preset].slice(-MOST));
}

export function removePreset(name) {
  write(presets().filter((one) => one.name !== name));
}

/** The presets that a text holds; none when it makes no sense. */
export function read(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(found)) return [];
  return found.filter((one) => typeof one?.name === 'string' && typeof one.system === 'string').map(({ name, system, parameters }) => ({
    name,
    system,
    parameters: Object.entries(parameters ?? {}).reduce((known, [key, value]) => set(known, key, value), DEFAULTS),
  }));
}

function write(list) {
  remember('localStorage', KEY, JSON.stringify(list));
}
