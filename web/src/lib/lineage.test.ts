import { describe, expect, it } from 'vitest';

import { dotKind, layout } from './lineage';
import { attempt, checkpoint, member } from './testing';

const label = (id: string) => ({ id, display_id: id, name: id });

describe('lineage layout', () => {
  const tree = {
    root: 'A',
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
    const none = layout({ root: 'A', experiment: 'e', runs: [] });
    expect(none.to).toBeGreaterThan(none.from);
  });

  it('lays out a chain of thousands', () => {
    const runs = Array.from({ length: 5000 }, (_, i) => member(`r${i}`, i === 0 ? null : `r${i - 1}`, i === 0 ? null : i * 10, [attempt(1, i * 10 + 1, i * 10 + 15)]));
    expect(layout({ root: 'r0', experiment: 'e', runs }).lanes.length).toBe(5000);
  });

  it('names what became of a checkpoint', () => {
    expect((['complete', 'deleted', 'pending', 'abandoned', 'quarantined'] as const).map((state) => dotKind(checkpoint('A', 1, { state })))).toEqual(['stored', 'deleted', 'pending', 'abandoned', 'damaged']);
  });
});
