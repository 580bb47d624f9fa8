import { describe, expect, it } from 'vitest';
import { complete, isCondition, placeOf, quote } from './filters';

const known = { tags: ['base line', 'x'], runs: ['MMP-3'], metrics: ['val/loss', 'val acc'], config: ['lr', 'optim.name'] };

describe('completion of filters', () => {
  it('offers beginnings for nothing, and what begins so for a word', () => {
    expect(complete('', known)).toContain('status:');
    expect(complete('status:f', known)).toEqual(['status:failed']);
    expect(complete('tag:', known)).toEqual(['tag:"base line"', 'tag:x']);
    expect(complete('config.o', known)).toEqual(['config.optim.name']);
    expect(complete('VAL', known)).toEqual(['val/loss', '"val acc"']);
    expect(complete('acc', known)).toEqual(['"val acc"']);
    expect(complete('name', known)).toEqual(['config.optim.name']);
    expect(complete('min(', known)).toEqual(['min(val/loss)', 'min("val acc")']);
    expect(complete('desc', known)).toEqual(['descendants(', 'descendants(MMP-3)']);
    expect(complete('nothing', known)).toEqual([]);
  });

  it('quotes what the language would take apart', () => {
    expect(quote('val/loss')).toBe('val/loss');
    expect(quote('a "b" \\')).toBe('"a \\"b\\" \\\\"');
    expect(quote('a=b')).toBe('"a=b"');
  });

  it('finds the place the server means', () => {
    expect(placeOf('a value was expected at character 8 of the filter', 'status = )')).toBe(7);
    expect(placeOf('a value after : was expected at the end of the filter', 'status:')).toBe(7);
    expect(placeOf('a value was expected at character 800 of the filter', 'x')).toBe(1);
    expect(placeOf('"nonsense" is not a run status', 'status:nonsense')).toBeNull();
  });

  it('asks at once only for what is a condition already', () => {
    expect(['status:failed', 'root:MMP-3', 'descendants(MMP-3)', 'created > -7d'].every(isCondition)).toBe(true);
    expect(['status:', 'config.lr', 'val/loss', 'min(val/loss)', 'descendants('].some(isCondition)).toBe(false);
  });
});
