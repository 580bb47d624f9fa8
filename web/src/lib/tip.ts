/** What a chart tells at the cursor: of each layer the bucket that is nearest, if it is near. */
import type { Layer } from './layers';
import { nearest } from './series';

export interface TipRow {
  layer: Layer;
  value: number;
  x: number;
  /** How many points the value is the mean of, and between which it lies. */
  many: number;
  min: number;
  max: number;
  /** Whose points these are, if not the run's own. */
  owner: string | null;
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
    const value = Number.isFinite(layer.y[i] as number) ? (layer.y[i] as number) : (curve.last[i] as number);
    rows.push({
      layer, value, x: curve.x[i] as number, many: curve.count[i] as number, min: curve.min[i] as number, max: curve.max[i] as number,
      owner: segment && segment.run !== layer.run ? segment.run : null,
      distance: Number.isFinite(value) ? Math.abs(places.y(value) - cursor.y) : NOWHERE,
    });
  }
  const shown = [...rows].sort((a, b) => a.distance - b.distance).slice(0, most).sort((a, b) => Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value)) || b.value - a.value);
  return { rows: shown, more: rows.length - shown.length };
}
