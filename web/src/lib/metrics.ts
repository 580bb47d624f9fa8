/** The table of a run's metrics: its columns, their order. */
import type { MetricInfo, MetricValue } from '../api/types';
import { toNumber } from './floats';

export const VALUE_COLUMNS = ['last', 'min', 'max', 'own_last', 'own_min', 'own_max'] as const;
export type ValueColumn = (typeof VALUE_COLUMNS)[number];
export type MetricColumn = ValueColumn | 'name' | 'points' | 'nonfinite';

export const HEADINGS: Record<MetricColumn, string> = {
  name: 'Metric', last: 'Last', min: 'Min', max: 'Max', own_last: 'Own last', own_min: 'Own min', own_max: 'Own max', points: 'Points', nonfinite: 'Not finite',
};

export const valueOf = (info: MetricInfo, column: ValueColumn): MetricValue | null => info[column] ?? null;

const names = new Intl.Collator('en', { numeric: true });

/** Sorted by a column; what has no value, or none that is finite, comes last either way. */
export function sortMetrics(infos: readonly MetricInfo[], by: MetricColumn, descending: boolean): MetricInfo[] {
  const sign = descending ? -1 : 1;
  if (by === 'name') return [...infos].sort((a, b) => sign * names.compare(a.name, b.name));
  const keyed = infos.map((info) => {
    const key = by === 'points' || by === 'nonfinite' ? info[by] : toNumber(valueOf(info, by)?.value ?? 'NaN');
    return { info, key, none: !Number.isFinite(key) };
  });
  keyed.sort((a, b) => Number(a.none) - Number(b.none) || (a.none ? 0 : sign * (a.key - b.key)) || names.compare(a.info.name, b.info.name));
  return keyed.map(({ info }) => info);
}

/** Whether a run shows points that are not its own: only then are its own values another thing. */
export const hasInherited = (infos: readonly MetricInfo[]): boolean => infos.some((info) => info.own_points !== info.points);
