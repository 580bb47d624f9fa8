/** What a chart draws: curves over the whole range, and over them, while zoomed, those of the range in view with buckets of its own. */
import { untrack } from 'svelte';

import type { SeriesRequest, SeriesSelector } from '../api/types';
import { type Curve, splice } from '../lib/curve';
import { Curves } from './curves.svelte';
import type { Frame } from './feed.svelte';

export type Question = Omit<SeriesRequest, 'from' | 'to'>;

export interface Range {
  from: number;
  to: number;
}

/** Use while a component is set up: it lives as long as that. */
export class ChartData {
  readonly #whole = new Curves();
  readonly #part = new Curves();
  /** What is inherited and hidden: a moving average runs over it. */
  readonly #warm = new Curves();
  readonly #all = [this.#whole, this.#part, this.#warm];
  #stale: Set<string> | null = new Set();
  readonly #asked: () => Question | null;
  readonly #zoom: () => Range | null;

  /** The whole range where nothing more exact is there yet, so that a zoom redraws at once and sharpens later. */
  readonly curves: Curve[];
  readonly loading = $derived(this.#all.some((c) => c.loading));
  /** Whether there was an answer at all. */
  answered = $state(false);
  /** What kept the newest question from being answered; what is drawn then is older, or coarser. */
  readonly error = $derived(this.#whole.error ?? this.#part.error);

  /** `question` is null while nothing is to be drawn, `zoom` while all of it is; `warm`: hidden ancestors are wanted all the same. */
  constructor(question: () => Question | null, zoom: () => Range | null, warm: () => boolean) {
    // As text: lists and zooms are made anew with every live update and every change of the address, and asking again for the same would
    // be waste.
    const asked = $derived.by(() => {
      const q = question();
      return q === null ? null : JSON.stringify(q);
    });
    const range = $derived.by(() => {
      const z = zoom();
      return z === null ? null : `${z.from}:${z.to}`;
    });
    const heated = $derived(warm());
    this.#asked = () => (asked === null ? null : (JSON.parse(asked) as Question));
    this.#zoom = () => {
      const [from, to] = range?.split(':').map(Number) ?? [];
      return from === undefined || to === undefined ? null : { from, to };
    };
    $effect(() => {
      const q = this.#asked();
      const z = this.#zoom();
      const inherit = heated;
      untrack(() => this.#want(q, z, inherit));
    });
    $effect(() => () => {
      for (const curves of this.#all) curves.stop();
    });
    $effect(() => {
      if (this.#whole.version > 0 && this.#whole.answered) this.answered = true;
    });
    this.curves = $derived.by(() => {
      const z = this.#zoom();
      return this.#whole.list.map((whole) => {
        const warmed = heated && whole.attempt === null ? this.#warm.exact(whole.run, whole.metric, null) : null;
        const curve = warmed && whole.x.length > 0 ? splice(warmed, whole, whole.xFirst[0] as number, Infinity) : whole;
        const part = z && this.#part.exact(whole.run, whole.metric, whole.attempt);
        return part ? splice(curve, part, z.from, z.to) : curve;
      });
    });
  }

  #want(question: Question | null, zoom: Range | null, warm: boolean): void {
    if (question === null) {
      for (const curves of this.#all) curves.stop();
      return;
    }
    const { series, ...frame } = question;
    this.#whole.want({ ...frame, from: null, to: null }, series);
    if (zoom === null) this.#part.reset();
    else this.#part.want(frame.x_metric ? { ...frame, x_metric: { ...frame.x_metric, ...zoom }, from: null, to: null } : { ...frame, ...zoom }, series);
    if (warm) this.#warm.want({ ...frame, inherited: true, from: null, to: null } satisfies Frame, series.filter((s) => (s.attempt ?? null) === null));
    else this.#warm.reset();
    if (this.#stale === null || this.#stale.size > 0) {
      const changed = this.#stale;
      this.#stale = new Set();
      this.update(changed);
    }
  }

  /** News of some runs; null: of nobody knows whom. What is out of sight hears of it when it is seen again. */
  update(changed: ReadonlySet<string> | null): void {
    if (untrack(this.#asked) === null) {
      if (changed === null) this.#stale = null;
      else for (const run of changed) this.#stale?.add(run);
      return;
    }
    const zoom = untrack(this.#zoom);
    this.#part.update(changed, (s) => changed !== null && zoom !== null && this.#endOf(s) > zoom.to);
    this.#whole.update(changed);
  }

  /** Nothing new stands left of it. */
  #endOf(s: SeriesSelector): number {
    const curve = this.#whole.exact(s.run, s.metric, s.attempt ?? null);
    return curve && curve.xLast.length > 0 ? (curve.xLast[curve.xLast.length - 1] as number) : -Infinity;
  }

  /** Asks again: the last time failed. */
  refresh(): void {
    for (const curves of this.#all) curves.retry();
  }
}
