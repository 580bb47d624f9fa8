/**
 * Debiased exponential moving average over buckets.
 *
 * A bucket stands for `count` points, so it decays the memory `count` times: the smoothed curve looks the same zoomed out (one bucket of a
 * hundred points) and zoomed in (a hundred buckets of one). Debiasing divides by the weight seen so far, or the curve would start at zero.
 * What is not finite is skipped and leaves the memory as it was.
 */
export function smooth(values: Float64Array, counts: ArrayLike<number>, alpha: number): Float64Array {
  if (alpha <= 0) return values;
  const out = new Float64Array(values.length);
  let memory = 0;
  let weight = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) {
      out[i] = NaN;
      continue;
    }
    const decay = alpha ** Math.max(1, counts[i] ?? 1);
    memory = decay * memory + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    out[i] = memory / weight;
  }
  return out;
}
