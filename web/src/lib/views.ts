/** Saved views: an address without its path, under a name. */
import type { SavedView } from '../api/types';

/** Opened where a project is opened without anything said. */
export const DEFAULT = 'default';
/** Stands for no view where there is a default. */
export const NONE = '-';

/** What of an address is a view: everything but which view it is. */
export function queryOf(search: string): string {
  const query = new URLSearchParams(search);
  query.delete('view');
  return query.toString();
}

/** The address of a view, and that it is this one. */
export function searchOf(view: SavedView): string {
  const query = new URLSearchParams(view.query);
  query.set('view', view.name);
  return `?${query.toString()}`;
}

/** Which view an address says it is, and whether it was changed since. */
export function currentView(views: readonly SavedView[], search: string): { view: SavedView; changed: boolean } | null {
  const name = new URLSearchParams(search).get('view');
  const view = views.find((v) => v.name === name);
  return view ? { view, changed: normal(queryOf(search)) !== normal(view.query) } : null;
}

/** In one order: parameters come and go. */
function normal(query: string): string {
  const sorted = new URLSearchParams(query);
  sorted.sort();
  return sorted.toString();
}
