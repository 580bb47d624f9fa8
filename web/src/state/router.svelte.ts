/** The address bar as state: a path and a query. Internal links are taken over; everything a page shows is in the query. */

export const place = $state({ path: location.pathname, search: location.search });

window.addEventListener('popstate', () => {
  place.path = location.pathname;
  place.search = location.search;
});

export function go(href: string, how: 'push' | 'replace' = 'push'): void {
  const url = new URL(href, location.href);
  if (url.pathname === location.pathname && url.search === location.search) return;
  history[how === 'push' ? 'pushState' : 'replaceState'](null, '', url);
  if (url.pathname !== place.path && how === 'push') window.scrollTo(0, 0);
  place.path = url.pathname;
  place.search = url.search;
}

/** For `onclick` of the whole document: plain left clicks on own links stay in the page. */
export function takeLink(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.('a');
  if (!link || link.target === '_blank' || link.hasAttribute('download') || link.origin !== location.origin) return;
  const href = link.getAttribute('href');
  if (href === null || href.startsWith('/api/') || href.startsWith('#')) return;
  event.preventDefault();
  go(link.href);
}

/** The path's parts. One that is not percent-encoded text stays as it is: it leads to a page that says so, not to none. */
export function pathParts(path: string): string[] {
  return path.split('/').filter((part) => part !== '').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

export function param(key: string): string | null {
  return new URLSearchParams(place.search).get(key);
}

/** Changes query parameters in place; null or '' takes one out. */
export function setParams(changes: Record<string, string | null>, how: 'push' | 'replace' = 'replace'): void {
  const search = new URLSearchParams(place.search);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === '') search.delete(key);
    else search.set(key, value);
  }
  const text = search.toString().replaceAll('%2C', ',').replaceAll('%3A', ':').replaceAll('%2F', '/');
  go(`${place.path}${text === '' ? '' : `?${text}`}`, how);
}

/** Keeps how charts are looked at (axis, smoothing, toggles) when going to another page. */
export function withView(href: string): string {
  const search = new URLSearchParams(place.search);
  const url = new URL(href, location.origin);
  for (const key of ['x', 'sm', 'log', 'g', 'inh', 'gh']) {
    const value = search.get(key);
    if (value !== null && !url.searchParams.has(key)) url.searchParams.set(key, value);
  }
  return url.pathname + url.search;
}

export const runHref = (run: { display_id: string }) => withView(`/runs/${encodeURIComponent(run.display_id)}`);
export const lineageHref = (run: { display_id: string }) => withView(`/lineage/${encodeURIComponent(run.display_id)}`);
export const sweepHref = (reference: string) => withView(`/sweep?ref=${encodeURIComponent(reference)}`);
export const projectHref = (project: string) => withView(`/projects/${encodeURIComponent(project)}`);
