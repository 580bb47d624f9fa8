/** Siblings forked from one checkpoint, as a table: what was changed, and what came of it. */
import type { RunSummary, SweepMetric, SweepTable } from '../api/types';
import { flatten } from './config';
import { toNumber } from './floats';

/** A row by its run; the parent, as it went on itself, is one of them. */
export interface SweepRow {
  run: RunSummary;
  isParent: boolean;
  config: Record<string, unknown>;
}

export type Reading = 'best' | 'last';
export type SweepSort = { by: 'name' | 'step' } | { by: 'config' | 'metric'; key: string };

export function sweepRows(table: SweepTable): SweepRow[] {
  return [table.parent, ...table.runs].map((run, i) => ({ run, isParent: i === 0, config: flatten(run.config) }));
}

/** The best value of a metric, by what is better for it; or its last. With the step. */
export function reading(run: RunSummary, metric: SweepMetric, which: Reading): { value: number; step: number } | null {
  const m = run.metrics[metric.name];
  const v = which === 'last' ? m : metric.lower_is_better ? m?.min : m?.max;
  return v ? { value: toNumber(v.value), step: v.step } : null;
}

/** Which runs are best of all in a metric: several, if equal; none, if nobody has a finite value. */
export function winners(rows: readonly SweepRow[], metric: SweepMetric, which: Reading): Set<string> {
  const found = rows.flatMap(({ run }) => {
    const value = reading(run, metric, which)?.value ?? NaN;
    return Number.isFinite(value) ? [{ id: run.id, value }] : [];
  });
  if (found.length < 2) return new Set();
  const best = found.reduce((a, { value }) => (metric.lower_is_better ? Math.min(a, value) : Math.max(a, value)), metric.lower_is_better ? Infinity : -Infinity);
  return new Set(found.filter((f) => f.value === best).map((f) => f.id));
}

const words = new Intl.Collator('en');
const PARTS = /\d+(?:\.\d+)?(?:e[+-]?\d+)?|\D+/gi;

/** Names as people count: `rate 9` before `rate 10`, and `rate 0.02` before `rate 0.1`, where a collator takes the dot for an end. */
function compareNames(a: string, b: string): number {
  const [left, right] = [a.match(PARTS) ?? [], b.match(PARTS) ?? []];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [l, r] = [left[i] ?? '', right[i] ?? ''];
    const by = Number(l) - Number(r) || words.compare(l, r);
    if (by !== 0) return by;
  }
  return left.length - right.length;
}

/** Sorted; what has no value comes last either way. */
export function sortRows(rows: readonly SweepRow[], sort: SweepSort, descending: boolean, metrics: readonly SweepMetric[], which: Reading): SweepRow[] {
  const metric = sort.by === 'metric' ? metrics.find((m) => m.name === sort.key) : undefined;
  const keyOf = ({ run, config }: SweepRow): number | string | null => {
    if (sort.by === 'name') return run.name;
    if (sort.by === 'step') return run.last_step ?? null;
    if (sort.by === 'config') {
      const value = config[sort.key];
      return value === undefined ? null : typeof value === 'number' ? value : JSON.stringify(value);
    }
    const value = metric ? reading(run, metric, which)?.value : undefined;
    return value === undefined || !Number.isFinite(value) ? null : value;
  };
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: keyOf(row) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    return sign * (typeof a.key === 'number' && typeof b.key === 'number' ? a.key - b.key : compareNames(String(a.key), String(b.key)));
  });
  return keyed.map(({ row }) => row);
}
