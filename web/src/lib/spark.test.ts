import { describe, expect, it } from 'vitest';

import { sparkPath } from './spark';

const path = (x: number[], mean: number[]) => sparkPath({ x: Float64Array.from(x), mean: Float64Array.from(mean) }, 50, 12);

describe('a sparkline', () => {
  it('fills its box, larger values on top', () => {
    expect(path([0, 5, 10], [0, 1, 0.5])).toBe('M0.0 11.0L25.0 1.0L50.0 6.0');
  });

  it('leaves gaps where values are not finite, and is nothing where none is', () => {
    expect(path([0, 5, 10], [1, NaN, 0])).toBe('M0.0 1.0M50.0 11.0');
    expect(path([0, 5], [NaN, NaN])).toBe('');
    expect(path([], [])).toBe('');
  });

  it('draws one point and a constant inside its box', () => {
    expect(path([7], [3])).toBe('M0.0 1.0');
    expect(path([0, 1], [3, 3])).toBe('M0.0 1.0L50.0 1.0');
  });
});
