import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = process.env['RUNTREE_URL'] ?? 'http://127.0.0.1:6780';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The bundle is committed: hashes come from content alone, so that two builds of one tree are identical.
    sourcemap: false,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 400,
  },
  // The server takes changes from its own page alone, and charts are asked for by POST.
  server: { proxy: { '/api': { target: server, changeOrigin: true, headers: { origin: new URL(server).origin } } } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
