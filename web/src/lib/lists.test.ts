import { describe, expect, it } from 'vitest';

import { packList, unpackList } from './lists';

describe('lists in the address', () => {
  it('come back as they were, whatever is in them', () => {
    for (const items of [[], ['loss'], ['val/acc, top-1', 'a%2Cb', '100%', 'x,y,'], ['%25', '%', ',']]) expect(unpackList(packList(items))).toEqual(items);
  });

  it('stay readable where nothing in them needs escaping', () => {
    expect(packList(['metric:val/loss', 'config:optim.lr'])).toBe('metric:val/loss,config:optim.lr');
    expect(unpackList(null)).toEqual([]);
    expect(unpackList(',a,')).toEqual(['a']);
  });
});
