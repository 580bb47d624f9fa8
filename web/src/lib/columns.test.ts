import { describe, expect, it } from 'vitest';

import { cellOf, idOf, metricsOf, moved, parseColumns, parseWidths, printColumns, printWidths, sortOf, widthOf } from './columns';
import { summary } from './testing';

describe('columns', () => {
  it('stand in an address as they are chosen, whatever metrics are called', () => {
    const columns = [{ kind: 'step', key: '' }, { kind: 'metric', key: 'a,b:c%' }, { kind: 'min', key: 'val/loss' }, { kind: 'config', key: 'optim.lr' }, { kind: 'age', key: '' }] as const;
    expect(parseColumns(printColumns(columns))).toEqual(columns);
    expect(printColumns([])).toBe('-');
    expect(parseColumns('-')).toEqual([]);
    expect(parseColumns('metric:,nonsense,step:x,toString,step,step')).toEqual([{ kind: 'step', key: '' }]);
  });

  it('have widths that somebody may have typed', () => {
    const widths = new Map([['name', 300], ['metric:a=b,c', 90]]);
    expect(parseWidths(printWidths(widths))).toEqual(widths);
    expect(parseWidths('step=5,age=99999,x,=3,tags=abc')).toEqual(new Map());
    expect(widthOf({ kind: 'age', key: '' }, new Map([['age', 100]]))).toBe(100);
  });

  it('are moved by dragging', () => {
    const columns = parseColumns('step,metric:a,age');
    expect(moved(columns, 'age', 'step').map(idOf)).toEqual(['age', 'step', 'metric:a']);
    expect(moved(columns, 'step', null).map(idOf)).toEqual(['metric:a', 'age', 'step']);
    for (const [id, before] of [['nothing', 'step'], ['step', 'nothing'], ['step', 'step']] as const) expect(moved(columns, id, before)).toEqual(columns);
  });

  it('say what is asked of the server', () => {
    const columns = parseColumns('metric:a,min:a,max:b,config:c,step,spark');
    expect(metricsOf(columns)).toEqual(['a', 'b']);
    expect(columns.map(sortOf)).toEqual(['metric:a', 'min:a', 'max:b', 'config:c', 'last_step', null]);
  });

  it('show last, smallest and largest with their steps', () => {
    const run = summary('A', { metrics: { loss: { step: 9, value: 'NaN', min: { step: 3, value: 0.25 }, max: null } }, last_step: 12_345 });
    const cell = (text: string) => parseColumns(text).map((c) => cellOf(run, { lr: 1e-4 }, c));
    expect(cell('metric:loss')[0]).toEqual({ text: 'NaN', bad: true, title: 'last NaN at step 9\nmin 0.25 at step 3' });
    expect(cell('min:loss')[0]).toMatchObject({ text: '0.25', bad: false });
    expect(cell('max:loss,metric:none,config:none').map((c) => c?.text)).toEqual(['', '', '']);
    expect(cell('config:lr,step').map((c) => c?.text)).toEqual(['1e-4', '12\u202f345']);
    expect(cell('spark')).toEqual([null]);
  });
});
