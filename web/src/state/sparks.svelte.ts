/** Sparklines of the rows in sight: as many buckets as they have pixels, one request for all that are new, tails of those that go on. */
import type { RunSummary } from '../api/types';
import { sparkPath } from '../lib/spark';
import { Curves } from './curves.svelte';

export const SPARK = { width: 58, height: 18 };
const FRAME = { x: 'step', x_metric: null, from: null, to: null, pixels: SPARK.width, inherited: true } as const;
/** Rows that fly by are not asked for; live ones no oftener than somebody would see it. */
const CALM_MS = 150;
const FRESH_MS = 3000;

export class Sparks {
  readonly #curves = new Curves();
  #stamps = new Map<string, { step: number; at: number }>();
  #timer = 0;

  look(rows: readonly RunSummary[], metric: string | null): void {
    clearTimeout(this.#timer);
    if (metric !== null) this.#timer = window.setTimeout(() => this.#ask(rows.filter((r) => metric in r.metrics), metric), CALM_MS);
  }

  /** Paths by RunId. */
  get paths(): Map<string, string> {
    return new Map(this.#curves.list.map((c) => [c.run, sparkPath(c, SPARK.width, SPARK.height)]));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#curves.stop();
  }

  #ask(rows: readonly RunSummary[], metric: string): void {
    const now = Date.now();
    this.#curves.want(FRAME, rows.map((r) => ({ run: r.id, metric, attempt: null })));
    const grown = new Set<string>();
    for (const r of rows) {
      const key = `${r.id} ${metric}`;
      const step = r.metrics[metric]?.step ?? 0;
      const before = this.#stamps.get(key);
      if (before && (before.step === step || now - before.at < FRESH_MS)) continue;
      this.#stamps.set(key, { step, at: now });
      if (before) grown.add(r.id);
    }
    if (grown.size > 0) this.#curves.update(grown);
  }
}
