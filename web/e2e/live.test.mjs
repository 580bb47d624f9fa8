/** A run goes on while its pages are open: they ask for what is new, and for nothing else. Needs a server on a store that Python can write to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { BASE, get, keepShot, openBrowser, post, until } from './world.mjs';

const { RUNTREE_PYTHON: python, RUNTREE_E2E_STORE: store } = process.env;
const UPDATES = 20;
const METRICS = ['loss', 'train/m0', 'train/m1', 'train/m2', 'train/m3', 'val/loss'];

/** The run, the lines it prints, how it is ended. */
function begin() {
  const script = fileURLToPath(new URL('live_run.py', import.meta.url));
  const child = spawn(python, [script, store, '6000', '30'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { child, line: async () => (await lines.next()).value, end: () => child.stdin.end() };
}

/** Every request to the API while `during` runs, with the bytes of its answer. */
async function record(page, during) {
  const seen = [];
  const note = async (response) => {
    const url = new URL(response.url());
    if (!url.pathname.startsWith('/api/v1/') || url.pathname.endsWith('/events')) return;
    const request = response.request();
    const entry = { method: request.method(), path: url.pathname.slice(7), query: url.searchParams, body: request.method() === 'POST' ? request.postDataJSON() : null, bytes: 0 };
    seen.push(entry);
    entry.bytes = await response.body().then((b) => b.length, () => 0);
  };
  page.on('response', note);
  await during();
  page.off('response', note);
  await new Promise((resolve) => setTimeout(resolve, 200));
  return seen;
}

const sum = (list) => list.reduce((n, e) => n + e.bytes, 0);
const series = (seen) => seen.filter((e) => e.path === '/series');

describe('while a run goes on', { skip: python && store ? false : 'RUNTREE_PYTHON and RUNTREE_E2E_STORE are not set' }, () => {
  let run;
  let id;
  let browser;
  let page;
  let complaints;

  before(async () => {
    run = begin();
    id = await run.line();
    await until('the run is listed', async () => (await fetch(`${BASE}/api/v1/runs/${id}`)).ok, 20_000);
    ({ browser, page, complaints } = await openBrowser());
  });
  after(async () => {
    run?.end();
    await browser?.close();
  });
  afterEach(async (t) => {
    if (t.passed === false && page) await keepShot(page, t.name);
    assert.deepEqual(complaints.splice(0), []);
  });

  const step = async () => Number(((await page.locator('p.facts').innerText()).match(/step ([\d\u202f]+)/)?.[1] ?? '').replaceAll('\u202f', ''));
  /** Waits for so many changes of something shown. */
  async function changes(times, read) {
    let last = await read();
    for (let n = 0; n < times; n++) {
      await until('an update', async () => {
        const now = await read();
        const changed = now !== last;
        last = now;
        return changed;
      }, 15_000);
    }
  }

  it('its page asks for tails alone: one small request for all charts, one row for the header', async () => {
    const opened = await record(page, async () => {
      await page.goto(`${BASE}/runs/${id}`);
      for (const metric of METRICS) await page.locator(`[data-metric="${metric}"] .u-over`).waitFor();
      // On a busy machine a chart may be asked for whole once more while the page settles, and that takes as long as it takes.
      for (let tries = 0; tries < 10; tries++) {
        const settling = await record(page, async () => {
          await page.waitForTimeout(1500);
          await changes(2, step);
        });
        if (series(settling).every((e) => e.body.series.every((s) => Number.isInteger(s.from)))) break;
      }
    });
    const seen = await record(page, () => changes(UPDATES, step));
    const asked = series(seen);
    assert.ok(asked.length <= UPDATES + 3, `${asked.length} requests for charts in ${UPDATES} updates`);
    // Nearly all at once: six charts, one request.
    assert.ok(asked.some((e) => new Set(e.body.series.map((s) => s.metric)).size === METRICS.length));
    for (const e of asked) for (const s of e.body.series) assert.ok(Number.isInteger(s.from) && s.from >= 5900, `${s.metric} was asked for from ${s.from}`);
    const others = seen.filter((e) => e.path !== '/series');
    for (const e of others) assert.ok((e.path === '/runs' && e.query.get('ids')) || e.path === '/outlines', `${e.method} ${e.path} was asked again`);
    assert.ok(others.filter((e) => e.path === '/outlines').length <= 4);
    const each = sum(seen) / UPDATES;
    const whole = sum(series(opened));
    console.log(`run page: opening ${opened.length} requests ${sum(opened)} bytes (charts ${whole}); ${UPDATES} updates ${seen.length} requests ${sum(seen)} bytes, ${Math.round(each)} each`);
    // Thirty steps of six metrics are 160 points.
    assert.ok(each < whole / 5, `${Math.round(each)} bytes an update, ${whole} the charts`);
  });

  it('its charts end up as if they were asked for whole', async () => {
    const shown = async () => Number((await page.locator('[data-facts=loss]').innerText()).replaceAll('−', '-'));
    await changes(3, step);
    const now = await post('/series', { series: [{ run: id, metric: 'loss', attempt: null }], x: 'step', from: null, to: null, pixels: 10, inherited: true });
    const last = now.series[0].last.at(-1);
    await until('the last value', async () => (await shown()) <= last + 1e-3);
    // What was added is drawn: ink right up to the edge of the plot.
    const edge = await page.evaluate(() => {
      const chart = document.querySelector('[data-metric="loss"]');
      const over = chart.querySelector('.u-over').getBoundingClientRect();
      const canvas = chart.querySelector('canvas');
      const frame = canvas.getBoundingClientRect();
      const ratio = canvas.width / frame.width;
      const { data } = canvas.getContext('2d').getImageData(Math.round((over.right - frame.left - 12) * ratio), 0, Math.round(12 * ratio), canvas.height);
      let ink = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 40 && Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 40) ink++;
      return ink;
    });
    assert.ok(edge > 0, 'no ink at the right edge');
  });

  it('its table of metrics asks for the rows in sight', async () => {
    await page.goto(`${BASE}/runs/${id}?tab=metrics`);
    const cell = page.locator('[role=row]', { has: page.locator('[data-metric-row="loss"]') });
    await cell.waitFor();
    const seen = await record(page, () => changes(4, () => cell.innerText()));
    const asked = seen.filter((e) => e.path.endsWith('/metrics'));
    assert.ok(asked.length > 0);
    for (const e of seen) assert.ok(!/^\/runs\/[^/]+$/.test(e.path), `${e.path} was asked again`);
    for (const e of asked) assert.deepEqual(e.query.get('names').split(',').sort(), [...METRICS].sort());
  });

  it('its project’s page asks for its row and its tails', async () => {
    await page.goto(`${BASE}/projects/live`);
    const row = page.locator(`[data-run="${id}"]`);
    await row.waitFor();
    await page.locator('[data-metric="loss"] .u-over').waitFor();
    await page.waitForTimeout(1500);
    const seen = await record(page, () => changes(UPDATES, () => row.innerText()));
    for (const e of seen.filter((x) => x.path === '/runs')) assert.ok(e.query.get('ids'), 'the list was asked again');
    for (const e of series(seen)) for (const s of e.body.series) assert.ok(Number.isInteger(s.from), 'a curve was asked for whole');
    for (const e of seen) assert.ok(['/runs', '/series', '/outlines'].includes(e.path), e.path);
    console.log(`project page: ${UPDATES} updates ${seen.length} requests ${sum(seen)} bytes`);
    assert.ok(seen.length <= UPDATES * 4, `${seen.length} requests`);
  });

  it('its lineage has its lane grow, without the tree', async () => {
    await page.goto(`${BASE}/lineage/${id}`);
    const head = page.locator(`[data-lane="${id}"] circle.head`);
    await head.waitFor();
    await page.waitForTimeout(1500);
    const seen = await record(page, () => page.waitForTimeout(6000));
    assert.ok(seen.some((e) => e.path === '/runs' && e.query.get('ids')));
    for (const e of seen) assert.ok(!e.path.endsWith('/lineage'), 'the tree was asked again');
  });

  it('and ended, says so without being asked', async () => {
    await page.goto(`${BASE}/runs/${id}`);
    await page.locator('.header').getByText('running', { exact: true }).waitFor();
    run.end();
    await page.locator('.header').getByText('completed', { exact: true }).waitFor();
    const steps = Number(await run.line());
    await until('the last step', async () => (await step()) === steps - 1);
    assert.equal((await get(`/runs/${id}`)).summary.status, 'completed');
  });
});
