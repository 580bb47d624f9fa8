/** The runs table at length, and ten thousand metrics: answers are made up here, so that any server will do. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';

import { BASE, counts, findWorld, keepShot, openBrowser, patch, present, until } from './world.mjs';

const ROWS = 100_000;
const PROJECT = 'long';
let world;
let browser;
let page;
let complaints;
/** Runs born while the test goes on: they stand on top. */
let born = [];
let asked = [];

const row = (n) => ({
  id: `0${n.toString(32).padStart(25, '0')}`, display_id: `LON-${n}`, number: n, key: null, name: `sweep ${n}`, project: PROJECT, experiment: 'e', root: `0${(n - (n % 3 === 0 ? 1 : 0)).toString(32).padStart(25, '0')}`,
  status: n % 50 === 0 ? 'failed' : 'completed', status_reason: null, created: 1_795_000_000_000_000 + n * 1e6, last_activity: 1_795_000_000_000_000 + n * 1e6, attempt: 1, parent: null, owner: null,
  fork_step: null, base: null, children: 0, last_step: 100 + (n % 900), metrics: { loss: { step: 99, value: n / 1000, min: { step: 5, value: -n }, max: null } }, config: { lr: n / 1e6 }, tags: [], checkpoints: 0,
  first_nonfinite: null, deleted: false,
});
const list = () => ({ total: ROWS + born.length, at: (i) => (i < born.length ? born[i] : row(ROWS - (i - born.length))) });

function answerRuns(route) {
  const q = new URL(route.request().url()).searchParams;
  asked.push(q);
  const all = list();
  const ids = q.get('ids')?.split(',');
  if (ids) return route.fulfill({ json: { runs: born.filter((r) => ids.includes(r.id)), total: born.length, next_cursor: null } });
  const start = Number(q.get('cursor') ?? 0);
  const end = Math.min(all.total, start + Number(q.get('limit')));
  return route.fulfill({ json: { runs: Array.from({ length: Math.max(0, end - start) }, (_, i) => all.at(start + i)), total: all.total, next_cursor: end < all.total ? String(end) : null } });
}

before(async () => {
  world = await findWorld();
  ({ browser, page, complaints } = await openBrowser());
  await page.route('**/api/v1/runs?**', answerRuns);
  await page.route(`**/api/v1/projects/${PROJECT}/keys`, (route) => route.fulfill({ json: { metrics: ['acc', 'loss'], config: ['lr'], tags: [] } }));
  await page.route('**/api/v1/outlines?**', (route) => route.fulfill({ json: new URL(route.request().url()).searchParams.get('runs').split(',').map((run) => ({ run, metrics: ['loss'], ghosts: [] })) }));
  await page.route('**/api/v1/series', (route) => {
    const { series } = route.request().postDataJSON();
    const one = (s) => ({ run: s.run, metric: s.metric, attempt: null, points: 2, logged: 2, x_first: [0, 99], x_last: [0, 99], min: [0, 1], max: [0, 1], mean: [0, 1], first: [0, 1], last: [0, 1], count: [1, 1], nonfinite: [0, 0], segment: [0, 0], segments: [{ run: s.run, attempt: 1, inherited: false, x_start: 0 }] });
    return route.fulfill({ json: { series: series.map(one) } });
  });
});
after(async () => {
  await browser?.close();
});
afterEach(async (t) => {
  if (t.passed === false && page) await keepShot(page, t.name);
  assert.deepEqual(complaints.splice(0), []);
});

const address = () => new URL(page.url());
const scroller = () => page.locator('[data-scroll]').first();
const inSight = () =>
  page.evaluate(() => {
    const area = document.querySelector('[data-scroll]').getBoundingClientRect();
    return [...document.querySelectorAll('[data-run]')].filter((r) => { const b = r.getBoundingClientRect(); return b.top >= area.top + 27 && b.bottom <= area.bottom + 1; }).map((r) => r.getAttribute('data-run'));
  });
const open = async (query = '') => {
  asked = [];
  await page.goto(`${BASE}/projects/${PROJECT}${query}`);
  await page.locator('[data-run]').first().waitFor();
};

describe('a table of a hundred thousand runs', () => {
  it('shows its first rows soon and holds only what is in sight', async () => {
    const began = Date.now();
    await page.goto(`${BASE}/projects/${PROJECT}`, { waitUntil: 'commit' });
    await page.locator('[data-run="LON-100000"]').waitFor();
    const took = Date.now() - began;
    console.log(`first rows of 100,000 after ${took} ms`);
    assert.ok(took < 3000, `${took} ms`);
    assert.equal(await page.locator('[role=table]').first().getAttribute('aria-rowcount'), String(ROWS));
    assert.ok((await page.locator('[data-run]').count()) < 80);
    assert.match(await page.locator('.count').innerText(), /100\u202f000 runs/);
  });

  it('goes to its end at once, by pages of a hundred', async () => {
    await open();
    await scroller().evaluate((e) => (e.scrollTop = e.scrollHeight));
    await page.locator('[data-run="LON-1"]').waitFor();
    assert.ok((await page.locator('[data-run]').count()) < 80);
    assert.ok(asked.length <= 4, `${asked.length} requests`);
    for (const q of asked) assert.ok(Number(q.get('limit')) <= 100);
    for (const q of asked) assert.equal(q.get('metrics'), 'loss');
    await scroller().evaluate((e) => (e.scrollTop = 50_000 * 28));
    await until('the middle', async () => (await inSight()).includes('LON-49990'));
  });

  it('scrolls smoothly, and does not ask for what flies by', async () => {
    await open();
    const frames = await scroller().evaluate(async (e) => {
      const times = [];
      let last = performance.now();
      for (let i = 0; i < 120; i++) {
        e.scrollTop += 700;
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const now = performance.now();
        times.push(now - last);
        last = now;
      }
      return times.sort((a, b) => a - b);
    });
    const [median, worst] = [frames[60], frames[117]];
    console.log(`scrolling: median frame ${median.toFixed(1)} ms, 98th percentile ${worst.toFixed(1)} ms, ${asked.length} requests over ${(120 * 700) / 28} rows`);
    assert.ok(median < 50, `median frame ${median} ms`);
    assert.ok(asked.length < 40, `${asked.length} requests`);
    await until('rows where it stopped', async () => (await inSight()).length > 10);
  });

  it('keeps its place when runs are born above, and shows them on top where one looks at the top', async () => {
    await open();
    await scroller().evaluate((e) => (e.scrollTop = 1000 * 28));
    await until('rows', async () => (await inSight()).length > 10);
    await page.getByText('live', { exact: true }).waitFor();
    const before = await inSight();
    born = [{ ...row(ROWS + 1), id: world.child.id, display_id: 'LON-NEW', name: 'born meanwhile' }];
    const y = await page.locator(`[data-run="${before[3]}"]`).boundingBox();
    // A change of a real run makes the server tell of it; what is answered for its id is made up.
    await patch(`/runs/${world.child.id}`, { notes: `seen ${Date.now()}` });
    await until('the list is longer', async () => (await page.locator('[role=table]').first().getAttribute('aria-rowcount')) === String(ROWS + 1));
    await page.waitForTimeout(300);
    assert.deepEqual(await inSight(), before);
    assert.equal((await page.locator(`[data-run="${before[3]}"]`).boundingBox()).y, y.y);
    for (const q of asked.slice(1)) assert.ok(q.get('ids') || q.get('cursor'), 'the list was asked from its beginning');
    await scroller().evaluate((e) => (e.scrollTop = 0));
    await page.locator('[data-run="LON-NEW"]').waitFor();
    assert.equal((await inSight())[0], 'LON-NEW');
    born = [];
  });

  it('is walked by keys, row by row', async () => {
    await open();
    for (let i = 0; i < 60; i++) await page.keyboard.press('j');
    await until('the sixtieth row', async () => (await page.locator('.focused').getAttribute('data-run')) === 'LON-99941');
    assert.ok((await inSight()).includes('LON-99941'));
    await page.keyboard.press('k');
    await page.keyboard.press('x');
    await until('it is selected', () => address().searchParams.get('sel') === 'LON-99942');
  });

  it('has columns that are moved and made wider, by hand and by keys, and kept in the address', async () => {
    await open('?cols=step,metric:loss,min:loss,config:lr,age');
    const heads = () => page.locator('[data-column]').evaluateAll((list) => list.map((e) => e.getAttribute('data-column')));
    assert.deepEqual(await heads(), ['name', 'step', 'metric:loss', 'min:loss', 'config:lr', 'age']);
    assert.match(await page.locator('[data-run="LON-100000"]').innerText(), /100[\s\S]*−1e5|−100/);
    await page.locator('[data-column="config:lr"]').dragTo(page.locator('[data-column=step]'));
    await until('moved', async () => (await heads())[1] === 'config:lr');
    assert.equal(address().searchParams.get('cols'), 'config:lr,step,metric:loss,min:loss,age');
    await page.locator('[data-column="metric:loss"] button').focus();
    await page.keyboard.press('Alt+ArrowRight');
    await until('moved by a key', () => address().searchParams.get('cols') === 'config:lr,step,min:loss,metric:loss,age');
    const width = async () => (await page.locator('[data-column="metric:loss"]').boundingBox()).width;
    const before = await width();
    const edge = await page.locator('[data-column="metric:loss"] .edge').boundingBox();
    await page.mouse.move(edge.x + 3, edge.y + 8);
    await page.mouse.down();
    await page.mouse.move(edge.x + 53, edge.y + 8, { steps: 5 });
    await page.mouse.up();
    await until('wider', async () => Math.abs((await width()) - before - 50) <= 2);
    assert.equal(address().searchParams.get('cw'), `metric:loss=${before + 50}`);
    await page.reload();
    await page.locator('[data-run]').first().waitFor();
    assert.equal(await width(), before + 50);
    assert.deepEqual(await heads(), ['name', 'config:lr', 'step', 'min:loss', 'metric:loss', 'age']);
  });
});

describe('the filter box', () => {
  it('is quiet while one types, says one line after Enter, and does not pretend that nothing matches', async () => {
    await page.unroute('**/api/v1/runs?**', answerRuns);
    await page.goto(`${BASE}/projects/${encodeURIComponent(world.project)}`);
    await page.locator('[data-run]').first().waitFor();
    const rows = await page.locator('[data-run]').count();
    await page.locator('[data-search]').click();
    await page.keyboard.type('status:nonsen');
    await page.waitForTimeout(700);
    assert.equal(await page.getByRole('alert').count(), 0, 'it complains while one types');
    await page.keyboard.press('Enter');
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.ok((await alert.boundingBox()).height <= 22, 'one line');
    assert.equal(await page.getByText('No run matches.').count(), 0);
    assert.equal(await page.locator('[data-run]').count(), rows, 'the rows that were there stay');
    await page.fill('[data-search]', '');
    await until('it is gone', async () => (await page.getByRole('alert').count()) === 0);
    // The console tells of requests that were refused.
    complaints.splice(0);
    await page.route('**/api/v1/runs?**', answerRuns);
  });

  it('completes names of the whole project', async () => {
    await open();
    await page.locator('[data-search]').click();
    await page.keyboard.type('los');
    await page.getByRole('option', { name: 'loss', exact: true }).waitFor();
    await page.keyboard.press('Escape');
  });
});

describe('ten thousand metrics', () => {
  const names = Array.from({ length: 10_000 }, (_, i) => `layer${Math.floor(i / 100)}/m${i % 100}`);

  it('are sections whose charts are made when they come into sight', async () => {
    await page.route('**/api/v1/outlines?**', (route) => route.fulfill({ json: new URL(route.request().url()).searchParams.get('runs').split(',').map((run) => ({ run, metrics: names, ghosts: [] })) }));
    const series = [];
    const note = (request) => {
      if (request.url().endsWith('/api/v1/series')) series.push(request.postDataJSON());
    };
    page.on('request', note);
    const began = Date.now();
    await open('?eye=LON-100000,LON-99999');
    await page.locator('[data-metric="layer0/m0"] .u-over').waitFor();
    console.log(`10,000 metrics: first chart after ${Date.now() - began} ms`);
    assert.ok((await page.locator('[data-metric]').count()) < 100);
    await counts(page.locator('section h2'), 100);
    const charts = new Set(series.flatMap((s) => s.series.map((x) => x.metric))).size;
    assert.ok(charts < 60, `${charts} charts were asked for`);
    assert.ok(series.filter((s) => s.pixels > 100).length <= 4, 'charts that come into sight together are one request');

    await page.locator('.charts').evaluate((e) => (e.scrollTop = e.scrollHeight / 2));
    await page.waitForTimeout(600);
    assert.ok((await page.locator('[data-metric]').count()) < 100, 'charts out of sight are taken away');
    await present(page.locator('[data-metric] .u-over'));

    await page.locator('.charts').evaluate((e) => (e.scrollTop = 0));
    const typed = Date.now();
    await page.fill('[data-chart-filter]', '^layer4\\d/m99$');
    await page.getByText('10 of 10000 metrics').waitFor();
    console.log(`regex over 10,000 metrics: ${Date.now() - typed} ms in the browser`);
    await counts(page.locator('section h2'), 10);
    await page.fill('[data-chart-filter]', 'm99(');
    await page.getByText('taken as plain text').waitFor();
    page.off('request', note);
  });
});
