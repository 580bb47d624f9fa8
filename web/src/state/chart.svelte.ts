/** What a chart asks for and what it got: the whole range, and over it, while zoomed, the range in view with buckets of its own. */
import { untrack } from 'svelte';

import { api } from '../api/client';
import type { SeriesRequest, SeriesResponse, XAxis } from '../api/types';
import { type Curve, splice, toCurve } from '../lib/series';
import { Loader } from './loader.svelte';

export type Question = Omit<SeriesRequest, 'from' | 'to'>;

export interface Range {
  from: number;
  to: number;
}

interface Answer {
  response: SeriesResponse;
  axis: XAxis;
  range: Range | null;
}

/** Use while a component is set up: it lives as long as that. */
export class ChartData {
  readonly #whole = new Loader<Answer>();
  readonly #part = new Loader<Answer>();
  #round = $state(0);

  /** The whole range where nothing more exact is there yet, so that a zoom redraws at once and sharpens later. */
  readonly curves: Curve[];
  readonly loading = $derived(this.#whole.loading || this.#part.loading);
  /** Whether there was an answer at all. */
  readonly answered = $derived(this.#whole.value !== null);
  /** What kept the newest question from being answered; what is drawn then is older, or coarser. */
  readonly error = $derived(this.#whole.error ?? this.#part.error);

  /** `question` is null while nothing is to be drawn, `zoom` while all of it is. */
  constructor(question: () => Question | null, zoom: () => Range | null) {
    // What decides a request, as text: lists and zooms are made anew with every live update and every change of the address, and asking
    // again for the same would be waste.
    const asked = $derived.by(() => {
      const q = question();
      return q === null ? null : JSON.stringify(q);
    });
    const range = $derived.by(() => {
      const z = zoom();
      return z === null ? null : `${z.from}:${z.to}`;
    });
    $effect(() => {
      this.#load(this.#whole, asked, null, this.#round);
    });
    $effect(() => {
      if (range !== null) this.#load(this.#part, asked, range, this.#round);
      else {
        this.#loaded.delete(this.#part);
        untrack(() => this.#part.reset());
      }
    });
    $effect(() => () => {
      this.#whole.stop();
      this.#part.stop();
    });
    this.curves = $derived.by(() => {
      const axis = question()?.x;
      const whole = this.#whole.value;
      if (!whole || (axis !== undefined && whole.axis !== axis)) return [];
      const curves = whole.response.series.map(toCurve);
      const part = this.#part.value;
      if (!part?.range || part.axis !== whole.axis || range !== `${part.range.from}:${part.range.to}`) return curves;
      const { from, to } = part.range;
      return curves.map((c) => {
        const z = part.response.series.find((s) => s.run === c.run && (s.attempt ?? null) === c.attempt);
        return z ? splice(c, toCurve(z), from, to) : c;
      });
    });
  }

  /** Asks again: something is new, or the last time failed. */
  refresh(): void {
    this.#round++;
  }

  readonly #loaded = new Map<Loader<Answer>, string>();
  #load(loader: Loader<Answer>, asked: string | null, range: string | null, round: number): void {
    if (asked === null) return;
    // A chart that was scrolled away and back has its answer already.
    const key = `${round} ${range ?? ''} ${asked}`;
    if (this.#loaded.get(loader) === key) return;
    this.#loaded.set(loader, key);
    const question = JSON.parse(asked) as Question;
    const [from = 0, to = 0] = range?.split(':').map(Number) ?? [];
    const between = range === null ? null : { from, to };
    void untrack(() =>
      loader.load(async (signal) => ({
        response: await api.series({ ...question, from: between?.from ?? null, to: between?.to ?? null }, signal), axis: question.x, range: between,
      })),
    );
  }
}
