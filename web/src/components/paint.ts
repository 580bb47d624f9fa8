/** Draws curves on a chart's canvas: bands, lines, ghosts, marks. uPlot owns axes, scales and the cursor; this owns the ink. */
import type uPlot from 'uplot';

import { withAlpha } from '../lib/colours';
import type { Layer } from '../lib/layers';
import { strewn } from '../lib/series';

export interface Ink {
  hover: string | null;
  smoothing: boolean;
  log: boolean;
  /** Thin everything where many curves share a chart. */
  crowded: boolean;
  /** One colour per lineage, one continuous curve: inherited and own look the same. */
  grouped: boolean;
}

/** Value to canvas pixel, worked out once per paint: a chart of twenty runs asks for tens of thousands. */
interface Scale {
  x: (value: number) => number;
  y: (value: number) => number;
}

function scaleOf(u: uPlot, log: boolean): Scale {
  const { left, top, width, height } = u.bbox;
  const { min: x0 = 0, max: x1 = 1 } = u.scales['x'] ?? {};
  const { min: y0 = 0, max: y1 = 1 } = u.scales['y'] ?? {};
  const from = x0 ?? 0;
  const kx = width / ((x1 ?? 1) - from || 1);
  const t = log ? Math.log10 : (v: number) => v;
  const low = t(y0 ?? 0);
  const ky = height / (t(y1 ?? 1) - low || 1);
  const bottom = top + height;
  return { x: (v) => left + (v - from) * kx, y: log ? (v) => bottom - (Math.log10(v) - low) * ky : (v) => bottom - (v - low) * ky };
}

const INHERITED = 0.6;
const GHOST = 0.35;
const FADED = 0.16;

export function paint(u: uPlot, layers: readonly Layer[], ink: Ink): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const ratio = devicePixelRatio;
  const scale = scaleOf(u, ink.log);
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.lineJoin = 'round';
  const hovered = ink.hover;
  const order = hovered === null ? layers : [...layers].sort((a, b) => Number(a.key === hovered) - Number(b.key === hovered));
  for (const layer of order) {
    const fade = hovered !== null && layer.key !== hovered ? FADED : 1;
    if (!layer.ghost && !(ink.crowded && fade < 1)) band(u, scale, layer, 0.15 * fade, ink.log);
  }
  for (const layer of order) {
    const lit = hovered !== null && layer.key === hovered;
    const fade = hovered !== null && !lit ? FADED : 1;
    const widthPx = (lit ? 2.5 : 1.5) * ratio;
    if (ink.smoothing && !layer.ghost && !ink.crowded) line(u, scale, layer, layer.curve.y, 0.22 * fade, ratio, ink);
    line(u, scale, layer, layer.y, fade, widthPx, ink);
  }
  let row = 0;
  for (const layer of order) {
    if (layer.marks.length === 0) continue;
    marks(u, scale, layer, row++ % 4, ratio);
  }
  ctx.restore();
}

function visible(u: uPlot, layer: Layer): [number, number] {
  const min = u.scales['x']?.min ?? 0;
  const max = u.scales['x']?.max ?? 0;
  const { x, xFirst, xLast } = layer.curve;
  let first = Math.max(layer.from, 0);
  let last = x.length - 1;
  while (first < last && (xLast[first + 1] as number) < min) first++;
  while (last > first && (xFirst[last - 1] as number) > max) last--;
  return [first, last];
}

function band(u: uPlot, scale: Scale, layer: Layer, alpha: number, log: boolean): void {
  const { curve } = layer;
  const { ctx } = u;
  const [first, last] = visible(u, layer);
  ctx.fillStyle = withAlpha(layer.colour, alpha);
  const ok = (i: number) => Number.isFinite(curve.min[i] as number) && (!log || (curve.min[i] as number) > 0);
  let i = first;
  while (i <= last) {
    if (!ok(i)) {
      i++;
      continue;
    }
    let end = i;
    let many = (curve.count[i] as number) > 1;
    while (end < last && ok(end + 1) && !layer.lifts[end + 1]) {
      end++;
      many ||= (curve.count[end] as number) > 1;
    }
    if (many && end > i) {
      ctx.beginPath();
      for (let k = i; k <= end; k++) ctx.lineTo(scale.x(curve.x[k] as number), scale.y(curve.max[k] as number));
      for (let k = end; k >= i; k--) ctx.lineTo(scale.x(curve.x[k] as number), scale.y(curve.min[k] as number));
      ctx.closePath();
      ctx.fill();
    } else if (many) {
      const x = scale.x(curve.x[i] as number);
      const y = scale.y(curve.max[i] as number);
      ctx.fillRect(x - 1.5, y, 3, scale.y(curve.min[i] as number) - y);
    }
    i = end + 1;
  }
}

function line(u: uPlot, scale: Scale, layer: Layer, y: Float64Array, alpha: number, width: number, { log, grouped }: Ink): void {
  const { curve, lifts } = layer;
  const { ctx } = u;
  let [first] = visible(u, layer);
  const [, last] = visible(u, layer);
  if (layer.joins && first === layer.from && first > 0) first--;
  const inherited = (i: number) => curve.segments[curve.segment[i] as number]?.inherited ?? false;
  const good = (i: number) => Number.isFinite(y[i] as number) && (!log || (y[i] as number) > 0);
  const px = (i: number) => scale.x(curve.x[i] as number);
  const py = (i: number) => scale.y(y[i] as number);
  const spacing = last > first ? (px(last) - px(first)) / (last - first) : Infinity;
  const dots = spacing > 9 * devicePixelRatio && !layer.ghost;
  ctx.lineWidth = width;
  ctx.setLineDash(layer.ghost ? [1.5 * devicePixelRatio, 3 * devicePixelRatio] : []);
  ctx.lineCap = layer.ghost ? 'round' : 'butt';
  let style: boolean | null = null;
  let open = false;
  const set = (inh: boolean) => {
    const a = alpha * (layer.ghost ? GHOST : inh && !grouped ? INHERITED : 1);
    ctx.strokeStyle = withAlpha(layer.colour, a);
    ctx.fillStyle = ctx.strokeStyle;
    style = inh;
  };
  const flush = () => {
    if (open) ctx.stroke();
    open = false;
  };
  for (let i = first; i <= last; i++) {
    if (!good(i)) {
      flush();
      continue;
    }
    const lifted = i === first || (lifts[i] as number) === 1 || !good(i - 1);
    const inh = inherited(i);
    if (style !== inh || lifted) {
      flush();
      set(inh);
      ctx.beginPath();
      open = true;
      if (lifted) ctx.moveTo(px(i), py(i));
      else {
        ctx.moveTo(px(i - 1), py(i - 1));
        ctx.lineTo(px(i), py(i));
      }
    } else ctx.lineTo(px(i), py(i));
    const alone = lifted && (i === last || (lifts[i + 1] as number) === 1 || !good(i + 1));
    if (alone || dots) {
      flush();
      ctx.beginPath();
      ctx.arc(px(i), py(i), (alone ? 2.2 : 1.8) * devicePixelRatio, 0, 7);
      ctx.fill();
      ctx.beginPath();
      ctx.moveTo(px(i), py(i));
      open = true;
    }
  }
  flush();
  ctx.setLineDash([]);
}

/** What is not finite stands on the axis: a crossed bar for NaN and −Inf below, for +Inf above. */
function marks(u: uPlot, scale: Scale, layer: Layer, row: number, ratio: number): void {
  const { ctx } = u;
  const { top, height } = u.bbox;
  const size = 5 * ratio;
  ctx.strokeStyle = layer.colour;
  ctx.lineWidth = 1.5 * ratio;
  for (const mark of layer.marks) {
    const x0 = scale.x(mark.from);
    const x1 = scale.x(mark.to);
    const y = mark.kind === '+Inf' ? top + (1 + row) * (size + 2) : top + height - (1 + row) * (size + 2) + 2;
    const places = strewn(x0, x1, size * 1.6);
    if (mark.kind === 'NaN' || mark.kind === 'not finite') {
      ctx.beginPath();
      for (const x of places) {
        ctx.moveTo(x - size / 2, y - size / 2);
        ctx.lineTo(x + size / 2, y + size / 2);
        ctx.moveTo(x + size / 2, y - size / 2);
        ctx.lineTo(x - size / 2, y + size / 2);
      }
      ctx.stroke();
    } else {
      const up = mark.kind === '+Inf' ? -1 : 1;
      ctx.fillStyle = layer.colour;
      ctx.beginPath();
      for (const x of places) {
        ctx.moveTo(x - size / 2, y - (up * size) / 2);
        ctx.lineTo(x + size / 2, y - (up * size) / 2);
        ctx.lineTo(x, y + (up * size) / 2);
      }
      ctx.fill();
    }
  }
}
