import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { SeriesBuckets, SeriesRequest } from '../api/types';
import { summary } from '../lib/testing';

const buckets: SeriesBuckets = {
  run: 'r', metric: 'loss', attempt: null, points: 6, logged: 4, x_first: [0, 2, 4], x_last: [1, 3, 5], place_first: null, place_last: null, unplaced: null,
  min: [0, 2, 4], max: [1, 3, 5], mean: [0.5, 2.5, 4.5], first: [0, 2, 4], last: [1, 3, 5], count: [2, 2, 2], nonfinite: [0, 0, 0], segment: [0, 1, 1],
  segments: [{ run: 'p', attempt: 1, inherited: true, x_start: 0, place_start: null }, { run: 'r', attempt: 1, inherited: false, x_start: 2, place_start: null }],
};
const packed = { version: 1 as const, run: 'MMP-1', run_id: 'r', answers: { '/runs/it': { a: 1 }, '/runs/it/console': { lines: [] } }, series: [{ x: 'step' as const, buckets }] };
const ask: SeriesRequest = { series: [{ run: 'r', metric: 'loss', attempt: null }], x: 'step', x_metric: null, from: null, to: null, pixels: 100, inherited: true };

describe('a report without a server', () => {
  beforeEach(() => {
    vi.stubGlobal('window', { localStorage: { length: 0 } });
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  it('answers charts from what the file holds', async () => {
    const { answerSeries } = await import('./offline');
    expect(answerSeries(packed, ask)?.series[0]).toEqual(buckets);
    const zoomed = answerSeries(packed, { ...ask, from: 3, to: 3 })?.series[0];
    expect([zoomed?.x_first, zoomed?.points]).toEqual([[2], 2]);
    const own = answerSeries(packed, { ...ask, inherited: false })?.series[0];
    expect(own?.min).toEqual([2, 4]);
    expect(answerSeries(packed, { ...ask, x: 'wall' })).toBeNull();
    expect(answerSeries(packed, { ...ask, series: [{ run: 'r', metric: 'loss', attempt: 1 }] })).toBeNull();
  });

  it('takes fetch over, and says what is not there', async () => {
    const { serve } = await import('./offline');
    serve(packed);
    const get = async (path: string) => window.fetch(`/api/v1${path}`);
    expect(await (await get('/runs/MMP-1')).json()).toEqual({ a: 1 });
    expect(await (await get('/runs/r/console?limit=3')).json()).toEqual({ lines: [] });
    const absent = await get('/runs/MMP-1/lineage');
    expect(absent.status).toBe(404);
    expect((await absent.json()).error.message).toContain('not in this file');
  });

  it('keeps what can not be stored in memory', async () => {
    vi.stubGlobal('window', Object.defineProperty({}, 'localStorage', { configurable: true, get: () => { throw new Error('denied'); } }));
    await import('./offline');
    window.localStorage.setItem('a', 'b');
    expect(window.localStorage.getItem('a')).toBe('b');
  });

  it('tells what can be drawn from the run’s page', async () => {
    const { metricsOf, outlineOf } = await import('./offline');
    const info = (name: string, system = false) => ({ name, system, points: 1, nonfinite: 0, steps: { first: 0, last: 0 }, last: { step: 0, value: 1 }, own_points: 1 });
    const attempt = (n: number, ghost: number | null) => ({ attempt: n, kind: 'start' as const, created: 0, last_activity: 0, launch: {}, ghost_from: ghost });
    const detail = { summary: summary('r'), metrics: [info('a,b'), info('loss'), info('sys/cpu', true)], attempts: [attempt(1, 7), attempt(2, null)] };
    expect(outlineOf(detail)).toEqual({ run: 'r', metrics: ['a,b', 'loss'], ghosts: [{ attempt: 1, from: 7 }] });
    expect(metricsOf(detail, 'a%2Cb,none').map((m) => m.name)).toEqual(['a,b']);
    expect(metricsOf(detail, null)).toEqual([]);
  });
});
