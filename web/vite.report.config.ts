import { createHash } from 'node:crypto';

import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Puts script and style into the page, and allows nothing else to run or load: `runtree export-html` fills the data in. */
function onePage(): Plugin {
  return {
    name: 'runtree-one-page',
    enforce: 'post',
    generateBundle(_, bundle) {
      let script = '';
      let style = '';
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === 'chunk') script += file.code;
        else if (name.endsWith('.css')) style += String(file.source);
        else continue;
        Reflect.deleteProperty(bundle, name);
      }
      const page = bundle['report.html'];
      if (page?.type !== 'asset') throw new Error('the report has no page');
      // What would end an element early, inside a string of the script.
      script = script.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--');
      const hash = createHash('sha256').update(script).digest('base64');
      const policy = `default-src 'none'; script-src 'sha256-${hash}'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'`;
      const html = String(page.source)
        .replace(/\s*<script type="module"[^>]*><\/script>/, '')
        .replaceAll(/\s*<link rel="(stylesheet|modulepreload)"[^>]*>/g, '');
      const put = (where: string, text: string, at: string) => at.replace(where, () => `${text}${where}`);
      page.source = put('</body>', `<script type="module">${script}</script>\n  `, put('</head>', `<style>${style}</style>\n  `, html)).replace(
        '<meta charset="utf-8" />',
        () => `<meta charset="utf-8" />\n    <meta http-equiv="Content-Security-Policy" content="${policy}" />`,
      );
    },
  };
}

export default defineConfig({
  plugins: [svelte(), onePage()],
  build: {
    target: 'es2022',
    sourcemap: false,
    assetsInlineLimit: Number.MAX_SAFE_INTEGER,
    cssCodeSplit: false,
    modulePreload: false,
    chunkSizeWarningLimit: 600,
    copyPublicDir: false,
    emptyOutDir: false,
    rollupOptions: { input: 'report.html' },
  },
});
