import { describe, expect, it } from 'vitest';

import type { RunDetail } from '../api/types';
import { compare, withRows, withSummary } from './detail';
import { attempt, member, summary } from './testing';

const before = summary('A', { last_activity: 10, last_step: 5, metrics: { loss: { step: 5, value: 1 }, acc: { step: 5, value: 0.5 } }, first_nonfinite: { metric: 'loss', step: 3, last_good: 2 } });

describe('a run that goes on', () => {
  it('moves while only points and checkpoints come', () => {
    expect(compare(before, { ...before, last_activity: 11, last_step: 9, checkpoints: 3, metrics: {}, first_nonfinite: { metric: 'loss', step: 3 } })).toBe('moved');
  });

  it('is another where anything else changed, and the same where nothing did', () => {
    const later = { ...before, last_activity: 11 };
    for (const change of [{ name: 'x' }, { status: 'failed' as const }, { attempt: 2 }, { children: 1 }, { tags: ['x'] }, { config: { lr: 1 } }, { deleted: true }, { first_nonfinite: null }]) expect(compare(before, { ...later, ...change })).toBe('changed');
    expect(compare(before, { ...before, metrics: {} })).toBe('same');
  });

  it('keeps what the list does not know', () => {
    const detail: RunDetail = { summary: before, attempts: [attempt(1, 0, 5, { last_activity: 10 })], segments: [], children: [], config_diff: [], metrics: [], files: [], lost: [], alerts: [], processes: [] };
    const now = withSummary(detail, { ...before, last_activity: 20, last_step: 9, metrics: { loss: { step: 9, value: 0 } }, first_nonfinite: { metric: 'loss', step: 3 } });
    expect(now.summary.metrics).toEqual({ loss: { step: 9, value: 0 }, acc: { step: 5, value: 0.5 } });
    expect([now.summary.last_step, now.summary.first_nonfinite?.last_good, now.attempts[0]?.last_activity]).toEqual([9, 2, 20]);
    expect(detail.attempts[0]?.last_activity).toBe(10);
  });
});

describe('a family of which a run goes on', () => {
  const a = member('A', null, null, [attempt(1, 0, 100)]);
  const b = member('B', 'A', 50, [attempt(1, 0, 20), attempt(2, 51, 60)]);
  const tree = { root: 'A', experiment: 'e', head_is_set: false, runs: [a, b] };
  const grown = { ...b.summary, last_activity: 9, last_step: 75 };

  it('has its lane grow, and keeps the rest', () => {
    const next = withRows(tree, [grown]);
    expect(next?.runs[1]?.attempts.map((x) => x.steps?.last)).toEqual([20, 75]);
    expect(next?.runs[1]?.summary.last_step).toBe(75);
    expect(next?.runs[0]).toBe(a);
    expect(withRows(tree, [summary('X', { root: 'other' })])?.runs).toEqual(tree.runs);
  });

  it('is asked for anew when there is a fork, a launch, a checkpoint', () => {
    expect(withRows(tree, [summary('C', { root: 'A' })])).toBeNull();
    expect(withRows(tree, [{ ...grown, attempt: 2 }])).toBeNull();
    expect(withRows(tree, [{ ...grown, checkpoints: 1 }])).toBeNull();
    // It stands still, and something is new: a pin. While it runs, it was only told late.
    expect(withRows(tree, [b.summary])).toBeNull();
    const running = { ...b.summary, status: 'running' as const };
    expect(withRows({ ...tree, runs: [a, { ...b, summary: running }] }, [running])).not.toBeNull();
    const waiting = { ...tree, runs: [a, { ...b, attempts: [{ ...attempt(1, 0, 0), steps: null }] }] };
    expect(withRows(waiting, [grown])).toBeNull();
  });
});
