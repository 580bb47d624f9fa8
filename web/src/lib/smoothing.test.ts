import { describe, expect, it } from 'vitest';

import { splice, toCurve } from './curve';
import { layersOf } from './layers';
import { smooth } from './smoothing';
import { buckets, segment } from './testing';

const points = (values: number[]) => ({ mean: Float64Array.from(values), count: new Float64Array(values.length).fill(1), nonfinite: Float64Array.from(values, (v) => Number(!Number.isFinite(v))) });
const noisy = (n: number) => Array.from({ length: n }, (_, i) => 5 / (1 + i / 40) + Math.sin(i * 12.9898) * 0.7);

describe('smoothing', () => {
  it('leaves a constant as it is from the first point on: the average is debiased', () => {
    for (const v of smooth(points(new Array<number>(50).fill(3)), 0.9)) expect(v).toBeCloseTo(3, 12);
  });

  it('is the plain debiased average when every bucket is one point', () => {
    const values = [1, 5, 2, 8];
    const got = smooth(points(values), 0.6);
    let m = 0;
    let w = 0;
    values.forEach((v, i) => {
      m = 0.6 * m + 0.4 * v;
      w = 0.6 * w + 0.4;
      expect(got[i]).toBeCloseTo(m / w, 12);
    });
  });

  it('treats a bucket of n equal points as n points', () => {
    const apart = smooth(points([1, 1, 1, 4, 4, 4, 4]), 0.8);
    const together = smooth({ mean: Float64Array.from([1, 4]), count: Float64Array.from([3, 4]), nonfinite: new Float64Array(2) }, 0.8);
    expect(together[0]).toBeCloseTo(apart[2] as number, 12);
    expect(together[1]).toBeCloseTo(apart[6] as number, 12);
  });

  it('skips what is not finite and remembers across it', () => {
    const got = smooth(points([2, NaN, Infinity, 2]), 0.9);
    expect(got[1]).toBeNaN();
    expect(got[2]).toBeNaN();
    expect(got[3]).toBeCloseTo(2, 12);
  });

  it('counts only the finite points of a bucket', () => {
    const mixed = smooth({ mean: Float64Array.from([1, 4]), count: Float64Array.from([1, 3]), nonfinite: Float64Array.from([0, 2]) }, 0.8);
    expect(mixed[1]).toBeCloseTo(smooth(points([1, 4]), 0.8)[1] as number, 12);
  });

  it('runs on over the joint of a fork: a stitched curve is smoothed as one that was never interrupted', () => {
    const values = noisy(60);
    const whole = smooth(points(values), 0.9);
    const stitched = toCurve(buckets('B', values.map((v, i) => [i, v, i < 25 ? 0 : 1] as const), [segment('A', 1, true, 0), segment('B', 1, false, 24)]));
    expect([...smooth(stitched, 0.9)]).toEqual([...whole]);
    // Also where the shared part is drawn by the parent alone.
    const parent = toCurve(buckets('A', values.slice(0, 40).map((v, i) => [i, v] as const), [segment('A', 1, false, 0)]));
    const paint = new Map([['A', { colour: 'a', key: 'A' }], ['B', { colour: 'b', key: 'B' }]]);
    const child = layersOf([parent, stitched], { axis: 'step', smoothing: 0.9, ghosts: [], paint, inherited: true })[1];
    expect(child?.from).toBe(25);
    expect(child?.y[25]).toBe(whole[25]);
  });

  it('carries on where the inherited part is hidden', () => {
    const values = noisy(60);
    const stitched = toCurve(buckets('B', values.map((v, i) => [i, v, i < 25 ? 0 : 1] as const), [segment('A', 1, true, 0), segment('B', 1, false, 24)]));
    const own = layersOf([stitched], { axis: 'step', smoothing: 0.9, ghosts: [], paint: new Map([['B', { colour: 'b', key: 'B' }]]), inherited: false })[0];
    expect(own?.from).toBe(25);
    expect(own?.joins).toBe(false);
    expect(own?.y[25]).toBe(smooth(points(values), 0.9)[25]);
  });

  it('starts warm in a zoomed range', () => {
    const values = noisy(200);
    const whole = smooth(points(values), 0.95);
    const S = [segment('A', 1, false, 0)];
    const all = toCurve(buckets('A', values.map((v, i) => [i, v] as const), S));
    const part = toCurve(buckets('A', values.slice(120, 160).map((v, i) => [120 + i, v] as const), S));
    const spliced = smooth(splice(all, part, 120, 159), 0.95);
    for (let i = 120; i < 160; i++) expect(spliced[i]).toBeCloseTo(whole[i] as number, 12);
    // From an overview of buckets of ten points it begins where the average is, not at the first value in view.
    const coarse = buckets('A', [], S);
    for (let i = 0; i < 200; i += 10) {
      const ten = values.slice(i, i + 10);
      coarse.x_first.push(i);
      coarse.x_last.push(i + 9);
      coarse.count.push(10);
      coarse.nonfinite.push(0);
      coarse.segment.push(0);
      coarse.min.push(Math.min(...ten));
      coarse.max.push(Math.max(...ten));
      coarse.mean.push(ten.reduce((a, b) => a + b, 0) / 10);
      coarse.first.push(ten[0] as number);
      coarse.last.push(ten[9] as number);
    }
    const warm = smooth(splice(toCurve(coarse), part, 120, 159), 0.95);
    expect(Math.abs((warm[12] as number) - (whole[120] as number))).toBeLessThan(0.1);
    expect(Math.abs((values[120] as number) - (whole[120] as number))).toBeGreaterThan(0.2);
  });
});
