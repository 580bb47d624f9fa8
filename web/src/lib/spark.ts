/** A sparkline: the shape of a curve in a few pixels. */
import type { Curve } from './curve';

/** As an SVG path; empty where nothing is finite. The pen lifts where a value is not. */
export function sparkPath({ x, mean }: Pick<Curve, 'x' | 'mean'>, width: number, height: number): string {
  let [low, high] = [Infinity, -Infinity];
  for (const v of mean) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (!(low <= high)) return '';
  const x0 = x[0] as number;
  const kx = width / ((x[x.length - 1] as number) - x0 || 1);
  const ky = (height - 2) / (high - low || 1);
  let pen = 'M';
  let path = '';
  for (let i = 0; i < mean.length; i++) {
    const v = mean[i] as number;
    if (!Number.isFinite(v)) {
      pen = 'M';
      continue;
    }
    path += `${pen}${(((x[i] as number) - x0) * kx).toFixed(1)} ${(1 + (high - v) * ky).toFixed(1)}`;
    pen = 'L';
  }
  return path;
}
