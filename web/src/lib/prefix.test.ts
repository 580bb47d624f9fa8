import { describe, expect, it } from 'vitest';

import { sharePrefixes } from './prefix';
import { toCurve } from './series';
import { buckets, segment } from './testing';

const steps = (from: number, to: number, s: number) => Array.from({ length: (to - from) / 10 + 1 }, (_, i) => [from + i * 10, 1, s] as const);

const A = toCurve(buckets('A', steps(0, 100, 0), [segment('A', 1, false, 0)]));
const B = toCurve(buckets('B', [...steps(0, 50, 0), ...steps(60, 90, 1)], [segment('A', 1, true, 0), segment('B', 1, false, 51)]));
const C = toCurve(buckets('C', [...steps(0, 50, 0), ...steps(60, 70, 1), ...steps(80, 90, 2)], [segment('A', 1, true, 0), segment('B', 1, true, 51), segment('C', 1, false, 71)]));
const D = toCurve(buckets('D', [...steps(0, 80, 0), ...steps(90, 90, 1)], [segment('A', 1, true, 0), segment('D', 1, false, 81)]));

/** How often each (owner, x) is drawn. */
function drawn(curves: (typeof A)[]): Map<string, number> {
  const ranges = sharePrefixes(curves);
  const counts = new Map<string, number>();
  curves.forEach((c, k) => {
    for (let i = ranges[k]?.from ?? 0; i < c.x.length; i++) {
      const key = `${c.segments[c.segment[i] as number]?.run}@${c.x[i]}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  });
  return counts;
}

describe('shared prefixes', () => {
  it('are the owner’s when the owner is shown', () => {
    const [a, b] = sharePrefixes([A, B]);
    expect(a).toEqual({ from: 0, joins: false });
    expect(b).toEqual({ from: 6, joins: true });
  });

  it('are drawn once by the longest when the owner is hidden, and no point is lost', () => {
    const counts = drawn([B, D]);
    for (const n of counts.values()) expect(n).toBe(1);
    expect(counts.size).toBe(9 + 4 + 1);
  });

  it('draw every point of a family exactly once, in whatever order the runs come', () => {
    for (const order of [[A, B, C, D], [D, C, B, A], [C, A, D, B]]) {
      const counts = drawn(order);
      expect([...counts.values()].every((n) => n === 1)).toBe(true);
      expect(counts.size).toBe(11 + 4 + 2 + 1);
    }
  });

  it('are not shared between attempts', () => {
    const other = toCurve(buckets('B', steps(0, 50, 0), [segment('A', 2, true, 0)]));
    expect(sharePrefixes([A, other])[1]).toEqual({ from: 0, joins: false });
  });

  it('leave a lone run whole', () => {
    expect(sharePrefixes([C])).toEqual([{ from: 0, joins: false }]);
  });
});
