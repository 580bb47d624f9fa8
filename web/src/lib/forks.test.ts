import { describe, expect, it } from 'vitest';

import { forkLines, placeFlags, shareFlags } from './forks';
import { toCurve } from './series';
import { buckets, segment } from './testing';

const curve = (axisStart: number) => toCurve(buckets('C', [[0, 1, 0]], [segment('A', 1, true, 0), segment('B', 1, true, axisStart), segment('B', 2, true, axisStart + 5), segment('C', 1, false, 900)]));

describe('fork lines', () => {
  it('stand at the fork step on the step axis', () => {
    expect(forkLines([curve(501)], 'step', new Map([['B', 500], ['C', 880]]))).toEqual([{ run: 'B', x: 500 }, { run: 'C', x: 880 }]);
  });

  it('stand where the stretch begins when the fork step is not known', () => {
    expect(forkLines([curve(500)], 'step', new Map()).map((l) => l.x)).toEqual([500, 900]);
  });

  it('stand where the fork’s own time begins on the time axes', () => {
    for (const axis of ['relative', 'wall'] as const) expect(forkLines([curve(777)], axis, new Map([['B', 500], ['C', 880]]))).toEqual([{ run: 'B', x: 777 }, { run: 'C', x: 900 }]);
  });

  it('are one per fork, and none for a resumed attempt', () => {
    expect(forkLines([curve(501), curve(501)], 'wall', new Map()).map((l) => l.run)).toEqual(['B', 'C']);
  });

  it('stay when inherited points are hidden', () => {
    const own = toCurve(buckets('C', [[901, 1, 0]], [segment('C', 1, false, 900)]));
    expect(forkLines([own], 'step', new Map([['C', 880]]))).toEqual([{ run: 'C', x: 880 }]);
    expect(forkLines([own], 'wall', new Map())).toEqual([]);
  });

  it('have flags that do not cover each other', () => {
    const flags = [0, 5, 10, 200].map((x) => ({ x, width: 100, wanted: false }));
    expect(placeFlags(flags, 300, 2).map((p) => p.row)).toEqual([0, 1, -1, 0]);
    expect(placeFlags([{ x: 280, width: 100, wanted: true }], 300, 2)).toEqual([{ row: 0, flipped: true }]);
  });

  it('prefer the selected runs where there is no room for all', () => {
    const flags = [{ x: 0, width: 100, wanted: false }, { x: 5, width: 100, wanted: true }];
    expect(placeFlags(flags, 300, 1).map((p) => p.row)).toEqual([-1, 0]);
  });

  it('share the flag of a sweep, for which a selected run speaks, and leave others theirs', () => {
    const flag = (x: number, label: string, wanted = true) => ({ x, label, wanted });
    const shared = shareFlags([flag(100, 'fork @300 ← A-1', false), flag(100, 'fork @300 ← A-1'), flag(100, 'fork @300 ← B-1'), flag(101, 'fork @300 ← A-1'), flag(160, 'fork @300 ← A-1')]);
    expect(shared.map((s) => s.by)).toEqual([1, null, null, 1, null]);
    expect(shared[1]?.also).toEqual([3, 0]);
  });
});
