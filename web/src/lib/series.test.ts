import { describe, expect, it } from 'vitest';

import { extent, nearest, nonfiniteMarks, penLifts, splice, toCurve, strewn } from './series';
import { buckets, segment } from './testing';

const S = [segment('A', 1, false, 0)];
const line = (xs: number[]) => toCurve(buckets('A', xs.map((x) => [x, x] as const), S));

describe('curves', () => {
  it('show a single point as it is and many as their mean in the middle', () => {
    const b = buckets('A', [[0, 1], [10, 2]], S);
    b.x_last[1] = 20;
    b.count[1] = 5;
    b.mean[1] = 7;
    const c = toCurve(b);
    expect([...c.x]).toEqual([0, 15]);
    expect([...c.y]).toEqual([1, 7]);
  });

  it('lift the pen over a gap and after NaN, not at the usual distance', () => {
    const regular = line([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    expect([...penLifts(regular)]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const gap = line([0, 10, 20, 30, 40, 50, 1000, 1010, 1020, 1030]);
    expect([...penLifts(gap)].map((l, i) => (l ? i : -1)).filter((i) => i >= 0)).toEqual([0, 6]);
    const saving = line([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 51, 52, 53, 54, 1000, 1001]);
    expect([...penLifts(saving, 0.1)].map((l, i) => (l ? i : -1)).filter((i) => i >= 0)).toEqual([0, 15]);
    const broken = toCurve(buckets('A', [[0, 1], [1, NaN], [2, 1]], S));
    expect([...penLifts(broken)]).toEqual([1, 0, 1]);
  });

  it('mark what is not finite, neighbours as one stretch', () => {
    const c = toCurve(buckets('A', [[0, 1], [1, NaN], [2, NaN], [3, 1], [4, Infinity], [5, -Infinity]], S));
    expect(nonfiniteMarks(c)).toEqual([
      { from: 1, to: 2, kind: 'NaN', count: 2 },
      { from: 4, to: 4, kind: '+Inf', count: 1 },
      { from: 5, to: 5, kind: '−Inf', count: 1 },
    ]);
  });

  it('find the nearest bucket', () => {
    const c = line([0, 10, 20]);
    expect([-5, 4, 6, 14, 99].map((x) => nearest(c, x))).toEqual([0, 0, 1, 1, 2]);
    expect(nearest(line([]), 3)).toBe(-1);
  });

  it('measure what is visible, positive values alone for a logarithmic axis', () => {
    const c = toCurve(buckets('A', [[0, -5], [10, 2], [20, 8], [30, NaN]], S));
    expect(extent([{ curve: c, y: c.y, from: 0 }], 0, 30, false)).toEqual([-5, 8]);
    expect(extent([{ curve: c, y: c.y, from: 0 }], 0, 30, true)).toEqual([2, 8]);
    expect(extent([{ curve: c, y: c.y, from: 0 }], 5, 15, false)).toEqual([2, 2]);
    expect(extent([], 0, 1, false)).toBeNull();
  });

  it('put exact values of the zoomed range between the overview’s outside it', () => {
    const overview = line([0, 100, 200, 300, 400]);
    const zoomed = line([160, 180, 200, 220]);
    const c = splice(overview, zoomed, 150, 250);
    expect([...c.x]).toEqual([0, 100, 160, 180, 200, 220, 300, 400]);
    expect([...c.y]).toEqual([0, 100, 160, 180, 200, 220, 300, 400]);
  });

  it('keep whose stretch a bucket is when the zoomed answer knows fewer segments', () => {
    const overview = toCurve(buckets('B', [[0, 1, 0], [100, 1, 1]], [segment('A', 1, true, 0), segment('B', 1, false, 51)]));
    const zoomed = toCurve(buckets('B', [[90, 1, 0]], [segment('B', 1, false, 51)]));
    const c = splice(overview, zoomed, 80, 99);
    expect(Array.from(c.segment).map((s) => c.segments[s]?.run)).toEqual(['A', 'B', 'B']);
    expect(c.segments.map((g) => g.run)).toEqual(['A', 'B']);
  });

  it('strews marks over the whole stretch that is not finite', () => {
    expect(strewn(10, 10, 8)).toEqual([10]);
    expect(strewn(10, 30, 8)).toEqual([10, 18, 26]);
    expect(strewn(10, 9, 8)).toEqual([10]);
  });
});
