/**
 * Debiased exponential moving average over buckets.
 *
 * A bucket stands for as many points as are finite in it, so it decays the memory that often: the smoothed curve looks the same zoomed out
 * (one bucket of a hundred points) and zoomed in (a hundred buckets of one). Debiasing divides by the weight seen so far, or the curve would
 * start at zero. What is not finite is skipped and leaves the memory as it was.
 *
 * The memory runs over everything it is given: over the joint of a fork or a resume, and from the overview into a zoomed range. Where the
 * beginning of a curve is not drawn, it is smoothed all the same.
 */
import type { Curve } from './curve';

export function smooth({ mean, count, nonfinite }: Pick<Curve, 'mean' | 'count' | 'nonfinite'>, alpha: number): Float64Array {
  const out = new Float64Array(mean.length);
  let memory = 0;
  let weight = 0;
  for (let i = 0; i < mean.length; i++) {
    const finite = (count[i] as number) - (nonfinite[i] as number);
    if (finite <= 0) {
      out[i] = NaN;
      continue;
    }
    const decay = alpha ** finite;
    memory = decay * memory + (1 - decay) * (mean[i] as number);
    weight = decay * weight + (1 - decay);
    out[i] = memory / weight;
  }
  return out;
}
