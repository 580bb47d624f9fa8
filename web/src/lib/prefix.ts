/**
 * Which buckets of which curve are drawn, when several curves of one chart share a history.
 *
 * Two curves that both contain an attempt contain it from its beginning: their shares of it are nested prefixes. So one number per
 * (run, attempt), how far it is drawn already, is enough to draw every stretch exactly once. Owners come first, so that a stretch that is
 * somebody's own is drawn as own, and the inherited copies of it are left out.
 */
import type { Curve } from './curve';

export interface DrawRange {
  /** First bucket of this curve that is drawn: what is before it stands on the chart already. */
  from: number;
  /** Whether the curve joins a stretch drawn by another curve at `from`. */
  joins: boolean;
}

/** Order and start of each curve; `curves[i]` gets `result[i]`. */
export function sharePrefixes(curves: readonly Curve[]): DrawRange[] {
  const order = curves.map((_, i) => i).sort((a, b) => depth(curves[a] as Curve) - depth(curves[b] as Curve) || reach(curves[b] as Curve) - reach(curves[a] as Curve));
  const drawn = new Map<string, number>();
  const result: DrawRange[] = curves.map(() => ({ from: 0, joins: false }));
  for (const index of order) {
    const curve = curves[index] as Curve;
    let from = 0;
    let blocked = false;
    for (let i = 0; i < curve.x.length; i++) {
      const key = keyOf(curve, i);
      const end = curve.xLast[i] as number;
      const covered = drawn.get(key);
      if (!blocked && covered !== undefined && end <= covered) from = i + 1;
      else blocked = true;
    }
    for (let i = from; i < curve.x.length; i++) {
      const key = keyOf(curve, i);
      drawn.set(key, Math.max(drawn.get(key) ?? -Infinity, curve.xLast[i] as number));
    }
    result[index] = { from, joins: from > 0 };
  }
  return result;
}

function keyOf(curve: Curve, bucket: number): string {
  const s = curve.segments[curve.segment[bucket] as number];
  return s ? `${s.run}/${s.attempt}` : `${curve.run}/?`;
}

/** How many foreign stretches a curve stands on: roots first. */
function depth(curve: Curve): number {
  return curve.segments.filter((s) => s.inherited).length;
}

function reach(curve: Curve): number {
  return curve.x.length > 0 ? (curve.xLast[curve.x.length - 1] as number) : -Infinity;
}
