import { describe, expect, it } from 'vitest';

import { PALETTE, runColour, Slots, withAlpha } from './colours';

const run = (id: string, root: string, n: number) => ({ id, root, display_id: `MMP-${n}` });

describe('run colours', () => {
  it('gives a run the same colour every time, in any order of asking', () => {
    const slots = new Slots();
    const a = runColour(run('a', 'a', 1), slots, false);
    runColour(run('b', 'b', 2), slots, false);
    expect(runColour(run('a', 'a', 1), slots, false)).toBe(a);
  });

  it('gives as many roots as there are slots a slot of their own', () => {
    const slots = new Slots();
    const given = PALETTE.map((_, i) => slots.of(`root-${i}`));
    expect(new Set(given).size).toBe(PALETTE.length);
  });

  it('remembers slots across visits', () => {
    const first = new Slots();
    first.of('x');
    first.of('y');
    const again = new Slots(new Map(first.entries()));
    expect(again.of('y')).toBe(first.of('y'));
  });

  it('never gives a fork its root’s colour, and keeps siblings apart', () => {
    const slots = new Slots();
    const root = runColour(run('r', 'r', 1), slots, false);
    const children = Array.from({ length: 8 }, (_, i) => runColour(run(`c${i}`, 'r', i + 2), slots, false));
    expect(children).not.toContain(root);
    expect(new Set(children).size).toBe(8);
  });

  it('keeps the forks of every family apart, in both themes', () => {
    for (const dark of [false, true]) {
      for (let slot = 0; slot < PALETTE.length; slot++) {
        const slots = new Slots(new Map([['r', slot]]));
        const colours = Array.from({ length: 9 }, (_, i) => runColour(run(i === 0 ? 'r' : `c${i}`, 'r', i + 1), slots, dark));
        const [ls, hs] = [0, 2].map((at) => colours.map((c) => Number(/oklch\(([\d.]+) ([\d.]+) ([\d.]+)/.exec(c)?.[at + 1]))) as [number[], number[]];
        ls.forEach((l, i) => ls.forEach((other, k) => {
          const hue = Math.abs((hs[i] as number) - (hs[k] as number));
          if (i < k) expect(Math.hypot((l - other) / 0.02, hue / 5), `slot ${slot}: ${colours[i]} and ${colours[k]}`).toBeGreaterThan(0.8);
        }));
      }
    }
  });

  it('keeps lightness legible on both backgrounds', () => {
    for (const dark of [false, true]) {
      for (let i = 0; i < 200; i++) {
        const match = /oklch\(([\d.]+)/.exec(runColour(run(`c${i}`, `r${i % 9}`, i), new Slots(), dark));
        const l = Number(match?.[1]);
        expect(l).toBeGreaterThanOrEqual(dark ? 0.56 : 0.36);
        expect(l).toBeLessThanOrEqual(dark ? 0.9 : 0.76);
      }
    }
  });

  it('adds transparency', () => {
    expect(withAlpha('oklch(0.5 0.1 20)', 0.15)).toBe('oklch(0.5 0.1 20 / 0.15)');
  });
});
