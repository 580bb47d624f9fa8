import { describe, expect, it } from 'vitest';

import { reading, sortRows, sweepRows, winners } from './sweep';
import { summary } from './testing';

const value = (last: number | 'NaN', min: number | null, max: number | null) => ({ step: 9, value: last, min: min === null ? null : { step: 3, value: min }, max: max === null ? null : { step: 4, value: max } });
const run = (id: string, lr: number | null, loss: ReturnType<typeof value> | null, acc: ReturnType<typeof value> | null) =>
  summary(id, { config: lr === null ? {} : { lr }, metrics: { ...(loss ? { loss } : {}), ...(acc ? { acc } : {}) }, last_step: 10 });
const table = {
  reference: 'A@5', config_keys: ['lr'], metrics: [{ name: 'acc', lower_is_better: false }, { name: 'loss', lower_is_better: true }],
  parent: run('A', 1, value(0.5, 0.4, 3), value(0.7, 0.1, 0.9)), runs: [run('B10', 10, value(0.2, 0.1, 3), value(0.9, 0.1, 0.9)), run('B9', 2, value('NaN', null, null), null), run('C', null, null, value(0.8, 0.1, 0.85))],
};
const [acc, loss] = table.metrics as [typeof table.metrics[0], typeof table.metrics[0]];
const rows = sweepRows(table);
const order = (...how: [Parameters<typeof sortRows>[1], boolean]) => sortRows(rows, how[0], how[1], table.metrics, 'best').map((r) => r.run.id);

describe('a sweep', () => {
  it('reads the best by what is better, or the last, with its step', () => {
    expect(reading(table.parent, loss, 'best')).toEqual({ value: 0.4, step: 3 });
    expect(reading(table.parent, acc, 'best')).toEqual({ value: 0.9, step: 4 });
    expect(reading(table.parent, acc, 'last')).toEqual({ value: 0.7, step: 9 });
    expect(reading(rows[2]?.run ?? table.parent, acc, 'last')).toBeNull();
  });

  it('marks who won, several if equal, nobody alone', () => {
    expect([...winners(rows, loss, 'best')]).toEqual(['B10']);
    expect([...winners(rows, acc, 'best')]).toEqual(['A', 'B10']);
    expect([...winners(rows.slice(2, 3), loss, 'best')]).toEqual([]);
  });

  it('sorts by config and by values, those without any last both ways', () => {
    expect(order({ by: 'config', key: 'lr' }, false)).toEqual(['A', 'B9', 'B10', 'C']);
    expect(order({ by: 'config', key: 'lr' }, true)).toEqual(['B10', 'B9', 'A', 'C']);
    expect(order({ by: 'metric', key: 'loss' }, false)).toEqual(['B10', 'A', 'B9', 'C']);
    expect(order({ by: 'name' }, false)).toEqual(['A', 'B9', 'B10', 'C']);
  });

  it('sorts names with numbers in them by the numbers', () => {
    const names = ['rate 1', 'rate 0.1', 'rate 0.02', 'rate 0.01', 'rate 1e-3', 'rate 0.2', 'rate', 'base'];
    const named = sweepRows({ ...table, parent: run(names[0] ?? '', 1, null, null), runs: names.slice(1).map((name) => run(name, 1, null, null)) });
    expect(sortRows(named, { by: 'name' }, false, [], 'best').map((r) => r.run.id)).toEqual(['base', 'rate', 'rate 1e-3', 'rate 0.01', 'rate 0.02', 'rate 0.1', 'rate 0.2', 'rate 1']);
  });
});
