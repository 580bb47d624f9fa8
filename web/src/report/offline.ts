/** The API without a server: answers from what the file holds. Imported before anything that asks. */
import type { MetricInfo, RunDetail, RunOutline, SeriesBuckets, SeriesRequest, SeriesResponse, XAxis } from '../api/types';
import { unpackList } from '../lib/lists';

/** What `runtree export-html` packs. */
export interface Packed {
  version: 1;
  run: string;
  run_id: string;
  /** Answers to GET, by path below `/api/v1`, without the query. */
  answers: Record<string, unknown>;
  series: { x: XAxis; buckets: SeriesBuckets }[];
}

/** Some viewers forbid storage to a file: what would be kept is then forgotten. */
try {
  void window.localStorage.length;
} catch {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  Object.defineProperty(window, 'localStorage', { value: storage });
}

export async function unpack(text: string): Promise<Packed> {
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return (await new Response(stream).json()) as Packed;
}

const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });
const absent = (what: string) =>
  json(404, { error: { kind: 'not_found', message: `${what} is not in this file`, hint: 'it is in the store: runtree serve' } });

const COLUMNS = ['x_first', 'x_last', 'min', 'max', 'mean', 'first', 'last', 'count', 'nonfinite', 'segment'] as const;

/** The buckets for which `keep` says yes. */
export function choose(buckets: SeriesBuckets, keep: (index: number) => boolean): SeriesBuckets {
  const rows = buckets.x_first.map((_, i) => i).filter(keep);
  const chosen: SeriesBuckets = { ...buckets };
  for (const column of COLUMNS) {
    const values = buckets[column] as unknown[];
    (chosen as Record<string, unknown>)[column] = rows.map((i) => values[i]);
  }
  chosen.points = chosen.count.reduce((sum, n) => sum + n, 0);
  return chosen;
}

export function answerSeries(packed: Packed, request: SeriesRequest): SeriesResponse | null {
  if (request.x_metric) return null;
  const series: SeriesBuckets[] = [];
  for (const wanted of request.series) {
    const found = packed.series.find((s) => s.x === request.x && s.buckets.metric === wanted.metric && (s.buckets.attempt ?? null) === (wanted.attempt ?? null));
    if (!found) return null;
    const all = found.buckets;
    const inside = (i: number) =>
      (request.from === null || request.from === undefined || (all.x_last[i] as number) >= request.from) &&
      (request.to === null || request.to === undefined || (all.x_first[i] as number) <= request.to) &&
      (request.inherited || !all.segments[all.segment[i] as number]?.inherited);
    series.push(choose(all, inside));
  }
  return { series };
}

/** What can be drawn of the run: its page says it all. */
export function outlineOf({ summary, metrics, attempts }: Pick<RunDetail, 'summary' | 'metrics' | 'attempts'>): RunOutline {
  const ghosts = attempts.flatMap((a) => (a.ghost_from === null || a.ghost_from === undefined ? [] : [{ attempt: a.attempt, from: a.ghost_from }]));
  return { run: summary.id, metrics: metrics.filter((m) => !m.system).map((m) => m.name), ghosts };
}

/** Metrics by name, as `packList` wrote the names. */
export function metricsOf(detail: Pick<RunDetail, 'metrics'>, names: string | null): MetricInfo[] {
  const wanted = new Set(unpackList(names));
  return detail.metrics.filter((m) => wanted.has(m.name));
}

/** Takes `fetch` over: nothing leaves the page. */
export function serve(packed: Packed): void {
  window.fetch = (input, init) => {
    const url = new URL(input instanceof Request ? input.url : String(input), 'http://report');
    const path = decodeURIComponent(url.pathname.replace(/^\/api\/v1/, ''));
    const method = init?.method ?? 'GET';
    if (method === 'POST' && path === '/series') {
      const answer = answerSeries(packed, JSON.parse(String(init?.body)) as SeriesRequest);
      return Promise.resolve(answer ? json(200, answer) : absent('this axis'));
    }
    // Its run is asked for by display id, by RunId, or by what a link said.
    const own = path.replace(`/runs/${packed.run_id}`, '/runs/it').replace(`/runs/${packed.run}`, '/runs/it');
    const detail = packed.answers['/runs/it'] as RunDetail | undefined;
    if (method === 'GET' && path === '/outlines' && detail) return Promise.resolve(json(200, [outlineOf(detail)]));
    if (method === 'GET' && own === '/runs/it/metrics' && detail) return Promise.resolve(json(200, metricsOf(detail, url.searchParams.get('names'))));
    if (method === 'GET' && own in packed.answers) return Promise.resolve(json(200, packed.answers[own]));
    return Promise.resolve(absent(path));
  };
}
