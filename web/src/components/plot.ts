/** uPlot as our charts want it: axes, ticks, the synced cursor, drag to zoom. What is drawn on it is `paint`'s. */
import uPlot from 'uplot';

import { type AxisKind, rangeOf } from '../lib/axis';
import { FLAG_ROW_PX } from '../lib/forks';
import { fitting, labelDurations, labelSteps, labelTicks, labelWall, linearTicks, relativeTicks, stepTicks, wallTicks } from '../lib/ticks';

export interface PlotWishes {
  width: number;
  height: number;
  log: boolean;
  axis: AxisKind;
  /** Steps that are milliseconds since the run began. */
  clock: boolean;
  edges: { left: number; right: number };
  /** Asked at every drawing: they move with the data. */
  xRange: () => [number, number];
  yRange: () => [number, number];
  valueTicks: () => { at: number[]; labels: string[] };
  flagRows: () => number;
  draw: (u: uPlot) => void;
  onzoom: (range: { from: number; to: number } | null) => void;
  onmove: (event: MouseEvent) => void;
  onleave: () => void;
  /** A click that was no drag, in pixels of the plot. */
  onclick: (event: MouseEvent) => void;
}

/** Steps of system samples, in µs. */
export const CLOCK_UNIT = 1000;

const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
/** A drag of fewer pixels is a shaky click. */
const LEAST_DRAG_PX = 4;

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Where x ticks stand and what they say. */
function xTicks({ width, axis, clock }: PlotWishes): { at: (from: number, to: number) => number[]; labels: (at: number[]) => string[] } {
  const target = Math.max(2, Math.floor(width / 90));
  if (clock) {
    return {
      at: (from, to) => relativeTicks(from * CLOCK_UNIT, to * CLOCK_UNIT, target).map((t) => t / CLOCK_UNIT),
      labels: (at) => labelDurations(at.map((t) => t * CLOCK_UNIT)),
    };
  }
  switch (axis) {
    case 'step':
      return { at: (from, to) => stepTicks(from, to, target), labels: labelSteps };
    case 'relative':
      return { at: (from, to) => relativeTicks(from, to, target), labels: labelDurations };
    case 'metric':
      return { at: (from, to) => linearTicks(from, to, Math.max(3, Math.floor(width / 60))), labels: labelTicks };
    case 'wall':
      // Of the day that is shown: summer time changes the offset.
      return { at: (from, to) => wallTicks(from, to, Math.max(2, Math.floor(width / 120)), -new Date(from / 1000).getTimezoneOffset() * 60e6), labels: labelWall };
  }
}

export function makePlot(box: HTMLElement, wishes: PlotWishes): uPlot {
  const { width, height, edges, xRange, yRange } = wishes;
  const x = xTicks(wishes);
  const room = width - edges.left - edges.right;
  const looks = { font: FONT, stroke: () => css('--axis'), grid: { stroke: () => css('--grid'), width: 1 }, ticks: { show: false } };
  const plot = new uPlot(
    {
      width, height,
      padding: [() => 6 + FLAG_ROW_PX * wishes.flagRows(), edges.right, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, range: () => xRange() },
        y: { range: () => yRange(), distr: wishes.log ? 3 : 1 },
      },
      axes: [
        {
          ...looks, size: 24, gap: 3,
          splits: (_u, _i, from, to) => x.at(from, to),
          values: (_u, splits) => {
            const [from, to] = xRange();
            return fitting(x.labels(splits), splits.map((at) => ((at - from) / (to - from)) * room), room + edges.right);
          },
        },
        { ...looks, size: edges.left, gap: 4, filter: (_u, splits) => splits, splits: () => wishes.valueTicks().at, values: () => wishes.valueTicks().labels },
      ],
      series: [{}, { scale: 'y', paths: () => null, points: { show: false } }],
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: 6 },
        // Charts of one axis follow each other's cursor.
        sync: { key: `runtree-${wishes.clock ? 'clock' : wishes.axis}`, scales: ['x', null], filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' } },
        bind: {
          dblclick: () => () => {
            wishes.onzoom(null);
            return null;
          },
        },
      },
      hooks: {
        draw: [wishes.draw],
        setSelect: [
          (u) => {
            if (u.select.width < LEAST_DRAG_PX) return;
            const range = rangeOf(u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x'), wishes.axis);
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (range) wishes.onzoom(range);
          },
        ],
      },
    },
    [[...xRange()], [...yRange()]],
    box,
  );
  const over = box.querySelector<HTMLElement>('.u-over');
  over?.addEventListener('mousemove', wishes.onmove);
  over?.addEventListener('mouseleave', wishes.onleave);
  let down = { x: 0, y: 0 };
  over?.addEventListener('mousedown', (event) => (down = { x: event.clientX, y: event.clientY }));
  over?.addEventListener('click', (event) => {
    if (Math.hypot(event.clientX - down.x, event.clientY - down.y) < LEAST_DRAG_PX) wishes.onclick(event);
  });
  return plot;
}
