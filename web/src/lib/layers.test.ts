import { describe, expect, it } from 'vitest';

import { countHidden, countNonfinite, type Ghost, layersOf, xRangeOf, yRangeOf } from './layers';
import { toCurve } from './series';
import { buckets, segment } from './testing';

const parent = toCurve(buckets('A', [[0, 8], [10, 6], [20, 5], [30, 4]], [segment('A', 1, false, 0)]));
const child = toCurve(buckets('B', [[0, 8], [10, 6], [20, -3, 1], [30, NaN, 1]], [segment('A', 1, true, 0), segment('B', 1, false, 11)]));
const tail = { ...toCurve(buckets('A', [[10, 1], [20, 2], [30, 3]], [segment('A', 2, false, 10)])), attempt: 2 };
const paint = new Map([['A', { colour: 'red', key: 'A' }], ['B', { colour: 'blue', key: 'A' }]]);
const draw = (curves: (typeof parent)[], ghosts: Ghost[] = [], axis: 'step' | 'wall' = 'step') => layersOf(curves, { axis, smoothing: 0, ghosts, paint });

describe('layers', () => {
  it('leave out what another layer draws already, and look as their run does', () => {
    const layers = draw([parent, child]);
    expect(layers.map((l) => [l.run, l.from, l.joins, l.colour])).toEqual([['A', 0, false, 'red'], ['B', 2, true, 'blue']]);
  });

  it('leave out runs that are not shown', () => {
    expect(layersOf([parent, child], { axis: 'step', smoothing: 0, ghosts: [], paint: new Map([['B', { colour: 'blue', key: 'B' }]]) }).map((l) => [l.run, l.from])).toEqual([['B', 0]]);
  });

  it('draw an abandoned tail from where it left the timeline, below the rest', () => {
    const layers = draw([parent, tail], [{ run: 'A', attempt: 2, from: 15 }]);
    expect(layers.map((l) => [l.ghost, l.from, l.joins])).toEqual([[true, 1, true], [false, 0, false]]);
    expect(draw([parent, tail], [{ run: 'A', attempt: 2, from: 99 }]).length).toBe(1);
    // The steps of a tail stand elsewhere on a clock: there it is drawn whole.
    expect(draw([tail], [{ run: 'A', attempt: 2, from: 15 }], 'wall')[0]?.from).toBe(0);
  });

  it('count what is not finite, and what a logarithmic axis can not show, once', () => {
    const layers = draw([parent, child]);
    expect(countNonfinite(layers)).toBe(1);
    expect(countHidden(layers)).toBe(1);
  });
});

describe('axes', () => {
  it('span what is drawn and the forks, whatever is hidden before them', () => {
    expect(xRangeOf(draw([parent]), [])).toEqual([0, 30]);
    expect(xRangeOf(draw([tail], [{ run: 'A', attempt: 2, from: 15 }]), [{ x: 10 }])).toEqual([10, 30]);
    expect(xRangeOf([], [{ x: 10 }])).toEqual([0, 1]);
    expect(xRangeOf(draw([toCurve(buckets('A', [[7, 1]], [segment('A', 1, false, 7)]))]), [])).toEqual([6, 8]);
  });

  it('leave air around values, and none below zero on a logarithmic one', () => {
    expect(yRangeOf(draw([parent]), [0, 30], false)).toEqual([4 - 0.24, 8 + 0.24]);
    expect(yRangeOf(draw([parent]), [0, 30], true)).toEqual([4 / 1.08, 8 * 1.08]);
    expect(yRangeOf(draw([parent]), [19, 21], false)).toEqual([4.5, 5.5]);
    expect(yRangeOf([], [0, 1], false)).toEqual([0, 1]);
    expect(yRangeOf([], [0, 1], true)).toEqual([0.1, 1]);
  });
});
