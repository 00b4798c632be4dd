// The settings of a conversation: presets, system prompt, parameters; and the language of the page. (state, act) to a
// template.

import { html, nothing } from '../../vendor/lit-html/lit-html.js';
import { icon } from '../page/icons.js';
import { LANGUAGES, t } from '../page/language.js';
import { count } from '../page/words.js';
import { DEFAULTS, PARAMETERS, schema } from './conversation.js';
import { keepPreset, presets, removePreset } from './presets.js';

/** The panel's content. */
export function settings(state, act) {
  const parameters = { ...DEFAULTS, ...state.talk.parameters };
  const cap = state.tap?.limits?.max_tokens;
  const own = Object.keys(DEFAULTS).some((name) => parameters[name] !== DEFAULTS[name]);
  return html`
    ${saved(act)}
    <label class="field">
      <span class="name">${t('System prompt')}</span>
      <textarea rows="4" dir="auto" .value=${state.talk.system} placeholder=${t('None. Example: Answer in one sentence.')} @input=${(event) => act.system(event.target.value)}></textarea>
    </label>
    ${slider('temperature', t('Temperature'), t('Low is focused, high is creative.'), parameters, act)}
    ${slider('top_p', 'Top p', t('Sample only from the most likely words that add up to this probability.'), parameters, act)}
    ${number('max_tokens', t('Max tokens'), '−1', cap ? t('−1 means no limit of your own; this server stops at {0}.', count(cap)) : t('−1 means no limit of your own.'), parameters, act)}
    <label class="field">
      <span class="name">${t('Reasoning effort')} <span class="default">${t('default: the model’s own')}</span></span>
      <select @change=${(event) => act.parameter('reasoning_effort', event.target.value)}>
        ${PARAMETERS.reasoning_effort.choices.map((choice) => html`<option value=${choice} .selected=${parameters.reasoning_effort === choice}>${EFFORTS[choice]()}</option>`)}
      </select>
    </label>
    <label class="field check">
      <input type="checkbox" .checked=${parameters.stream} @change=${(event) => act.parameter('stream', event.target.checked)}>
      <span class="name">${t('Stream')} <span class="default">${t('default on')}</span></span>
    </label>
    <details class="more-settings">
      <summary>${t('More parameters')}</summary>
      ${slider('frequency_penalty', t('Frequency penalty'), t('Above 0, words that came often come less.'), parameters, act)}
      ${slider('presence_penalty', t('Presence penalty'), t('Above 0, the answer turns to new subjects sooner.'), parameters, act)}
      ${number('seed', t('Seed'), t('none'), t('The same seed and settings give the same answer, where the engine can.'), parameters, act)}
      <label class="field">
        <span class="name">${t('Stop sequences')}</span>
        <textarea rows="2" dir="auto" .value=${parameters.stop} @change=${(event) => act.parameter('stop', event.target.value)}></textarea>
        <span class="hint">${t('One on each line. The answer ends before the first that it would contain.')}</span>
      </label>
      <label class="field">
        <span class="name">${t('JSON schema of the answer')}</span>
        <textarea class="mono" rows="5" dir="ltr" spellcheck="false" .value=${parameters.schema} @change=${(event) => given(event.target, act)}></textarea>
        <span class="hint">${t('The answer will be JSON that fits this schema. Empty: any text.')}</span>
        <span class="fault" role="alert"></span>
      </label>
    </details>
    <button type="button" class="quiet" ?disabled=${!own} @click=${() => act.parameters({})}>${t('Reset to defaults')}</button>
    <label class="field">
      <span class="name">${t('Language of this page')}</span>
      <select id="tongue" @change=${(event) => act.speak(event.target.value)}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} lang=${code} .selected=${document.documentElement.lang === code}>${name}</option>`)}
      </select>
    </label>`;
}

const EFFORTS = { '': () => t('the model’s own'), low: () => t('low'), medium: () => t('medium'), high: () => t('high') };

/** A schema counts once it is one: what is not is told, and what was set before holds. */
function given(field, act) {
  const wrong = field.value.trim() !== '' && !schema(field.value);
  field.setAttribute('aria-invalid', String(wrong));
  field.parentElement.querySelector('.fault').textContent = wrong ? t('This is not a JSON object, so it is not used.') : '';
  if (!wrong) act.parameter('schema', field.value);
}

function slider(name, label, hint, parameters, act) {
  const { low, high, step, value } = PARAMETERS[name];
  const set = (event) => act.parameter(name, event.target.value);
  return html`<div class="field">
    <label class="name" for="parameter-${name}">${label} <span class="default">${t('default {0}', value)}</span></label>
    <div class="row">
      <input type="range" tabindex="-1" aria-hidden="true" min=${low} max=${high} step=${step} .value=${String(parameters[name])} @input=${set}>
      <input type="number" id="parameter-${name}" min=${low} max=${high} step="any" .value=${String(parameters[name])} @change=${set}>
    </div>
    <span class="hint">${hint}</span>
  </div>`;
}

function number(name, label, initial, hint, parameters, act) {
  const { low, high } = PARAMETERS[name];
  return html`<label class="field">
    <span class="name">${label} <span class="default">${t('default {0}', initial)}</span></span>
    <input type="number" min=${low} max=${high} .value=${String(parameters[name])} @change=${(event) => {
      act.parameter(name, event.target.value);
      event.target.value = String(act.current().parameters[name]);
    }}>
    <span class="hint">${hint}</span>
  </label>`;
}

/** Presets: each is applied by its name, and the settings at hand are kept as one. */
function saved(act) {
  const keep = (event) => {
    event.preventDefault();
    const { name } = event.target.elements;
    if (!name.value.trim()) return;
    const { system, parameters } = act.current(); // not as it was drawn: what was typed last may not be yet
    keepPreset({ name: name.value.trim(), system, parameters });
    name.value = '';
    act.show({ presets: Date.now() });
  };
  const apply = ({ system, parameters }) => {
    act.system(system);
    act.parameters(parameters);
  };
  const remove = (name) => {
    removePreset(name);
    act.show({ presets: Date.now() });
  };
  const all = presets();
  return html`<section class="field" aria-labelledby="presets-name">
    <h3 class="name" id="presets-name">${t('Presets')}</h3>
    ${all.length ? html`<ul class="presets">${all.map((one) => html`<li>
      <button type="button" class="quiet small" dir="auto" @click=${() => apply(one)}>${one.name}</button>
      <button type="button" class="tool" aria-label=${t('Delete {0}', one.name)} title=${t('Delete')} @click=${() => remove(one.name)}>${icon('close')}</button>
    </li>`)}</ul>` : nothing}
    <form class="row" @submit=${keep}>
      <input name="name" maxlength="60" dir="auto" autocomplete="off" aria-label=${t('Name of a new preset')} placeholder=${t('Name')}>
      <button class="quiet">${t('Save')}</button>
    </form>
    <span class="hint">${t('A preset keeps the system prompt and the parameters, in this browser.')}</span>
  </section>`;
}
