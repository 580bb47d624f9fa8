import { describe, expect, it } from 'vitest';

import { differingKeys, flatten, parseAssignments, telling } from './config';
import { mainMetric, matcher, sections } from './sections';
import { forkCommand, forkPython, pythonLiteral, shellQuote } from './snippets';

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

describe('snippets', () => {
  it('survive a shell', () => {
    expect(shellQuote("it's")).toBe(`'it'\\''s'`);
    expect(forkCommand('MMP-1@500', 'my run', ['lr=1e-4', ''])).toBe("runtree fork MMP-1@500 --name 'my run' --set lr=1e-4");
    expect(shellQuote('MMP-1@<=500')).toBe("'MMP-1@<=500'");
  });
  it('are Python', () => {
    expect(pythonLiteral({ a: [true, null, 'x"y'] })).toBe('{"a": [True, None, "x\\"y"]}');
    expect(forkPython('MMP-1@500', '', { lr: 1e-4 }).split('\n')).toHaveLength(3);
  });
});
