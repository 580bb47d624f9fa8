/** The comparison of runs as rows: what it is forked from, config, metrics; all of it, or only what differs. */
import type { RunSummary } from '../api/types';
import { differingKeys, flatten } from './config';

export type CompareRow = { kind: 'fork' | 'step'; key: '' } | { kind: 'config' | 'metric'; key: string };
export type Which = 'last' | 'min' | 'max';

const names = new Intl.Collator('en', { numeric: true });

/** What a metric comes to in a run, for one of its three values. */
export function metricValue(run: RunSummary, metric: string, which: Which) {
  const m = run.metrics[metric];
  return which === 'last' ? m : m?.[which];
}

export function compareRows(runs: readonly RunSummary[], which: Which, everything: boolean, match: (text: string) => boolean): CompareRow[] {
  const configs = runs.map((r) => flatten(r.config));
  const keys = everything ? [...new Set(configs.flatMap((c) => Object.keys(c)))].filter((k) => k !== '').sort(names.compare) : differingKeys(configs);
  const metrics = [...new Set(runs.flatMap((r) => Object.keys(r.metrics)))].sort(names.compare);
  const differs = (metric: string) => new Set(runs.map((r) => JSON.stringify(metricValue(r, metric, which)?.value))).size > 1;
  const rows: CompareRow[] = [];
  if (runs.some((r) => r.fork_step !== null && r.fork_step !== undefined)) rows.push({ kind: 'fork', key: '' });
  rows.push(...keys.filter(match).map((key) => ({ kind: 'config' as const, key })));
  if (everything || new Set(runs.map((r) => r.last_step ?? null)).size > 1) rows.push({ kind: 'step', key: '' });
  rows.push(...metrics.filter((m) => match(m) && (everything || differs(m))).map((key) => ({ kind: 'metric' as const, key })));
  return rows;
}
