/** Where fork lines stand on a chart, on whichever axis. */
import type { AxisKind } from './axis';
import type { Curve } from './curve';
import { toNumber } from './floats';

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
 * `x_start`; over a metric, where that metric was then. A later attempt of the same run is not a fork.
 */
export function forkLines(curves: readonly Curve[], axis: AxisKind, forkStep: ReadonlyMap<string, number>): ForkLine[] {
  const lines = new Map<string, number>();
  for (const curve of curves) {
    if (curve.attempt !== null) continue;
    curve.segments.forEach((segment, i) => {
      const before = curve.segments[i - 1];
      const begins = before ? before.run !== segment.run : forkStep.has(segment.run);
      if (!begins || lines.has(segment.run)) return;
      const step = forkStep.get(segment.run);
      const x = axis === 'step' ? (step ?? segment.x_start) : axis === 'metric' ? toNumber(segment.place_start ?? NaN) : segment.x_start;
      if (Number.isFinite(x)) lines.set(segment.run, x);
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

/** Lines nearer than this stand as one. */
const SAME_PX = 3;

/**
 * Forks of one parent at one step, the sweeps, share a flag: each flag that another one speaks for says whose it is (`by`), and the speaker counts them
 * (`also`, in the order of `flags`). A selected run speaks first.
 */
export function shareFlags(flags: readonly { x: number; label: string; wanted: boolean }[]): { by: number | null; also: number[] }[] {
  const shared = flags.map((): { by: number | null; also: number[] } => ({ by: null, also: [] }));
  const speakers: number[] = [];
  const order = flags.map((_, i) => i).sort((a, b) => Number(flags[b]?.wanted) - Number(flags[a]?.wanted) || a - b);
  for (const i of order) {
    const by = speakers.find((s) => flags[s]?.label === flags[i]?.label && Math.abs((flags[s]?.x ?? 0) - (flags[i]?.x ?? 0)) < SAME_PX);
    const mine = shared[i];
    if (by === undefined || !mine) speakers.push(i);
    else {
      mine.by = by;
      shared[by]?.also.push(i);
    }
  }
  return shared;
}
