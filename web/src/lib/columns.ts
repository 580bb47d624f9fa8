/** Columns of the runs table: which, in which order, how wide; as they stand in an address. */
import type { RunSummary } from '../api/types';
import { toNumber } from './floats';
import { formatCell, formatNumber, formatStep, formatValue } from './format';
import { packList, unpackList } from './lists';

export type ColumnKind = 'metric' | 'min' | 'max' | 'config' | 'step' | 'spark' | 'age' | 'attempt' | 'checkpoints' | 'tags' | 'reason';

export interface Column {
  kind: ColumnKind;
  /** Metric or config key; empty for what every run has. */
  key: string;
}

/** What every run has: its heading, its width, what it is sorted by. */
const PLAIN: Partial<Record<ColumnKind, { label: string; title: string; width: number; sort: string | null }>> = {
  step: { label: 'Step', title: 'last step', width: 58, sort: 'last_step' },
  spark: { label: '', title: 'the main metric', width: 66, sort: null },
  age: { label: 'Age', title: 'since it was born', width: 58, sort: 'created' },
  attempt: { label: 'Launch', title: 'newest launch', width: 58, sort: null },
  checkpoints: { label: 'Saved', title: 'checkpoints on its timeline', width: 58, sort: null },
  tags: { label: 'Tags', title: 'tags', width: 120, sort: null },
  reason: { label: 'Why', title: 'why it ended', width: 160, sort: null },
};
export const PLAIN_KINDS = Object.keys(PLAIN) as ColumnKind[];
const WIDTH = 74;
export const LEAST_WIDTH = 36;

export const idOf = (c: Column): string => (c.key === '' ? c.kind : `${c.kind}:${c.key}`);

function parse(text: string): Column | null {
  const colon = text.indexOf(':');
  const [kind, key] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  if (key === '') return Object.hasOwn(PLAIN, kind) && colon < 0 ? { kind: kind as ColumnKind, key } : null;
  return ['metric', 'min', 'max', 'config'].includes(kind) ? { kind: kind as ColumnKind, key } : null;
}

export function parseColumns(text: string): Column[] {
  const seen = new Set<string>();
  return unpackList(text).flatMap((item) => {
    const column = parse(item);
    if (!column || seen.has(idOf(column))) return [];
    seen.add(idOf(column));
    return [column];
  });
}

/** No column at all is written too: nothing would mean the usual ones. */
export function printColumns(columns: readonly Column[]): string {
  return columns.length === 0 ? '-' : packList(columns.map(idOf));
}

export function parseWidths(text: string | null): Map<string, number> {
  return new Map(
    unpackList(text).flatMap((item): [string, number][] => {
      const equals = item.lastIndexOf('=');
      const width = Number(item.slice(equals + 1));
      return equals > 0 && Number.isInteger(width) && width >= LEAST_WIDTH && width <= 2000 ? [[item.slice(0, equals), width]] : [];
    }),
  );
}

export function printWidths(widths: ReadonlyMap<string, number>): string {
  return packList([...widths].map(([id, width]) => `${id}=${Math.round(width)}`));
}

export const widthOf = (c: Column, widths: ReadonlyMap<string, number>): number => widths.get(idOf(c)) ?? PLAIN[c.kind]?.width ?? WIDTH;

export function labelOf(c: Column): string {
  if (c.kind === 'min' || c.kind === 'max') return `${c.kind} ${c.key}`;
  return c.key === '' ? (PLAIN[c.kind]?.label ?? c.kind) : c.key;
}

export function titleOf(c: Column): string {
  const about = { metric: 'last value of', min: 'smallest value of', max: 'largest value of', config: 'config' } as Partial<Record<ColumnKind, string>>;
  return c.key === '' ? (PLAIN[c.kind]?.title ?? c.kind) : `${about[c.kind] ?? ''} ${c.key}`;
}

/** What the server sorts by; null where it can not. */
export const sortOf = (c: Column): string | null => (c.key === '' ? (PLAIN[c.kind]?.sort ?? null) : idOf(c));

/** The column moved before another; to the end if there is no other. */
export function moved(columns: readonly Column[], id: string, before: string | null): Column[] {
  const column = columns.find((c) => idOf(c) === id);
  if (!column || id === before) return [...columns];
  const rest = columns.filter((c) => c !== column);
  const at = before === null ? rest.length : rest.findIndex((c) => idOf(c) === before);
  return at < 0 ? [...columns] : [...rest.slice(0, at), column, ...rest.slice(at)];
}

/** Metrics whose values a list of these columns shows. */
export function metricsOf(columns: readonly Column[]): string[] {
  return [...new Set(columns.filter((c) => c.kind === 'metric' || c.kind === 'min' || c.kind === 'max').map((c) => c.key))];
}

export interface Cell {
  text: string;
  bad: boolean;
  title: string;
}

/** What stands in a cell; null for what is drawn, not written. */
export function cellOf(run: RunSummary, config: Record<string, unknown>, c: Column): Cell | null {
  const plain = (text: string) => ({ text, bad: false, title: text });
  switch (c.kind) {
    case 'config':
      return c.key in config ? { text: formatCell(config[c.key]), bad: false, title: formatValue(config[c.key]) } : plain('');
    case 'metric':
    case 'min':
    case 'max': {
      const metric = run.metrics[c.key];
      const value = c.kind === 'metric' ? metric : metric?.[c.kind];
      if (!value) return plain('');
      const n = toNumber(value.value);
      const all = [`last ${formatNumber(toNumber(metric?.value ?? NaN), 7)} at step ${formatStep(metric?.step ?? 0)}`];
      for (const key of ['min', 'max'] as const) {
        const extreme = metric?.[key];
        if (extreme) all.push(`${key} ${formatNumber(toNumber(extreme.value), 7)} at step ${formatStep(extreme.step)}`);
      }
      return { text: formatCell(n), bad: !Number.isFinite(n), title: all.join('\n') };
    }
    case 'step':
      return plain(run.last_step === null || run.last_step === undefined ? '' : formatStep(run.last_step));
    case 'attempt':
      return plain(String(run.attempt));
    case 'checkpoints':
      return plain(run.checkpoints === 0 ? '' : formatStep(run.checkpoints));
    case 'tags':
      return plain(run.tags.join(', '));
    case 'reason':
      return { ...plain(run.status_reason ?? ''), bad: run.status === 'failed' };
    default:
      return null;
  }
}

/** Numbers stand to the right, words to the left. */
export const isText = (c: Column): boolean => c.kind === 'tags' || c.kind === 'reason';
