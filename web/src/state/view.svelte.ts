/** How charts are looked at: every field lives in the address, so that a link is the view. */
import { type Axis, parseAxis, parseRange, printAxis } from '../lib/axis';
import { packList, unpackList } from '../lib/lists';
import { param, setParams } from './router.svelte';

export const view = {
  get x(): Axis {
    return parseAxis(param('x'));
  },
  set x(value: Axis) {
    setParams({ x: printAxis(value), z: null });
  },
  get smoothing(): number {
    const n = Number(param('sm') ?? 0);
    return n > 0 && n < 1 ? n : 0;
  },
  set smoothing(value: number) {
    setParams({ sm: value > 0 ? String(Math.round(value * 1000) / 1000) : null });
  },
  get log(): boolean {
    return param('log') === '1';
  },
  set log(value: boolean) {
    setParams({ log: value ? '1' : null });
  },
  get grouped(): boolean {
    return param('g') === '1';
  },
  set grouped(value: boolean) {
    setParams({ g: value ? '1' : null });
  },
  get inherited(): boolean {
    return param('inh') !== '0';
  },
  set inherited(value: boolean) {
    setParams({ inh: value ? null : '0' });
  },
  /** Whether abandoned tails of resumed runs are drawn. */
  get ghosts(): boolean {
    return param('gh') !== '0';
  },
  set ghosts(value: boolean) {
    setParams({ gh: value ? null : '0' });
  },
  /** The zoomed range of the x axis, in its units. */
  get zoom(): { from: number; to: number } | null {
    return parseRange(param('z'));
  },
  set zoom(value: { from: number; to: number } | null) {
    setParams({ z: value ? `${value.from}:${value.to}` : null });
  },
  get metricFilter(): string {
    return param('m') ?? '';
  },
  set metricFilter(value: string) {
    setParams({ m: value });
  },
  get pinned(): string[] {
    return unpackList(param('pin'));
  },
  togglePin(metric: string): void {
    const pins = this.pinned;
    setParams({ pin: packList(pins.includes(metric) ? pins.filter((p) => p !== metric) : [...pins, metric]) });
  },
  get selected(): string[] {
    return unpackList(param('sel'));
  },
  set selected(ids: string[]) {
    setParams({ sel: packList(ids) });
  },
};
