/** One thing to load: keeps what it had while it loads again, so that nothing jumps; the newest request wins. */
export class Loader<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<Error | null>(null);
  loading = $state(false);
  #abort: AbortController | null = null;

  async load(get: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.loading = true;
    try {
      const value = await get(abort.signal);
      if (abort.signal.aborted) return;
      this.value = value;
      this.error = null;
    } catch (error) {
      if (abort.signal.aborted) return;
      this.error = error instanceof Error ? error : new Error(String(error));
    }
    this.loading = false;
  }

  reset(): void {
    this.#abort?.abort();
    this.value = null;
    this.error = null;
    this.loading = false;
  }

  stop(): void {
    this.#abort?.abort();
  }
}
