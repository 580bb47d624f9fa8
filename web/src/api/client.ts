/** Typed fetch for `/api/v1`: one error class, abortable, with the token a shared link or an earlier visit brought. */
import type { components, operations } from './schema';
import type { ErrorBody, ForkRequest, SeriesRequest } from './types';

const BASE = '/api/v1';
const TOKEN_KEY = 'runtree.token';

/** What the server (or the network) refused, with the next step to take. */
export class ApiError extends Error {
  constructor(
    readonly kind: string,
    message: string,
    readonly hint: string | null,
    readonly status: number,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** Takes `?token=` out of the address (it must not stay in links people share) and remembers it. */
export function adoptToken(): void {
  const url = new URL(location.href);
  const token = url.searchParams.get('token');
  if (token === null) return;
  localStorage.setItem(TOKEN_KEY, token);
  url.searchParams.delete('token');
  history.replaceState(null, '', url);
}

export function setToken(token: string): void {
  localStorage.setItem(TOKEN_KEY, token);
}

export function authHeaders(): Record<string, string> {
  const token = localStorage.getItem(TOKEN_KEY);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

export async function toApiError(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const body = JSON.parse(text) as ErrorBody;
    return new ApiError(body.error.kind, body.error.message, body.error.hint ?? null, response.status);
  } catch {
    return new ApiError('internal', `the server answered ${response.status} ${response.statusText}`, null, response.status);
  }
}

async function request(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { accept: 'application/json', ...authHeaders() };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const init: RequestInit = { method, headers };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;
  let response: Response;
  try {
    response = await fetch(BASE + path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('unavailable', 'the server does not answer', 'check that `runtree serve` still runs; what was logged is in the store', 0);
  }
  if (!response.ok) throw await toApiError(response);
  return response;
}

/** What an operation answers when it succeeds, as the server's own document says. */
type Answer<O extends keyof operations> = operations[O] extends { responses: infer R }
  ? { [Status in keyof R & (200 | 201)]: R[Status] extends { content: { 'application/json': infer Body } } ? Body : never }[keyof R & (200 | 201)]
  : never;

/** The query an operation takes. */
type Query<O extends keyof operations> = operations[O] extends { parameters: { query?: infer Q } } ? NonNullable<Q> : never;

async function json<O extends keyof operations>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Answer<O>> {
  const response = await request(method, path, body, signal);
  return (await response.json()) as Answer<O>;
}

function query(parameters: Record<string, string | number | boolean | null | undefined>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) if (value !== undefined && value !== null && value !== '') search.set(key, String(value));
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}

const enc = encodeURIComponent;

export type RunsQuery = Query<'list_runs'>;
/** For `metrics`: rows without any value. */
export const NO_METRICS = ',';
/** What is not given stays as it is. */
export type RunPatch = Partial<components['schemas']['RunPatch']>;

export const api = {
  store: (signal?: AbortSignal) => json<'get_store'>('GET', '/store', undefined, signal),
  projects: (signal?: AbortSignal) => json<'list_projects'>('GET', '/projects', undefined, signal),
  runs: (q: RunsQuery, signal?: AbortSignal) => json<'list_runs'>('GET', `/runs${query({ ...q })}`, undefined, signal),
  run: (run: string, signal?: AbortSignal) => json<'get_run'>('GET', `/runs/${enc(run)}`, undefined, signal),
  /** `names` as `packList` writes them. */
  metrics: (run: string, names: string, signal?: AbortSignal) => json<'list_metrics'>('GET', `/runs/${enc(run)}/metrics${query({ names })}`, undefined, signal),
  lineage: (run: string, signal?: AbortSignal) => json<'get_lineage'>('GET', `/runs/${enc(run)}/lineage`, undefined, signal),
  checkpoints: (run: string, q: Query<'list_checkpoints'>, signal?: AbortSignal) =>
    json<'list_checkpoints'>('GET', `/runs/${enc(run)}/checkpoints${query({ ...q })}`, undefined, signal),
  console: (run: string, q: Query<'get_console'>, signal?: AbortSignal) => json<'get_console'>('GET', `/runs/${enc(run)}/console${query({ ...q })}`, undefined, signal),
  file: async (run: string, name: string) => (await request('GET', `/runs/${enc(run)}/files/${enc(name)}`)).blob(),
  media: (run: string, q: Query<'list_media'>, signal?: AbortSignal) => json<'list_media'>('GET', `/runs/${enc(run)}/media${query({ ...q })}`, undefined, signal),
  mediaEntries: (run: string, q: Query<'get_media_entries'>, signal?: AbortSignal) =>
    json<'get_media_entries'>('GET', `/runs/${enc(run)}/media/entries${query({ ...q })}`, undefined, signal),
  mediaContent: async ({ run, ...q }: { run: string } & Query<'get_media_content'>, signal?: AbortSignal) =>
    (await request('GET', `/runs/${enc(run)}/media/content${query({ ...q })}`, undefined, signal)).blob(),
  series: (body: SeriesRequest, signal?: AbortSignal) => json<'query_series'>('POST', '/series', body, signal),
  outlines: (runs: readonly string[], signal?: AbortSignal) => json<'list_outlines'>('GET', `/outlines${query({ runs: runs.join(',') })}`, undefined, signal),
  keys: (project: string, signal?: AbortSignal) => json<'get_project_keys'>('GET', `/projects/${enc(project)}/keys`, undefined, signal),
  views: (project: string, signal?: AbortSignal) => json<'list_views'>('GET', `/projects/${enc(project)}/views`, undefined, signal),
  saveView: (project: string, name: string, search: string) => json<'save_view'>('PUT', `/projects/${enc(project)}/views/${enc(name)}`, { query: search }),
  deleteView: (project: string, name: string) => json<'delete_view'>('DELETE', `/projects/${enc(project)}/views/${enc(name)}`),
  setHead: (run: string) => request('PUT', `/runs/${enc(run)}/head`),
  clearHead: (run: string) => request('DELETE', `/runs/${enc(run)}/head`),
  sweep: (reference: string, signal?: AbortSignal) => json<'get_sweep'>('GET', `/sweep${query({ ref: reference })}`, undefined, signal),
  diff: (a: string, b: string, signal?: AbortSignal) => json<'get_diff'>('GET', `/diff${query({ a, b })}`, undefined, signal),
  checkpoint: (id: string, signal?: AbortSignal) => json<'get_checkpoint'>('GET', `/checkpoints/${enc(id)}`, undefined, signal),
  tensors: (id: string, signal?: AbortSignal) => json<'list_tensors'>('GET', `/checkpoints/${enc(id)}/tensors`, undefined, signal),
  statistics: (id: string, tensors: string, signal?: AbortSignal) => json<'get_statistics'>('GET', `/checkpoints/${enc(id)}/statistics${query({ tensors })}`, undefined, signal),
  downloadUrl: (id: string) => `${BASE}/checkpoints/${enc(id)}/download`,
  fork: (body: ForkRequest) => json<'create_fork'>('POST', '/forks', body),
  pin: (id: string) => json<'pin_checkpoint'>('POST', `/checkpoints/${enc(id)}/pin`),
  unpin: (id: string) => json<'unpin_checkpoint'>('POST', `/checkpoints/${enc(id)}/unpin`),
  deleteCheckpoint: (id: string) => json<'delete_checkpoint'>('DELETE', `/checkpoints/${enc(id)}`),
  restoreCheckpoint: (id: string) => json<'restore_checkpoint'>('POST', `/checkpoints/${enc(id)}/restore`),
  patchRun: (run: string, patch: RunPatch) => json<'patch_run'>('PATCH', `/runs/${enc(run)}`, patch),
  deleteRun: (run: string) => json<'delete_run'>('DELETE', `/runs/${enc(run)}`),
};

/** Server-sent events by fetch, because `EventSource` can not send the token. Reconnects with back-off until aborted. */
export async function listen(onChange: (runs: string[]) => void, onState: (live: boolean) => void, signal: AbortSignal): Promise<void> {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const response = await fetch(`${BASE}/events`, { headers: { accept: 'text/event-stream', ...authHeaders() }, signal });
      if (!response.ok || response.body === null) throw new Error(String(response.status));
      onState(true);
      wait = 500;
      await readEvents(response.body, (event, data) => {
        if (event !== 'change') return;
        onChange((JSON.parse(data) as { runs: string[] }).runs);
      });
    } catch {
      if (signal.aborted) return;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, 10_000);
  }
}

async function readEvents(body: ReadableStream<Uint8Array>, onEvent: (event: string, data: string) => void): Promise<void> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let buffer = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value.replaceAll('\r\n', '\n');
    let end: number;
    while ((end = buffer.indexOf('\n\n')) >= 0) {
      const block = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      let event = 'message';
      const data: string[] = [];
      for (const line of block.split('\n')) {
        if (line.startsWith('event:')) event = line.slice(6).trim();
        else if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
      }
      if (data.length > 0) onEvent(event, data.join('\n'));
    }
  }
}
