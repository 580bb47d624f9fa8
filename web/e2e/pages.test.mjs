/** The pages, in a real browser, on whatever store is served. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';

import { BASE, chart, counts, findWorld, get, inkBetween, keepShot, measure, openBrowser, patch, post, present, recordSeries, until } from './world.mjs';

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

const projectUrl = (query = '') => `${BASE}/projects/${encodeURIComponent(world.project)}${query}`;
const runUrl = (run, query = '') => `${BASE}/runs/${encodeURIComponent(run.display_id)}${query}`;
const drawn = (metric) => chart(page, metric).locator('.u-over').waitFor();
const address = () => new URL(page.url());

describe('the projects page', () => {
  it('leads to the project', async () => {
    await page.goto(BASE);
    await page.getByRole('link', { name: new RegExp(`^${world.project}`) }).first().click();
    await page.locator('[role=table]').waitFor();
    assert.equal(address().pathname, `/projects/${encodeURIComponent(world.project)}`);
  });
});

describe('the runs table', () => {
  it('lists the runs with status and the value last logged', async () => {
    await page.goto(projectUrl());
    const row = page.locator(`[data-run="${world.child.display_id}"]`);
    await row.waitFor();
    assert.match(await row.innerText(), new RegExp(world.child.display_id));
    assert.equal(await page.locator('[role=table]').getAttribute('aria-rowcount'), String(world.total));
    await present(row.getByText(world.child.status, { exact: true }));
  });

  it('draws the lineage between child and owner', async () => {
    const paths = await page.locator(`[data-run="${world.child.display_id}"] svg.graph path`).count();
    assert.ok(paths > 0, 'the fork has a connector');
  });

  it('searches, keeps the search in the address, and says when nothing matches', async () => {
    await page.keyboard.press('/');
    await page.keyboard.type(world.child.display_id);
    await until('the search is in the address', () => address().searchParams.get('q') === world.child.display_id);
    await until('only matching rows', async () => (await page.locator('[data-run]').count()) < world.total || world.total === 1);
    await present(page.locator(`[data-run="${world.child.display_id}"]`));
    await page.fill('[data-search]', 'nothing-is-called-this-xyzzy');
    await page.getByText('No run matches.').waitFor();
    await page.fill('[data-search]', 'status:nonsense');
    await page.getByRole('alert').waitFor();
    await page.fill('[data-search]', '');
    await until('all rows are back', async () => (await page.locator('[data-run]').count()) >= Math.min(world.total, 5));
    await page.locator('[data-search]').blur();
  });

  it('sorts by a column, both ways', async () => {
    const names = () => page.locator('[data-run] .name a').allInnerTexts();
    await page.getByRole('button', { name: 'Name', exact: false }).first().click();
    await until('sorted by name', () => address().searchParams.get('sort') === 'name');
    await page.locator('[aria-sort=descending]').waitFor();
    await page.getByRole('button', { name: 'Name', exact: false }).first().click();
    await page.locator('[aria-sort=ascending]').waitFor();
    await until('ascending', async () => {
      const got = await names();
      return got.length > 0 && got.every((n, i) => i === 0 || n.toLowerCase() >= (got[i - 1] ?? '').toLowerCase());
    });
    await page.goto(projectUrl());
    await page.locator('[data-run]').first().waitFor();
  });

  it('takes columns on and off', async () => {
    await page.getByRole('button', { name: 'Columns' }).click();
    const boxes = page.locator('.menu input[type=checkbox]');
    const before = await page.locator('[role=columnheader]').count();
    const unchecked = await boxes.evaluateAll((list) => list.findIndex((b) => !b.checked));
    if (unchecked >= 0) {
      await boxes.nth(unchecked).check();
      await until('one more column', async () => (await page.locator('[role=columnheader]').count()) === before + 1);
    } else {
      await boxes.first().uncheck();
      await until('one column less', async () => (await page.locator('[role=columnheader]').count()) === before - 1);
    }
    assert.ok(address().searchParams.get('cols'));
    await page.keyboard.press('Escape');
  });

  it('hides a run from the charts by its eye', async () => {
    const eye = page.locator(`[data-run="${world.child.display_id}"] .eye`);
    const before = await eye.getAttribute('aria-pressed');
    await eye.click();
    await until('the eye has changed', async () => (await eye.getAttribute('aria-pressed')) !== before);
    assert.ok(address().searchParams.get('eye'));
  });

  it('is walked, selected from and left by keys alone', async () => {
    await page.goto(projectUrl());
    await page.locator('[data-run]').first().waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('x');
    await page.keyboard.press('j');
    await page.keyboard.press('x');
    await until('two are selected', () => (address().searchParams.get('sel') ?? '').split(',').length === 2);
    await page.keyboard.press('c');
    await until('the comparison', () => address().pathname === '/compare');
    await page.keyboard.press('?');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.goBack();
    await page.locator('[data-run]').first().waitFor();
    await page.keyboard.press('k');
    await page.keyboard.press('g');
    await page.keyboard.press('l');
    await until('the lineage', () => address().pathname.startsWith('/lineage/'));
  });

  it('shows a run that is born meanwhile without being asked', async () => {
    await page.goto(projectUrl());
    await page.locator('[data-run]').first().waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    const [stored] = await get(`/runs/${world.owner.display_id}/checkpoints`);
    if (!stored) return;
    const made = await post('/forks', { reference: stored.reference, name: `born-live-${Date.now()}`, tags: [] });
    await page.locator(`[data-run="${made.display_id}"]`).waitFor();
  });
});

describe('live updates', () => {
  it('fetch the rows that changed, not the list', async () => {
    await page.goto(projectUrl());
    await page.locator(`[data-run="${world.child.display_id}"]`).waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    await page.waitForTimeout(1500);
    const asked = [];
    const note = (request) => {
      const url = new URL(request.url());
      if (url.pathname === '/api/v1/runs') asked.push(url.searchParams.get('ids'));
    };
    page.on('request', note);
    const name = `seen-${Date.now()}`;
    await patch(`/runs/${world.child.id}`, { name });
    await page.locator(`[data-run="${world.child.display_id}"]`).getByText(name).waitFor();
    await patch(`/runs/${world.child.id}`, { name: world.child.name });
    await page.locator(`[data-run="${world.child.display_id}"]`).getByText(world.child.name, { exact: true }).waitFor();
    page.off('request', note);
    // Another run may go on meanwhile: rows of what changed, never the list.
    assert.ok(asked.length > 0 && asked.every((ids) => ids?.split(',').length <= 3), asked.join(' | '));
    assert.ok(asked.some((ids) => ids.includes(world.child.id)));
  });
});

describe('the run page', () => {
  it('shows the run, its ancestry and its charts', async () => {
    await page.goto(runUrl(world.child));
    await page.getByRole('heading', { name: world.child.name, exact: true }).waitFor();
    const chip = page.locator('.header').getByText(`↳ ${world.child.parent.display_id}`);
    await counts(chip, 1);
    await drawn(world.metric);
    await until('ink', async () => (await inkBetween(page, world.metric, 0, 400)) > 50);
  });

  it('has every tab, each with its address', async () => {
    for (const tab of ['Checkpoints', 'Lineage', 'Config', 'Logs', 'Files', 'System', 'Charts']) {
      await page.getByRole('tab', { name: new RegExp(`^${tab}`) }).click();
      await until(tab, () => (address().searchParams.get('tab') ?? 'charts') === tab.toLowerCase());
      assert.equal(await page.locator('[role=tabpanel] [role=alert]').count(), 0, `${tab} shows an error`);
    }
  });

  it('says first what differs from the parent', async () => {
    const detail = await get(`/runs/${world.child.display_id}`);
    await page.goto(runUrl(world.child, '?tab=config'));
    const first = page.locator('[role=tabpanel] table').first();
    await first.waitFor();
    for (const change of detail.config_diff) assert.ok((await first.innerText()).includes(change.key), change.key);
  });

  it('changes name, tags and notes', async () => {
    const [run] = (await get(`/runs?project=${encodeURIComponent(world.project)}&search=born-live&limit=1`)).runs;
    if (!run) return;
    await page.goto(runUrl(run));
    await page.locator('[data-edit]').click();
    const form = page.locator('[data-editor]');
    const name = `renamed-${Date.now()}`;
    await form.getByLabel('Name').fill(name);
    await form.getByLabel('Tags').fill('from-the-page second');
    await form.getByLabel('Notes').fill('written in a browser');
    await form.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('heading', { name }).waitFor();
    const now = await get(`/runs/${run.display_id}`);
    assert.deepEqual([now.summary.name, now.summary.tags, now.notes], [name, ['from-the-page', 'second'], 'written in a browser']);
  });

  it('warns of a loss that is not a number and offers the last good checkpoint', async () => {
    const bad = world.runs.find((r) => r.first_nonfinite);
    if (!bad) return;
    await page.goto(runUrl(bad));
    const banner = page.locator('.banner');
    await banner.waitFor();
    assert.match(await banner.innerText(), /not finite (from|at) step/);
    if (bad.first_nonfinite.last_good !== null && bad.first_nonfinite.last_good !== undefined) await present(banner.locator('[data-fork-last-good]'));
  });

  it('says what happened, what is safe and what to do when there is no such run', async () => {
    await page.goto(`${BASE}/runs/NOPE-999999`);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /NOPE-999999[\s\S]*Nothing was changed/);
  });
});

describe('the comparison', () => {
  it('draws both on shared charts and lists only what differs', async () => {
    const diff = await get(`/diff?a=${encodeURIComponent(world.owner.display_id)}&b=${encodeURIComponent(world.child.display_id)}`);
    await page.goto(`${BASE}/compare?runs=${world.owner.display_id},${world.child.display_id}`);
    await page.locator('[data-diff]').first().waitFor();
    const keys = await page.locator('[data-diff=config]').allInnerTexts();
    assert.deepEqual(keys.sort(), diff.config.map((c) => c.key).sort());
    await drawn(world.metric);
    assert.match((await chart(page, world.metric).locator('.plot').getAttribute('aria-label')) ?? '', /of 2 runs/);
  });

  it('draws the shared prefix once: hiding the child’s inherited part changes nothing on the chart', async () => {
    await until('ink', async () => (await inkBetween(page, world.metric, 0, 1e3)) > 50);
    await page.waitForTimeout(500);
    const { offset } = await measure(page, world.metric, world.child.id);
    const shared = await inkBetween(page, world.metric, 0, offset - 6);
    const seen = recordSeries(page);
    await page.keyboard.press('i');
    await until('asked again', () => seen.some((s) => s.request.inherited === false && s.request.series.some((x) => x.metric === world.metric)));
    await page.waitForTimeout(500);
    assert.equal(await inkBetween(page, world.metric, 0, offset - 6), shared);
    await page.keyboard.press('i');
  });
});

describe('grouping', () => {
  it('gives a family one colour, and says so in the address', async () => {
    await page.goto(projectUrl());
    await page.locator('[data-run]').first().waitFor();
    const colour = (run) => page.locator(`[data-run="${run.display_id}"] svg.graph circle`).getAttribute('fill');
    assert.notEqual(await colour(world.child), await colour(world.owner));
    await page.locator('[data-grouped]').click();
    await until('the address', () => address().searchParams.get('g') === '1');
    await until('one colour', async () => (await colour(world.child)) === (await colour(world.owner)));
    await page.reload();
    await page.locator('[data-run]').first().waitFor();
    assert.equal(await colour(world.child), await colour(world.owner));
  });
});

describe('inherited datapoints', () => {
  it('are obeyed with zoom, exactly, and kept in the address', async () => {
    const seen = recordSeries(page);
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    await until('the first answer', () => seen.some((s) => s.request.series.some((x) => x.metric === world.metric)));
    await page.waitForTimeout(400);
    const { plot, offset } = await measure(page, world.metric, world.child.id);
    assert.ok((await inkBetween(page, world.metric, 0, offset - 4)) > 0, 'the inherited part is drawn');

    // Zoom onto both sides of the fork.
    const left = Math.max(2, offset * 0.3);
    const right = Math.min(plot.width - 2, offset + (plot.width - offset) * 0.5);
    await page.mouse.move(plot.x + left, plot.y + plot.height / 2);
    await page.mouse.down();
    await page.mouse.move(plot.x + (left + right) / 2, plot.y + plot.height / 2, { steps: 4 });
    await page.mouse.move(plot.x + right, plot.y + plot.height / 2, { steps: 4 });
    await page.mouse.up();
    const zoomed = await until('the zoomed answer', () => seen.find((s) => s.request.from !== null && s.request.series.some((x) => x.metric === world.metric)));
    assert.equal(zoomed.request.inherited, true);
    assert.equal(zoomed.request.pixels, Math.round(plot.width));
    assert.equal(address().searchParams.get('z'), `${zoomed.request.from}:${zoomed.request.to}`);
    const own = (s) => s.answer.series[0].segments.filter((g) => !g.inherited).length;
    const foreign = (s) => s.answer.series[0].segments.filter((g) => g.inherited).length;
    assert.ok(foreign(zoomed) > 0 && own(zoomed) > 0, 'both parts are in the zoomed answer');
    const [s] = zoomed.answer.series;
    assert.ok(s.x_first[0] >= zoomed.request.from && s.x_last.at(-1) <= zoomed.request.to);
    assert.ok(s.x_first.length <= zoomed.request.pixels + s.segments.length);

    await page.waitForTimeout(400);
    const before = await measure(page, world.metric, world.child.id);
    assert.ok((await inkBetween(page, world.metric, 0, before.offset - 6)) > 0);
    await page.locator('[data-inherited]').click();
    const hidden = await until('own points alone', () => seen.find((x) => x.request.inherited === false && x.request.from === zoomed.request.from && x.request.to === zoomed.request.to && x.request.series.some((y) => y.metric === world.metric)));
    assert.equal(foreign(hidden), 0);
    assert.equal(address().searchParams.get('inh'), '0');
    await until('no inherited ink', async () => (await inkBetween(page, world.metric, 0, before.offset - 6)) === 0);
    assert.ok((await inkBetween(page, world.metric, before.offset, before.plot.width)) > 0, 'its own points stay');

    await page.reload();
    await drawn(world.metric);
    await until('the same view after a reload', async () => (await inkBetween(page, world.metric, before.offset, before.plot.width)) > 0 && (await inkBetween(page, world.metric, 0, before.offset - 6)) === 0);

    // What could not be sharpened is said, and asked for again by a click.
    const zoomsOnly = (route) => (route.request().postDataJSON().from === null ? route.continue() : route.abort());
    await page.route('**/api/v1/series', zoomsOnly);
    await page.locator('[data-inherited]').click();
    const stale = chart(page, world.metric).getByRole('button', { name: 'not up to date' });
    await stale.waitFor();
    await page.unroute('**/api/v1/series', zoomsOnly);
    await stale.click();
    await stale.waitFor({ state: 'detached' });
    // The console tells of requests that were cut off.
    complaints.splice(0);

    await page.mouse.dblclick(before.plot.x + before.plot.width / 2, before.plot.y + before.plot.height / 2);
    await until('the zoom is gone', () => address().searchParams.get('z') === null);
  });
});

describe('the fork line', () => {
  for (const axis of ['step', 'relative', 'wall']) {
    it(`stands on its pixel by ${axis}`, async () => {
      const seen = recordSeries(page);
      await page.goto(runUrl(world.child, axis === 'step' ? '' : `?x=${axis}`));
      await drawn(world.metric);
      const answer = await until('the answer', () => seen.find((s) => s.request.x === axis && s.request.from === null && s.request.series.some((x) => x.metric === world.metric)));
      const at = answer.request.series.findIndex((x) => x.metric === world.metric && (x.attempt ?? null) === null);
      const s = answer.answer.series[at];
      await page.waitForTimeout(400);
      const { plot, offset } = await measure(page, world.metric, world.child.id);
      // Every series of the request widens the axis: ghost tails of abandoned attempts are on it too.
      const ends = answer.answer.series.filter((x) => x.x_last.length > 0);
      const from = Math.min(...ends.map((x) => x.x_first[0]));
      const to = Math.max(...ends.map((x) => x.x_last.at(-1)));
      const fork = axis === 'step' ? world.child.fork_step : s.segments.find((g) => g.run === world.child.id).x_start;
      const expected = ((fork - from) / (to - from)) * plot.width;
      assert.ok(Math.abs(offset - expected) <= 1.5, `at ${offset.toFixed(1)} px, expected ${expected.toFixed(1)} px`);
      const label = await chart(page, world.metric).locator(`[data-fork="${world.child.id}"]`).innerText();
      assert.match(label.replaceAll(/\s/g, ' '), new RegExp(`fork @${world.child.fork_step} ← ${world.child.parent.display_id}`));
      assert.ok(expected >= 0 && expected <= plot.width);

      // What it marks is where the child's own ink begins: with the inherited part hidden it stands at the left edge, ink right after it.
      await page.locator('[data-inherited]').click();
      const own = await until('own points alone', () => seen.find((x) => x.request.inherited === false && x.request.series.some((y) => y.metric === world.metric)));
      const alone = own.answer.series[own.request.series.findIndex((x) => x.metric === world.metric && (x.attempt ?? null) === null)];
      const start = axis === 'step' ? world.child.fork_step : alone.segments.find((g) => g.run === world.child.id).x_start;
      const first = ((alone.x_first[0] - start) / (alone.x_last.at(-1) - start)) * plot.width;
      await until('the line at the edge', async () => Math.abs((await measure(page, world.metric, world.child.id)).offset) <= 1.5);
      await until('ink from its first own point on', async () => (await inkBetween(page, world.metric, Math.max(0, first), Math.max(0, first) + 60)) > 0);
    });
  }

  it('tells the config difference when pointed at', async () => {
    const detail = await get(`/runs/${world.child.display_id}`);
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    const line = chart(page, world.metric).locator(`[data-fork="${world.child.id}"]`);
    await line.locator('.flag').hover();
    const popup = line.locator('.popup');
    await popup.waitFor();
    for (const change of detail.config_diff.slice(0, 8)) await until(change.key, async () => (await popup.innerText()).includes(change.key));
  });
});

describe('the lineage page', () => {
  it('has a lane for every run of the family and a dot for every checkpoint', async () => {
    const tree = await get(`/runs/${world.child.display_id}/lineage`);
    await page.goto(`${BASE}/lineage/${world.child.display_id}`);
    await page.locator('[data-lane]').first().waitFor();
    await counts(page.locator('[data-lane]'), tree.runs.length);
    await counts(page.locator('[data-checkpoint]'), tree.runs.flatMap((r) => r.checkpoints.filter((c) => !c.inherited)).length);
  });

  it('forks from a dot: the new run appears in the tree, with the changed config', async () => {
    const stored = (await get(`/runs/${world.owner.display_id}/checkpoints`)).find((c) => c.state === 'complete');
    assert.ok(stored, 'the owner has a checkpoint');
    await page.locator(`[data-checkpoint="${stored.id}"]`).click();
    const panel = page.locator('[data-panel]');
    await panel.waitFor();
    assert.equal(address().searchParams.get('ck'), stored.id);
    const name = `from-the-page-${Date.now()}`;
    await panel.locator('[data-fork-name]').fill(name);
    await panel.locator('[data-fork-config]').fill('lr=1.25e-5\noptim.note=hello');
    const text = await panel.innerText();
    assert.ok(text.includes(`runtree fork ${stored.reference} --name ${name} --set lr=1.25e-5 --set optim.note=hello --run-id ${name}-`), text);
    assert.match(text, /import runtree\s+run = runtree\.init\(".+", run_id=".+", resume="must"\)/);
    await panel.locator('[data-fork-go]').click();
    const id = await panel.locator('[data-forked]').getAttribute('data-forked');
    await page.locator(`[data-lane="${id}"]`).waitFor();
    const made = await get(`/runs/${id}`);
    assert.equal(made.summary.name, name);
    assert.equal(made.summary.fork_step, stored.step);
    assert.equal(made.summary.config.lr, 1.25e-5);
    assert.equal(made.summary.config.optim.note, 'hello');
  });

  it('pins and unpins', async () => {
    const panel = page.locator('[data-panel]');
    const pin = panel.locator('[data-pin]');
    if ((await pin.count()) === 0) {
      await panel.locator('[data-unpin]').click();
      await pin.waitFor();
    }
    await pin.click();
    await panel.locator('[data-unpin]').waitFor();
    const id = address().searchParams.get('ck');
    assert.equal((await get(`/checkpoints/${id}`)).pinned, true);
    await panel.locator('[data-unpin]').click();
    await pin.waitFor();
  });

  it('has the chosen metric below on the same axis', async () => {
    await page.goto(`${BASE}/lineage/${world.child.display_id}`);
    await page.locator('[data-lane]').first().waitFor();
    await page.locator('.u-over').first().waitFor();
    const stored = (await get(`/runs/${world.child.display_id}/lineage`)).runs.flatMap((r) => r.checkpoints).find((c) => c.step === world.child.fork_step);
    if (!stored) return;
    await page.waitForTimeout(400);
    const dot = await page.locator(`[data-checkpoint="${stored.id}"] .target`).boundingBox();
    const metric = await page.locator('[data-metric]').first().getAttribute('data-metric');
    const { plot, offset } = await measure(page, metric, world.child.id);
    assert.ok(Math.abs(dot.x + dot.width / 2 - (plot.x + offset)) <= 1.5, 'the dot stands above its fork line');
  });
});

describe('the checkpoint page', () => {
  it('shows tensors as a tree and parts by rank', async () => {
    const stored = (await get(`/runs/${world.owner.display_id}/checkpoints`)).find((c) => c.state === 'complete');
    const tensors = await get(`/checkpoints/${encodeURIComponent(stored.id)}/tensors`);
    await page.goto(`${BASE}/checkpoints/${encodeURIComponent(stored.id)}`);
    await page.getByText(`rank ${stored.parts[0].rank}`).first().waitFor();
    if (tensors.length === 0) return;
    await page.locator('table.tensors').waitFor();
    const openAll = page.getByRole('button', { name: 'Open all' });
    if (await openAll.count()) await openAll.click();
    const table = page.locator('table.tensors');
    await until('every tensor', async () => Number(await table.getAttribute('aria-rowcount')) >= tensors.length);
    // Rows out of sight are not in the page.
    assert.ok((await table.locator('.leaf').count()) <= 100);
    const shapes = new Set(tensors.map((t) => `[${t.shape.join(', ')}]`));
    const shown = (await table.locator('tbody tr td:nth-child(3)').allInnerTexts()).filter(Boolean);
    assert.ok(shown.length > 0 && shown.every((text) => shapes.has(text.split(' of ')[0])), shown.join(' '));
  });

  it('takes the statistics of tensors in sight when it is asked to, and keeps that in the address', async () => {
    const table = page.locator('table.tensors');
    assert.equal(await table.locator('[data-nonfinite]').count(), 0);
    await page.locator('[data-statistics]').click();
    await until('the address', () => address().searchParams.get('stats') === '1');
    await until('statistics of every leaf', async () => (await table.locator('[data-nonfinite]').count()) === (await table.locator('.leaf').count()));
    const id = decodeURIComponent(address().pathname.split('/').at(-1));
    const [first] = await get(`/checkpoints/${encodeURIComponent(id)}/statistics?tensors=0`);
    assert.equal(first.tensor, 0);
    for (const cell of await table.locator('[data-nonfinite]').all()) {
      const count = Number(await cell.getAttribute('data-nonfinite'));
      assert.equal(await cell.evaluate((e) => e.classList.contains('bad')), count > 0);
    }
  });
});

describe('every page', () => {
  it('fits its window: tables that are wider scroll by themselves', async () => {
    await page.setViewportSize({ width: 740, height: 360 });
    const all = world.runs.slice(0, 8).map((r) => r.display_id).join(',');
    for (const url of [BASE, projectUrl(), runUrl(world.child), runUrl(world.child, '?tab=checkpoints'), `${BASE}/compare?runs=${all}`, `${BASE}/lineage/${world.child.display_id}`]) {
      await page.goto(url);
      await page.locator('main h1, main [role=table], main .u-over').first().waitFor();
      await page.waitForTimeout(300);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), url);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  it('says so when an address is not one', async () => {
    await page.goto(`${BASE}/runs/%E0%A4%A`);
    await page.getByRole('alert').waitFor();
  });

  it('names its controls for those who can not see them', async () => {
    for (const url of [projectUrl(), runUrl(world.child), `${BASE}/lineage/${world.child.display_id}`]) {
      await page.goto(url);
      await page.locator('.u-over').first().waitFor();
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll('button, a, input, select, textarea, [role=button]')]
          .filter((e) => !(e.textContent?.trim() || e.getAttribute('aria-label') || e.getAttribute('title') || e.labels?.length || e.closest('label')))
          .map((e) => e.outerHTML.slice(0, 120)),
      );
      assert.deepEqual(nameless, [], url);
    }
  });

  it('is legible: text has at least 4.5 times the contrast of its ground, light and dark', async () => {
    await page.goto(runUrl(world.child));
    await drawn(world.metric);
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.waitForTimeout(200);
      const ratios = await page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const rgb = (name) => {
          const canvas = document.createElement('canvas').getContext('2d');
          canvas.fillStyle = style.getPropertyValue(name).trim();
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const lum = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const contrast = (a, b) => {
          const [x, y] = [lum(rgb(a)), lum(rgb(b))].sort((p, q) => q - p);
          return (x + 0.05) / (y + 0.05);
        };
        return ['--text', '--text-2', '--text-3', '--accent', '--bad'].flatMap((t) => ['--bg', '--panel', '--row-hover'].map((g) => [`${t} on ${g}`, contrast(t, g)]));
      });
      for (const [what, ratio] of ratios) assert.ok(ratio >= 4.5, `${what} is ${ratio.toFixed(2)} in ${scheme}`);
    }
    await page.emulateMedia({ colorScheme: 'light' });
  });

  it('loads at most 250 KB compressed', async () => {
    const { gzipSync } = await import('node:zlib');
    const html = await (await fetch(BASE)).text();
    let bytes = gzipSync(html).length;
    for (const [, path] of html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)) bytes += gzipSync(Buffer.from(await (await fetch(BASE + path)).arrayBuffer())).length;
    assert.ok(bytes <= 250_000, `${bytes} bytes`);
    assert.ok(bytes > 10_000, 'the bundle is there');
  });
});
