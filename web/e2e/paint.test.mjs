/** What a repaint costs: twenty runs of a thousand buckets each, made up here. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { BASE, openBrowser } from './world.mjs';

const RUNS = 20;
const BUCKETS = 1000;
let browser;
let page;

const row = (n) => ({
  id: `0${n.toString(32).padStart(25, '0')}`, display_id: `PAI-${n}`, number: n, key: null, name: `run ${n}`, project: 'paint', experiment: 'e', root: `0${n.toString(32).padStart(25, '0')}`, status: 'completed', status_reason: null,
  created: 1_795_000_000_000_000 + n * 1e6, last_activity: 1, attempt: 1, parent: null, owner: null, fork_step: null, base: null, children: 0, last_step: 999_999, metrics: {}, config: {}, tags: [], checkpoints: 0, first_nonfinite: null, deleted: false,
});
function buckets(s) {
  const at = Array.from({ length: BUCKETS }, (_, i) => i);
  const mean = at.map((i) => Math.sin(i / 50 + parseInt(s.run, 32)) + i / 500);
  return {
    run: s.run, metric: s.metric, attempt: null, points: 1e6, logged: 1e6, x_first: at.map((i) => i * 1000), x_last: at.map((i) => i * 1000 + 999), min: mean.map((v) => v - 0.2), max: mean.map((v) => v + 0.2), mean, first: mean, last: mean,
    count: at.map(() => 1000), nonfinite: at.map(() => 0), segment: at.map(() => 0), segments: [{ run: s.run, attempt: 1, inherited: false, x_start: 0 }],
  };
}

before(async () => {
  ({ browser, page } = await openBrowser());
  await page.route('**/api/v1/runs?**', (route) => route.fulfill({ json: { runs: Array.from({ length: RUNS }, (_, i) => row(RUNS - i)), total: RUNS, next_cursor: null } }));
  await page.route('**/api/v1/projects/paint/**', (route) => route.fulfill({ json: route.request().url().endsWith('/keys') ? { metrics: ['loss'], config: [], tags: [] } : [] }));
  await page.route('**/api/v1/outlines?**', (route) => route.fulfill({ json: Array.from({ length: RUNS }, (_, i) => ({ run: row(RUNS - i).id, metrics: ['loss'], ghosts: [] })) }));
  await page.route('**/api/v1/series', (route) => route.fulfill({ json: { series: route.request().postDataJSON().series.map(buckets) } }));
});
after(async () => {
  await browser?.close();
});

describe('a chart with twenty runs of a million points', () => {
  it('is repainted within a frame or two, hovered and zoomed', async () => {
    await page.goto(`${BASE}/projects/paint?table=0&eye=${Array.from({ length: RUNS }, (_, i) => `PAI-${i + 1}`).join(',')}`);
    await page.locator('[data-metric=loss] .u-over').waitFor();
    await page.waitForTimeout(800);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('Performance.enable');
    const script = async () => (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'ScriptDuration').value * 1000;
    const { x, y, width, height } = await page.locator('[data-metric=loss] .u-over').boundingBox();
    const moves = 60;
    await page.mouse.move(x + 5, y + 5);
    let began = await script();
    // From curve to curve: each lights up, the others fade, everything is painted again.
    for (let i = 0; i < moves; i++) await page.mouse.move(x + 10 + ((width - 20) * i) / moves, y + height * (0.2 + 0.6 * ((i * 7) % 10) / 10));
    await page.waitForTimeout(100);
    const hover = ((await script()) - began) / moves;
    began = await script();
    await page.mouse.move(x + width * 0.4, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + width * 0.6, y + height / 2, { steps: 5 });
    await page.mouse.up();
    await page.waitForTimeout(700);
    const zoom = (await script()) - began;
    console.log(`${RUNS} runs × ${BUCKETS} buckets: ${hover.toFixed(1)} ms of script a hover with its repaint, ${zoom.toFixed(0)} ms for a zoom, its answer and its repaints`);
    assert.ok(hover < 50, `${hover} ms`);
    assert.ok(zoom < 1500, `${zoom} ms`);
  });
});
