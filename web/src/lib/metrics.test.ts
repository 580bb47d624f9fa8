import { describe, expect, it } from 'vitest';

import type { MetricInfo } from '../api/types';
import { hasInherited, sortMetrics } from './metrics';

const info = (name: string, last: number | 'NaN', over: Partial<MetricInfo> = {}): MetricInfo => ({
  name, system: false, points: 10, nonfinite: 0, steps: { first: 0, last: 9 }, last: { step: 9, value: last }, own_points: 10, ...over,
});
const list = [info('b10', 2), info('b9', 'NaN'), info('a', 5, { min: { step: 1, value: -1 } }), info('c', 2)];
const order = (...how: [Parameters<typeof sortMetrics>[1], boolean]) => sortMetrics(list, ...how).map((m) => m.name);

describe('the table of metrics', () => {
  it('sorts names as people count, and values with what has none last, both ways', () => {
    expect(order('name', false)).toEqual(['a', 'b9', 'b10', 'c']);
    expect(order('last', false)).toEqual(['b10', 'c', 'a', 'b9']);
    expect(order('last', true)).toEqual(['a', 'b10', 'c', 'b9']);
    expect(order('min', true)).toEqual(['a', 'b9', 'b10', 'c']);
    expect(order('points', true)).toEqual(['a', 'b9', 'b10', 'c']);
  });

  it('has columns of its own values only where something is inherited', () => {
    expect(hasInherited(list)).toBe(false);
    expect(hasInherited([...list, info('d', 1, { own_points: 4 })])).toBe(true);
  });
});
