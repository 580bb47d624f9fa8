/**
 * Curves as columns of buckets: what the server answered, grown by what came since.
 *
 * A bucket is exact for the interval it declares, and two that follow each other make one that is exact as well. So a live curve is never
 * asked for again: its tail is appended, and what has become finer than a pixel is merged here.
 */
import type { SeriesBuckets, SeriesSegment } from '../api/types';
import { toArray } from './floats';

export interface Columns {
  xFirst: Float64Array;
  xLast: Float64Array;
  min: Float64Array;
  max: Float64Array;
  /** Of the finite values; NaN if there is none. */
  mean: Float64Array;
  first: Float64Array;
  last: Float64Array;
  count: Float64Array;
  nonfinite: Float64Array;
  /** Index into `segments`. */
  segment: Float64Array;
  /** Over another metric: the steps of the first and the last point. NaN elsewhere. */
  stepFirst: Float64Array;
  stepLast: Float64Array;
}

export interface Curve extends Columns {
  run: string;
  metric: string;
  attempt: number | null;
  /** Where a bucket is drawn, and at which value: the point itself, or the mean in the middle. */
  x: Float64Array;
  y: Float64Array;
  segments: SeriesSegment[];
  /** Points of all buckets. */
  points: number;
  /** Points the run itself logged of this metric, in view or not. */
  logged: number;
}

export const COLUMNS = ['xFirst', 'xLast', 'min', 'max', 'mean', 'first', 'last', 'count', 'nonfinite', 'segment', 'stepFirst', 'stepLast'] as const satisfies readonly (keyof Columns)[];

export function toCurve(b: SeriesBuckets): Curve {
  const n = b.x_first.length;
  // Over a metric, a bucket stands where that metric was, and its x are steps.
  const placed = b.place_first && b.place_last ? { first: toArray(b.place_first), last: toArray(b.place_last) } : null;
  const x = { first: Float64Array.from(b.x_first), last: Float64Array.from(b.x_last) };
  const nowhere = () => new Float64Array(n).fill(NaN);
  return finish(
    { run: b.run, metric: b.metric, attempt: b.attempt ?? null, segments: b.segments, logged: b.logged },
    {
      xFirst: (placed ?? x).first, xLast: (placed ?? x).last, min: toArray(b.min), max: toArray(b.max), mean: toArray(b.mean), first: toArray(b.first), last: toArray(b.last),
      count: Float64Array.from(b.count), nonfinite: Float64Array.from(b.nonfinite), segment: Float64Array.from(b.segment), stepFirst: placed ? x.first : nowhere(), stepLast: placed ? x.last : nowhere(),
    },
  );
}

type About = Pick<Curve, 'run' | 'metric' | 'attempt' | 'segments' | 'logged'>;

function finish(about: About, columns: Columns): Curve {
  const n = columns.xFirst.length;
  const x = new Float64Array(n);
  const y = new Float64Array(n);
  let points = 0;
  for (let i = 0; i < n; i++) {
    const a = columns.xFirst[i] as number;
    x[i] = a + ((columns.xLast[i] as number) - a) / 2;
    y[i] = columns.count[i] === 1 ? (columns.last[i] as number) : (columns.mean[i] as number);
    if (!Number.isFinite(y[i] as number)) y[i] = NaN;
    points += columns.count[i] as number;
  }
  return { ...about, ...columns, x, y, points };
}

/** Where the tail of a curve is asked from: its last bucket may have grown. Null: it has none. */
export function tailFrom(curve: Curve): number | null {
  const n = curve.xFirst.length;
  return n === 0 ? null : (curve.xFirst[n - 1] as number);
}

/**
 * A curve with its newest buckets in place of its last one; null if they do not fit together and the whole must be asked for: a launch
 * that was resumed took points off the timeline, points came in behind the tail, or so much came that its buckets are coarser than pixels.
 */
export function withTail(curve: Curve, tail: Curve, pixels: number): Curve | null {
  const kept = curve.xFirst.length - 1;
  if (kept < 0) return tail;
  const from = curve.xFirst[kept] as number;
  if (tail.xFirst.length === 0 || tail.xFirst[0] !== from) return null;
  if (kept > 0 && (curve.xLast[kept - 1] as number) >= from) return null;
  const places = tail.segments.map((s) => curve.segments.findIndex((k) => k.run === s.run && k.attempt === s.attempt && k.inherited === s.inherited));
  if (places.includes(-1)) return null;
  if (tail.logged - curve.logged !== tail.points - (curve.count[kept] as number)) return null;
  const end = tail.xLast[tail.xLast.length - 1] as number;
  const column = (end - (curve.xFirst[0] as number)) / Math.max(1, pixels);
  for (let i = 0; i < tail.xFirst.length; i++) if ((tail.xLast[i] as number) - (tail.xFirst[i] as number) > 2 * column) return null;
  const joined = Object.fromEntries(
    COLUMNS.map((key) => {
      const out = new Float64Array(kept + tail.xFirst.length);
      out.set(curve[key].subarray(0, kept));
      out.set(key === 'segment' ? tail.segment.map((s) => places[s] ?? 0) : tail[key], kept);
      return [key, out];
    }),
  ) as unknown as Columns;
  return compact(finish({ ...curve, logged: tail.logged }, joined), pixels);
}

/** How many pixels a merged bucket may be wide: then any two neighbours are wider together, and at most 4/3 as many buckets as pixels are left. */
const MERGED_PIXELS = 1.5;

/** Neighbours made one, once there are twice as many buckets as pixels. */
export function compact(curve: Curve, pixels: number): Curve {
  const n = curve.xFirst.length;
  if (n <= 2 * pixels) return curve;
  const widest = (MERGED_PIXELS * ((curve.xLast[n - 1] as number) - (curve.xFirst[0] as number))) / pixels;
  const out = Object.fromEntries(COLUMNS.map((key) => [key, [] as number[]])) as unknown as Record<keyof Columns, number[]>;
  for (let i = 0; i < n; ) {
    let end = i + 1;
    while (end < n && curve.segment[end] === curve.segment[i] && (curve.xLast[end] as number) - (curve.xFirst[i] as number) <= widest) end++;
    merge(curve, i, end, out);
    i = end;
  }
  return finish(curve, Object.fromEntries(COLUMNS.map((key) => [key, Float64Array.from(out[key])])) as unknown as Columns);
}

function merge(c: Columns, from: number, end: number, out: Record<keyof Columns, number[]>): void {
  let [min, max, sum, finite, count, nonfinite] = [NaN, NaN, 0, 0, 0, 0];
  for (let i = from; i < end; i++) {
    const good = (c.count[i] as number) - (c.nonfinite[i] as number);
    count += c.count[i] as number;
    nonfinite += c.nonfinite[i] as number;
    if (good === 0) continue;
    sum += good * (c.mean[i] as number);
    finite += good;
    // A comparison with NaN is false: the first finite bucket takes the place.
    min = (c.min[i] as number) >= min ? min : (c.min[i] as number);
    max = (c.max[i] as number) <= max ? max : (c.max[i] as number);
  }
  out.xFirst.push(c.xFirst[from] as number);
  out.xLast.push(c.xLast[end - 1] as number);
  out.stepFirst.push(c.stepFirst[from] as number);
  out.stepLast.push(c.stepLast[end - 1] as number);
  out.first.push(c.first[from] as number);
  out.last.push(c.last[end - 1] as number);
  out.segment.push(c.segment[from] as number);
  out.min.push(min);
  out.max.push(max);
  out.mean.push(finite > 0 ? sum / finite : NaN);
  out.count.push(count);
  out.nonfinite.push(nonfinite);
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
  const columns = Object.fromEntries(
    COLUMNS.map((key) => [
      key,
      Float64Array.from([
        ...before.map((i) => overview[key][i] as number), ...(key === 'segment' ? zoomed.segment.map((s) => mapped[s] ?? 0) : zoomed[key]), ...after.map((i) => overview[key][i] as number),
      ]),
    ]),
  ) as unknown as Columns;
  const out = finish({ ...zoomed, segments }, columns);
  // The neighbours just outside stand for the one value nearest to the edge, which is exact. Their means stay: a moving average needs them.
  const left = before.length - 1;
  if (left >= 0) {
    out.x[left] = out.xLast[left] as number;
    out.y[left] = finiteOr(out.last[left] as number);
  }
  const right = before.length + zoomed.x.length;
  if (right < out.x.length) {
    out.x[right] = out.xFirst[right] as number;
    out.y[right] = finiteOr(out.first[right] as number);
  }
  return out;
}

/** Only buckets that `keep` says; segments stay as they are. */
export function pick(curve: Curve, keep: (bucket: number) => boolean): Curve {
  const at = Array.from(curve.xFirst, (_, i) => i).filter(keep);
  if (at.length === curve.xFirst.length) return curve;
  return finish(curve, Object.fromEntries(COLUMNS.map((key) => [key, Float64Array.from(at, (i) => curve[key][i] as number)])) as unknown as Columns);
}

function finiteOr(value: number): number {
  return Number.isFinite(value) ? value : NaN;
}
