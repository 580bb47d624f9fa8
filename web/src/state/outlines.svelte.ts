/** What can be drawn of the runs that are shown: names of their metrics, their abandoned tails. Names, not values: runs have thousands. */
import { untrack } from 'svelte';

import { api } from '../api/client';
import type { RunOutline } from '../api/types';
import type { Ghost } from '../lib/layers';
import { onChange } from './live.svelte';

/** A run that goes on seldom logs a metric it never logged before: it is asked for news no oftener. */
const FRESH_MS = 10_000;

interface Held {
  outline: RunOutline;
  names: ReadonlySet<string>;
  at: number;
}

/** Use while a component is set up: it lives as long as that. */
export class Outlines {
  #held = $state.raw<ReadonlyMap<string, Held>>(new Map());
  #asked = new Set<string>();
  #stale = new Set<string>();
  #abort = new AbortController();
  error = $state.raw<Error | null>(null);
  readonly metrics: string[];
  readonly ghosts: Ghost[];
  /** Whether every run that is shown has its outline here. */
  readonly loaded: boolean;

  /** `runs`: RunIds. */
  constructor(runs: () => readonly string[]) {
    const wanted = $derived(runs().join(','));
    const list = $derived(wanted === '' ? [] : wanted.split(','));
    $effect(() => {
      const ids = list;
      untrack(() => this.#ask(ids.filter((id) => !this.#held.has(id))));
    });
    $effect(() => {
      let timer: number | undefined;
      const stop = onChange(() => new Set(list), (changed) => {
        for (const id of changed ?? list) this.#stale.add(id);
        const due = () => {
          timer = undefined;
          const now = Date.now();
          const ids = [...this.#stale].filter((id) => this.#isOld(id, now));
          for (const id of ids) this.#stale.delete(id);
          this.#ask(ids.filter((id) => list.includes(id)));
          if (this.#stale.size > 0) timer ??= window.setTimeout(due, FRESH_MS);
        };
        due();
      });
      return () => {
        stop();
        clearTimeout(timer);
      };
    });
    $effect(() => () => this.#abort.abort());
    this.metrics = $derived([...new Set(list.flatMap((id) => this.#held.get(id)?.outline.metrics ?? []))]);
    this.ghosts = $derived(list.flatMap((id) => this.#held.get(id)?.outline.ghosts.map((g) => ({ run: id, attempt: g.attempt, from: g.from })) ?? []));
    this.loaded = $derived(list.every((id) => this.#held.has(id)));
  }

  has(run: string, metric: string): boolean {
    return this.#held.get(run)?.names.has(metric) ?? false;
  }

  /** What had no metric yet is looked for at once: a first point is waited for. */
  #isOld(id: string, now: number): boolean {
    const held = this.#held.get(id);
    return !held || held.names.size === 0 || now - held.at >= FRESH_MS;
  }

  #ask(ids: readonly string[]): void {
    const wanted = ids.filter((id) => !this.#asked.has(id));
    if (wanted.length === 0) return;
    for (const id of wanted) this.#asked.add(id);
    api
      .outlines(wanted, this.#abort.signal)
      .then((outlines) => {
        const held = new Map(this.#held);
        for (const outline of outlines) held.set(outline.run, { outline, names: new Set(outline.metrics), at: Date.now() });
        this.#held = held;
        this.error = null;
      })
      .catch((error: unknown) => {
        if (!this.#abort.signal.aborted) this.error = error instanceof Error ? error : new Error(String(error));
      })
      .finally(() => {
        for (const id of wanted) this.#asked.delete(id);
      });
  }
}
