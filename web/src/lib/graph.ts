/**
 * The connector in the table's first column: the lineage of the listed runs, drawn like `git log --graph`.
 *
 * Works on rows in any order and as more rows arrive below: a child above its parent keeps a lane open until the parent's row; a parent
 * above its children keeps one open until the last of them.
 */

export interface GraphRow {
  /** Lane of this row's dot. */
  lane: number;
  /** Lines from the top of the row to its middle or through it, and from the middle to the bottom: lane above → lane below, null = the dot. */
  lines: { from: number | null; to: number | null }[];
}

interface Edge {
  child: number;
  parent: number;
  top: number;
  bottom: number;
}

export function graphRows(rows: readonly { id: string; parent: string | null }[], maxLanes = 6): { rows: GraphRow[]; lanes: number } {
  const index = new Map(rows.map((r, i) => [r.id, i]));
  const edges: Edge[] = [];
  rows.forEach((row, i) => {
    const p = row.parent === null ? undefined : index.get(row.parent);
    if (p !== undefined && p !== i) edges.push({ child: i, parent: p, top: Math.min(i, p), bottom: Math.max(i, p) });
  });
  const starting = new Map<number, Edge[]>();
  for (const edge of edges) {
    const list = starting.get(edge.top);
    if (list) list.push(edge);
    else starting.set(edge.top, [edge]);
  }
  /** What each lane holds while we go down: edges that lead to the same end row share it. */
  const lanes: (Set<Edge> | null)[] = [];
  const free = () => {
    const k = lanes.indexOf(null);
    return k >= 0 ? k : lanes.length;
  };
  const out: GraphRow[] = [];
  let width = 1;
  rows.forEach((_, i) => {
    const ending = lanes.flatMap((set, lane) => (set && [...set].some((e) => e.bottom === i) ? [lane] : []));
    const lane = ending[0] ?? free();
    const lines: GraphRow['lines'] = [];
    for (const l of ending) lines.push({ from: l, to: null });
    for (const l of ending) {
      const left = [...(lanes[l] ?? [])].filter((edge) => edge.bottom !== i);
      lanes[l] = left.length > 0 ? new Set(left) : null;
    }
    lanes.forEach((set, l) => {
      if (set) lines.push({ from: l, to: l });
    });
    // New edges: those towards one parent below share a lane; each child below a parent shares the parent's lane until it ends.
    const fresh = (starting.get(i) ?? []).sort((a, b) => b.bottom - a.bottom);
    const groups = new Map<string, Edge[]>();
    for (const edge of fresh) {
      const key = edge.parent === i ? `child ${edge.child}` : `parent ${edge.parent}`;
      groups.set(key, [...(groups.get(key) ?? []), edge]);
    }
    let preferred: number | null = lane;
    for (const group of groups.values()) {
      // A lane already on its way to the same parent's row takes this child too, unless it is drawn from its own lane.
      let target = preferred !== null && !lanes[preferred] ? preferred : free();
      if (target >= maxLanes) target = Math.min(target, maxLanes - 1);
      preferred = null;
      const set = lanes[target] ?? new Set<Edge>();
      for (const edge of group) set.add(edge);
      lanes[target] = set;
      lines.push({ from: null, to: target });
    }
    while (lanes.length > 0 && lanes[lanes.length - 1] === null) lanes.pop();
    for (let l = 0; l < lanes.length; l++) lanes[l] ??= null;
    width = Math.max(width, lanes.length, lane + 1);
    out.push({ lane: Math.min(lane, maxLanes - 1), lines });
  });
  return { rows: out, lanes: Math.min(width, maxLanes) };
}
