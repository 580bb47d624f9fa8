import { describe, expect, it } from 'vitest';

import { currentView, queryOf, searchOf } from './views';

const view = (name: string, query: string) => ({ name, query, updated: 0 });

describe('saved views', () => {
  it('are an address, whatever is in it, and come back as it was', () => {
    const search = '?q=loss+%3C+1&cols=metric:a%252Cb,step&view=mine';
    const kept = view('a/b & c', queryOf(search));
    const back = new URLSearchParams(searchOf(kept));
    expect(back.get('view')).toBe('a/b & c');
    expect(back.get('q')).toBe('loss < 1');
    expect(back.get('cols')).toBe('metric:a%2Cb,step');
  });

  it('are recognised, and so is that they were changed, whatever the order of their parts', () => {
    const views = [view('mine', 'x=wall&q=a'), view('other', '')];
    expect(currentView(views, '?q=a&view=mine&x=wall')).toEqual({ view: views[0], changed: false });
    expect(currentView(views, '?q=b&view=mine&x=wall')?.changed).toBe(true);
    expect(currentView(views, '?q=b')).toBeNull();
    expect(currentView(views, '?view=gone')).toBeNull();
  });
});
