/** The keyboard: pages register what their keys do while they are shown; the newest registration wins. */

type Keys = Record<string, () => void>;
const stack: Keys[] = [];
let chord: { key: string; at: number } | null = null;

export const KEY_HELP: readonly (readonly [string, string])[] = [
  ['/', 'search'],
  ['j  k', 'next, previous row'],
  ['x', 'select the row'],
  ['Enter', 'open the row'],
  ['v', 'show or hide the row on the charts'],
  ['c', 'compare what is selected'],
  ['g l', 'lineage of the row or run'],
  ['g p', 'projects'],
  ['i', 'show inherited datapoints'],
  ['a', 'show abandoned tails'],
  ['l', 'logarithmic value axis'],
  ['g g', 'group by lineage'],
  ['z', 'reset the zoom'],
  ['t', 'collapse the table'],
  ['?', 'this list'],
];

/** Registers keys (single ones, or chords as `g l`); returns how to take them away. Use in an effect. */
export function useKeys(keys: Keys): () => void {
  stack.push(keys);
  return () => {
    const i = stack.indexOf(keys);
    if (i >= 0) stack.splice(i, 1);
  };
}

export function onKey(event: KeyboardEvent): void {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const target = event.target as HTMLElement;
  const typing = target.closest('input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]');
  if (typing) {
    if (event.key === 'Escape') target.blur();
    return;
  }
  const now = Date.now();
  const pair = chord && now - chord.at < 1200 ? `${chord.key} ${event.key}` : null;
  chord = null;
  for (const name of pair ? [pair, event.key] : [event.key]) {
    for (let i = stack.length - 1; i >= 0; i--) {
      const handler = stack[i]?.[name];
      if (!handler) continue;
      // Enter and Space on a focused control are that control's.
      if ((name === 'Enter' || name === ' ') && target.closest('button, a, summary')) return;
      event.preventDefault();
      handler();
      return;
    }
  }
  if (event.key === 'g') chord = { key: 'g', at: now };
}
