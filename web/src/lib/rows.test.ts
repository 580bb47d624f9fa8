import { describe, expect, it } from 'vitest';

import { anchored } from './rows';

const list = (text: string) => [...text].map((id) => (id === '.' ? undefined : { id }));

describe('the place in a list', () => {
  it('moves with the row one looks at', () => {
    expect(anchored(list('abcdef'), list('XYabcdef'), 3)).toBe(2);
    expect(anchored(list('abcdef'), list('bcdef'), 3)).toBe(-1);
    expect(anchored(list('abcdef'), list('abcdefX'), 3)).toBe(0);
    expect(anchored(list('abcdef'), list('abcXdef'), 1)).toBe(0);
  });

  it('is held by the next row where that one is gone or not here yet', () => {
    expect(anchored(list('abcdef'), list('Xabcef'), 3)).toBe(0);
    expect(anchored(list('abc.ef'), list('XXabc.ef'), 3)).toBe(2);
    expect(anchored(list('ab'), list('cd'), 0)).toBe(0);
    expect(anchored([], list('cd'), 0)).toBe(0);
  });
});
