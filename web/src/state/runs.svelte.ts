/** The runs of a project as far as they were scrolled to: pages are appended, live changes replace rows in place. */
import { api, type RunsQuery } from '../api/client';
import type { RunSummary } from '../api/types';
import { remember } from './family.svelte';

const PAGE = 200;
const MOST = 1000;
/** So many rows are a list: asked for as one. */
const MOST_CHANGED = 200;

export class RunList {
  runs = $state.raw<RunSummary[]>([]);
  total = $state(0);
  loading = $state(false);
  loaded = $state(false);
  error = $state.raw<Error | null>(null);
  #query: RunsQuery = {};
  #cursor: string | null = null;
  #abort: AbortController | null = null;

  /** Another question: the old rows stay until the answer is here. */
  ask(query: RunsQuery): Promise<void> {
    this.#query = query;
    return this.#fetch(PAGE);
  }

  /**
   * What changed, alone: rows that are here are replaced where they stand. Where a row belongs that was not here, a fork or a new run, only a
   * whole answer can say.
   */
  async update(changed: ReadonlySet<string> | null): Promise<void> {
    if (changed === null || changed.size > MOST_CHANGED || this.loading || !this.loaded) return this.refresh();
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const page = await api.runs({ ...this.#query, ids: [...changed].join(','), limit: changed.size }, abort.signal);
      const have = new Set(this.runs.map((r) => r.id));
      if (page.runs.some((r) => !have.has(r.id))) return this.refresh();
      const fresh = new Map(page.runs.map((r) => [r.id, r]));
      const rows = this.runs.filter((r) => !changed.has(r.id) || fresh.has(r.id)).map((r) => fresh.get(r.id) ?? r);
      this.#take(rows, this.total - (this.runs.length - rows.length), this.#cursor);
    } catch (error) {
      this.#fail(error, abort);
    }
  }

  /** The same question again, as far as it was scrolled to. */
  refresh(): Promise<void> {
    return this.#fetch(Math.max(PAGE, this.runs.length));
  }

  async #fetch(wanted: number): Promise<void> {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.loading = true;
    try {
      const rows: RunSummary[] = [];
      let cursor: string | null = null;
      let total = 0;
      do {
        const page = await api.runs({ ...this.#query, ...(cursor === null ? {} : { cursor }), limit: Math.min(MOST, wanted - rows.length) }, abort.signal);
        rows.push(...page.runs);
        cursor = page.next_cursor ?? null;
        total = page.total;
      } while (cursor !== null && rows.length < wanted);
      this.#take(rows, total, cursor);
    } catch (error) {
      this.#fail(error, abort);
    }
    if (this.#abort === abort) this.loading = false;
  }

  async more(): Promise<void> {
    if (this.loading || this.#cursor === null) return;
    const abort = new AbortController();
    this.#abort = abort;
    this.loading = true;
    try {
      const page = await api.runs({ ...this.#query, cursor: this.#cursor, limit: PAGE }, abort.signal);
      const have = new Set(this.runs.map((r) => r.id));
      this.#take([...this.runs, ...page.runs.filter((r) => !have.has(r.id))], page.total, page.next_cursor ?? null);
    } catch (error) {
      this.#fail(error, abort);
    }
    if (this.#abort === abort) this.loading = false;
  }

  #take(rows: RunSummary[], total: number, cursor: string | null): void {
    remember(rows);
    this.runs = rows;
    this.total = total;
    this.#cursor = cursor;
    this.error = null;
    this.loaded = true;
  }

  #fail(error: unknown, abort: AbortController): void {
    if (abort.signal.aborted) return;
    this.error = error instanceof Error ? error : new Error(String(error));
  }

  stop(): void {
    this.#abort?.abort();
  }
}
