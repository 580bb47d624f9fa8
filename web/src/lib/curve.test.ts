import { describe, expect, it } from 'vitest';

import { compact, type Curve, tailFrom, toCurve, withTail } from './curve';
import { buckets, segment } from './testing';

const S = [segment('A', 1, false, 0)];
type Point = [number, number];

/** Exact buckets of some points, as the server makes them: one per column. */
function bucketed(points: Point[], pixels: number, segments = S, logged?: number): Curve {
  const from = points[0]?.[0] ?? 0;
  const to = points[points.length - 1]?.[0] ?? 0;
  const width = (to - from + 1) / pixels;
  const columns = new Map<number, Point[]>();
  for (const p of points) {
    const column = Math.floor((p[0] - from) / width);
    columns.set(column, [...(columns.get(column) ?? []), p]);
  }
  const b = buckets('A', [], segments);
  for (const list of columns.values()) {
    const finite = list.map((p) => p[1]).filter(Number.isFinite);
    b.x_first.push(list[0]?.[0] as number);
    b.x_last.push(list[list.length - 1]?.[0] as number);
    b.count.push(list.length);
    b.nonfinite.push(list.length - finite.length);
    b.segment.push(segments.length - 1);
    b.min.push(finite.length ? Math.min(...finite) : 'NaN');
    b.max.push(finite.length ? Math.max(...finite) : 'NaN');
    b.mean.push(finite.length ? finite.reduce((a, v) => a + v, 0) / finite.length : 'NaN');
    b.first.push(Number.isFinite(list[0]?.[1]) ? (list[0]?.[1] as number) : 'NaN');
    b.last.push(Number.isFinite(list[list.length - 1]?.[1]) ? (list[list.length - 1]?.[1] as number) : 'NaN');
  }
  return { ...toCurve(b), logged: logged ?? points.reduce((n, p) => Math.max(n, p[0] + 1), 0) };
}

const END = 2995;
const value = (i: number) => (i % 97 === 13 ? NaN : Math.sin(i / 9) + i / 500);
const upTo = (n: number): Point[] => Array.from({ length: n }, (_, i) => [i, value(i)]);

describe('a live curve', () => {
  it('that grew by tails alone stands for exactly the points it would if it were asked for anew', () => {
    const pixels = 50;
    let curve = bucketed(upTo(40), pixels);
    let reloads = 0;
    for (let n = 41; n <= END; n += 7) {
      const from = tailFrom(curve) as number;
      const grown = withTail(curve, bucketed(upTo(n).filter(([x]) => x >= from), pixels), pixels);
      reloads += grown ? 0 : 1;
      curve = grown ?? bucketed(upTo(n), pixels);
      expect(curve.points).toBe(n);
      expect(curve.xFirst.length).toBeLessThanOrEqual(2 * pixels);
    }
    expect(reloads).toBe(0);
    // Every bucket says of its interval what is true of it, and together they leave nothing out.
    let next = 0;
    curve.xFirst.forEach((first, i) => {
      const last = curve.xLast[i] as number;
      expect(first).toBe(next);
      next = last + 1;
      const all = upTo(END).slice(first, last + 1).map(([, v]) => v);
      const finite = all.filter(Number.isFinite);
      expect(curve.count[i]).toBe(all.length);
      expect(curve.nonfinite[i]).toBe(all.length - finite.length);
      expect(curve.min[i]).toBe(Math.min(...finite));
      expect(curve.max[i]).toBe(Math.max(...finite));
      expect(curve.mean[i]).toBeCloseTo(finite.reduce((a, v) => a + v, 0) / finite.length, 9);
      expect(curve.first[i]).toBe(all[0]);
      expect(curve.last[i]).toBe(all[all.length - 1]);
    });
    expect(next).toBe(END);
    // No bucket is wider than two pixels.
    expect(Math.max(...curve.xLast.map((last, i) => last - (curve.xFirst[i] as number)))).toBeLessThanOrEqual(2 * (END / pixels));
  });

  it('is asked for anew when a resumed launch took points off the timeline', () => {
    const before = bucketed(upTo(100), 50);
    const resumed = [segment('A', 1, false, 0), segment('A', 2, false, 60)];
    expect(withTail(before, bucketed([], 50), 50)).toBeNull();
    expect(withTail(before, bucketed([[98, 1], [99, 1], [100, 1]], 50, resumed), 50)).toBeNull();
    expect(withTail(before, bucketed([[99, 1], [100, 1]], 50, [segment('A', 1, true, 0)]), 50)).toBeNull();
  });

  it('is asked for anew when points came in behind its tail', () => {
    const before = bucketed(upTo(100), 200, S, 100);
    expect(withTail(before, bucketed(upTo(102).slice(99), 200, S, 102), 200)?.points).toBe(102);
    expect(withTail(before, bucketed(upTo(102).slice(99), 200, S, 103), 200)).toBeNull();
  });

  it('is asked for anew when so much came that a tail is coarser than pixels', () => {
    const before = bucketed(upTo(100), 50);
    const tail = toCurve(buckets('A', [[98, 1]], S));
    tail.xLast[0] = 5000;
    tail.count[0] = 4900;
    expect(withTail(before, { ...tail, points: 4900 }, 50)).toBeNull();
  });

  it('takes the first points of an empty one as they are', () => {
    const first = bucketed(upTo(3), 50);
    expect(tailFrom(bucketed([], 50))).toBeNull();
    expect(withTail(bucketed([], 50), first, 50)).toBe(first);
  });
});

describe('compacting', () => {
  it('never merges over the joint of two stretches, and leaves few buckets as they are', () => {
    const two = [segment('A', 1, false, 0), segment('A', 2, false, 25)];
    const c = toCurve(buckets('A', Array.from({ length: 50 }, (_, i) => [i, i, i < 25 ? 0 : 1] as const), two));
    expect(compact(c, 25)).toBe(c);
    const small = compact(c, 5);
    expect(small.xFirst.length).toBeLessThanOrEqual(12);
    expect([...small.segment].indexOf(1)).toBeGreaterThan(0);
    small.segment.forEach((s, i) => expect((small.xLast[i] as number) < 25).toBe(s === 0));
    expect(small.points).toBe(50);
  });
});
