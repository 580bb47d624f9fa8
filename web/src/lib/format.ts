/** Numbers, sizes and times as people read them. A formatted value never hides that it is not finite. */

/** Up to `digits` significant digits, no trailing zeros, exponents only where they are shorter. */
export function formatNumber(value: number, digits = 5): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '−Inf';
  if (value === 0) return '0';
  const magnitude = Math.abs(value);
  if (Number.isInteger(value) && magnitude < 1e9) return minus(groupDigits(String(value)));
  if (magnitude >= 1e6 || magnitude < 1e-3) {
    const [mantissa = '', exponent = ''] = value.toExponential(Math.max(0, digits - 2)).split('e');
    return minus(`${trimZeros(mantissa)}e${exponent.replace('+', '')}`);
  }
  // Below a million it is written out, with all digits before the point: 22520, not 2.252e+4.
  if (magnitude >= 10 ** (digits - 1)) return minus(groupDigits(String(Math.round(value))));
  return minus(trimZeros(value.toPrecision(digits)));
}

function trimZeros(text: string): string {
  return text.includes('.') && !text.includes('e') ? text.replace(/\.?0+$/, '') : text;
}

function minus(text: string): string {
  return text.replace(/^-/, '−');
}

/** Thousands apart by a thin space, from five digits on. */
function groupDigits(text: string): string {
  return /^-?\d{5,}$/.test(text) ? text.replace(/\B(?=(\d{3})+$)/g, '\u202f') : text;
}

export function formatStep(step: number): string {
  return minus(groupDigits(String(step)));
}

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit++;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value >= 99.5 ? Math.round(value) : Number(value.toPrecision(3))} ${units[unit]}`;
}

/** A duration in µs, in its two largest units. */
export function formatDuration(micros: number): string {
  const sign = micros < 0 ? '−' : '';
  const us = Math.abs(micros);
  if (us < 1e6) return `${sign}${us < 1000 ? `${Math.round(us)} µs` : `${Number((us / 1000).toPrecision(3))} ms`}`;
  const seconds = us / 1e6;
  if (seconds < 10) return `${sign}${Number(seconds.toFixed(1))} s`;
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [Math.floor(seconds) % 60, 's'],
  ];
  const start = parts.findIndex(([n]) => n > 0);
  const text = parts.slice(start, start + 2).filter(([n]) => n > 0).map(([n, u]) => `${n}${u}`).join(' ');
  return sign + text;
}

export function formatAgo(micros: number, nowMicros: number): string {
  const age = nowMicros - micros;
  if (age < 5e6) return 'now';
  const [first = ''] = formatDuration(age).split(' ');
  return first;
}

const pad = (n: number, width = 2) => String(n).padStart(width, '0');

/** `2026-11-22 08:55:23` in the reader's own time zone. */
export function formatTime(micros: number): string {
  const d = new Date(micros / 1000);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

/** A config value on one line. */
export function formatValue(value: unknown): string {
  if (value === undefined) return '–';
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return formatNumber(value, 6).replace('−', '-').replaceAll('\u202f', '');
  return JSON.stringify(value);
}

/** A value in a column of {@link CELL_CHARS} digits: a number is rounded until it fits, never cut, for what is cut off may be its exponent. */
export function formatCell(value: unknown): string {
  if (typeof value !== 'number') return formatValue(value);
  for (let digits = 5; digits > 2; digits--) {
    const text = formatNumber(value, digits);
    if (text.length <= CELL_CHARS) return text;
  }
  return formatNumber(value, 2);
}

const CELL_CHARS = 8;
