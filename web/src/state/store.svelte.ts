/** The store that is served, and which project the page in view belongs to. */
import type { StoreInfo } from '../api/types';

export const store = $state<{ info: StoreInfo | null; error: Error | null; crumb: string | null }>({ info: null, error: null, crumb: null });
