/** Media at a step: which step a slider stands at, bars of a histogram, pages of a table. */
import { formatNumber } from './format';

export interface Histogram {
  counts: number[];
  edges: number[];
  nonfinite: number;
}

export type Cell = null | boolean | number | string | { float: string };

export interface Table {
  columns: string[];
  rows: Cell[][];
}

/** Where in ascending steps the last one at or before `step` stands; 0 if all are later. */
export function indexAt(steps: readonly number[], step: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((steps[middle] ?? 0) <= step) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

/** Where a slider goes: by so many places, never beyond its ends. */
export function moved(steps: readonly number[], step: number, by: number): number | null {
  if (steps.length === 0) return null;
  const index = Math.min(steps.length - 1, Math.max(0, indexAt(steps, step) + by));
  return steps[index] ?? null;
}

const KINDS = ['image', 'histogram', 'text', 'table', 'file'];

/** Names as they are looked at: pictures first, then by name. */
export function inOrder<K extends { name: string; kind: string }>(keys: readonly K[]): K[] {
  return [...keys].sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || (a.name < b.name ? -1 : Number(a.name > b.name)));
}

export function parseHistogram(text: string): Histogram | null {
  const data: unknown = parse(text);
  if (typeof data !== 'object' || data === null || !('counts' in data) || !('edges' in data)) return null;
  const { counts, edges } = data;
  if (!isNumbers(counts) || !isNumbers(edges)) return null;
  if (edges.length !== counts.length + 1 && !(counts.length === 0 && edges.length === 0)) return null;
  const nonfinite = 'nonfinite' in data && typeof data.nonfinite === 'number' ? data.nonfinite : 0;
  return { counts, edges, nonfinite };
}

export function parseTable(text: string): Table | null {
  const data: unknown = parse(text);
  if (typeof data !== 'object' || data === null || !('columns' in data) || !('rows' in data)) return null;
  if (!Array.isArray(data.columns) || !Array.isArray(data.rows)) return null;
  if (!data.rows.every((row) => Array.isArray(row))) return null;
  return { columns: data.columns.map(String), rows: data.rows as Cell[][] };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

const isNumbers = (list: unknown): list is number[] => Array.isArray(list) && list.every((n) => typeof n === 'number');

export interface Bar {
  x: number;
  width: number;
  height: number;
  label: string;
}

/** Bars in a box of 1 × 1, y from below. Bins of different widths are drawn as wide as they are, and as high as their density: areas are counts. */
export function bars(histogram: Histogram): Bar[] {
  const { counts, edges } = histogram;
  const first = edges[0];
  const last = edges[edges.length - 1];
  if (first === undefined || last === undefined || counts.length === 0) return [];
  // Halves first: the width of the whole range of floats is no float.
  const span = last / 2 - first / 2 || 1;
  const places = counts.map((count, i) => {
    const left = edges[i] ?? first;
    const right = edges[i + 1] ?? last;
    const width = (right / 2 - left / 2) / span;
    return { count, left, right, x: (left / 2 - first / 2) / span, width, density: width > 0 ? count / width : 0 };
  });
  const top = Math.max(...places.map((p) => p.density)) || 1;
  return places.map((p) => ({
    x: p.x,
    width: p.width,
    height: p.density / top,
    label: `${formatNumber(p.left)} to ${formatNumber(p.right)}: ${formatNumber(p.count)}`,
  }));
}

export function cellText(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell === 'object') return cell.float;
  return typeof cell === 'number' ? formatNumber(cell, 7) : String(cell);
}

/** The order of two cells: nothing last, numbers before texts, NaN after numbers. */
function compare(a: Cell, b: Cell): number {
  const rank = (c: Cell) => (c === null ? 3 : typeof c === 'string' ? 2 : 1);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  const number = (c: Cell) => (typeof c === 'object' && c !== null ? Number(c.float) : Number(c));
  const [x, y] = [number(a), number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
  return x - y;
}

/** Rows by a column, in their own order where they are equal; empty cells last either way. */
export function sorted(rows: readonly Cell[][], column: number | null, descending: boolean): Cell[][] {
  if (column === null) return [...rows];
  return [...rows].sort((a, b) => {
    const [x, y] = [a[column] ?? null, b[column] ?? null];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return descending ? compare(y, x) : compare(x, y);
  });
}
