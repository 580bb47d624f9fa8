/**
 * Run colours: a root takes a slot of a palette that stays apart for colour-blind eyes (hue *and* lightness differ between neighbours), once;
 * a fork takes its root's slot shifted in lightness (and a little in hue), so that a family reads as a family.
 */

/** Lightness (light theme), chroma and hue in OKLCH. */
interface Slot {
  l: number;
  c: number;
  h: number;
}

export const PALETTE: readonly Slot[] = [
  { l: 0.5, c: 0.15, h: 255 }, // blue
  { l: 0.68, c: 0.16, h: 62 }, // orange
  { l: 0.58, c: 0.12, h: 165 }, // green
  { l: 0.6, c: 0.16, h: 345 }, // pink
  { l: 0.66, c: 0.11, h: 222 }, // sky
  { l: 0.54, c: 0.18, h: 32 }, // vermilion
  { l: 0.48, c: 0.16, h: 300 }, // violet
  { l: 0.62, c: 0.12, h: 115 }, // olive
];

/** FNV-1a: small, and the same everywhere. */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    h ^= text.charCodeAt(i);
    h = Math.imul(h, 0x01000193);
  }
  return h >>> 0;
}

/** Slots given out so far: root RunId → slot. The preferred slot is the hash; a taken one moves on to the next free, so few roots never collide. */
export class Slots {
  constructor(private readonly taken: Map<string, number> = new Map()) {}

  of(root: string): number {
    const known = this.taken.get(root);
    if (known !== undefined) return known;
    const n = PALETTE.length;
    const used = new Map<number, number>();
    for (const slot of this.taken.values()) used.set(slot, (used.get(slot) ?? 0) + 1);
    const least = Math.min(...Array.from({ length: n }, (_, i) => used.get(i) ?? 0));
    let slot = hash(root) % n;
    while ((used.get(slot) ?? 0) > least) slot = (slot + 1) % n;
    this.taken.set(root, slot);
    return slot;
  }

  entries(): [string, number][] {
    return [...this.taken];
  }
}

/** How much lighter or darker than its root a fork is. */
const [LEAST, MOST] = [0.1, 0.19];

/** Low-discrepancy sequence in [0, 1): siblings with neighbouring numbers land far apart. */
function spread(n: number): number {
  return (n * 0.6180339887498949) % 1;
}

export interface ColourOf {
  id: string;
  root: string;
  display_id: string;
}

function displayNumber(displayId: string): number {
  const match = /-(\d+)/.exec(displayId);
  return match ? Number(match[1]) : hash(displayId) % 97;
}

export function runColour(run: ColourOf, slots: Slots, dark: boolean): string {
  const base = PALETTE[slots.of(run.root)] as Slot;
  const [low, high] = dark ? [0.56, 0.9] : [0.36, 0.76];
  let { l, h } = { l: base.l + (dark ? 0.13 : 0), h: base.h };
  if (run.id !== run.root) {
    const t = spread(displayNumber(run.display_id));
    const u = spread(displayNumber(run.display_id) * 3 + 1);
    // 0.1 to 0.19 lighter or darker and 6 to 18 degrees of hue away: a lone child is told from its parent at a glance, siblings from each other,
    // and none of them is taken for the neighbouring slot, which may be another family. What has no room on one side goes on on the other:
    // clamped there, half of a sweep would have one colour.
    l = apart(l, t, low, high);
    h += (u < 0.5 ? -1 : 1) * (6 + 12 * Math.abs(2 * u - 1));
  }
  l = clamp(l, low, high);
  return `oklch(${l.toFixed(3)} ${base.c} ${((h + 360) % 360).toFixed(1)})`;
}

/** A lightness at least `LEAST` and at most `MOST` from a parent's, by `t` in [0, 1) among those there are between `low` and `high`. */
function apart(l: number, t: number, low: number, high: number): number {
  const below = Math.max(0, Math.min(MOST, l - low) - LEAST);
  const above = Math.max(0, Math.min(MOST, high - l) - LEAST);
  const missing = 2 * (MOST - LEAST) - below - above;
  const dark = below >= above ? Math.min(below + missing, Math.max(0, l - low - LEAST)) : below;
  const light = above > below ? Math.min(above + missing, Math.max(0, high - l - LEAST)) : above;
  const way = t * (dark + light);
  return way < dark ? l - LEAST - (dark - way) : l + LEAST + (way - dark);
}

function clamp(x: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, x));
}

export function withAlpha(colour: string, alpha: number): string {
  return colour.replace(/\)$/, ` / ${alpha})`);
}
