/**
 * What a person waits for on a store of 100,000 runs, in a real browser: prints `what <tab> milliseconds` rows.
 *
 *   RUNTREE_URL=http://127.0.0.1:6780 node bench/large_browser.mjs
 *
 * The store is the one of `crates/engine/examples/big_store.rs`, behind the real server. "Interactive" is when what was asked for stands
 * there and the page has answered to the mouse.
 */
import assert from 'node:assert/strict';

import { BASE, get, openBrowser, post, until } from '../web/e2e/world.mjs';

const ROUNDS = 5;
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const tell = (what, ...milliseconds) => console.log([what, ...milliseconds.map((ms) => ms.toFixed(1))].join('\t'));

const { browser, page, complaints } = await openBrowser();

/** Time from the address to the end of `there`, of a page that nothing is kept of; median and each round. */
async function opened(what, address, there) {
  const times = [];
  for (let round = 0; round < ROUNDS; round++) {
    await page.goto('about:blank');
    const began = performance.now();
    await page.goto(BASE + address, { waitUntil: 'commit' });
    await there();
    times.push(performance.now() - began);
  }
  tell(what, median(times), Math.min(...times), times[0]);
}

/** The longest time between two frames while `work` goes on, and their median. */
async function frames(work) {
  await page.evaluate(() => {
    window.gaps = [];
    window.watching = true;
    let before = performance.now();
    const tick = (now) => {
      window.gaps.push(now - before);
      before = now;
      if (window.watching) requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
  await work();
  return page.evaluate(() => {
    window.watching = false;
    return window.gaps.slice(1);
  });
}

async function main() {
  const { runs: newest, total } = await get('/runs?project=big&limit=1&sort=created');
  assert.ok(total > 1000, 'make the store first: bench.py --only large-store');
  await opened(`table of ${total} runs: interactive`, '/projects/big', async () => {
    const row = page.locator(`[data-run="${newest[0].display_id}"]`).first();
    await row.waitFor();
    await row.hover();
    await page.waitForFunction((id) => document.querySelector(`[data-run="${id}"]`)?.matches(':hover'), newest[0].display_id);
  });

  const { runs } = await get('/runs?project=siblings&limit=100');
  const ids = runs.map((run) => run.display_id);
  const plot = page.locator('[data-metric=loss] .u-over');
  const compare = `/projects/siblings?table=0&eye=${ids.join(',')}`;
  let answers = [];
  page.on('response', async (response) => {
    if (!response.url().endsWith('/api/v1/series')) return;
    try {
      answers.push({ request: response.request().postDataJSON(), answer: await response.json() });
    } catch {
      // Given up for a later one: no answer.
    }
  });
  // Counted when they have come, not when this process has read them, too: the page does not wait for that.
  let come = 0;
  page.on('requestfinished', (request) => {
    if (request.url().endsWith('/api/v1/series')) come += request.postDataJSON().series.length;
  });
  const drawn = async () => {
    while (come < ids.length) await new Promise((later) => setTimeout(later, 5));
  };
  await opened(`compare page, ${ids.length} runs of ${runs[0].last_step + 1} points: interactive`, compare, async () => {
    come = 0;
    await plot.waitFor();
    await drawn();
    const { x, y, width, height } = await plot.boundingBox();
    await page.mouse.move(x + width / 3, y + height / 2);
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.waitForFunction(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))));
  });

  const zoomed = [];
  const gaps = [];
  for (let round = 0; round < ROUNDS; round++) {
    answers = [];
    come = 0;
    const { x, y, width, height } = await plot.boundingBox();
    gaps.push(...(await frames(async () => {
      await page.mouse.move(x + width * 0.3, y + height / 2);
      await page.mouse.down();
      await page.mouse.move(x + width * 0.6, y + height / 2, { steps: 20 });
      const began = performance.now();
      await page.mouse.up();
      await drawn();
      await page.waitForFunction(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))));
      zoomed.push(performance.now() - began);
      for (let i = 0; i < 20; i++) await page.mouse.move(x + (width * (i + 1)) / 22, y + height * (0.3 + (i % 5) / 10));
    })));
    await until('their numbers', () => answers.length > 0);
    await check(answers);
  }
  tell('zoom on them, from the mouse button to the curves', median(zoomed), Math.min(...zoomed), zoomed[0]);
  const sorted = [...gaps].sort((a, b) => a - b);
  tell('frames while zooming and hovering: median, 95 of 100, longest', median(gaps), sorted[Math.floor(sorted.length * 0.95)], sorted.at(-1));
  assert.deepEqual(complaints, []);
}

/** What was drawn of a zoom is what its points say: counted and compared at a width where every point is a bucket of its own. */
async function check(seen) {
  const { request, answer } = seen.at(-1);
  const { run, metric } = answer.series[0];
  const buckets = answer.series[0];
  const at = buckets.count.length >> 1;
  const [from, to] = [buckets.x_first[at], buckets.x_last[at]];
  const close = await post('/series', { series: [{ run, metric, attempt: null }], x: request.x, from, to, pixels: 65_536, inherited: true });
  const points = close.series[0];
  assert.equal(buckets.count[at], points.count.reduce((sum, n) => sum + n, 0));
  assert.equal(buckets.min[at], Math.min(...points.min));
  assert.equal(buckets.max[at], Math.max(...points.max));
  assert.equal(buckets.first[at], points.first[0]);
  assert.equal(buckets.last[at], points.last.at(-1));
}

try {
  await main();
} finally {
  await browser.close();
}
