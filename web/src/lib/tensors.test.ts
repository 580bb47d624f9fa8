import { describe, expect, it } from 'vitest';

import type { TensorEncoding, TensorInfo } from '../api/types';
import { allPaths, encodingText, nonfinite, nonfiniteText, placed, storedText, tensorTree, visibleRows } from './tensors';

const encoded = (kind: TensorEncoding['kind'], depth: number, stored: number): TensorEncoding => ({ kind, depth, stored_bytes: stored });

function tensor(name: string, bytes: number, encoding?: TensorEncoding, part = 'trainer-0'): TensorInfo {
  return { name, entry: 'state', part, dtype: 'f32', shape: [bytes / 4], bytes, ...(encoding ? { encoding } : {}) };
}

describe('the tree of tensors', () => {
  const list = placed([
    tensor('model.layers.10.w', 400, encoded('raw', 0, 400)), tensor('model.layers.2.w', 400, encoded('planes', 0, 100)),
    tensor('step', 0), tensor('model.head', 100, encoded('difference', 2, 10)),
  ]);
  const tree = tensorTree(list);

  it('sums up what lies below, weight and storage', () => {
    const model = tree.children.find((n) => n.name === 'model');
    expect([tree.count, tree.bytes, tree.stored]).toEqual([4, 900, 510]);
    expect([model?.count, model?.bytes, model?.stored]).toEqual([3, 900, 510]);
  });

  it('shows what is open, numbers in their order, and keeps each tensor’s place in the list', () => {
    expect(visibleRows(tree, new Set()).map((r) => r.node.name)).toEqual(['model', 'step']);
    const rows = visibleRows(tree, allPaths(tree));
    expect(rows.map((r) => [r.depth, r.node.name, r.node.tensor?.place])).toEqual([
      [0, 'model', undefined], [1, 'head', 3], [1, 'layers', undefined], [2, '2', undefined], [3, 'w', 1], [2, '10', undefined], [3, 'w', 0], [0, 'step', 2],
    ]);
  });

  it('keeps tensors of one name apart that several ranks saved', () => {
    const twice = tensorTree(placed([tensor('rng', 8), tensor('rng', 8, undefined, 'trainer-1')]));
    expect(twice.children.map((n) => n.tensor?.part)).toEqual(['trainer-0', 'trainer-1']);
  });

  it('says nothing of storage where some of it is not known', () => {
    expect(tensorTree(placed([tensor('a', 8, encoded('raw', 0, 8)), tensor('b', 8)])).stored).toBeNull();
    expect(tensorTree(placed([tensor('a', 8, encoded('missing', 0, 0))])).stored).toBeNull();
  });

  it('shows ten thousand tensors', () => {
    const many = placed(Array.from({ length: 10_000 }, (_, i) => tensor(`model.layers.${i % 100}.block.${i}.weight`, 4)));
    const big = tensorTree(many);
    expect(visibleRows(big, allPaths(big)).filter((r) => r.node.tensor).length).toBe(10_000);
  });
});

describe('words about tensors', () => {
  it('names the encoding and how deep it is', () => {
    expect(encodingText(encoded('raw', 0, 1))).toBe('raw');
    expect(encodingText(encoded('difference', 3, 1))).toBe('difference 3');
    expect(encodingText(null)).toBe('');
  });

  it('gives the share that is stored', () => {
    expect(storedText({ bytes: 1000, stored: 123 })).toBe('12 %');
    expect(storedText({ bytes: 1000, stored: 8 })).toBe('0.8 %');
    expect(storedText({ bytes: 1000, stored: 1000 })).toBe('100 %');
    expect(storedText({ bytes: 0, stored: 0 })).toBe('');
    expect(storedText({ bytes: 10, stored: null })).toBe('');
  });

  it('counts what is not finite by kind', () => {
    const s = { tensor: 0, elements: 9, nan: 3, positive_infinity: 0, negative_infinity: 1, finite: null };
    expect([nonfinite(s), nonfiniteText(s)]).toEqual([4, '3 NaN, 1 −Inf']);
    expect(nonfiniteText({ ...s, nan: 0, negative_infinity: 0 })).toBe('');
  });
});
