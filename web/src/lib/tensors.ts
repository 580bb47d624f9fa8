/** Tensors as a tree by their dotted names, with bytes summed up. */
import type { TensorInfo } from '../api/types';

export interface TensorNode {
  name: string;
  path: string;
  bytes: number;
  count: number;
  tensor: TensorInfo | null;
  children: TensorNode[];
}

export function tensorTree(tensors: readonly TensorInfo[]): TensorNode {
  const root: TensorNode = { name: '', path: '', bytes: 0, count: 0, tensor: null, children: [] };
  const nodes = new Map<string, TensorNode>([['', root]]);
  for (const tensor of tensors) {
    const parts = tensor.name.split('.');
    let node = root;
    node.bytes += tensor.bytes;
    node.count++;
    parts.forEach((part, i) => {
      const leaf = i === parts.length - 1;
      const path = leaf ? `${node.path}.${part}#${tensor.part}#${tensor.entry}` : `${node.path}.${part}`;
      let next = nodes.get(path);
      if (!next) {
        next = { name: part, path, bytes: 0, count: 0, tensor: leaf ? tensor : null, children: [] };
        nodes.set(path, next);
        node.children.push(next);
      }
      next.bytes += tensor.bytes;
      next.count++;
      node = next;
    });
  }
  return root;
}

export interface TensorRow {
  node: TensorNode;
  depth: number;
}

/** What is visible with these nodes open, in order. Numbers sort as numbers: layer 2 before layer 10. */
export function visibleRows(root: TensorNode, open: ReadonlySet<string>): TensorRow[] {
  const out: TensorRow[] = [];
  const walk = (node: TensorNode, depth: number) => {
    for (const child of [...node.children].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))) {
      out.push({ node: child, depth });
      if (open.has(child.path)) walk(child, depth + 1);
    }
  };
  walk(root, 0);
  return out;
}
