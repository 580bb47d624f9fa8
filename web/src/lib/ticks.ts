/** Where ticks stand and what they say, for each kind of axis. Pure: a range and a target count in, positions out. */

/** 1, 2, 5 × 10ⁿ: the smallest such step that gives at most `target` intervals. */
export function niceStep(span: number, target: number): number {
  const raw = span / Math.max(1, target);
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const factor of [1, 2, 5]) if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

function every(from: number, to: number, step: number): number[] {
  const out: number[] = [];
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  for (let k = first; k <= last && out.length < 1000; k++) out.push(k * step + 0);
  return out;
}

export function linearTicks(from: number, to: number, target: number): number[] {
  if (!(to > from)) return [from];
  return every(from, to, niceStep(to - from, target));
}

/** Steps are integers: never a tick between two of them. */
export function stepTicks(from: number, to: number, target: number): number[] {
  if (!(to > from)) return [Math.round(from)];
  return every(from, to, Math.max(1, niceStep(to - from, target)));
}

const SECOND = 1e6;
const DURATIONS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((s) => s * SECOND);

function durationStep(span: number, target: number): number {
  const raw = span / Math.max(1, target);
  if (raw < SECOND) return niceStep(span, target);
  for (const step of DURATIONS) if (step >= raw) return step;
  return 86400 * SECOND * Math.max(1, niceStep(span / (86400 * SECOND), target));
}

export function relativeTicks(from: number, to: number, target: number): number[] {
  if (!(to > from)) return [from];
  return every(from, to, durationStep(to - from, target));
}

/** Ticks on round local times: `offset` is the zone's offset in µs (local = UTC + offset). */
export function wallTicks(from: number, to: number, target: number, offset = 0): number[] {
  if (!(to > from)) return [from];
  return every(from + offset, to + offset, durationStep(to - from, target)).map((t) => t - offset);
}

/** Powers of ten, and 2 and 5 between them where there is room. */
export function logTicks(from: number, to: number, target: number): number[] {
  if (!(to > from) || from <= 0) return [];
  const decades = Math.log10(to / from);
  if (decades < 1) return linearTicks(from, to, target);
  const stride = Math.max(1, Math.ceil(decades / target));
  const factors = decades * 3 <= target * 1.5 ? [1, 2, 5] : [1];
  const out: number[] = [];
  for (let e = Math.floor(Math.log10(from)); e <= Math.ceil(Math.log10(to)); e++) {
    if (stride > 1 && e % stride !== 0) continue;
    for (const factor of factors) {
      const value = Number(`${factor}e${e}`);
      if (value >= from && value <= to) out.push(value);
    }
  }
  return out;
}

/** Labels of value ticks: enough digits that neighbours differ, none beyond. */
export function labelTicks(ticks: readonly number[]): string[] {
  const step = ticks.length > 1 ? Math.abs((ticks[1] as number) - (ticks[0] as number)) : Math.abs(ticks[0] ?? 1);
  const largest = Math.max(...ticks.map(Math.abs), 0);
  if (largest === 0) return ticks.map(() => '0');
  if (largest >= 1e5 || largest < 1e-3) {
    const digits = Math.min(6, Math.max(0, Math.floor(Math.log10(largest)) - Math.floor(Math.log10(step))));
    return ticks.map((t) => (t === 0 ? '0' : shortExponent(t, digits)));
  }
  let decimals = Math.min(9, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  while (decimals < 9 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return ticks.map((t) => t.toFixed(decimals).replace('-', '−'));
}

function shortExponent(value: number, digits: number): string {
  const [mantissa = '', exponent = ''] = value.toExponential(digits).split('e');
  const short = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
  return `${short}e${exponent.replace('+', '')}`.replace(/^-/, '−');
}

/** Step ticks: `12k`, `1.5M`, whole numbers below ten thousand. */
export function labelSteps(ticks: readonly number[]): string[] {
  return ticks.map((t) => {
    const magnitude = Math.abs(t);
    const text = magnitude >= 1e6 ? `${Number((magnitude / 1e6).toPrecision(6))}M` : magnitude >= 1e4 ? `${Number((magnitude / 1e3).toPrecision(6))}k` : String(magnitude);
    return t < 0 ? `−${text}` : text;
  });
}

export function labelDurations(ticks: readonly number[]): string[] {
  const step = ticks.length > 1 ? Math.abs((ticks[1] as number) - (ticks[0] as number)) : SECOND;
  return ticks.map((t) => {
    if (t === 0) return '0';
    const sign = t < 0 ? '−' : '';
    const s = Math.abs(t) / SECOND;
    if (step < SECOND) return `${sign}${Number(s.toPrecision(6))}s`;
    const days = Math.floor(s / 86400);
    const hours = Math.floor(s / 3600) % 24;
    const minutes = Math.floor(s / 60) % 60;
    const seconds = Math.round(s % 60);
    const parts: string[] = [];
    if (days > 0) parts.push(`${days}d`);
    if (hours > 0) parts.push(`${hours}h`);
    if (minutes > 0 && days === 0) parts.push(`${minutes}m`);
    if (seconds > 0 && days === 0 && hours === 0) parts.push(`${seconds}s`);
    return sign + parts.slice(0, 2).join('');
  });
}

export function labelWall(ticks: readonly number[]): string[] {
  const step = ticks.length > 1 ? (ticks[1] as number) - (ticks[0] as number) : 60 * SECOND;
  const two = (n: number) => String(n).padStart(2, '0');
  let lastDay = '';
  return ticks.map((t) => {
    const d = new Date(t / 1000);
    const day = `${two(d.getMonth() + 1)}-${two(d.getDate())}`;
    const fraction = step < SECOND ? `.${String(d.getMilliseconds()).padStart(3, '0')}` : '';
    const clock = step < 60 * SECOND ? `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${fraction}` : `${two(d.getHours())}:${two(d.getMinutes())}`;
    const text = step >= 86400 * SECOND ? day : day !== lastDay ? `${day} ${clock}` : clock;
    lastDay = day;
    return text;
  });
}

/** Labels centred on `at` (pixels from the plot's left edge) that would be cut off at `right` are left out: half a time is another time. */
export function fitting(labels: readonly string[], at: readonly number[], right: number): string[] {
  return labels.map((label, i) => ((at[i] as number) + label.length * HALF_CHAR > right ? '' : label));
}

/** Half the width of a digit at 11 px. */
const HALF_CHAR = 3.2;
