/** Media, alerts, logs and environment, on the project that `media.py` makes; the fixture server has none of it. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';

import { BASE, counts, get, keepShot, openBrowser, present, until } from './world.mjs';

const { runs } = await get('/runs?project=media&sort=display_id&order=asc').catch(() => ({ runs: [] }));
const [parent, child] = runs;
const skip = child ? false : 'this store has no project "media"';

let browser;
let page;
let complaints;

before(async () => {
  if (!skip) ({ browser, page, complaints } = await openBrowser());
});
after(async () => {
  await browser?.close();
});
afterEach(async (t) => {
  if (t.passed === false && page) await keepShot(page, t.name);
  if (complaints) assert.deepEqual(complaints.splice(0), [], 'the page complained in the console');
});

const runUrl = (run, query = '') => `${BASE}/runs/${encodeURIComponent(run.display_id)}${query}`;
const address = () => new URL(page.url());
const section = (name) => page.locator(`[data-media="${name}"]`);
const stepOf = async (name) => Number(await section(name).locator('[data-entry-step]').first().getAttribute('data-entry-step'));
const pictures = (name) => section(name).locator('img');
/** A picture that is there in the browser's eyes. */
const seen = (name) => until(`${name} is drawn`, async () => (await pictures(name).count()) > 0 && (await pictures(name).first().evaluate((i) => i.complete && i.naturalWidth)) > 0);

describe('the media of a run', { skip }, () => {
  it('are shown at their newest step', async () => {
    await page.goto(runUrl(parent, '?tab=media'));
    await seen('samples/rings');
    assert.equal(await stepOf('samples/rings'), 100);
    await counts(pictures('samples/rings'), 6);
    assert.equal(await pictures('samples/rings').first().getAttribute('alt'), 'sample 0 at 100');
    assert.equal(await pictures('samples/rings').first().evaluate((i) => `${i.naturalWidth} ${i.naturalHeight}`), '48 48');
    await section('weights/conv1').locator('svg rect').first().waitFor();
    await counts(section('weights/conv1').locator('svg rect'), 48);
  });

  it('show text as text, never as a page', async () => {
    assert.match(await section('answer').locator('pre').innerText(), /<b>the lazy dog<\/b>/);
    assert.equal(await section('answer').locator('b').count(), 0);
    assert.equal(await section('drawing').locator('img, svg').count(), 0, 'an SVG is a file to save');
    await section('drawing').getByRole('button', { name: 'drawing.svg' }).waitFor();
  });

  it('follow one slider, which the keyboard moves and the address keeps', async () => {
    await page.locator('h1').click();
    await page.keyboard.press('ArrowLeft');
    await until('one step back', async () => (await stepOf('samples/rings')) === 90);
    assert.equal(address().searchParams.get('step'), '90');
    assert.equal(await stepOf('drawing'), 75, 'of every name the newest at or before the step');
    await page.keyboard.press('Home');
    await until('the first step', async () => (await stepOf('samples/rings')) === 0);
    const slider = page.getByRole('slider', { name: 'Step' });
    await slider.focus();
    await page.keyboard.press('ArrowRight');
    await until('the slider itself moves', async () => (await stepOf('samples/rings')) === 10);
    await page.goto(runUrl(parent, '?tab=media&step=34'));
    await until('a link keeps the step', async () => (await stepOf('samples/rings')) === 30);
    await page.goto(runUrl(parent, '?tab=media&step=-5'));
    await section('answer').getByText('Nothing at or before this step').waitFor();
  });

  it('page and sort a table', async () => {
    await page.goto(runUrl(parent, '?tab=media'));
    const table = section('predictions');
    await table.getByText('rows 1 to 50 of 120').waitFor();
    await table.getByRole('button', { name: 'Next page' }).click();
    await table.getByText('rows 51 to 100 of 120').waitFor();
    await table.getByRole('button', { name: 'id', exact: true }).click();
    await table.getByRole('button', { name: /^id/ }).click();
    await until('by id, descending', async () => (await table.locator('td[data-column=id]').first().innerText()) === '119');
    await table.getByRole('button', { name: 'score' }).click();
    await until('NaN is a value, after the numbers', async () => (await table.locator('td[data-column=score]').allInnerTexts()).every((t) => t !== ''));
  });

  it('filter by name', async () => {
    await page.getByRole('searchbox', { name: 'Filter names' }).fill('samples/');
    await until('two names', async () => (await page.locator('[data-media]').count()) === 2);
    await page.getByRole('searchbox', { name: 'Filter names' }).fill('nothing-of-this');
    await page.getByText('No name matches.').waitFor();
  });

  it('of a fork are its parent’s up to the fork step', async () => {
    await page.goto(runUrl(child, '?tab=media&step=60'));
    await seen('samples/rings');
    assert.equal(await stepOf('samples/rings'), 60);
    await present(section('samples/rings').getByText('inherited'));
    await page.goto(runUrl(child, '?tab=media'));
    await until('its own', async () => (await stepOf('samples/rings')) === 120);
    assert.equal(await section('samples/rings').getByText('inherited').count(), 0);
    await page.getByRole('checkbox', { name: 'inherited' }).uncheck();
    const shown = page.locator('[data-shown-step]');
    await until('without ancestors it begins after the fork', async () => {
      await page.keyboard.press('Home');
      return (await shown.innerText()) === '70';
    });
    await until('its first pictures', async () => (await section('samples/rings').locator('[data-entry-step="70"]').count()) === 1);
  });

  it('of two runs stand side by side', async () => {
    await page.goto(`${BASE}/compare?runs=${parent.display_id},${child.display_id}`);
    await page.locator('[data-show-media]').click();
    await seen('samples/rings');
    const steps = () => section('samples/rings').locator('[data-entry-step]').evaluateAll((list) => list.map((e) => Number(e.dataset.entryStep)));
    assert.deepEqual(await steps(), [100, 120]);
    await page.goto(`${BASE}/compare?runs=${parent.display_id},${child.display_id}&show=media&step=80`);
    await until('both at one step', async () => JSON.stringify(await steps()) === '[80,80]');
    await until('pictures of both', async () => (await pictures('samples/rings').count()) === 12);
  });
});

describe('what a run says', { skip }, () => {
  it('alerts in the header and in the list', async () => {
    await page.goto(runUrl(parent));
    const alerts = page.getByRole('list', { name: 'Alerts' });
    await alerts.getByText('disk is nearly full').waitFor();
    await alerts.getByRole('button', { name: 'all 2' }).click();
    await alerts.getByText('it has not moved for 50 steps').waitFor();
    await page.goto(`${BASE}/projects/media`);
    await page.locator(`[data-run="${parent.display_id}"] .alert.error`).getByText('! 2').waitFor();
    assert.equal(await page.locator(`[data-run="${child.display_id}"] .alert`).count(), 0);
  });

  it('filters the log by level and text', async () => {
    await page.goto(runUrl(parent, '?tab=logs'));
    const lines = page.getByRole('log').locator('.line');
    await page.getByRole('log').getByText('plain line').waitFor();
    await page.getByRole('combobox', { name: 'Level' }).selectOption('warning');
    await until('warnings and errors', async () => (await lines.count()) === 2);
    assert.deepEqual((await lines.allInnerTexts()).map((t) => t.split(':')[0]), ['WARNING', 'ERROR']);
    await page.getByRole('searchbox', { name: 'Search lines' }).fill('SAMPLE');
    await until('one of them', async () => (await lines.count()) === 1);
    assert.equal(address().searchParams.get('grep'), 'SAMPLE');
    await page.reload();
    await until('a link keeps the filter', async () => (await lines.count()) === 1);
    await page.getByRole('checkbox', { name: 'times' }).check();
    assert.match(await lines.first().innerText(), /^\d{4}-\d\d-\d\d/);
  });

  it('where it comes from, on its system page', async () => {
    await page.goto(runUrl(parent, '?tab=system'));
    await page.getByText('platform', { exact: true }).waitFor();
    assert.match(await page.locator('dl').innerText(), /media\.py/);
    await page.goto(runUrl(parent, '?tab=files'));
    await page.getByRole('button', { name: 'requirements.txt' }).waitFor();
  });
});
