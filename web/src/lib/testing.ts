/** Builders for tests of `lib`. */
import type { AttemptInfo, CheckpointInfo, LineageRun, RunSummary, SeriesBuckets, SeriesSegment } from '../api/types';

/** A series of single points: `[x, value, segment]`. */
export function buckets(run: string, points: readonly (readonly [number, number, number?])[], segments: SeriesSegment[]): SeriesBuckets {
  const wire = (v: number) => (Number.isFinite(v) ? v : Number.isNaN(v) ? 'NaN' : v > 0 ? 'Infinity' : '-Infinity');
  return {
    run, metric: 'loss', attempt: null, points: points.length, logged: points.length,
    x_first: points.map((p) => p[0]), x_last: points.map((p) => p[0]),
    min: points.map((p) => (Number.isFinite(p[1]) ? p[1] : 'NaN')), max: points.map((p) => (Number.isFinite(p[1]) ? p[1] : 'NaN')), mean: points.map((p) => (Number.isFinite(p[1]) ? p[1] : 'NaN')),
    first: points.map((p) => wire(p[1])), last: points.map((p) => wire(p[1])), count: points.map(() => 1), nonfinite: points.map((p) => (Number.isFinite(p[1]) ? 0 : 1)),
    segment: points.map((p) => p[2] ?? 0), segments,
  };
}

export function segment(run: string, attempt: number, inherited: boolean, start: number): SeriesSegment {
  return { run, attempt, inherited, x_start: start };
}

const label = (id: string) => ({ id, display_id: id, name: id });

export function summary(id: string, over: Partial<RunSummary> = {}): RunSummary {
  return {
    id, display_id: id, number: 1, name: id, project: 'p', experiment: 'e', root: 'A', status: 'completed', created: 0, last_activity: 0, attempt: 1,
    children: 0, metrics: {}, config: {}, tags: [], checkpoints: 0, deleted: false, ...over,
  };
}

export function attempt(n: number, first: number, last: number, over: Partial<AttemptInfo> = {}): AttemptInfo {
  return { attempt: n, kind: 'start', created: 0, last_activity: 0, steps: { first, last }, launch: {}, ...over };
}

export function checkpoint(run: string, step: number, over: Partial<CheckpointInfo> = {}): CheckpointInfo {
  return {
    id: `ck_${run}_${step}`, reference: `${run}@${step}`, run: label(run), attempt: 1, step, k: 0, created: 0, state: 'complete', inherited: false, effective: true, superseded: false,
    bytes: 1, tensors: 1, metrics: {}, tags: [], pinned: false, parts: [], forks: [], ...over,
  };
}

export function member(id: string, owner: string | null, fork: number | null, attempts: AttemptInfo[], checkpoints: CheckpointInfo[] = []): LineageRun {
  return { summary: summary(id, owner === null ? {} : { owner: label(owner), parent: label(owner), fork_step: fork }), attempts, checkpoints, config_diff: [] };
}
