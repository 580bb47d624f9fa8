import { describe, expect, it } from 'vitest';

import { changesText, checkpointBefore, dotKind, layout, sweepsOf } from './lineage';
import { attempt, checkpoint, member } from './testing';

const label = (id: string) => ({ id, display_id: id, name: id });

describe('lineage layout', () => {
  const tree = {
    root: 'A',
    head_is_set: false,
    experiment: 'e',
    runs: [
      member('A', null, null, [
        attempt(1, 0, 140, { ghost_from: 101 }),
        attempt(2, 101, 300, { kind: 'resume', base: { run: label('A'), attempt: 1, step: 100 } }),
      ], [checkpoint('A', 100), checkpoint('A', 140, { effective: false }), checkpoint('A', 200, { attempt: 2 })]),
      member('B', 'A', 50, [attempt(1, 51, 200, { kind: 'fork', base: { run: label('A'), attempt: 1, step: 50 } })]),
      member('C', 'A', 200, [attempt(1, 201, 260, { kind: 'fork', base: { run: label('A'), attempt: 2, step: 200 } })]),
      member('D', 'B', 150, []),
    ],
  };
  const plan = layout(tree);
  const lane = (id: string) => plan.lanes.find((l) => l.run.summary.id === id);

  it('has one lane per run, each below the run it forks', () => {
    expect(plan.lanes.map((l) => l.run.summary.id)).toEqual(['A', 'C', 'B', 'D']);
    const ys = plan.lanes.map((l) => l.y);
    expect([...ys].sort((a, b) => a - b)).toEqual(ys);
    expect(new Set(ys).size).toBe(4);
  });

  it('puts the later fork nearer, so that connectors cross no sibling', () => {
    expect(lane('C')?.y).toBeLessThan(lane('B')?.y ?? 0);
  });

  it('cuts the abandoned tail off the lane and puts it on a sub-lane', () => {
    expect(lane('A')?.own).toEqual([{ attempt: 1, from: 0, to: 100, y: 0 }, { attempt: 2, from: 100, to: 300, y: 0 }]);
    expect(lane('A')?.ghosts).toEqual([{ attempt: 1, from: 100, to: 140, leaves: 100, y: 0.5 }]);
  });

  it('begins a fork at its fork step on its parent’s lane', () => {
    expect(lane('B')?.fork).toEqual({ x: 50, fromY: 0 });
    expect(lane('B')?.own[0]?.from).toBe(50);
  });

  it('shows a fork that logged nothing yet', () => {
    expect(lane('D')?.own).toEqual([]);
    expect(lane('D')?.end).toBe(150);
  });

  it('puts dots of an abandoned attempt on its sub-lane', () => {
    expect(plan.dots.map((d) => [d.x, d.y])).toEqual([[100, 0], [140, 0.5], [200, 0]]);
  });

  it('covers all steps', () => {
    expect([plan.from, plan.to]).toEqual([0, 300]);
    const none = layout({ root: 'A', experiment: 'e', head_is_set: false, runs: [] });
    expect(none.to).toBeGreaterThan(none.from);
  });

  it('lays out a chain of thousands', () => {
    const runs = Array.from({ length: 5000 }, (_, i) => member(`r${i}`, i === 0 ? null : `r${i - 1}`, i === 0 ? null : i * 10, [attempt(1, i * 10 + 1, i * 10 + 15)]));
    expect(layout({ root: 'r0', experiment: 'e', head_is_set: false, runs }).lanes.length).toBe(5000);
  });

  it('names what became of a checkpoint', () => {
    expect((['complete', 'deleted', 'pending', 'abandoned', 'quarantined'] as const).map((state) => dotKind(checkpoint('A', 1, { state })))).toEqual(['stored', 'deleted', 'pending', 'abandoned', 'damaged']);
  });
});

describe('base edges', () => {
  it('lead from the lane whose weights were taken, or from outside the tree', () => {
    const a = member('A', null, null, [attempt(1, 0, 100)]);
    const b = member('B', 'A', 50, [attempt(1, 51, 100)]);
    b.summary.base = 'A@40';
    const c = member('C', null, null, [attempt(1, 0, 10)]);
    c.summary.base = 'other/X-1@7';
    const lanes = layout({ root: 'A', experiment: 'e', head_is_set: false, runs: [a, b, c] }).lanes;
    expect(lanes.find((l) => l.run === b)?.base).toEqual({ reference: 'A@40', x: 51, fromX: 40, fromY: 0 });
    expect(lanes.find((l) => l.run === c)?.base).toEqual({ reference: 'other/X-1@7', x: 0, fromX: 0, fromY: null });
    expect(lanes.find((l) => l.run === a)?.base).toBeNull();
  });
});

describe('what a fork changed', () => {
  it('is told on one line', () => {
    const change = (key: string, before: unknown, after: unknown) => ({ key, before, after, had_before: before !== undefined, has_after: after !== undefined });
    expect(changesText([change('lr', 1, 2)], String)).toBe('lr 1 → 2');
    expect(changesText([change('lr', undefined, 2), change('b', 1, undefined), change('c', 1, 2)], String)).toBe('lr – → 2, b 1 → – +1');
    expect(changesText([], String)).toBe('');
  });
});

describe('the checkpoint to fork from', () => {
  it('is the newest at or before the step that can be started from', () => {
    const list = [checkpoint('A', 10), checkpoint('A', 20), checkpoint('A', 20, { id: 'newer', created: 5 }), checkpoint('A', 25, { state: 'pending' }), checkpoint('A', 26, { effective: false }), checkpoint('A', 30)];
    expect(checkpointBefore(list, 29)?.id).toBe('newer');
    expect(checkpointBefore(list, 19)?.step).toBe(10);
    expect(checkpointBefore(list, 9)).toBeNull();
    expect(checkpointBefore(list, 1000)?.step).toBe(30);
  });
});

describe('sweeps', () => {
  it('are where several runs were forked from, the largest first', () => {
    const at = (step: number, ...forks: string[]) => checkpoint('A', step, { forks: forks.map(label) });
    const a = member('A', null, null, [attempt(1, 0, 100)], [at(10, 'B'), at(20, 'C', 'D'), at(30, 'E', 'F', 'G')]);
    const others = ['B', 'C', 'D', 'E', 'F', 'G'].map((id) => member(id, 'A', 20, []));
    a.checkpoints.push(at(40, 'B', 'took-weights'));
    expect(sweepsOf({ root: 'A', experiment: 'e', head_is_set: false, runs: [a, ...others] })).toEqual([{ reference: 'A@30', forks: 3 }, { reference: 'A@20', forks: 2 }]);
  });
});
