/** What stands on the x axis of charts: steps, time, or a metric that grows with training. */
import type { AxisMode, XAxis } from '../api/types';
import { formatDuration, formatNumber, formatStep, formatTime } from './format';

export type AxisKind = XAxis | 'metric';

export interface Axis {
  kind: AxisKind;
  /** Of `metric`: which, and how its values become places. */
  metric: string | null;
  mode: AxisMode;
}

export const STEP: Axis = { kind: 'step', metric: null, mode: 'value' };

export const MODES: readonly (readonly [AxisMode, string, string])[] = [
  ['value', 'as it is', 'a loss, a learning rate, a counter that the checkpoint keeps'],
  ['continued', 'going on', 'a counter that each launch starts at zero: after a fork or a resume it goes on from where it was'],
  ['sum', 'added up', 'amounts of single steps, added up since the root began'],
];

/** As it stands in an address: `wall`, `continued:tokens`; steps are not written. */
export function parseAxis(text: string | null): Axis {
  if (text === 'relative' || text === 'wall') return { ...STEP, kind: text };
  const mode = MODES.find(([m]) => text?.startsWith(`${m}:`))?.[0];
  const metric = mode && text?.slice(mode.length + 1);
  return mode && metric ? { kind: 'metric', metric, mode } : STEP;
}

export function printAxis(axis: Axis): string | null {
  if (axis.kind === 'step') return null;
  return axis.kind === 'metric' ? `${axis.mode}:${axis.metric ?? ''}` : axis.kind;
}

/** Names of what grows with training: what one likes to see on the x axis. */
const CUMULATIVE = /token|sample|epoch|flop|cost|hour|second|time|iter|episode|env.?step|example/i;

export const isCumulative = (metric: string): boolean => CUMULATIVE.test(metric);

/** How a metric is probably meant on the axis, until the reader says otherwise. */
export const byMetric = (metric: string): Axis => ({ kind: 'metric', metric, mode: isCumulative(metric) ? 'continued' : 'value' });

export function axisName(axis: Axis): string {
  return axis.metric ?? axis.kind;
}

export function formatX(x: number, kind: AxisKind): string {
  switch (kind) {
    case 'step':
      return `step ${formatStep(Math.round(x))}`;
    case 'relative':
      return formatDuration(x);
    case 'wall':
      return formatTime(x);
    case 'metric':
      return formatNumber(x);
  }
}

/** A bucket's stretch of the axis: `steps 400 to 409`. */
export function formatSpan(from: number, to: number, kind: AxisKind): string {
  if (from === to) return formatX(from, kind);
  return kind === 'step' ? `steps ${formatStep(from)} to ${formatStep(to)}` : `${formatX(from, kind)} to ${formatX(to, kind)}`;
}

/** A range in an address, `100:250`; steps and time are whole numbers. */
export function parseRange(text: string | null): { from: number; to: number } | null {
  const parts = (text ?? '').split(':');
  const [from, to] = parts.map(Number);
  if (parts.length !== 2 || parts.includes('') || from === undefined || to === undefined) return null;
  return Number.isFinite(from) && Number.isFinite(to) && to > from ? { from, to } : null;
}

/** What was dragged over, as a range of the axis: to whole units, unless it is a metric. */
export function rangeOf(from: number, to: number, kind: AxisKind): { from: number; to: number } | null {
  const range = kind === 'metric' ? { from: round(from), to: round(to) } : { from: Math.floor(from), to: Math.ceil(to) };
  return range.to > range.from ? range : null;
}

/** Enough digits for a pixel, and no more in an address. */
function round(value: number): number {
  return Number(value.toPrecision(7));
}
