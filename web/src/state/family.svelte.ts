/** What pages know of runs by id: labels for fork lines and chips, and what each fork changed. Families are fetched once, when asked for. */
import { api } from '../api/client';
import type { ConfigChange, RunLabel, RunSummary } from '../api/types';

export interface Known {
  id: string;
  display_id: string;
  name: string;
  root: string;
  forkStep: number | null;
  parent: RunLabel | null;
  changes: ConfigChange[] | null;
}

const runs = new Map<string, Known>();
const asked = new Map<string, Promise<void>>();
/** Grows when something new is known, so that charts draw their labels again. */
export const known = $state({ version: 0 });

export function remember(list: readonly RunSummary[], changes?: (id: string) => ConfigChange[] | undefined): void {
  for (const r of list) {
    const before = runs.get(r.id);
    runs.set(r.id, {
      id: r.id, display_id: r.display_id, name: r.name, root: r.root, forkStep: r.fork_step ?? null, parent: r.parent ?? null,
      changes: changes?.(r.id) ?? before?.changes ?? null,
    });
  }
}

export function lookUp(id: string): Known | undefined {
  return runs.get(id);
}

/** Fetches the family of `run`, once; for labels and config differences. */
export function fetchFamily(run: string, root: string): Promise<void> {
  let promise = asked.get(root);
  if (!promise) {
    promise = api
      .lineage(run)
      .then((tree) => {
        const diffs = new Map(tree.runs.map((r) => [r.summary.id, r.config_diff]));
        remember(tree.runs.map((r) => r.summary), (id) => diffs.get(id));
        known.version++;
      })
      .catch(() => {
        asked.delete(root);
      });
    asked.set(root, promise);
  }
  return promise;
}
