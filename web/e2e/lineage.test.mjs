/** Families: what forks changed, heads, sweeps, forks from a point of a curve, abandoned tails; and views that are saved. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, it } from 'node:test';

import { BASE, chart, counts, findWorld, get, inkBetween, keepShot, measure, openBrowser, post, present, recordSeries, until } from './world.mjs';

const { RUNTREE_PYTHON: python, RUNTREE_E2E_STORE: store } = process.env;
let world;
let browser;
let page;
let complaints;

before(async () => {
  world = await findWorld();
  ({ browser, page, complaints } = await openBrowser());
});
after(async () => {
  await browser?.close();
});
afterEach(async (t) => {
  if (t.passed === false && page) await keepShot(page, t.name);
  assert.deepEqual(complaints.splice(0), [], 'the page complained in the console');
});

const address = () => new URL(page.url());
const runUrl = (run, query = '') => `${BASE}/runs/${encodeURIComponent(run.display_id)}${query}`;
const projectUrl = (query = '') => `${BASE}/projects/${encodeURIComponent(world.project)}${query}`;
const drawn = (metric) => chart(page, metric).locator('.u-over').waitFor();

/** The page in the middle of a chart, on the curve of its only run. */
async function pointAt(metric, part) {
  const { plot } = await measure(page, metric, world.child.id);
  // The curve is where the ink is: looked for from the bottom up in one column.
  const y = await page.evaluate(({ name, x }) => {
    const canvas = document.querySelector(`[data-metric="${CSS.escape(name)}"] canvas`);
    const frame = canvas.getBoundingClientRect();
    const ratio = canvas.width / frame.width;
    const { data } = canvas.getContext('2d').getImageData(Math.round((x - frame.left) * ratio), 0, 1, canvas.height);
    for (let i = 0; i < canvas.height; i++) if (data[4 * i + 3] > 40 && Math.max(data[4 * i], data[4 * i + 1], data[4 * i + 2]) - Math.min(data[4 * i], data[4 * i + 1], data[4 * i + 2]) > 40) return frame.top + i / ratio;
    return null;
  }, { name: metric, x: plot.x + plot.width * part });
  return { x: plot.x + plot.width * part, y: y ?? plot.y + plot.height / 2 };
}

describe('the lineage', () => {
  it('says on every fork edge what it changed', async () => {
    const tree = await get(`/runs/${world.child.display_id}/lineage`);
    await page.goto(`${BASE}/lineage/${world.child.display_id}`);
    await page.locator('[data-lane]').first().waitFor();
    for (const member of tree.runs.filter((r) => r.config_diff.length > 0 && r.summary.fork_step !== null)) {
      const text = await page.locator(`[data-change="${member.summary.display_id}"]`).textContent();
      assert.ok(text.startsWith(member.config_diff[0].key.slice(0, 7)), `${member.summary.display_id}: ${text}`);
    }
  });

  it('has a head, which is chosen and let go', async () => {
    const before = await get(`/runs/${world.child.display_id}/lineage`);
    await page.locator('[data-head]').waitFor();
    await counts(page.locator('[data-head]'), 1);
    if (before.head_is_set) await page.locator('[data-clear-head]').click();
    await page.locator('[data-set-head]').click();
    await page.locator('[data-clear-head]').waitFor();
    const chosen = await get(`/runs/${world.owner.display_id}/lineage`);
    assert.deepEqual([chosen.head_is_set, chosen.head.display_id], [true, world.child.display_id]);
    await present(page.locator('.label', { has: page.locator('[data-head]') }).getByText(world.child.display_id, { exact: true }));
    await page.locator('[data-clear-head]').click();
    await page.locator('[data-clear-head]').waitFor({ state: 'detached' });
    assert.equal((await get(`/runs/${world.owner.display_id}/lineage`)).head_is_set, false);
  });
});

describe('a sweep', () => {
  it('is the forks of a checkpoint side by side, with what differs and who was best', async () => {
    const stored = (await get(`/runs/${world.owner.display_id}/checkpoints`)).find((c) => c.state === 'complete' && c.step === world.child.fork_step) ?? (await get(`/runs/${world.owner.display_id}/checkpoints`)).find((c) => c.state === 'complete');
    for (const lr of [0.5, 0.25]) await post('/forks', { reference: stored.reference, name: `swept-${lr}-${Date.now()}`, config: { lr }, tags: [] });
    const sweep = await get(`/sweep?ref=${encodeURIComponent(stored.reference)}`);
    await page.goto(`${BASE}/lineage/${world.owner.display_id}?ck=${encodeURIComponent(stored.id)}`);
    await page.locator('[data-panel] [data-sweep-link]').click();
    await page.locator('[data-sweep]').waitFor();
    assert.equal(address().pathname, '/sweep');
    await counts(page.locator('[data-sweep-row]'), sweep.runs.length + 1);
    for (const key of sweep.config_keys) await present(page.getByRole('columnheader', { name: key }));
    await page.locator('[data-sweep]').getByTitle('Sort by config lr').click();
    await until('sorted', () => address().searchParams.get('sort') === 'config:lr');
    const column = 1 + sweep.config_keys.indexOf('lr') + 1;
    const values = (await page.locator(`[data-sweep] tbody tr > :nth-child(${column})`).allInnerTexts()).filter((t) => t !== '–').map(Number);
    assert.deepEqual(values, [...values].sort((a, b) => a - b));
    await drawn(world.metric);
  });
});

describe('a point of a curve', () => {
  it('tells whose it is, run and launch, inherited or own', async () => {
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    await page.waitForTimeout(600);
    const { plot, offset } = await measure(page, world.metric, world.child.id);
    const own = await pointAt(world.metric, (offset + plot.width) / 2 / plot.width);
    await page.mouse.move(own.x, own.y);
    const tip = page.locator('[data-tip]');
    await tip.getByText(/^own/).first().waitFor();
    assert.match(await tip.innerText(), /steps? [\d\u202f]+/);
    const foreign = await pointAt(world.metric, offset / 2 / plot.width);
    await page.mouse.move(foreign.x, foreign.y);
    await tip.getByText(`inherited from ${world.owner.display_id}`).first().waitFor();
  });

  it('offers a fork from the nearest checkpoint before it, and the lines that go on with it work', async () => {
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    await page.waitForTimeout(600);
    const at = await pointAt(world.metric, 0.93);
    await page.mouse.click(at.x, at.y);
    const menu = page.locator('[data-point-menu]');
    await menu.locator('[data-fork-go]').waitFor();
    const step = Number(/step ([\d\u202f]+)/.exec(await menu.innerText())[1].replaceAll('\u202f', ''));
    const before = (await get(`/runs/${world.child.display_id}/checkpoints`)).filter((c) => c.state === 'complete' && c.step <= step);
    const nearest = before.at(-1);
    assert.ok((await menu.innerText()).includes(`Fork from ${nearest.reference}`), await menu.innerText());
    await menu.locator('[data-fork-config]').fill('lr');
    await menu.getByRole('alert').getByText('“lr” is not key=value').waitFor();
    assert.ok(await menu.locator('[data-fork-go]').isDisabled());
    const name = `from-a-point-${Date.now()}`;
    await menu.locator('[data-fork-name]').fill(name);
    await menu.locator('[data-fork-config]').fill('lr=0.125');
    await menu.locator('[data-fork-go]').click();
    const id = await menu.locator('[data-forked]').getAttribute('data-forked');
    const made = await get(`/runs/${id}`);
    assert.deepEqual([made.summary.name, made.summary.fork_step, made.summary.config.lr], [name, nearest.step, 0.125]);
    if (!python || !store) return;
    const lines = (await menu.locator('pre').allInnerTexts()).find((t) => t.startsWith('import runtree'));
    const told = execFileSync(python, ['-c', `${lines}\nprint("as", run.display_id, run.next_step, run.config["lr"], state is not None)\nrun.finish()`], { env: { ...process.env, RUNTREE_STORE: store }, encoding: 'utf8' });
    assert.match(told, new RegExp(`as ${id} ${nearest.step + 1} 0.125 True`));
  });
});

describe('a metric on the x axis', () => {
  it('is found by its name, kept in the address, and fork lines stand where it was then', async () => {
    const other = Object.keys(world.child.metrics).find((m) => m !== world.metric);
    if (!other || !store) return;
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    const seen = recordSeries(page);
    await page.locator('[data-x=metric]').click();
    await page.getByRole('combobox', { name: 'Metric of the x axis' }).fill(other);
    await page.keyboard.press('Enter');
    await until('the address', () => address().searchParams.get('x')?.endsWith(`:${other}`));
    const answer = await until('the answer', () => seen.find((s) => s.request.x_metric?.metric === other && s.request.series.some((x) => x.metric === world.metric)));
    const s = answer.answer.series[answer.request.series.findIndex((x) => x.metric === world.metric)];
    await page.waitForTimeout(500);
    const { plot, offset } = await measure(page, world.metric, world.child.id);
    const places = s.place_first.concat(s.place_last).map(Number).filter(Number.isFinite);
    const start = s.segments.find((g) => g.run === world.child.id).place_start;
    const [from, to] = [Math.min(...places, start), Math.max(...places, start)];
    assert.ok(Math.abs(offset - ((start - from) / (to - from)) * plot.width) <= 2, `at ${offset}`);
    assert.ok((await inkBetween(page, world.metric, 0, plot.width)) > 20);
  });
});

describe('abandoned tails', () => {
  it('are drawn dotted, and hidden when one does not want them', async () => {
    let run = null;
    for (const r of world.runs.filter((x) => x.attempt > 1)) {
      const [outline] = await get(`/outlines?runs=${r.id}`);
      if (outline.ghosts.length > 0) run = { ...r, ghost: outline.ghosts[0] };
    }
    assert.ok(run, 'this store has no resumed run');
    const seen = recordSeries(page);
    await page.goto(runUrl(run));
    await until('the tail is asked for', () => seen.some((s) => s.request.series.some((x) => x.attempt === run.ghost.attempt)));
    await page.locator('[data-ghosts]').waitFor();
    assert.equal(await page.locator('[data-ghosts]').getAttribute('aria-pressed'), 'true');
    await page.keyboard.press('a');
    await until('the address', () => address().searchParams.get('gh') === '0');
    seen.length = 0;
    await page.reload();
    await drawn(Object.keys(run.metrics)[0]);
    await page.waitForTimeout(500);
    assert.ok(seen.every((s) => s.request.series.every((x) => (x.attempt ?? null) === null)));
    await page.goto(projectUrl(`?eye=${run.display_id}`));
    await page.locator('[data-ghosts]').waitFor();
  });
});

describe('views', () => {
  it('are saved, opened, renamed and deleted; one opens by itself', async () => {
    const menu = page.locator('[data-views]');
    const openMenu = async () => {
      if ((await menu.locator('.menu').count()) === 0) await menu.getByRole('button').first().click();
      await menu.locator('.menu').waitFor();
    };
    await page.goto(projectUrl('?x=wall&sm=0.5&q=nothing-like-it'));
    await openMenu();
    const name = `slow ${Date.now()}`;
    await menu.locator('[data-view-name]').fill(name);
    await menu.getByRole('button', { name: 'Save', exact: true }).click();
    await until('it is this view', () => address().searchParams.get('view') === name);
    await page.goto(projectUrl('?x=relative'));
    await page.locator('[data-run]').first().waitFor();
    await openMenu();
    await menu.locator(`[data-view="${name}"] .name`).click();
    await until('it is opened', () => address().searchParams.get('x') === 'wall' && address().searchParams.get('sm') === '0.5' && address().searchParams.get('q') === 'nothing-like-it');
    await page.keyboard.press('l');
    await menu.getByRole('button', { name: `${name} *` }).waitFor();
    await openMenu();
    await menu.getByRole('button', { name: `Rename ${name}` }).click();
    await menu.getByRole('textbox', { name: `New name of ${name}` }).fill('default');
    await page.keyboard.press('Enter');
    await menu.locator('[data-view=default]').waitFor();
    assert.equal(await menu.locator(`[data-view="${name}"]`).count(), 0);
    await page.goto(projectUrl());
    await until('the default opens by itself', () => address().searchParams.get('x') === 'wall');
    await openMenu();
    await menu.getByRole('button', { name: 'Without a view' }).click();
    await until('without it', () => address().search === '?view=-');
    await page.locator('[data-run]').first().waitFor();
    await openMenu();
    await menu.getByRole('button', { name: 'Delete default' }).click();
    await menu.getByRole('button', { name: 'Delete default' }).click();
    await menu.locator('[data-view=default]').waitFor({ state: 'detached' });
    await page.goto(projectUrl());
    await page.locator('[data-run]').first().waitFor();
    assert.equal(address().search, '');
  });
});
