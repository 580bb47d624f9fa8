/** Keeping one's place in a list that changes. */

interface Item {
  id: string;
}

/** How far rows at and after `at` moved down (up, if negative): found by the first of them that is in both lists. */
export function anchored(before: readonly (Item | undefined)[], after: readonly (Item | undefined)[], at: number, look = 30): number {
  for (let i = at; i < Math.min(before.length, at + look); i++) {
    const id = before[i]?.id;
    if (id === undefined) continue;
    // Near to where it was: a run that went elsewhere altogether is none to hold on to.
    for (let by = 0; by <= MOST_MOVED; by++) {
      if (after[i + by]?.id === id) return by;
      if (after[i - by]?.id === id) return by === 0 ? 0 : -by;
    }
  }
  return 0;
}

const MOST_MOVED = 400;
