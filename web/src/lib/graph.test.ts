import { describe, expect, it } from 'vitest';

import { graphRows } from './graph';

const row = (id: string, parent: string | null = null) => ({ id, parent });

/** Follows the line from a child's dot down to whichever row it ends in. */
function follow(rows: { id: string; parent: string | null }[], child: string): string | undefined {
  const graph = graphRows(rows).rows;
  const start = rows.findIndex((r) => r.id === child);
  let lane = graph[start]?.lines.find((l) => l.from === null)?.to;
  for (let i = start + 1; i < rows.length && lane !== undefined && lane !== null; i++) {
    const line: { from: number | null; to: number | null } | undefined = graph[i]?.lines.find((l) => l.from === lane);
    if (!line) return undefined;
    if (line.to === null) return rows[i]?.id;
    lane = line.to;
  }
  return undefined;
}

describe('the connector of the table', () => {
  it('leads every child to its parent', () => {
    const rows = [row('e', 'b'), row('d', 'a'), row('x'), row('c', 'a'), row('b', 'a'), row('a')];
    for (const r of rows) if (r.parent !== null) expect(follow(rows, r.id), r.id).toBe(r.parent);
  });

  it('leads a parent above to its child below', () => {
    const rows = [row('a'), row('x'), row('b', 'a')];
    expect(follow(rows, 'a')).toBe('b');
  });

  it('draws nothing for a parent that is not listed', () => {
    expect(graphRows([row('b', 'gone')])).toEqual({ rows: [{ lane: 0, lines: [] }], lanes: 1 });
  });

  it('never puts a dot on a line that passes by', () => {
    const rows = [row('c', 'a'), row('x'), row('y'), row('a')];
    const graph = graphRows(rows).rows;
    graph.forEach((g, i) => {
      for (const l of g.lines) if (l.from !== null && l.to !== null) expect(l.from, rows[i]?.id).not.toBe(g.lane);
    });
  });

  it('stays as narrow as asked for', () => {
    const rows = [...Array.from({ length: 30 }, (_, i) => row(`c${i}`, `p${i}`)), ...Array.from({ length: 30 }, (_, i) => row(`p${i}`))];
    expect(graphRows(rows, 4).lanes).toBe(4);
  });
});
