/** Metrics in sections by their prefix; pinned ones first; a regular expression filters. */
import { isCumulative } from './axis';

export interface Section {
  name: string;
  metrics: string[];
}

/** The prefix before the last `/`; what has none stands under `metrics`. */
export function sectionOf(metric: string): string {
  const slash = metric.lastIndexOf('/');
  return slash > 0 ? metric.slice(0, slash) : 'metrics';
}

export function sections(metrics: readonly string[], pinned: ReadonlySet<string>): Section[] {
  const byName = new Map<string, string[]>();
  const top: string[] = [];
  for (const metric of [...metrics].sort(byNumber)) {
    if (pinned.has(metric)) top.push(metric);
    else {
      const name = sectionOf(metric);
      const list = byName.get(name);
      if (list) list.push(metric);
      else byName.set(name, [metric]);
    }
  }
  const out = [...byName].map(([name, list]) => ({ name, metrics: list })).sort((a, b) => Number(b.name === 'metrics') - Number(a.name === 'metrics') || byNumber(a.name, b.name));
  return top.length > 0 ? [{ name: 'pinned', metrics: top }, ...out] : out;
}

/** Made once: with ten thousand names, `localeCompare` alone would take most of a second. */
const collator = new Intl.Collator('en', { numeric: true });
const byNumber = (a: string, b: string) => collator.compare(a, b);

/** A filter as typed. */
export interface Matcher {
  (text: string): boolean;
  /** What is wrong with it as a regular expression; it is taken as plain text then, for somebody may still be typing. */
  problem: string | null;
}

export function matcher(pattern: string): Matcher {
  if (pattern === '') return Object.assign(() => true, { problem: null });
  try {
    const re = new RegExp(pattern, 'i');
    return Object.assign((text: string) => re.test(text), { problem: null });
  } catch (error) {
    const plain = pattern.toLowerCase();
    const problem = (error instanceof Error ? error.message : String(error)).replace(/^Invalid regular expression: \/.*\/\w*: /, '');
    return Object.assign((text: string) => text.toLowerCase().includes(plain), { problem });
  }
}

const MAIN = [/^(train\/)?loss$/i, /^(val|valid|eval|test)\/loss$/i, /reward/i, /loss/i, /acc/i];

/** The metric that stands for a run where there is room for one. */
export function mainMetric(metrics: readonly string[]): string | null {
  for (const re of MAIN) {
    const hit = metrics.find((m) => re.test(m));
    if (hit !== undefined) return hit;
  }
  return metrics[0] ?? null;
}

const MOST_AXES = 50;

/** Metrics for the x axis: what usually stands there first, then by name. */
export function mainAxes(metrics: readonly string[], pattern: string): string[] {
  const found = metrics.filter(matcher(pattern));
  return found.sort((a, b) => Number(isCumulative(b)) - Number(isCumulative(a)) || byNumber(a, b)).slice(0, MOST_AXES);
}

export function chunks<T>(list: readonly T[], size: number): T[][] {
  const out: T[][] = [];
  for (let i = 0; i < list.length; i += size) out.push(list.slice(i, i + size));
  return out;
}
