import { describe, expect, it } from 'vitest';

import { smooth } from './smoothing';

const ones = (n: number) => new Uint8Array(n).fill(1);

describe('smoothing', () => {
  it('leaves a constant as it is from the first point on: the average is debiased', () => {
    for (const v of smooth(new Float64Array(50).fill(3), ones(50), 0.9)) expect(v).toBeCloseTo(3, 12);
  });

  it('is the plain debiased average when every bucket is one point', () => {
    const values = Float64Array.from([1, 5, 2, 8]);
    const got = smooth(values, ones(4), 0.6);
    let m = 0;
    let w = 0;
    values.forEach((v, i) => {
      m = 0.6 * m + 0.4 * v;
      w = 0.6 * w + 0.4;
      expect(got[i]).toBeCloseTo(m / w, 12);
    });
  });

  it('treats a bucket of n equal points as n points', () => {
    const apart = smooth(Float64Array.from([1, 1, 1, 4, 4, 4, 4]), ones(7), 0.8);
    const together = smooth(Float64Array.from([1, 4]), [3, 4], 0.8);
    expect(together[0]).toBeCloseTo(apart[2] as number, 12);
    expect(together[1]).toBeCloseTo(apart[6] as number, 12);
  });

  it('skips what is not finite and remembers across it', () => {
    const got = smooth(Float64Array.from([2, NaN, Infinity, 2]), ones(4), 0.9);
    expect(got[1]).toBeNaN();
    expect(got[2]).toBeNaN();
    expect(got[3]).toBeCloseTo(2, 12);
  });

  it('does nothing at zero', () => {
    const values = Float64Array.from([1, 2]);
    expect(smooth(values, ones(2), 0)).toBe(values);
  });
});
