/** What changed on the server: one event stream for the whole page; pages ask to be called when runs they show changed. */
import { listen } from '../api/client';

export const live = $state({ connected: false, ever: false, now: Date.now() * 1000 });

/** What changed: these runs; null when nobody can say, for the line was down meanwhile. */
export type Changed = ReadonlySet<string> | null;
type Listener = { runs: () => ReadonlySet<string> | null; call: (changed: Changed) => void };
const listeners = new Set<Listener>();
const pending = new Map<Listener, { timer: number; changed: Set<string> | null }>();

/** Bursts of changes become one call: a page redraws at most about once a second. */
const SETTLE_MS = 700;

function tell(runs: readonly string[] | null): void {
  for (const listener of listeners) {
    const wanted = listener.runs();
    const news = runs === null || wanted === null ? runs : runs.filter((r) => wanted.has(r));
    if (news?.length === 0) continue;
    const waiting = pending.get(listener);
    if (waiting) {
      if (news === null) waiting.changed = null;
      else for (const run of news) waiting.changed?.add(run);
      continue;
    }
    const timer = window.setTimeout(() => {
      const due = pending.get(listener);
      pending.delete(listener);
      if (due && listeners.has(listener)) listener.call(due.changed);
    }, SETTLE_MS);
    pending.set(listener, { timer, changed: news === null ? null : new Set(news) });
  }
}

export function startLive(): void {
  const abort = new AbortController();
  void listen(
    tell,
    (connected) => {
      // What was missed while the line was down is fetched when it is back.
      if (connected && live.ever && !live.connected) tell(null);
      live.connected = connected;
      if (connected) live.ever = true;
    },
    abort.signal,
  );
  window.addEventListener('pagehide', () => abort.abort());
  setInterval(() => (live.now = Date.now() * 1000), 5000);
}

/** Calls back with what changed of `runs` (null: any run), at most about once a second; returns how to stop. */
export function onChange(runs: () => ReadonlySet<string> | null, call: (changed: Changed) => void): () => void {
  const listener = { runs, call };
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    clearTimeout(pending.get(listener)?.timer);
    pending.delete(listener);
  };
}
