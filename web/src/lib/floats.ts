/** Floats of the wire: what is not finite comes as text, and is data. */
import type { JsonFloat } from '../api/types';

export function toNumber(value: JsonFloat): number {
  if (typeof value === 'number') return value;
  if (value === 'Infinity') return Infinity;
  if (value === '-Infinity') return -Infinity;
  return NaN;
}

export function toArray(values: readonly JsonFloat[]): Float64Array {
  const out = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = toNumber(values[i] as JsonFloat);
  return out;
}
