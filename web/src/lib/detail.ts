/** A run's page while the run goes on: what moves with every point, and what is another thing. */
import type { LineageRun, LineageTree, RunDetail, RunSummary } from '../api/types';

const WITHOUT = ['last_activity', 'last_step', 'metrics', 'checkpoints', 'first_nonfinite'] as const;

/**
 * What a newer row tells: only points and checkpoints came (`moved`); somebody forked, renamed, resumed or ended the run, or a value was not
 * finite (`changed`); or nothing (`same`): what was told of had been seen already, or it is something that rows do not hold.
 */
export function compare(before: RunSummary, now: RunSummary): 'moved' | 'changed' | 'same' {
  const rest = (s: RunSummary) => JSON.stringify({ ...s, ...Object.fromEntries(WITHOUT.map((key) => [key, null])) });
  const bad = (s: RunSummary) => `${s.first_nonfinite?.metric ?? ''} ${s.first_nonfinite?.step ?? ''}`;
  if (rest(before) !== rest(now) || bad(before) !== bad(now)) return 'changed';
  return before.last_activity !== now.last_activity || before.last_step !== now.last_step || before.checkpoints !== now.checkpoints ? 'moved' : 'same';
}

/** The page with a newer row of the list in it. */
export function withSummary(detail: RunDetail, now: RunSummary): RunDetail {
  const { metrics, first_nonfinite } = detail.summary;
  // What the list does not work out stays: which checkpoint was good.
  const summary = { ...now, metrics: { ...metrics, ...now.metrics }, ...(first_nonfinite === undefined ? {} : { first_nonfinite }) };
  const newest = detail.attempts[detail.attempts.length - 1];
  const attempts = newest ? [...detail.attempts.slice(0, -1), { ...newest, last_activity: Math.max(newest.last_activity, now.last_activity) }] : detail.attempts;
  return { ...detail, summary, attempts };
}

/** A family with newer rows of the list in it; null where something is new that rows do not say: a fork, a launch, a checkpoint. */
export function withRows(tree: LineageTree, rows: readonly RunSummary[]): LineageTree | null {
  const fresh = new Map(rows.map((r) => [r.id, r]));
  const runs: LineageRun[] = [];
  for (const member of tree.runs) {
    const now = fresh.get(member.summary.id);
    fresh.delete(member.summary.id);
    if (!now) {
      runs.push(member);
      continue;
    }
    const news = compare(member.summary, now);
    // Of a run that stands still, something else than points is new: a pin, a tag of a checkpoint.
    if (news === 'changed' || now.checkpoints !== member.summary.checkpoints || (news === 'same' && now.status !== 'running')) return null;
    const newest = member.attempts[member.attempts.length - 1];
    const last = now.last_step ?? null;
    if (newest && !newest.steps && last !== null) return null;
    const attempts = newest?.steps && last !== null ? [...member.attempts.slice(0, -1), { ...newest, steps: { ...newest.steps, last: Math.max(newest.steps.last, last) } }] : member.attempts;
    runs.push({ ...member, attempts, summary: { ...now, metrics: { ...member.summary.metrics, ...now.metrics }, ...(member.summary.first_nonfinite === undefined ? {} : { first_nonfinite: member.summary.first_nonfinite }) } });
  }
  if ([...fresh.values()].some((r) => r.root === tree.root)) return null;
  return { ...tree, runs };
}
