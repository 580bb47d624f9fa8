import { describe, expect, it } from 'vitest';

import { continuePython, forkCommand, keyFor, launchCommand, shellQuote } from './snippets';

describe('snippets', () => {
  it('quote for the shell whatever a shell would read', () => {
    expect(shellQuote('MMP-42@500')).toBe('MMP-42@500');
    for (const text of ['a b', '$(rm -rf .)', '`x`', 'run@<=500', '~/x', 'a;b', '']) expect(shellQuote(text)).toBe(`'${text}'`);
    expect(shellQuote("it's")).toBe(`'it'\\''s'`);
  });

  it('fork with a name, changes and a key, and go on as that run', () => {
    expect(forkCommand({ reference: 'MMP-1@500', name: 'low lr', assignments: ['lr=1e-5', '', ' note=a b '], key: 'low-lr-x1' })).toBe(
      "runtree fork MMP-1@500 --name 'low lr' --set lr=1e-5 --set 'note=a b' --run-id low-lr-x1",
    );
    expect(launchCommand('k')).toBe('RUNTREE_RUN_ID=k RUNTREE_RESUME=must python train.py');
    expect(continuePython('a "b"', 'k').split('\n')).toEqual(['import runtree', 'run = runtree.init("a \\"b\\"", run_id="k", resume="must")', 'state = run.load()']);
  });

  it('make keys that a shell and a person can read', () => {
    expect(keyFor('LR 6e-4, clipped!', 'MMP-1', 500, 'ab12')).toBe('lr-6e-4-clipped-ab12');
    expect(keyFor('  ', 'MMP-1', 500, 'ab12')).toBe('mmp-1-at-500-ab12');
    expect(keyFor('名前', 'MMP-1', 500, 'ab12')).toBe('mmp-1-at-500-ab12');
  });
});
