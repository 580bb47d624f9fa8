/** What a chart draws, from curves: which stretches, in which colour, on which axes. Pure: looks and runs come in, layers go out. */
import type { AxisKind } from './axis';
import type { Curve } from './curve';
import { sharePrefixes } from './prefix';
import { extent, type Mark, nonfiniteMarks, penLifts } from './series';
import { smooth } from './smoothing';

/** An abandoned tail of an attempt. */
export interface Ghost {
  run: string;
  attempt: number;
  /** First step that is not on the timeline. */
  from: number;
}

export interface Layer {
  curve: Curve;
  /** What is drawn as the line: smoothed, or the curve's own values. */
  y: Float64Array;
  lifts: Uint8Array;
  marks: Mark[];
  colour: string;
  run: string;
  /** Layers with the same key light up together. */
  key: string;
  from: number;
  joins: boolean;
  /** An abandoned tail: dotted, no band. */
  ghost: boolean;
}

/** How a run is drawn. */
export interface Paint {
  colour: string;
  key: string;
}

export interface Drawing {
  axis: AxisKind;
  smoothing: number;
  ghosts: readonly Ghost[];
  /** What each shown run looks like; runs that it does not have are left out. */
  paint: ReadonlyMap<string, Paint>;
  /** Whether what is inherited is drawn; it is smoothed over in any case. */
  inherited?: boolean;
}

/** Shorter pauses, as a part of the whole, belong to training: saving, evaluating. Steps know no pauses. */
const LEAST_PAUSE = 0.02;

/** Ghost tails first, for what counts is drawn over them; of a history that several runs share every stretch once. */
export function layersOf(curves: readonly Curve[], { axis, smoothing, ghosts, paint, inherited = true }: Drawing): Layer[] {
  const least = axis === 'step' ? 0 : LEAST_PAUSE;
  const layer = (curve: Curve, look: Paint, from: number, joins: boolean, ghost: boolean): Layer => ({
    curve, y: smoothing > 0 ? smooth(curve, smoothing) : curve.y, lifts: penLifts(curve, least), marks: nonfiniteMarks(curve, from), colour: look.colour, run: curve.run, key: look.key,
    from, joins, ghost,
  });
  const out: Layer[] = [];
  for (const curve of curves) {
    const look = paint.get(curve.run);
    const ghost = ghosts.find((g) => g.run === curve.run && g.attempt === curve.attempt);
    if (!look || !ghost) continue;
    let from = 0;
    if (axis === 'step') while (from < curve.x.length && (curve.xFirst[from] as number) < ghost.from) from++;
    if (from < curve.x.length) out.push(layer(curve, look, from, from > 0, true));
  }
  const effective = curves.filter((c) => c.attempt === null && paint.has(c.run));
  const ranges = inherited ? sharePrefixes(effective) : effective.map((c) => ({ from: firstOwn(c), joins: false }));
  effective.forEach((curve, i) => {
    const look = paint.get(curve.run);
    const range = ranges[i];
    if (look && range) out.push(layer(curve, look, range.from, range.joins, false));
  });
  return out;
}

/** The first bucket of the run itself. */
function firstOwn(curve: Curve): number {
  let i = 0;
  while (i < curve.x.length && curve.segments[curve.segment[i] as number]?.inherited) i++;
  return i;
}

/** From the first to the last point; a fork's line stays in sight when what is before it is hidden. */
export function xRangeOf(layers: readonly Layer[], forks: readonly { x: number }[]): [number, number] {
  let from = Infinity;
  let to = -Infinity;
  for (const l of layers) {
    const n = l.curve.x.length;
    if (n === 0) continue;
    from = Math.min(from, l.curve.xFirst[l.from] ?? Infinity);
    to = Math.max(to, l.curve.xLast[n - 1] as number);
  }
  if (from <= to) for (const f of forks) from = Math.min(from, f.x);
  if (!(from <= to)) return [0, 1];
  return from === to ? [from - 1, to + 1] : [from, to];
}

/** The values between two x, with a little air. */
export function yRangeOf(layers: readonly Layer[], [from, to]: readonly [number, number], log: boolean): [number, number] {
  const e = extent(layers, from, to, log);
  if (!e) return log ? [0.1, 1] : [0, 1];
  const [low, high] = e;
  if (log) return [low / 1.08, high * 1.08];
  const pad = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.06;
  return [low - pad, high + pad];
}

/** Points that a logarithmic axis can not show. */
export function countHidden(layers: readonly Layer[]): number {
  let n = 0;
  for (const l of layers) for (let i = l.from; i < l.curve.x.length; i++) if ((l.curve.min[i] as number) <= 0) n += l.curve.count[i] as number;
  return n;
}

export function countNonfinite(layers: readonly Layer[]): number {
  return layers.reduce((n, l) => n + l.marks.reduce((m, k) => m + k.count, 0), 0);
}
