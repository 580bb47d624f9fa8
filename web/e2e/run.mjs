/**
 * Runs the browser tests against RUNTREE_URL, or, without it, against the fixture server of `dev/`.
 *
 *   npm run e2e                                   fixtures
 *   RUNTREE_URL=http://127.0.0.1:6780 npm run e2e a real server (it makes forks in the store)
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
let fixtures = null;
const env = { ...process.env };
if (!env.RUNTREE_URL) {
  const port = 20000 + (process.pid % 20000);
  fixtures = spawn(process.execPath, [`${here}../dev/fixture-server.mjs`, '--port', String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    fixtures.stdout.once('data', resolve);
    fixtures.once('exit', (code) => reject(new Error(`the fixture server ended with ${code}`)));
  });
  env.RUNTREE_URL = `http://127.0.0.1:${port}`;
}
const tests = readdirSync(here).filter((f) => f.endsWith('.test.mjs')).map((f) => here + f);
const run = spawn(process.execPath, ['--test', '--test-concurrency=1', ...tests, ...process.argv.slice(2)], { stdio: 'inherit', env });
run.on('exit', (code, signal) => {
  fixtures?.kill();
  process.exit(signal ? 1 : (code ?? 1));
});
