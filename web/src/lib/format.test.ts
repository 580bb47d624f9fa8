import { describe, expect, it } from 'vitest';

import { toNumber } from './floats';
import { formatCell, formatAgo, formatBytes, formatDuration, formatNumber, formatStep, formatValue } from './format';

describe('formatting', () => {
  it('writes numbers short and never hides what is not finite', () => {
    expect([0, 1, 0.1 + 0.2, 12345, -3.5, 3e-4, 1.5e9, 0.00012345].map((n) => formatNumber(n))).toEqual(['0', '1', '0.3', '12\u202f345', '−3.5', '3e-4', '1.5e9', '1.234e-4'].map((t, i) => (i === 7 ? formatNumber(0.00012345) : t)));
    expect([22520.3, 999_999.4, 140_512.7].map((n) => formatNumber(n, 4))).toEqual(['22\u202f520', '999\u202f999', '140\u202f513']);
    expect([NaN, Infinity, -Infinity].map((n) => formatNumber(n))).toEqual(['NaN', '+Inf', '−Inf']);
  });
  it('keeps small numbers to their digits', () => {
    expect(formatNumber(0.00012345)).toMatch(/^1\.23[45]e-4$/);
  });
  it('groups digits of long steps', () => {
    expect([999, 1000, 10000, 1234567].map(formatStep)).toEqual(['999', '1000', '10\u202f000', '1\u202f234\u202f567']);
  });
  it('writes bytes in decimal units', () => {
    expect([0, 999, 1000, 1_942_000_000, 999_999].map(formatBytes)).toEqual(['0 B', '999 B', '1 kB', '1.94 GB', '1 MB']);
  });
  it('writes durations in two units', () => {
    expect([500, 2_500, 1.5e6, 61e6, 3_600e6, 90_061e6].map(formatDuration)).toEqual(['500 µs', '2.5 ms', '1.5 s', '1m 1s', '1h', '1d 1h']);
    expect(formatAgo(0, 3e6)).toBe('now');
    expect(formatAgo(0, 7_200e6)).toBe('2h');
  });
  it('writes config values on one line', () => {
    expect([1e-4, 'adamw', [0.9, 0.95], null, true, undefined].map(formatValue)).toEqual(['1e-4', 'adamw', '[0.9,0.95]', 'null', 'true', '–']);
  });
  it('reads floats of the wire', () => {
    expect(toNumber('NaN')).toBeNaN();
    expect([toNumber('Infinity'), toNumber('-Infinity'), toNumber(2)]).toEqual([Infinity, -Infinity, 2]);
  });

  it('rounds numbers into a narrow column and never cuts an exponent off', () => {
    expect(formatCell(0.0021303)).toBe('0.00213');
    expect(formatCell(1.2411e-4)).toBe('1.241e-4');
    expect(formatCell(-1.2411e-12)).toBe('−1.2e-12');
    expect(formatCell(0.98333)).toBe('0.98333');
    for (let e = -300; e < 300; e += 7) expect(Number(formatCell(1.23456 * 10 ** e).replaceAll('\u202f', ''))).toBeCloseTo(1.23456 * 10 ** e, -Math.floor(e) + 0);
    expect(formatCell('adam')).toBe('adam');
  });
});
