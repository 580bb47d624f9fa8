/** What the runs of a project are described by: names of metrics, config keys, tags; of the whole project, not of the rows that are here. */
import { api } from '../api/client';
import type { ProjectKeys } from '../api/types';
import { Loader } from './loader.svelte';

/** Names are looked for again no oftener, unless there are none. */
const FRESH_MS = 10_000;
const NOTHING: ProjectKeys = { metrics: [], config: [], tags: [] };

export class KnownKeys {
  readonly #loader = new Loader<ProjectKeys>();
  #at = 0;

  constructor(private readonly project: string) {}

  get keys(): ProjectKeys {
    return this.#loader.value ?? NOTHING;
  }

  /** Whether there was an answer, or none will come. */
  get settled(): boolean {
    return this.#loader.value !== null || this.#loader.error !== null;
  }

  async look(): Promise<void> {
    if (Date.now() - this.#at < FRESH_MS && this.keys.metrics.length > 0) return;
    this.#at = Date.now();
    await this.#loader.load((signal) => api.keys(this.project, signal));
  }

  stop(): void {
    this.#loader.stop();
  }
}
