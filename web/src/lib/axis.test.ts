import { describe, expect, it } from 'vitest';

import { byMetric, formatSpan, formatX, parseAxis, parseRange, printAxis, rangeOf, STEP } from './axis';

describe('the x axis', () => {
  it('is read from an address as it was written, and nonsense is steps', () => {
    for (const text of [null, 'relative', 'wall', 'value:train/loss', 'continued:tokens', 'sum:a:b']) expect(printAxis(parseAxis(text))).toBe(text);
    for (const text of ['', 'step', 'sum:', 'm:x', 'nonsense']) expect(parseAxis(text)).toEqual(STEP);
  });

  it('takes a counter as one that goes on over forks', () => {
    expect(byMetric('train/tokens_seen').mode).toBe('continued');
    expect(byMetric('loss').mode).toBe('value');
  });

  it('says where a point or a bucket stands', () => {
    expect(formatX(1203.2, 'step')).toBe('step 1203');
    expect(formatX(2.5e6, 'relative')).toBe('2.5 s');
    expect(formatX(1.5e9, 'metric')).toBe('1.5e9');
    expect(formatSpan(7, 7, 'step')).toBe('step 7');
    expect(formatSpan(7, 9, 'step')).toBe('steps 7 to 9');
    expect(formatSpan(0.5, 2, 'metric')).toBe('0.5 to 2');
  });

  it('has ranges of whole units, but of any number by a metric', () => {
    expect(rangeOf(10.2, 19.6, 'step')).toEqual({ from: 10, to: 20 });
    expect(rangeOf(0.123456789, 0.2, 'metric')).toEqual({ from: 0.1234568, to: 0.2 });
    expect(rangeOf(1, 1, 'metric')).toBeNull();
    expect(parseRange('-5:10')).toEqual({ from: -5, to: 10 });
    expect(parseRange('0.1:1e9')).toEqual({ from: 0.1, to: 1e9 });
    for (const bad of [null, '', '5', '5:', ':', '9:1', 'a:b', '1:2:3', 'NaN:1', '0:Infinity']) expect(parseRange(bad)).toBeNull();
  });
});
