/**
 * Series as charts ask for them, in few requests: what many charts want at the same moment, of the same range and for the same pixels, is one
 * request. A chart that scrolls away gives up its part; the request goes on for the others.
 */
import { api, ApiError } from '../api/client';
import type { SeriesBuckets, SeriesRequest, SeriesSelector } from '../api/types';

export type Frame = Omit<SeriesRequest, 'series'>;

interface Ask {
  series: SeriesSelector[];
  signal: AbortSignal;
  resolve: (series: SeriesBuckets[]) => void;
  reject: (error: unknown) => void;
}

/** So many series of one request are answered before anybody waits; more are several requests, which a server answers side by side. */
const MOST_SERIES = 120;
/** Charts that come into sight together ask within a frame. */
const GATHER_MS = 8;

const waiting = new Map<string, { frame: Frame; asks: Ask[] }>();
let timer: ReturnType<typeof setTimeout> | undefined;

/**
 * The series asked for, in their order. Rejects as `fetch` does when given up. Tails are so short that those of all charts are one request,
 * with the pixels of whichever wants most.
 */
export function askSeries(frame: Frame, series: SeriesSelector[], signal: AbortSignal, what: 'whole' | 'tail' = 'whole'): Promise<SeriesBuckets[]> {
  return new Promise((resolve, reject) => {
    const key = JSON.stringify(what === 'tail' ? { ...frame, pixels: 'tail' } : frame);
    const group = waiting.get(key) ?? { frame, asks: [] };
    if (frame.pixels > group.frame.pixels) group.frame = frame;
    group.asks.push({ series, signal, resolve, reject });
    waiting.set(key, group);
    timer ??= setTimeout(flush, GATHER_MS);
  });
}

function flush(): void {
  timer = undefined;
  const groups = [...waiting.values()];
  waiting.clear();
  for (const { frame, asks } of groups) {
    let batch: Ask[] = [];
    let size = 0;
    for (const ask of asks.filter((a) => !a.signal.aborted)) {
      if (size > 0 && size + ask.series.length > MOST_SERIES) {
        void send(frame, batch);
        batch = [];
        size = 0;
      }
      batch.push(ask);
      size += ask.series.length;
    }
    if (batch.length > 0) void send(frame, batch);
  }
}

async function send(frame: Frame, batch: readonly Ask[]): Promise<void> {
  const abort = new AbortController();
  const giveUp = () => {
    if (batch.every((a) => a.signal.aborted)) abort.abort();
  };
  for (const ask of batch) ask.signal.addEventListener('abort', giveUp, { once: true });
  try {
    const answer = await api.series({ ...frame, series: batch.flatMap((a) => a.series) }, abort.signal);
    let at = 0;
    for (const ask of batch) ask.resolve(answer.series.slice(at, (at += ask.series.length)));
  } catch (error) {
    // One chart's run may be gone: the others must not suffer for it.
    if (batch.length > 1 && error instanceof ApiError && error.status >= 400 && error.status < 500) for (const ask of batch) void send(frame, [ask]);
    else for (const ask of batch) ask.reject(error);
  } finally {
    for (const ask of batch) ask.signal.removeEventListener('abort', giveUp);
  }
}
