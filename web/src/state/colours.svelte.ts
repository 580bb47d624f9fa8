/** Run colours as the pages see them: slots are remembered, so that a run keeps its colour in every view and every visit. */
import { type ColourOf, runColour, Slots } from '../lib/colours';
import { theme } from './theme.svelte';

const KEY = 'runtree.colours';

function load(): Map<string, number> {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY) ?? '[]') as [string, number][];
    return new Map(entries.filter(([root, slot]) => typeof root === 'string' && Number.isInteger(slot) && slot >= 0).slice(-500));
  } catch {
    return new Map();
  }
}

const slots = new Slots(load());
let known = slots.entries().length;

export function colourOf(run: ColourOf): string {
  const colour = runColour(run, slots, theme.dark);
  const entries = slots.entries();
  if (entries.length !== known) {
    known = entries.length;
    localStorage.setItem(KEY, JSON.stringify(entries.slice(-500)));
  }
  return colour;
}

/** The colour of the whole family: its root's. */
export function familyColour(root: string): string {
  return colourOf({ id: root, root, display_id: '' });
}
