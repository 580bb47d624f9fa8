import { describe, expect, it } from 'vitest';

import { layersOf } from './layers';
import { toCurve } from './series';
import { buckets, segment } from './testing';
import { tipRows } from './tip';

const paint = new Map(['A', 'B', 'C'].map((id) => [id, { colour: id, key: id }]));
const draw = (...curves: ReturnType<typeof toCurve>[]) => layersOf(curves, { axis: 'step', smoothing: 0, ghosts: [], paint });
const places = { x: (v: number) => v * 10, y: (v: number) => 100 - v };
const line = (run: string, value: number) => toCurve(buckets(run, [[0, value], [10, value]], [segment(run, 1, false, 0)]));

describe('the tip', () => {
  it('tells the largest first and NaN last', () => {
    const { rows } = tipRows(draw(line('A', 1), line('B', NaN), line('C', 5)), 9, { x: 90, y: 50 }, places, 10);
    expect(rows.map((r) => r.layer.run)).toEqual(['C', 'A', 'B']);
  });

  it('keeps what is closest to the pointer where there is no room for all, and says how many are left', () => {
    const told = tipRows(draw(line('A', 1), line('B', 50), line('C', 90)), 9, { x: 90, y: 12 }, places, 1);
    expect(told.rows.map((r) => r.layer.run)).toEqual(['C']);
    expect(told.more).toBe(2);
  });

  it('is silent far from any point', () => {
    expect(tipRows(draw(line('A', 1)), 5, { x: 50, y: 50 }, places, 10)).toEqual({ rows: [], more: 0 });
  });

  it('says whose each value is, run and launch, and that once', () => {
    const child = toCurve(buckets('B', [[0, 1], [10, 2, 1]], [segment('A', 3, true, 0), segment('B', 1, false, 1)]));
    const told = (x: number, ...curves: ReturnType<typeof toCurve>[]) => tipRows(draw(...curves), x, { x: x * 10, y: 0 }, places, 10).rows.map((r) => [r.layer.run, r.owner, r.attempt, r.inherited]);
    expect(told(0, child)).toEqual([['B', 'A', 3, true]]);
    expect(told(10, child)).toEqual([['B', 'B', 1, false]]);
    const parent = toCurve(buckets('A', [[0, 1], [10, 1]], [segment('A', 3, false, 0)]));
    expect(told(0, parent, child)).toEqual([['A', 'A', 3, false]]);
  });

  it('tells what was logged beside what is smoothed, and the whole bucket', () => {
    const b = buckets('A', [[0, 1], [10, 2]], [segment('A', 1, false, 0)]);
    Object.assign(b, { x_last: [0, 19], count: [1, 10], min: [1, -1], max: [1, 7], mean: [1, 2], nonfinite: [0, 2] });
    const layers = layersOf([toCurve(b)], { axis: 'step', smoothing: 0.5, ghosts: [], paint });
    const row = tipRows(layers, 14.5, { x: 145, y: 0 }, places, 1).rows[0];
    expect(row).toMatchObject({ value: 2, from: 10, to: 19, many: 10, nonfinite: 2, min: -1, max: 7 });
    expect(row?.smoothed).toBeCloseTo(2, 1);
    expect(row?.smoothed).not.toBe(2);
  });
});
