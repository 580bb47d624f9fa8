/** What changed on the server: one event stream for the whole page; pages ask to be called when runs they show changed. */
import { listen } from '../api/client';

export const live = $state({ connected: false, ever: false, now: Date.now() * 1000 });

type Listener = { runs: () => ReadonlySet<string> | null; call: () => void };
const listeners = new Set<Listener>();
const pending = new Map<Listener, number>();

/** Bursts of changes become one call: a page redraws at most about once a second. */
const SETTLE_MS = 700;

function changed(runs: string[]): void {
  for (const listener of listeners) {
    const wanted = listener.runs();
    if (wanted !== null && runs.length > 0 && !runs.some((r) => wanted.has(r))) continue;
    if (pending.has(listener)) continue;
    pending.set(
      listener,
      window.setTimeout(() => {
        pending.delete(listener);
        if (listeners.has(listener)) listener.call();
      }, SETTLE_MS),
    );
  }
}

export function startLive(): void {
  const abort = new AbortController();
  void listen(
    changed,
    (connected) => {
      // What was missed while the line was down is fetched when it is back.
      if (connected && live.ever && !live.connected) changed([]);
      live.connected = connected;
      if (connected) live.ever = true;
    },
    abort.signal,
  );
  window.addEventListener('pagehide', () => abort.abort());
  setInterval(() => (live.now = Date.now() * 1000), 5000);
}

/** Calls back when one of `runs` (null: any run) changed; returns how to stop. */
export function onChange(runs: () => ReadonlySet<string> | null, call: () => void): () => void {
  const listener = { runs, call };
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    const timer = pending.get(listener);
    if (timer !== undefined) clearTimeout(timer);
    pending.delete(listener);
  };
}
