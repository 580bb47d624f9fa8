import { describe, expect, it } from 'vitest';

import { bars, cellText, inOrder, indexAt, moved, parseHistogram, parseTable, sorted } from './media';

describe('a slider', () => {
  const steps = [0, 10, 20, 50];
  it('stands at the last step at or before the one that is asked for', () => {
    expect([-5, 0, 9, 10, 49, 50, 99].map((s) => steps[indexAt(steps, s)])).toEqual([0, 0, 0, 10, 20, 50, 50]);
    expect(indexAt([], 5)).toBe(0);
  });
  it('moves by places and stops at its ends', () => {
    expect(moved(steps, 10, 1)).toBe(20);
    expect(moved(steps, 15, 1)).toBe(20);
    expect(moved(steps, 50, 1)).toBe(50);
    expect(moved(steps, 20, -10)).toBe(0);
    expect(moved([], 20, 1)).toBeNull();
  });
});

it('shows pictures first', () => {
  const keys = [['b', 'table'], ['b', 'image'], ['z', 'text'], ['a', 'image'], ['h', 'histogram']].map(([name = '', kind = '']) => ({ name, kind }));
  expect(inOrder(keys).map((k) => k.name + k.kind)).toEqual(['aimage', 'bimage', 'hhistogram', 'ztext', 'btable']);
});

describe('a histogram', () => {
  it('is drawn with areas that are its counts', () => {
    const drawn = bars({ counts: [4, 4], edges: [0, 1, 3], nonfinite: 0 });
    expect(drawn.map((b) => [b.x, b.width, b.height])).toEqual([
      [0, 1 / 3, 1],
      [1 / 3, 2 / 3, 0.5],
    ]);
    expect(drawn[1]?.label).toBe('1 to 3: 4');
  });
  it('may be empty, and as wide as floats are', () => {
    expect(bars({ counts: [], edges: [], nonfinite: 3 })).toEqual([]);
    const wide = bars({ counts: [1, 1], edges: [-1.7e308, 0, 1.7e308], nonfinite: 0 });
    expect(wide.map((b) => b.width)).toEqual([0.5, 0.5]);
    expect(bars({ counts: [0], edges: [1, 2], nonfinite: 0 })[0]?.height).toBe(0);
  });
  it('is read only if it is one', () => {
    expect(parseHistogram('{"counts":[1],"edges":[0,1],"nonfinite":2}')).toEqual({ counts: [1], edges: [0, 1], nonfinite: 2 });
    for (const text of ['', 'null', '[]', '{"counts":[1]}', '{"counts":[1],"edges":[0]}', '{"counts":["1"],"edges":[0,1]}']) expect(parseHistogram(text)).toBeNull();
  });
});

describe('a table', () => {
  it('is read only if it is one', () => {
    expect(parseTable('{"columns":["a"],"rows":[[1],[null]]}')).toEqual({ columns: ['a'], rows: [[1], [null]] });
    for (const text of ['', '{}', '{"columns":[],"rows":[1]}', '{"columns":1,"rows":[]}']) expect(parseTable(text)).toBeNull();
  });
  it('shows what is no number as what it is', () => {
    expect([null, true, 0.5, 'x', { float: 'NaN' }, { float: '-Infinity' }].map(cellText)).toEqual(['', 'true', '0.5', 'x', 'NaN', '-Infinity']);
  });
  it('sorts numbers as numbers, and leaves empty cells last either way', () => {
    const rows = [['b'], [10], [null], [9], [{ float: 'NaN' }], ['a'], [{ float: 'Infinity' }]];
    const order = (descending: boolean) => sorted(rows, 0, descending).map((r) => cellText(r[0] ?? null));
    expect(order(false)).toEqual(['9', '10', 'Infinity', 'NaN', 'a', 'b', '']);
    expect(order(true)).toEqual(['b', 'a', 'NaN', 'Infinity', '10', '9', '']);
    expect(sorted(rows, null, false)).toEqual(rows);
  });
});
