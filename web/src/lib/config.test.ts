import { describe, expect, it } from 'vitest';

import { differences, differingKeys, flatten, parseAssignments, telling } from './config';
import { mainMetric, matcher, sections } from './sections';

describe('config', () => {
  it('is flattened to dotted keys; lists and empty objects are values', () => {
    expect(flatten({ a: 1, b: { c: [1, 2], d: {} } })).toEqual({ a: 1, 'b.c': [1, 2], 'b.d': {} });
    expect(flatten({})).toEqual({});
  });
  it('shows only what differs, a missing key included', () => {
    expect(differingKeys([{ a: 1, b: 2 }, { a: 1, b: 3, c: null }])).toEqual(['b', 'c']);
    expect(differingKeys([{ a: [1] }, { a: [1] }])).toEqual([]);
  });
  it('tells first what takes the most values', () => {
    expect(telling([{ a: 1, lr: 1, s: 0 }, { a: 1, lr: 2, s: 0 }, { a: 2, lr: 3, s: 0 }])).toEqual(['lr', 'a']);
  });
  it('tells last what only labels runs', () => {
    const sweep = Array.from({ length: 9 }, (_, i) => ({ seed: i, lr: i % 3, note: `n${i}`, out_dir: i % 4 }));
    expect(telling(sweep)[0]).toBe('lr');
    expect(telling(sweep)).toHaveLength(4);
  });
  it('is typed as key=value lines', () => {
    expect(parseAssignments('lr=1e-4\n optimizer.name = sgd \n\nflag=true')).toEqual({ config: { lr: 1e-4, optimizer: { name: 'sgd' }, flag: true }, bad: null });
    expect(parseAssignments('lr').bad).toBe('lr');
    expect(parseAssignments('=3').bad).toBe('=3');
  });
  it('can not reach a prototype', () => {
    const { config } = parseAssignments('__proto__.polluted=1');
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect(Object.keys(config)).toEqual(['__proto__']);
  });
});

describe('sections', () => {
  it('go by prefix, pinned first, plain metrics before the rest', () => {
    expect(sections(['val/loss', 'loss', 'train/a/b', 'train/a/c', 'x'], new Set(['x']))).toEqual([
      { name: 'pinned', metrics: ['x'] },
      { name: 'metrics', metrics: ['loss'] },
      { name: 'train/a', metrics: ['train/a/b', 'train/a/c'] },
      { name: 'val', metrics: ['val/loss'] },
    ]);
  });
  it('are filtered by a regular expression, or by text while it is not one yet', () => {
    expect(matcher('^val')('val/loss')).toBe(true);
    expect(matcher('^val')('train/val')).toBe(false);
    expect(matcher('loss(')('loss(a)')).toBe(true);
  });
  it('know the metric that stands for a run', () => {
    expect(mainMetric(['lr', 'val/loss', 'train/loss'])).toBe('train/loss');
    expect(mainMetric([])).toBeNull();
  });
});

describe('what changes do to a config', () => {
  it('says old and new, what stays the same, and which keys are new', () => {
    const config = { lr: 0.1, optim: { name: 'adamw', betas: [0.9, 0.95] } };
    expect(differences(config, parseAssignments('lr=0.2\noptim.name=adamw\noptim.eps=1e-8').config)).toEqual([
      { key: 'lr', before: 0.1, after: 0.2, had_before: true, same: false },
      { key: 'optim.name', before: 'adamw', after: 'adamw', had_before: true, same: true },
      { key: 'optim.eps', before: undefined, after: 1e-8, had_before: false, same: false },
    ]);
    expect(differences(config, {})).toEqual([]);
    expect(differences(config, parseAssignments('toString=1').config)[0]?.had_before).toBe(false);
  });
});
