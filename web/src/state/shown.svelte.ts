/** Runs that a link shows on charts, wherever they stand in the list: those that the list has not been scrolled to are fetched by name. */
import { untrack } from 'svelte';

import { api, NO_METRICS } from '../api/client';
import type { RunSummary } from '../api/types';
import { remember } from './family.svelte';
import { onChange } from './live.svelte';

/** More curves than these nobody shows by hand. */
const MOST = 200;

/** Use while a component is set up: it lives as long as that. */
export class NamedRuns {
  runs = $state.raw<readonly RunSummary[]>([]);
  #asked = new Set<string>();
  #abort = new AbortController();

  /** `wanted`: display ids that are not at hand. */
  constructor(wanted: () => readonly string[]) {
    $effect(() => {
      const ids = wanted().filter((id) => !this.#asked.has(id)).slice(0, MOST);
      if (ids.length === 0) return;
      for (const id of ids) this.#asked.add(id);
      // One that is no id at all must not keep the others from being found.
      const list = ids.filter((id) => /^[\w.-]+$/.test(id));
      untrack(() => void this.#fetch({ filter: `id in (${list.join(', ')})`, limit: list.length }));
    });
    $effect(() => {
      const stop = onChange(() => new Set(this.runs.map((r) => r.id)), (changed) => {
        const ids = this.runs.map((r) => r.id).filter((id) => changed?.has(id) ?? true);
        if (ids.length > 0) void this.#fetch({ ids: ids.join(','), limit: ids.length });
      });
      return stop;
    });
    $effect(() => () => this.#abort.abort());
  }

  async #fetch(query: { filter: string; limit: number } | { ids: string; limit: number }): Promise<void> {
    if (query.limit === 0) return;
    try {
      const page = await api.runs({ ...query, metrics: NO_METRICS }, this.#abort.signal);
      remember(page.runs);
      const fresh = new Map(page.runs.map((r) => [r.id, r]));
      this.runs = [...this.runs.filter((r) => !fresh.has(r.id)), ...page.runs];
    } catch {
      // A run that can not be had is not drawn; the list says what is wrong with the server.
    }
  }
}
