import { describe, expect, it } from 'vitest';

import { fitting, labelDurations, labelSteps, labelTicks, linearTicks, logTicks, niceStep, relativeTicks, stepTicks, wallTicks } from './ticks';

const S = 1e6;

describe('ticks', () => {
  it('takes 1, 2 or 5 times a power of ten and never more intervals than asked for', () => {
    for (const span of [0.0003, 0.7, 1, 3.3, 99, 12345, 8e9]) {
      for (const target of [2, 3, 5, 8]) {
        const step = niceStep(span, target);
        expect(span / step).toBeLessThanOrEqual(target * (1 + 1e-6));
        expect([1, 2, 5, 10]).toContain(Number((step / 10 ** Math.floor(Math.log10(step) + 1e-9)).toPrecision(3)));
      }
    }
  });

  it('stays within the range', () => {
    const ticks = linearTicks(-0.31, 0.77, 5);
    expect(Math.min(...ticks)).toBeGreaterThanOrEqual(-0.31);
    expect(Math.max(...ticks)).toBeLessThanOrEqual(0.77);
    expect(ticks.length).toBeGreaterThanOrEqual(2);
  });

  it('never puts a tick between two steps', () => {
    expect(stepTicks(3, 5, 10)).toEqual([3, 4, 5]);
    expect(stepTicks(7, 7, 5)).toEqual([7]);
  });

  it('uses units of time for durations', () => {
    expect(relativeTicks(0, 3600 * S, 6).map((t) => t / S)).toEqual([0, 600, 1200, 1800, 2400, 3000, 3600]);
    expect(labelDurations([0, 90 * 60 * S, 26 * 3600 * S])).toEqual(['0', '1h30m', '1d2h']);
    expect(labelDurations([0, 0.25 * S])).toEqual(['0', '0.25s']);
  });

  it('stands on round local times', () => {
    const offset = 5.5 * 3600 * S;
    for (const t of wallTicks(1_795_300_000 * S, 1_795_350_000 * S, 5, offset)) expect((t + offset) % (3600 * S)).toBe(0);
  });

  it('puts powers of ten on a logarithmic axis', () => {
    expect(logTicks(0.01, 100, 5)).toEqual([0.01, 0.1, 1, 10, 100]);
    expect(logTicks(-1, 10, 5)).toEqual([]);
    expect(logTicks(1, 1e12, 4).length).toBeLessThanOrEqual(5);
  });

  it('labels with as many digits as tell neighbours apart', () => {
    expect(labelTicks([0, 0.25, 0.5])).toEqual(['0.00', '0.25', '0.50']);
    expect(labelTicks([0, 2e-4, 4e-4])).toEqual(['0', '2e-4', '4e-4']);
    expect(new Set(labelTicks([1_000_000, 1_000_500, 1_001_000])).size).toBe(3);
    expect(labelSteps([500, 12_000, 1_500_000])).toEqual(['500', '12k', '1.5M']);
  });

  it('leaves out a label that would be cut off at the edge', () => {
    expect(fitting(['0', '10:34:05.100', '10:34:05.200'], [0, 300, 590], 620)).toEqual(['0', '10:34:05.100', '']);
  });
});
