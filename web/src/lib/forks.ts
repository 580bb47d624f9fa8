/** Where fork lines stand on a chart, on whichever axis. */
import type { XAxis } from '../api/types';
import type { Curve } from './series';

/** Rows of flags above a plot, and the height of one. */
export const FLAG_ROWS = 2;
export const FLAG_ROW_PX = 16;

export interface ForkLine {
  /** RunId of the fork whose own history begins here. */
  run: string;
  x: number;
}

/**
 * One line per fork. On the step axis it stands at the fork step, on the time axes where the fork's own time begins: the server says both as
 * `x_start`. A later attempt of the same run is not a fork.
 */
export function forkLines(curves: readonly Curve[], axis: XAxis, forkStep: ReadonlyMap<string, number>): ForkLine[] {
  const lines = new Map<string, number>();
  for (const curve of curves) {
    if (curve.attempt !== null) continue;
    curve.segments.forEach((segment, i) => {
      const before = curve.segments[i - 1];
      const begins = before ? before.run !== segment.run : forkStep.has(segment.run);
      if (!begins || lines.has(segment.run)) return;
      const step = forkStep.get(segment.run);
      lines.set(segment.run, axis === 'step' ? (step ?? segment.x_start) : segment.x_start);
    });
  }
  return [...lines].map(([run, x]) => ({ run, x })).sort((a, b) => a.x - b.x);
}

/**
 * On which row each flag stands so that none covers another: wanted ones (the selected runs) first, then from the left; -1 where no row of
 * `rows` has room (the line stays, its hover tells). A flag that would leave the chart on the right hangs to the left of its line.
 */
export function placeFlags(flags: readonly { x: number; width: number; wanted: boolean }[], right: number, rows: number): { row: number; flipped: boolean }[] {
  const placed = flags.map((f) => ({ row: -1, flipped: f.x + f.width > right }));
  const taken: [number, number][][] = Array.from({ length: rows }, () => []);
  const order = flags.map((_, i) => i).sort((a, b) => Number(flags[b]?.wanted) - Number(flags[a]?.wanted) || (flags[a]?.x ?? 0) - (flags[b]?.x ?? 0));
  for (const i of order) {
    const flag = flags[i];
    const place = placed[i];
    if (!flag || !place) continue;
    const start = place.flipped ? flag.x - flag.width : flag.x;
    const end = start + flag.width;
    place.row = taken.findIndex((row) => row.every(([a, b]) => end <= a || start >= b));
    if (place.row >= 0) taken[place.row]?.push([start, end]);
  }
  return placed;
}
