/** The browser, the server under test, and what its store holds: tests ask for "a fork", not for names. */
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const BASE = (process.env.RUNTREE_URL ?? '').replace(/\/$/, '');
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-dev-shm-usage', '--disable-default-apps', '--no-default-browser-check',
];

export async function get(path) {
  const response = await fetch(`${BASE}/api/v1${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

const send = (method) => async (path, body) => {
  const response = await fetch(`${BASE}/api/v1${path}`, { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
};
export const post = send('POST');
export const patch = send('PATCH');

const MAIN = [/^(train\/)?loss$/i, /^(val|valid|eval|test)\/loss$/i, /reward/i, /loss/i, /acc/i];

/** A project with a fork that has points of its own, its owner, and a metric both have. */
export async function findWorld() {
  const projects = await get('/projects');
  for (const project of projects) {
    const { runs, total } = await get(`/runs?project=${encodeURIComponent(project.name)}&limit=1000`);
    for (const child of [...runs].reverse()) {
      const owner = runs.find((r) => r.id === child.owner?.id);
      if (!owner || child.fork_step === null || child.fork_step === undefined || owner.root !== owner.id) continue;
      const names = Object.keys(child.metrics);
      const metric = MAIN.map((re) => names.find((n) => re.test(n))).find(Boolean) ?? names[0];
      if (!metric) continue;
      const own = await post('/series', { series: [{ run: child.id, metric, attempt: null }], x: 'step', from: null, to: null, pixels: 500, inherited: false });
      if ((own.series[0]?.points ?? 0) < 3) continue;
      return { project: project.name, runs, total, child, owner, metric, steps: { forkStep: child.fork_step } };
    }
  }
  throw new Error('this store has no fork with points of its own');
}

export async function openBrowser() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', permissions: ['clipboard-read', 'clipboard-write'] });
  const complaints = [];
  const page = await context.newPage();
  page.on('pageerror', (e) => complaints.push(e.message));
  page.on('console', (m) => {
    if (m.type() === 'error' && !/status of 4\d\d/.test(m.text())) complaints.push(m.text());
  });
  page.setDefaultTimeout(15_000);
  return { browser, page, complaints };
}

/** Ink of curves: pixels of the chart's canvas that have colour, between two offsets (CSS px) from the plot's left edge. */
export async function inkBetween(page, metric, from, to) {
  return page.evaluate(({ metric: name, from: a, to: b }) => {
    const chart = document.querySelector(`[data-metric="${CSS.escape(name)}"]`);
    const canvas = chart.querySelector('canvas');
    const over = chart.querySelector('.u-over').getBoundingClientRect();
    const frame = canvas.getBoundingClientRect();
    const ratio = canvas.width / frame.width;
    const x = Math.round((over.left - frame.left + a) * ratio);
    const width = Math.max(1, Math.round((b - a) * ratio));
    const { data } = canvas.getContext('2d').getImageData(x, Math.round((over.top - frame.top) * ratio), width, Math.round(over.height * ratio));
    let ink = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, bl, alpha] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
      if (alpha > 40 && Math.max(r, g, bl) - Math.min(r, g, bl) > 40) ink++;
    }
    return ink;
  }, { metric, from, to });
}

export const chart = (page, metric) => page.locator(`[data-metric="${metric.replaceAll('"', '\\"')}"]`).first();

/** Where the plot and a run's fork line stand on the page. */
export async function measure(page, metric, run) {
  const plot = await chart(page, metric).locator('.u-over').boundingBox();
  const line = await chart(page, metric).locator(`[data-fork="${run}"] .line`).boundingBox();
  return { plot, offset: line.x - plot.x };
}

/** Records every chart request with its answer. */
export function recordSeries(page) {
  const seen = [];
  page.on('response', async (response) => {
    if (!response.url().endsWith('/api/v1/series') || response.request().method() !== 'POST') return;
    try {
      seen.push({ request: response.request().postDataJSON(), answer: await response.json() });
    } catch {
      // The page went away or the request was given up: not an answer.
    }
  });
  return seen;
}

export async function until(what, check, timeout = 10_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((r) => setTimeout(r, 100));
  }
}

/** Waits until so many are there: what is drawn piece by piece is not all there with its first piece. */
export async function counts(locator, wanted) {
  let seen = -1;
  await until(`${wanted} of ${locator}`, async () => (seen = await locator.count()) === wanted).catch((e) => {
    throw new Error(`${e.message}, which has ${seen}`);
  });
}

export const present = (locator) => locator.first().waitFor({ state: 'attached' });

export async function keepShot(page, name) {
  const dir = new URL('../test-results/', import.meta.url).pathname;
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: `${dir}${name.replaceAll(/[^a-z0-9]+/gi, '-')}.png` });
}
