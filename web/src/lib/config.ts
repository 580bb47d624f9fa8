/** Config trees as dotted keys, and what differs between several of them. */

export function flatten(config: unknown, prefix = '', out: Record<string, unknown> = {}): Record<string, unknown> {
  if (config !== null && typeof config === 'object' && !Array.isArray(config)) {
    const entries = Object.entries(config);
    if (entries.length > 0 || prefix === '') {
      for (const [key, value] of entries) flatten(value, prefix === '' ? key : `${prefix}.${key}`, out);
      return out;
    }
  }
  out[prefix] = config;
  return out;
}

/** Keys whose values are not the same in all configs, sorted. */
export function differingKeys(configs: readonly Record<string, unknown>[]): string[] {
  const keys = new Set(configs.flatMap((c) => Object.keys(c)));
  const differs = (key: string) => {
    const [first, ...rest] = configs.map((c) => (key in c ? JSON.stringify(c[key]) : undefined));
    return rest.some((value) => value !== first);
  };
  return [...keys].filter(differs).sort((a, b) => a.localeCompare(b));
}

/** Such a key tells runs apart without saying why they differ. */
const LABEL = /(^|[._-])(seed|id|name|run|uuid|path|dir|output|rank|port)$/i;
/** From so many runs on, a key with another value in each is a label too. */
const MANY = 6;

/** Keys that differ, those first that were most likely changed on purpose: with many different values, but not another one in every run. */
export function telling(configs: readonly Record<string, unknown>[]): string[] {
  const values = (key: string) => new Set(configs.map((c) => JSON.stringify(c[key]))).size;
  const isLabel = (key: string, n: number) => LABEL.test(key) || (n === configs.length && n >= MANY);
  return differingKeys(configs)
    .map((key) => ({ key, n: values(key) }))
    .sort((a, b) => Number(isLabel(a.key, a.n)) - Number(isLabel(b.key, b.n)) || b.n - a.n)
    .map(({ key }) => key);
}

/** `lr=1e-4` as typed in a form: JSON if it parses, else text. */
export function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Dotted `key=value` lines to a nested object; `null` and the line if one is no assignment. */
export function parseAssignments(text: string): { config: Record<string, unknown>; bad: string | null } {
  const config: Record<string, unknown> = {};
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '') continue;
    const equals = line.indexOf('=');
    const path = line.slice(0, Math.max(0, equals)).trim().split('.');
    if (equals <= 0 || path.some((p) => p === '')) return { config, bad: line };
    let node = config;
    for (const part of path.slice(0, -1)) {
      // Own keys alone: `__proto__.x=1` is a config key like any other and reaches no prototype.
      const next = Object.hasOwn(node, part) ? node[part] : undefined;
      if (next !== null && typeof next === 'object' && !Array.isArray(next)) node = next as Record<string, unknown>;
      else {
        const fresh: Record<string, unknown> = {};
        Object.defineProperty(node, part, { value: fresh, enumerable: true, configurable: true, writable: true });
        node = fresh;
      }
    }
    Object.defineProperty(node, path[path.length - 1] as string, { value: parseValue(line.slice(equals + 1).trim()), enumerable: true, configurable: true, writable: true });
  }
  return { config, bad: null };
}

export interface Change {
  key: string;
  before: unknown;
  after: unknown;
  had_before: boolean;
  /** Changed to what it is. */
  same: boolean;
}

/** What some changes do to a config, key by key. */
export function differences(config: unknown, changes: Record<string, unknown>): Change[] {
  const before = flatten(config);
  return Object.entries(flatten(changes))
    .filter(([key]) => key !== '')
    .map(([key, after]) => ({ key, before: before[key], after, had_before: Object.hasOwn(before, key), same: Object.hasOwn(before, key) && JSON.stringify(before[key]) === JSON.stringify(after) }));
}
