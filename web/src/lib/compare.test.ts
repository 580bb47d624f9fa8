import { describe, expect, it } from 'vitest';

import { compareRows } from './compare';
import { summary } from './testing';

const value = (last: number, min: number) => ({ step: 9, value: last, min: { step: 1, value: min }, max: null });
const a = summary('A', { config: { lr: 1, seed: 7, optim: { name: 'x' } }, metrics: { loss: value(1, 0.5), acc: value(3, 3), m10: value(1, 1), m9: value(0, 0) } });
const b = summary('B', { config: { lr: 2, seed: 7 }, metrics: { loss: value(1, 0.4), acc: value(3, 3), m10: value(2, 1) }, fork_step: 5 });
const all = () => true;
const text = (rows: ReturnType<typeof compareRows>) => rows.map((r) => (r.key === '' ? r.kind : r.key));

describe('a comparison', () => {
  it('lists only what differs, metrics as people count', () => {
    expect(text(compareRows([a, b], 'last', false, all))).toEqual(['fork', 'lr', 'optim.name', 'm9', 'm10']);
    expect(text(compareRows([a, b], 'min', false, all))).toEqual(['fork', 'lr', 'optim.name', 'loss', 'm9']);
    expect(text(compareRows([a, { ...b, last_step: 99 }], 'last', false, all))).toEqual(['fork', 'lr', 'optim.name', 'step', 'm9', 'm10']);
  });

  it('lists everything when asked to, and what matches', () => {
    expect(text(compareRows([a, b], 'last', true, all))).toEqual(['fork', 'lr', 'optim.name', 'seed', 'step', 'acc', 'loss', 'm9', 'm10']);
    expect(text(compareRows([a, b], 'last', true, (t) => t.startsWith('m')))).toEqual(['fork', 'step', 'm9', 'm10']);
    expect(text(compareRows([a], 'last', false, all))).toEqual([]);
  });
});
