/**
 * The runs of a project, as a list of which only the parts that were looked at are here.
 *
 * Rows are fetched where the table is scrolled to. Live changes replace rows where they stand: nothing moves under the reader's eyes, whatever
 * it is sorted by. A run that is born comes in on top of a list by birth; of any other order only the server can say where it belongs, so
 * what is in sight is fetched again, once.
 */
import { api, type RunsQuery } from '../api/client';
import type { RunSummary } from '../api/types';
import { remember } from './family.svelte';

export type Row = RunSummary | undefined;

export const PAGE = 100;
/** More changes than these are a new list. */
const MOST_CHANGED = 200;
/** Rows that are kept; those furthest from what is in sight are forgotten first. */
const MOST_KEPT = 4000;

export class RunList {
  /** As long as the list is; holes where nobody looked yet. */
  rows = $state.raw<readonly Row[]>([]);
  loading = $state(false);
  loaded = $state(false);
  error = $state.raw<Error | null>(null);
  #query: RunsQuery = {};
  #abort = new AbortController();
  #coming = new Map<number, Promise<void>>();
  /** What is in sight. */
  #seen = { first: 0, last: PAGE };
  /** Runs that changed, match, and are not here: they stand where nobody looked. */
  #elsewhere = new Set<string>();

  get total(): number {
    return this.rows.length;
  }

  /** Rows that are here, in order. */
  get here(): RunSummary[] {
    const out: RunSummary[] = [];
    // `forEach` leaves holes out, and there may be a hundred thousand.
    this.rows.forEach((row) => {
      if (row) out.push(row);
    });
    return out;
  }

  /** Another question: the old rows stay until the answer is here. */
  async ask(query: RunsQuery): Promise<void> {
    this.#query = query;
    this.#seen = { first: 0, last: PAGE };
    await this.#anew();
  }

  /** The same question again. */
  refresh(): Promise<void> {
    return this.#anew();
  }

  /** These rows are in sight: what is not here is fetched. */
  need(first: number, last: number): void {
    this.#seen = { first, last };
    if (!this.loaded) return;
    for (let page = Math.floor(first / PAGE); page * PAGE < Math.min(last, this.rows.length); page++) {
      if (this.#coming.has(page) || !this.#hasHole(page * PAGE, Math.min((page + 1) * PAGE, this.rows.length))) continue;
      void this.#page(page);
    }
  }

  /** News of these runs; null: of nobody knows whom. */
  async update(changed: ReadonlySet<string> | null): Promise<void> {
    if (changed === null || changed.size > MOST_CHANGED || !this.loaded) return this.refresh();
    const { signal } = this.#abort;
    try {
      const page = await api.runs({ ...this.#query, ids: [...changed].join(','), limit: changed.size }, signal);
      if (signal.aborted) return;
      remember(page.runs);
      const fresh = new Map(page.runs.map((r) => [r.id, r]));
      const rows = this.rows.slice();
      const gone: number[] = [];
      rows.forEach((row, i) => {
        if (!row || !changed.has(row.id)) return;
        const now = fresh.get(row.id);
        if (now) rows[i] = now;
        else gone.push(i);
        fresh.delete(row.id);
      });
      for (const i of gone.reverse()) rows.splice(i, 1);
      const strangers = [...fresh.values()].filter((r) => !this.#elsewhere.has(r.id));
      const newest = rows[0]?.created ?? -Infinity;
      const born = this.#isByBirth() && rows.length > 0 ? strangers.filter((r) => r.created > newest).sort((a, b) => b.created - a.created) : [];
      rows.unshift(...born);
      this.rows = rows;
      if (strangers.length > born.length) {
        await this.#anew();
        const here = new Set(this.here.map((r) => r.id));
        for (const r of strangers) if (!here.has(r.id)) this.#elsewhere.add(r.id);
      } else this.need(this.#seen.first, this.#seen.last);
      this.error = null;
    } catch (error) {
      this.#fail(error, signal);
    }
  }

  stop(): void {
    this.#abort.abort();
  }

  #isByBirth(): boolean {
    return (this.#query.sort ?? 'created') === 'created' && this.#query.order !== 'asc';
  }

  #hasHole(from: number, to: number): boolean {
    for (let i = from; i < to; i++) if (!this.rows[i]) return true;
    return false;
  }

  /** What is in sight, and the beginning, which the charts show; all else is looked for when it is scrolled to. */
  async #anew(): Promise<void> {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.#coming.clear();
    this.#elsewhere.clear();
    this.loading = true;
    try {
      const pages = new Set([0]);
      for (let page = Math.floor(this.#seen.first / PAGE); page * PAGE < Math.max(this.#seen.last, 1); page++) pages.add(page);
      const answers = await Promise.all([...pages].map(async (page) => ({ page, answer: await this.#fetch(page, signal) })));
      if (signal.aborted) return;
      const rows: Row[] = [];
      rows.length = answers[0]?.answer.total ?? 0;
      for (const { page, answer } of answers) answer.runs.forEach((r, i) => (rows[page * PAGE + i] = r));
      this.rows = rows;
      this.loaded = true;
      this.error = null;
    } catch (error) {
      this.#fail(error, signal);
    }
    if (this.#abort.signal === signal) this.loading = false;
  }

  #page(page: number): Promise<void> {
    const { signal } = this.#abort;
    const done = this.#fetch(page, signal)
      .then((answer) => {
        if (!signal.aborted) this.#put(page * PAGE, answer.runs, answer.total);
      })
      .catch((error: unknown) => this.#fail(error, signal))
      .finally(() => {
        if (this.#coming.get(page) === done) this.#coming.delete(page);
      });
    this.#coming.set(page, done);
    return done;
  }

  async #fetch(page: number, signal: AbortSignal) {
    const answer = await api.runs({ ...this.#query, ...(page > 0 ? { cursor: String(page * PAGE) } : {}), limit: PAGE }, signal);
    remember(answer.runs);
    return answer;
  }

  #put(at: number, runs: readonly RunSummary[], total: number): void {
    const rows = this.rows.slice();
    rows.length = total;
    // A list that grew meanwhile has moved: a run is never in it twice.
    const ids = new Set(runs.map((r) => r.id));
    let kept = 0;
    rows.forEach((row, i) => {
      if (row && ids.has(row.id)) rows[i] = undefined;
      else if (row) kept++;
    });
    runs.forEach((r, i) => (rows[at + i] = r));
    if (kept > MOST_KEPT) this.#forget(rows);
    this.rows = rows;
    this.error = null;
  }

  #forget(rows: Row[]): void {
    const middle = (this.#seen.first + this.#seen.last) / 2;
    rows.forEach((row, i) => {
      if (row && i >= PAGE && Math.abs(i - middle) > MOST_KEPT / 4) rows[i] = undefined;
    });
  }

  #fail(error: unknown, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.error = error instanceof Error ? error : new Error(String(error));
  }
}
