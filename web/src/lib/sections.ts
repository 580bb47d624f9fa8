/** Metrics in sections by their prefix; pinned ones first; a regular expression filters. */

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

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

/** A filter as typed: a regular expression if it is one, else plain text. Never throws while somebody types. */
export function matcher(pattern: string): (text: string) => boolean {
  if (pattern === '') return () => true;
  try {
    const re = new RegExp(pattern, 'i');
    return (text) => re.test(text);
  } catch {
    const plain = pattern.toLowerCase();
    return (text) => text.toLowerCase().includes(plain);
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
