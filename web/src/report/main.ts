/** One run in one file: the run's page over what the file holds. */
import './offline';
import '../app.css';

import { mount } from 'svelte';

import Report from './Report.svelte';
import { serve, unpack } from './offline';

const target = document.getElementById('app');
const data = document.getElementById('runtree-report')?.textContent ?? '';
if (target) {
  unpack(data).then(
    (packed) => {
      serve(packed);
      mount(Report, { target, props: { packed } });
    },
    () => {
      target.textContent = 'This file holds no run: make one with `runtree export-html RUN`.';
    },
  );
}
