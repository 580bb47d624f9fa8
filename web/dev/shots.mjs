/** Screenshots of every page for looking at: node dev/shots.mjs OUT_DIR [NAME…]. Starts fixture servers of its own. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [out = '/tmp/shots', ...only] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-default-apps', '--no-default-browser-check'];
const PORTS = { tree: 7901, many: 7902, empty: 7903, one: 7904, deep: 7905 };
const P = '/projects/my-moe-pretraining';
const SHOTS = {
  project: ['tree', P], 'project-dark': ['tree', P, { dark: true }], grouped: ['tree', `${P}?g=1`], own: ['tree', `${P}?inh=0`], wall: ['tree', `${P}?x=wall`],
  relative: ['tree', `${P}?x=relative&sm=0.8`], zoom: ['tree', `${P}?z=900:1350`], log: ['tree', `${P}?log=1&table=0`], many: ['many', P], 'many-dark': ['many', P, { dark: true }],
  deep: ['deep', '/lineage/MMP-30'], 'deep-project': ['deep', P], empty: ['empty', '/'], one: ['one', P], projects: ['tree', '/'], run: ['tree', '/runs/MMP-1'], nan: ['tree', '/runs/MMP-3'],
  'run-fork': ['tree', '/runs/MMP-5', { dark: true }], checkpoints: ['tree', '/runs/MMP-1?tab=checkpoints'], config: ['tree', '/runs/MMP-4?tab=config'], logs: ['tree', '/runs/MMP-1?tab=logs'], system: ['tree', '/runs/MMP-1?tab=system'],
  lineage: ['tree', '/lineage/MMP-1'], 'lineage-dark': ['tree', '/lineage/MMP-1', { dark: true, dot: 'MMP-1@1000' }], compare: ['tree', '/compare?runs=MMP-1,MMP-2,MMP-3,MMP-4'],
  checkpoint: ['tree', '/checkpoints/?', { checkpoint: true }], statistics: ['tree', '?stats=1', { checkpoint: true, click: 'Open all' }], 'statistics-dark': ['tree', '?stats=1', { checkpoint: true, click: 'Open all', dark: true }], longname: ['tree', '/runs/MMP-6'], phone: ['tree', P, { size: [740, 360] }], 'phone-lineage': ['tree', '/lineage/MMP-1', { size: [740, 360] }],
  hover: ['tree', `${P}`, { hover: true }], missing: ['tree', '/runs/NOPE-1'], help: ['tree', P, { key: '?' }], narrow: ['tree', P, { size: [1280, 720] }],
};
const names = only.length > 0 ? only : Object.keys(SHOTS);
const servers = [...new Set(names.map((n) => SHOTS[n][0]))].map((v) => spawn(process.execPath, [new URL('fixture-server.mjs', import.meta.url).pathname, '--variant', v, '--port', String(PORTS[v])], { stdio: 'inherit' }));
await new Promise((r) => setTimeout(r, 900));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
try {
  for (const name of names) {
    const [variant, path, o = {}] = SHOTS[name];
    const [width, height] = o.size ?? [1440, 860];
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: o.dark ? 'dark' : 'light' });
    page.on('console', (m) => { if (m.type() === 'error' || m.type() === 'warning') console.log(name, m.type(), m.text()); });
    page.on('pageerror', (e) => console.log(name, 'error', e.message));
    const base = `http://127.0.0.1:${PORTS[variant]}`;
    let url = base + path;
    if (o.checkpoint) url = `${base}/checkpoints/${(await (await fetch(`${base}/api/v1/runs/MMP-1/checkpoints`)).json())[2].id}${path.startsWith('?') ? path : ''}`;
    await page.goto(url);
    await page.waitForTimeout(900);
    if (o.dot) await page.click(`[data-ref="${o.dot}"]`);
    if (o.click) await page.getByRole('button', { name: o.click }).click();
    if (o.key) await page.keyboard.press(o.key);
    if (o.hover) { const box = await page.locator('[data-metric="loss"] .u-over').boundingBox(); await page.mouse.move(box.x + box.width * 0.55, box.y + box.height * 0.6); }
    await page.waitForTimeout(400);
    await page.screenshot({ path: `${out}/${name}.png` });
    await page.close();
  }
} finally {
  await browser.close();
  for (const s of servers) s.kill();
}
