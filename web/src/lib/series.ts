/** What of a curve is ink: the gaps, the marks of what is not finite, what is nearest, how far it reaches. */
import type { Curve } from './curve';

export { type Curve, splice, toCurve } from './curve';

/**
 * Before which buckets the pen lifts: after a bucket without a finite value, and where nothing was logged for more than `factor` times the
 * mean distance of two points (a gap is a gap: a straight line over it would claim values nobody logged). On time axes a gap must also be
 * `least` of the whole: saving and evaluating take a while in every run, and a curve torn at each of them could not be read.
 */
export function penLifts(c: Curve, least = 0, factor = 20): Uint8Array {
  const n = c.x.length;
  const lifts = new Uint8Array(n);
  if (n === 0) return lifts;
  let points = 0;
  let logged = 0;
  for (let i = 0; i < n; i++) {
    points += c.count[i] as number;
    logged += (c.xLast[i] as number) - (c.xFirst[i] as number);
  }
  // Distances inside buckets and between them, the largest of these left out: one long pause must not make itself look usual.
  let between = 0;
  let largest = 0;
  for (let i = 1; i < n; i++) {
    const gap = (c.xFirst[i] as number) - (c.xLast[i - 1] as number);
    between += gap;
    largest = Math.max(largest, gap);
  }
  const usual = points > 2 ? (logged + between - largest) / (points - 2) : 0;
  const far = Math.max(factor * usual, least * ((c.xLast[n - 1] as number) - (c.xFirst[0] as number)));
  lifts[0] = 1;
  for (let i = 1; i < n; i++) {
    const gap = (c.xFirst[i] as number) - (c.xLast[i - 1] as number);
    const broken = !Number.isFinite(c.y[i - 1] as number);
    if (broken || (points >= 8 && gap > far)) lifts[i] = 1;
  }
  return lifts;
}

/** A stretch of the axis on which a curve has values that are not finite. */
export interface Mark {
  from: number;
  to: number;
  kind: 'NaN' | '+Inf' | '−Inf' | 'not finite';
  count: number;
}

/** From bucket `start` on: what is before it is another curve's to mark. */
export function nonfiniteMarks(c: Curve, start = 0): Mark[] {
  const marks: Mark[] = [];
  let open: (Mark & { index: number }) | null = null;
  for (let i = start; i < c.x.length; i++) {
    const count = c.nonfinite[i] as number;
    if (count === 0) continue;
    const kind = kindOf(c.first[i] as number) ?? kindOf(c.last[i] as number) ?? 'not finite';
    const solid = !Number.isFinite(c.y[i] as number);
    if (open && open.index === i - 1 && open.kind === kind && solid) {
      open.to = c.xLast[i] as number;
      open.count += count;
      open.index = i;
    } else {
      if (open) marks.push(strip(open));
      open = { from: c.xFirst[i] as number, to: c.xLast[i] as number, kind, count, index: i };
    }
  }
  if (open) marks.push(strip(open));
  return marks;
}

/** Where the marks of a stretch stand: from its first pixel to its last, `apart` from each other; one if it is no wider. */
export function strewn(from: number, to: number, apart: number): number[] {
  const n = Math.max(0, Math.floor((to - from) / apart));
  return Array.from({ length: n + 1 }, (_, i) => from + i * apart);
}

function strip(m: Mark & { index: number }): Mark {
  return { from: m.from, to: m.to, kind: m.kind, count: m.count };
}

function kindOf(value: number): Mark['kind'] | null {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '−Inf' : null;
}

/** Index of the bucket nearest to `x`, or -1. */
export function nearest(c: Curve, x: number): number {
  const n = c.x.length;
  if (n === 0) return -1;
  let low = 0;
  let high = n - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((c.x[middle] as number) < x) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && x - (c.x[low - 1] as number) <= (c.x[low] as number) - x) return low - 1;
  return low;
}

/** Smallest and largest finite value of line and band within [from, to]; `positive` for a logarithmic axis. */
export function extent(curves: readonly { curve: Curve; y: Float64Array; from: number }[], from: number, to: number, positive: boolean): [number, number] | null {
  let low = Infinity;
  let high = -Infinity;
  for (const { curve, y, from: start } of curves) {
    for (let i = start; i < curve.x.length; i++) {
      if ((curve.xLast[i] as number) < from || (curve.xFirst[i] as number) > to) continue;
      for (const v of [y[i] as number, curve.min[i] as number, curve.max[i] as number]) {
        if (!Number.isFinite(v) || (positive && v <= 0)) continue;
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
  }
  return low <= high ? [low, high] : null;
}
