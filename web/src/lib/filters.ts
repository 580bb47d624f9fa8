/** Completion of the filter language: what the word that is being typed may become. The server alone reads filters. */

export interface Known {
  tags: readonly string[];
  /** Display ids of runs that have forks. */
  runs: readonly string[];
  metrics: readonly string[];
  config: readonly string[];
}

const STATUSES = ['running', 'completed', 'failed', 'stopped', 'lost', 'created'];
const STARTS = ['status:', 'tag:', 'config.', 'min(', 'max(', 'created > -7d', 'descendants(', 'root:'];
const MOST = 12;

/** A value as the filter language takes it whole. */
export function quote(text: string): string {
  return /[\s()",=<>~!]/.test(text) ? `"${text.replace(/["\\]/g, '\\$&')}"` : text;
}

export function complete(word: string, known: Known): string[] {
  if (word === '') return STARTS;
  const all = [
    ...STARTS,
    ...STATUSES.map((status) => `status:${status}`),
    ...known.tags.map((tag) => `tag:${quote(tag)}`),
    ...known.metrics.map(quote),
    ...known.config.map((key) => `config.${quote(key)}`),
    ...known.metrics.flatMap((metric) => [`min(${quote(metric)})`, `max(${quote(metric)})`]),
    ...known.runs.flatMap((run) => [`root:${run}`, `descendants(${run})`, `ancestors(${run})`, `forks(${run})`]),
    'deleted:true',
  ];
  const wanted = word.toLowerCase();
  const lower = all.map((option) => option.toLowerCase());
  // What begins so, then names that hold it somewhere: nobody remembers the prefix of every metric.
  const starts = all.filter((_, i) => lower[i]?.startsWith(wanted) && lower[i] !== wanted);
  const inside = wanted.length < 2 ? [] : [...known.metrics.map(quote), ...known.config.map((key) => `config.${quote(key)}`)].filter((option) => option.toLowerCase().includes(wanted));
  return [...new Set([...starts, ...inside.filter((option) => option.toLowerCase() !== wanted)])].slice(0, MOST);
}

/** Where a filter was not understood, as the server says it: characters from 0; null where it says no place. */
export function placeOf(message: string, filter: string): number | null {
  const at = /at character (\d+) of the filter/.exec(message)?.[1];
  if (at !== undefined) return Math.min(filter.length, Math.max(0, Number(at) - 1));
  return message.includes('at the end of the filter') ? filter.length : null;
}

/** Whether an option says something by itself: a field still wants to be compared. */
export function isCondition(option: string): boolean {
  return /^(\w+:.+|created > .+|(descendants|ancestors|forks)\(.+\))$/.test(option);
}
