/** Buckets of the wire as arrays to draw: the line, the band, the gaps, the marks of what is not finite. */
import type { SeriesBuckets, SeriesSegment } from '../api/types';
import { toArray } from './floats';

export interface Curve {
  run: string;
  metric: string;
  attempt: number | null;
  x: Float64Array;
  xFirst: ArrayLike<number>;
  xLast: ArrayLike<number>;
  y: Float64Array;
  min: Float64Array;
  max: Float64Array;
  first: Float64Array;
  last: Float64Array;
  count: ArrayLike<number>;
  nonfinite: ArrayLike<number>;
  segment: ArrayLike<number>;
  segments: SeriesSegment[];
  points: number;
}

/** One point per bucket: the value itself where the bucket is one point, its mean in the middle where it is many. */
export function toCurve(b: SeriesBuckets): Curve {
  const n = b.x_first.length;
  const x = new Float64Array(n);
  const y = new Float64Array(n);
  const mean = toArray(b.mean);
  const first = toArray(b.first);
  const last = toArray(b.last);
  for (let i = 0; i < n; i++) {
    const a = b.x_first[i] as number;
    const z = b.x_last[i] as number;
    x[i] = a + (z - a) / 2;
    y[i] = b.count[i] === 1 ? (last[i] as number) : (mean[i] as number);
    if (!Number.isFinite(y[i] as number)) y[i] = NaN;
  }
  return {
    run: b.run, metric: b.metric, attempt: b.attempt ?? null, x, xFirst: b.x_first, xLast: b.x_last, y,
    min: toArray(b.min), max: toArray(b.max), first, last, count: b.count, nonfinite: b.nonfinite, segment: b.segment,
    segments: b.segments, points: b.points,
  };
}

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

/**
 * The zoomed curve between what the overview knows to its left and right, so that lines run on to the edges and a moving average starts
 * warm. Buckets of the overview that reach into the zoomed range are left out: their points are in the zoomed curve.
 */
export function splice(overview: Curve, zoomed: Curve, from: number, to: number): Curve {
  const before: number[] = [];
  const after: number[] = [];
  for (let i = 0; i < overview.x.length; i++) {
    if ((overview.xLast[i] as number) < from) before.push(i);
    else if ((overview.xFirst[i] as number) > to) after.push(i);
  }
  // The overview's stretches, root first; the zoomed answer leaves out those without a point in its range, and may know a newer attempt.
  const segments = [...overview.segments];
  const mapped = zoomed.segments.map((s) => {
    const at = segments.findIndex((o) => o.run === s.run && o.attempt === s.attempt);
    return at >= 0 ? at : segments.push(s) - 1;
  });
  const pick = (key: 'x' | 'y' | 'min' | 'max' | 'first' | 'last' | 'xFirst' | 'xLast' | 'count' | 'nonfinite') =>
    Float64Array.from([...before.map((i) => overview[key][i] as number), ...Array.from(zoomed[key]), ...after.map((i) => overview[key][i] as number)]);
  const out: Curve = {
    ...zoomed, segments, x: pick('x'), y: pick('y'), min: pick('min'), max: pick('max'), first: pick('first'), last: pick('last'),
    xFirst: pick('xFirst'), xLast: pick('xLast'), count: pick('count'), nonfinite: pick('nonfinite'),
    segment: [...before.map((i) => overview.segment[i] as number), ...Array.from(zoomed.segment, (s) => mapped[s] ?? 0), ...after.map((i) => overview.segment[i] as number)],
  };
  // The neighbours just outside stand for the one value nearest to the edge, which is exact.
  const left = before.length - 1;
  if (left >= 0) {
    out.x[left] = out.xLast[left] as number;
    out.y[left] = out.last[left] as number;
  }
  const right = before.length + zoomed.x.length;
  if (right < out.x.length) {
    out.x[right] = out.xFirst[right] as number;
    out.y[right] = out.first[right] as number;
  }
  return out;
}

/** A stretch of the axis on which a curve has values that are not finite. */
export interface Mark {
  from: number;
  to: number;
  kind: 'NaN' | '+Inf' | '−Inf' | 'not finite';
  count: number;
}

export function nonfiniteMarks(c: Curve): Mark[] {
  const marks: Mark[] = [];
  let open: (Mark & { index: number }) | null = null;
  for (let i = 0; i < c.x.length; i++) {
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
