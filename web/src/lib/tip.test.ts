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

  it('says whose an inherited value is, and that once', () => {
    const child = toCurve(buckets('B', [[0, 1], [10, 2, 1]], [segment('A', 1, true, 0), segment('B', 1, false, 1)]));
    expect(tipRows(draw(child), 0, { x: 0, y: 0 }, places, 10).rows.map((r) => r.owner)).toEqual(['A']);
    expect(tipRows(draw(child), 10, { x: 100, y: 0 }, places, 10).rows.map((r) => r.owner)).toEqual([null]);
    expect(tipRows(draw(line('A', 1), child), 0, { x: 0, y: 0 }, places, 10).rows.map((r) => r.layer.run)).toEqual(['A']);
  });
});
