/** What a chart tells at the cursor: of each layer the bucket that is nearest, if it is near, and whose points it holds. */
import type { Layer } from './layers';
import { nearest } from './series';

export interface TipRow {
  layer: Layer;
  /** As it was logged: the value of one point, the mean of many; of none that is finite, the last. */
  value: number;
  /** What the line shows there instead; null where it shows the value. */
  smoothed: number | null;
  x: number;
  /** Steps of the bucket, where the axis is not steps and they are known. */
  steps: { first: number; last: number } | null;
  /** The bucket: first and last x, points, of them not finite, between which values. */
  from: number;
  to: number;
  many: number;
  nonfinite: number;
  min: number;
  max: number;
  /** Whose points these are: run and launch. */
  owner: string;
  attempt: number;
  /** Whether they are another run's. */
  inherited: boolean;
  /** From the cursor, in pixels of height. */
  distance: number;
}

/** Where values stand, in pixels of the plot. */
export interface Places {
  x: (value: number) => number;
  y: (value: number) => number;
}

/** Further away on the axis, a point is not what the cursor points at. */
const NEAR_PX = 40;
/** What is not finite has no height: further than whatever has. */
const NOWHERE = 1e6;

/** The closest `most` rows, largest value first, NaN last; and how many there are besides. */
export function tipRows(layers: readonly Layer[], at: number, cursor: { x: number; y: number }, places: Places, most: number): { rows: TipRow[]; more: number } {
  const rows: TipRow[] = [];
  for (const layer of layers) {
    const { curve } = layer;
    const i = nearest(curve, at);
    if (i < 0 || i < layer.from) continue;
    if (Math.abs(places.x(curve.x[i] as number) - cursor.x) > NEAR_PX) continue;
    const segment = curve.segments[curve.segment[i] as number];
    const drawn = layer.y[i] as number;
    const value = Number.isFinite(curve.y[i] as number) ? (curve.y[i] as number) : (curve.last[i] as number);
    rows.push({
      layer, value, smoothed: layer.y !== curve.y && Number.isFinite(drawn) ? drawn : null, x: curve.x[i] as number, from: curve.xFirst[i] as number, to: curve.xLast[i] as number,
      steps: Number.isFinite(curve.stepLast[i] as number) ? { first: curve.stepFirst[i] as number, last: curve.stepLast[i] as number } : null, many: curve.count[i] as number, nonfinite: curve.nonfinite[i] as number, min: curve.min[i] as number, max: curve.max[i] as number, owner: segment?.run ?? layer.run,
      attempt: segment?.attempt ?? curve.attempt ?? 1, inherited: segment !== undefined && segment.run !== layer.run,
      distance: Number.isFinite(drawn) ? Math.abs(places.y(drawn) - cursor.y) : NOWHERE,
    });
  }
  const shown = [...rows].sort((a, b) => a.distance - b.distance).slice(0, most).sort((a, b) => Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value)) || b.value - a.value);
  return { rows: shown, more: rows.length - shown.length };
}
