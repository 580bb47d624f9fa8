/**
 * The curves of one chart over one range. Only what is missing is asked for: a run that is shown as well, the tail of one that goes on.
 * What is there stays until something better is.
 */
import type { SeriesSelector } from '../api/types';
import { type Curve, tailFrom, toCurve, withTail } from '../lib/curve';
import { askSeries, type Frame } from './feed.svelte';

interface Held {
  curve: Curve;
  /** How many pixels the last tail was wide. */
  grew: number;
  /** The frame it was asked with. */
  frame: string;
  axis: string;
}

/**
 * A tail is a few pixels wide, and no more buckets are asked for: some times what it was the last time, for it need not come as evenly again.
 * One that was longer than foreseen is asked for whole.
 */
const TAIL_PIXELS = { first: 16, least: 8, most: 256, margin: 3 };

/** How often a live curve that has no tail is asked for. */
const SELDOM_MS = 4000;

const keyOf = (s: SeriesSelector) => `${s.run}\n${s.metric}\n${s.attempt ?? ''}`;
/** Curves on one axis are drawn together; one of another axis is not drawn until it is asked for anew. */
export const axisOf = (frame: Frame) => `${frame.x} ${frame.x_metric?.mode ?? ''} ${frame.x_metric?.metric ?? ''}`;

/** How many pixels a tail takes of its curve. */
function widthOf(tail: Curve, curve: Curve, pixels: number): number {
  const span = (c: Curve) => (c.xLast[c.xLast.length - 1] ?? 0) - (c.xFirst[0] ?? 0);
  const all = span(curve);
  return all > 0 ? Math.max(1, (span(tail) / all) * pixels) : 0;
}

export class Curves {
  /** Grows with everything that arrives. */
  version = $state(0);
  loading = $state(false);
  error = $state.raw<Error | null>(null);
  #held = new Map<string, Held>();
  #frame: Frame | null = null;
  #text = '';
  #wanted: SeriesSelector[] = [];
  /** What was asked for and is not here, by the round it was asked in. */
  #coming = new Map<string, AbortController>();
  /** What changed while it was on its way. */
  #again = new Set<string>();

  /** What is wanted from now on. */
  want(frame: Frame, series: readonly SeriesSelector[]): void {
    const text = JSON.stringify(frame);
    if (text !== this.#text) {
      for (const abort of new Set(this.#coming.values())) abort.abort();
      this.#coming.clear();
      this.#text = text;
      this.#frame = frame;
    }
    this.#wanted = [...series];
    this.version++;
    const keys = new Set(series.map(keyOf));
    for (const [key, abort] of this.#coming) if (!keys.has(key)) abort.abort();
    this.#ask(series.filter((s) => this.#held.get(keyOf(s))?.frame !== text && !this.#coming.has(keyOf(s))));
  }

  /** Whether everything wanted is here, as it is wanted. */
  get answered(): boolean {
    void this.version;
    return this.#wanted.every((s) => this.#held.get(keyOf(s))?.frame === this.#text);
  }

  /** The wanted curves that can be drawn, in order; of another range or resolution where the better ones are still coming. */
  get list(): Curve[] {
    void this.version;
    const axis = this.#frame === null ? '' : axisOf(this.#frame);
    return this.#wanted.flatMap((s) => {
      const held = this.#held.get(keyOf(s));
      return held?.axis === axis ? [held.curve] : [];
    });
  }

  /** Those alone that were asked with the frame of now. */
  exact(run: string, metric: string, attempt: number | null): Curve | null {
    void this.version;
    const held = this.#held.get(keyOf({ run, metric, attempt }));
    return held?.frame === this.#text ? held.curve : null;
  }

  /** News of some runs, or of nobody knows whom (null): tails are asked for, or everything. */
  update(changed: ReadonlySet<string> | null, skip: (series: SeriesSelector) => boolean = () => false): void {
    if (this.#frame === null) return;
    const concerned = this.#wanted.filter((s) => (changed === null || changed.has(s.run)) && !skip(s));
    const whole: SeriesSelector[] = [];
    const tails: SeriesSelector[] = [];
    for (const s of concerned) {
      const key = keyOf(s);
      const held = this.#held.get(key);
      if (this.#coming.has(key)) this.#again.add(key);
      else if (changed === null || held?.frame !== this.#text) whole.push(s);
      // New points may have any place on the axis of a metric: there is no tail.
      else if (this.#frame.x_metric) this.#later(s);
      else tails.push({ ...s, from: tailFrom(held.curve) });
    }
    this.#ask(whole);
    this.#askTails(tails);
  }

  #timer = 0;
  #due = new Set<string>();
  /** Whole, but seldom. */
  #later(s: SeriesSelector): void {
    this.#due.add(keyOf(s));
    if (this.#timer !== 0) return;
    this.#timer = window.setTimeout(() => {
      this.#timer = 0;
      const due = this.#wanted.filter((w) => this.#due.delete(keyOf(w)) && !this.#coming.has(keyOf(w)));
      this.#due.clear();
      this.#ask(due);
    }, SELDOM_MS);
  }

  /** Forgets what failed and asks again. */
  retry(): void {
    this.error = null;
    this.update(null);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const abort of new Set(this.#coming.values())) abort.abort();
    this.#coming.clear();
  }

  reset(): void {
    this.stop();
    this.#held.clear();
    this.#text = '';
    this.#frame = null;
    this.#wanted = [];
    this.error = null;
    this.loading = false;
    this.version++;
  }

  #ask(series: SeriesSelector[]): void {
    this.#send(series, this.#frame?.pixels ?? 1, 'whole', (s, curve) => this.#keep(s, curve));
  }

  #askTails(series: SeriesSelector[]): void {
    const pixels = this.#frame?.pixels ?? 1;
    const grew = Math.max(0, ...series.map((s) => this.#held.get(keyOf(s))?.grew ?? 0));
    const { first, least, most, margin } = TAIL_PIXELS;
    const wanted = grew === 0 ? first : Math.min(most, Math.max(least, Math.ceil(grew * margin)));
    this.#send(series, Math.min(pixels, wanted), 'tail', (s, tail) => {
      const held = this.#held.get(keyOf(s));
      const grown = held && withTail(held.curve, tail, pixels);
      return grown ? this.#keep(s, grown, widthOf(tail, grown, pixels)) : false;
    });
  }

  #keep(s: SeriesSelector, curve: Curve, grew = 0): boolean {
    if (this.#frame) this.#held.set(keyOf(s), { curve, grew, frame: this.#text, axis: axisOf(this.#frame) });
    return true;
  }

  /** `take` says whether an answer fits; what does not is asked for whole. */
  #send(series: SeriesSelector[], pixels: number, what: 'whole' | 'tail', take: (s: SeriesSelector, curve: Curve) => boolean): void {
    if (series.length === 0 || this.#frame === null) return;
    const frame = this.#frame;
    const text = this.#text;
    const abort = new AbortController();
    for (const s of series) this.#coming.set(keyOf(s), abort);
    this.loading = true;
    const done = () => {
      for (const s of series) if (this.#coming.get(keyOf(s)) === abort) this.#coming.delete(keyOf(s));
      this.loading = this.#coming.size > 0;
    };
    askSeries({ ...frame, pixels }, series, abort.signal, what)
      .then((answers) => {
        done();
        if (abort.signal.aborted || text !== this.#text) return;
        const misfits = series.filter((s, i) => answers[i] && !take(s, toCurve(answers[i])));
        this.error = null;
        this.version++;
        const again = series.filter((s) => this.#again.delete(keyOf(s)));
        this.#ask(misfits.map((s) => ({ run: s.run, metric: s.metric, attempt: s.attempt ?? null })));
        if (again.length > 0) this.update(new Set(again.map((s) => s.run)));
      })
      .catch((error: unknown) => {
        done();
        if (abort.signal.aborted) return;
        this.error = error instanceof Error ? error : new Error(String(error));
      });
  }
}
