/** Tensors as a tree by their dotted names, with bytes summed up; how they are stored and what is in them, in words. */
import type { TensorEncoding, TensorInfo, TensorStatistics } from '../api/types';

/** A tensor and its place in the checkpoint's list, by which its statistics are asked for. */
export interface PlacedTensor extends TensorInfo {
  place: number;
}

export interface TensorNode {
  name: string;
  path: string;
  bytes: number;
  /** Its share of the objects in the store; null where some of it is unknown. */
  stored: number | null;
  count: number;
  tensor: PlacedTensor | null;
  children: TensorNode[];
}

export function placed(tensors: readonly TensorInfo[]): PlacedTensor[] {
  return tensors.map((tensor, place) => ({ ...tensor, place }));
}

export function tensorTree(tensors: readonly PlacedTensor[]): TensorNode {
  const root: TensorNode = { name: '', path: '', bytes: 0, stored: 0, count: 0, tensor: null, children: [] };
  const nodes = new Map<string, TensorNode>([['', root]]);
  for (const tensor of tensors) {
    const parts = tensor.name.split('.');
    let node = root;
    add(node, tensor);
    parts.forEach((part, i) => {
      const leaf = i === parts.length - 1;
      const path = leaf ? `${node.path}.${part}#${tensor.part}#${tensor.entry}` : `${node.path}.${part}`;
      let next = nodes.get(path);
      if (!next) {
        next = { name: part, path, bytes: 0, stored: 0, count: 0, tensor: leaf ? tensor : null, children: [] };
        nodes.set(path, next);
        node.children.push(next);
      }
      add(next, tensor);
      node = next;
    });
  }
  return root;
}

function add(node: TensorNode, tensor: TensorInfo): void {
  const stored = storedBytes(tensor);
  node.bytes += tensor.bytes;
  node.stored = node.stored === null || stored === null ? null : node.stored + stored;
  node.count++;
}

/** What a tensor takes in the store; null if that is not known. */
function storedBytes(tensor: TensorInfo): number | null {
  if (tensor.bytes === 0) return 0;
  const encoding = tensor.encoding;
  return encoding && encoding.kind !== 'missing' ? encoding.stored_bytes : null;
}

export interface TensorRow {
  node: TensorNode;
  depth: number;
}

const byNumber = new Intl.Collator('en', { numeric: true });

/** What is visible with these nodes open, in order. Numbers sort as numbers: layer 2 before layer 10. */
export function visibleRows(root: TensorNode, open: ReadonlySet<string>): TensorRow[] {
  const out: TensorRow[] = [];
  const walk = (node: TensorNode, depth: number) => {
    for (const child of [...node.children].sort((a, b) => byNumber.compare(a.name, b.name))) {
      out.push({ node: child, depth });
      if (open.has(child.path)) walk(child, depth + 1);
    }
  };
  walk(root, 0);
  return out;
}

/** Every node of a tree that can be opened. */
export function allPaths(root: TensorNode): Set<string> {
  const out = new Set<string>();
  const walk = (node: TensorNode) => {
    for (const child of node.children) {
      if (child.children.length > 0) out.add(child.path);
      walk(child);
    }
  };
  walk(root);
  return out;
}

/** `raw`, `planes`, `difference 3`: how many differences lie before bytes that stand for themselves. */
export function encodingText(encoding: TensorEncoding | null | undefined): string {
  if (!encoding) return '';
  return encoding.depth > 0 ? `${encoding.kind} ${encoding.depth}` : encoding.kind;
}

/** What is stored of what it weighs: `12 %`. */
export function storedText(node: { bytes: number; stored: number | null }): string {
  if (node.stored === null || node.bytes === 0) return '';
  const percent = (100 * node.stored) / node.bytes;
  return `${percent >= 9.95 || percent === 0 ? Math.round(percent) : percent.toFixed(1)} %`;
}

export function nonfinite(s: TensorStatistics): number {
  return s.nan + s.positive_infinity + s.negative_infinity;
}

/** `3 NaN, 1 +Inf`; empty if all is finite. */
export function nonfiniteText(s: TensorStatistics): string {
  const kinds: [number, string][] = [[s.nan, 'NaN'], [s.positive_infinity, '+Inf'], [s.negative_infinity, '−Inf']];
  return kinds.filter(([count]) => count > 0).map(([count, kind]) => `${count} ${kind}`).join(', ');
}
