/**
 * A family of runs laid out on a step axis: one lane per run, forks below their parent, abandoned tails on sub-lanes.
 *
 * Children with the later fork step stand nearer to their parent: a connector goes down at its own fork step, where no lane of a
 * nearer sibling has begun yet, so connectors never cross lanes of siblings. Heights are in lane units; the page scales them.
 */
import type { AttemptInfo, CheckpointInfo, LineageRun, LineageTree } from '../api/types';

export interface Stretch {
  attempt: number;
  from: number;
  to: number;
  y: number;
}

export interface Lane {
  run: LineageRun;
  y: number;
  depth: number;
  /** What the run effectively logged, attempt by attempt, on the lane itself. */
  own: Stretch[];
  /** Abandoned tails, each on its sub-lane; `leaves` is where it left the lane. */
  ghosts: (Stretch & { leaves: number })[];
  /** Where the lane leaves its parent's. */
  fork: { x: number; fromY: number } | null;
  /** Where it starts from a checkpoint of a run whose history it does not continue; that run's lane, if it is in the tree. */
  base: { reference: string; x: number; fromX: number; fromY: number | null } | null;
  end: number;
}

export interface Dot {
  checkpoint: CheckpointInfo;
  run: LineageRun;
  x: number;
  y: number;
}

export interface Layout {
  lanes: Lane[];
  dots: Dot[];
  height: number;
  from: number;
  to: number;
}

const SUB_LANE = 0.5;

export function layout(tree: LineageTree): Layout {
  const byId = new Map(tree.runs.map((r) => [r.summary.id, r]));
  const children = new Map<string, LineageRun[]>();
  const roots: LineageRun[] = [];
  for (const run of tree.runs) {
    const owner = run.summary.owner?.id ?? run.summary.parent?.id;
    if (owner !== undefined && byId.has(owner) && owner !== run.summary.id) {
      const list = children.get(owner);
      if (list) list.push(run);
      else children.set(owner, [run]);
    } else roots.push(run);
  }
  const lanes: Lane[] = [];
  const laneOf = new Map<string, Lane>();
  let y = 0;
  // An explicit stack: chains of forks are deeper than the call stack likes.
  const stack: { run: LineageRun; depth: number }[] = roots.reverse().map((run) => ({ run, depth: 0 }));
  for (let next = stack.pop(); next; next = stack.pop()) {
    const lane = placeLane(next.run, next.depth, y, laneOf);
    lanes.push(lane);
    laneOf.set(next.run.summary.id, lane);
    y += 1 + SUB_LANE * lane.ghosts.length;
    const kids = [...(children.get(next.run.summary.id) ?? [])].sort((a, b) => (a.summary.fork_step ?? 0) - (b.summary.fork_step ?? 0));
    const depth = next.depth + 1;
    stack.push(...kids.map((run) => ({ run, depth })));
  }
  let from = Infinity;
  let to = -Infinity;
  for (const lane of lanes) {
    for (const s of [...lane.own, ...lane.ghosts]) {
      from = Math.min(from, s.from);
      to = Math.max(to, s.to);
    }
    if (lane.fork) from = Math.min(from, lane.fork.x);
    to = Math.max(to, lane.end);
  }
  if (!(from <= to)) [from, to] = [0, 1];
  if (from === to) to = from + 1;
  const dots = lanes.flatMap(placeDots);
  for (const dot of dots) {
    from = Math.min(from, dot.x);
    to = Math.max(to, dot.x);
  }
  return { lanes, dots, height: y, from, to };
}

function placeLane(run: LineageRun, depth: number, y: number, laneOf: ReadonlyMap<string, Lane>): Lane {
  const owner = laneOf.get(run.summary.owner?.id ?? run.summary.parent?.id ?? '');
  const forkStep = run.summary.fork_step ?? null;
  const fork = owner && forkStep !== null ? { x: forkStep, fromY: owner.y } : null;
  const own: Stretch[] = [];
  const ghosts: Lane['ghosts'] = [];
  for (const attempt of run.attempts) {
    const steps = attempt.steps;
    if (!steps) continue;
    const ghostFrom = attempt.ghost_from ?? null;
    const start = startOf(attempt, steps.first, run.summary.id, forkStep);
    const lastOwn = ghostFrom === null ? steps.last : Math.min(steps.last, leaves(run.attempts, attempt, ghostFrom));
    if (ghostFrom === null || ghostFrom > steps.first) own.push({ attempt: attempt.attempt, from: start, to: Math.max(start, lastOwn), y });
    if (ghostFrom !== null) {
      const leave = ghostFrom > steps.first ? lastOwn : start;
      ghosts.push({ attempt: attempt.attempt, from: leave, to: steps.last, leaves: leave, y: y + SUB_LANE * (ghosts.length + 1) });
    }
  }
  const end = Math.max(fork?.x ?? -Infinity, ...own.map((s) => s.to));
  return { run, y, depth, own, ghosts, fork, base: baseOf(run, own[0]?.from ?? 0, laneOf), end };
}

/** A base edge: weights were taken, history was not. It may lead to a run of another tree, or of another project. */
function baseOf(run: LineageRun, x: number, laneOf: ReadonlyMap<string, Lane>): Lane['base'] {
  const reference = run.summary.base;
  if (!reference) return null;
  const at = reference.lastIndexOf('@');
  const id = at < 0 ? reference : reference.slice(0, at);
  const lane = [...laneOf.values()].find((l) => l.run.summary.display_id === id);
  const step = Number(reference.slice(at + 1));
  return { reference, x, fromX: lane && Number.isFinite(step) ? step : x, fromY: lane?.y ?? null };
}

/** What a fork changed, on one line: the first changes, and how many more. */
export function changesText(changes: readonly { key: string; before?: unknown; after?: unknown; had_before: boolean; has_after: boolean }[], format: (value: unknown) => string, most = 2): string {
  const told = changes.slice(0, most).map((c) => `${c.key} ${c.had_before ? format(c.before) : '–'} → ${c.has_after ? format(c.after) : '–'}`);
  return changes.length > most ? `${told.join(', ')} +${changes.length - most}` : told.join(', ');
}

/** A fork's lane begins at its fork step, a resumed attempt's where it took over, a root's at its first point. */
function startOf(attempt: AttemptInfo, first: number, run: string, forkStep: number | null): number {
  if (attempt.base && (attempt.base.run.id === run || forkStep !== null)) return Math.min(first, attempt.base.step);
  return first;
}

/** The last effective step of an abandoned attempt: where the attempt built upon it took over. */
function leaves(attempts: readonly AttemptInfo[], attempt: AttemptInfo, ghostFrom: number): number {
  const bases = attempts.filter((a) => a.base?.attempt === attempt.attempt && a.attempt > attempt.attempt).map((a) => a.base?.step ?? ghostFrom - 1);
  const last = bases[bases.length - 1];
  return last === undefined ? ghostFrom - 1 : Math.min(last, ghostFrom);
}

function placeDots(lane: Lane): Dot[] {
  return lane.run.checkpoints
    .filter((c) => !c.inherited)
    .map((checkpoint) => {
      const ghost = checkpoint.effective ? undefined : lane.ghosts.find((g) => g.attempt === checkpoint.attempt && checkpoint.step >= g.from);
      return { checkpoint, run: lane.run, x: checkpoint.step, y: ghost?.y ?? lane.y };
    });
}

/** How a dot is drawn. */
export function dotKind(c: CheckpointInfo): 'stored' | 'deleted' | 'pending' | 'abandoned' | 'damaged' {
  switch (c.state) {
    case 'complete':
      return 'stored';
    case 'deleted':
      return 'deleted';
    case 'pending':
      return 'pending';
    case 'quarantined':
      return 'damaged';
    default:
      return 'abandoned';
  }
}

/** The newest checkpoint at or before a step from which something can start; of several at one step the newest. */
export function checkpointBefore(checkpoints: readonly CheckpointInfo[], step: number): CheckpointInfo | null {
  let best: CheckpointInfo | null = null;
  for (const c of checkpoints) {
    if (c.state !== 'complete' || !c.effective || c.superseded || c.step > step) continue;
    if (best === null || c.step > best.step || (c.step === best.step && c.created >= best.created)) best = c;
  }
  return best;
}

/** Checkpoints that several runs were forked from, each with how many, those with most first. A run that only took weights there is no fork. */
export function sweepsOf(tree: LineageTree): { reference: string; forks: number }[] {
  const members = new Set(tree.runs.map((r) => r.summary.id));
  const own = tree.runs.flatMap((r) => r.checkpoints.filter((c) => !c.inherited));
  const found = own.map((c) => ({ reference: c.reference, forks: c.forks.filter((f) => members.has(f.id)).length })).filter(({ forks }) => forks > 1);
  return found.sort((x, y) => y.forks - x.forks);
}
