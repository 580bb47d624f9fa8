/**
 * A stand-in for `runtree serve`, for looking at the pages and for e2e without a store. Development only; never shipped.
 *
 *   node dev/fixture-server.mjs [--port 7900] [--variant tree|many|empty|one|deep] [--slow 800] [--dist dist]
 *
 * Answers the whole API from synthetic runs: bucketed exactly, stitched along lineages, with forks, pins and deletions that stick.
 */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { parseArgs } from 'node:util';

const { values: args } = parseArgs({
  options: {
    port: { type: 'string', default: '7900' }, variant: { type: 'string', default: 'tree' },
    slow: { type: 'string', default: '0' }, dist: { type: 'string', default: new URL('../dist', import.meta.url).pathname },
  },
});

const T0 = 1_795_300_000_000_000;
const runs = new Map();
const checkpoints = new Map();
let counter = 0;

function noise(seed, i) {
  let h = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(i + 1, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  h ^= h >>> 12;
  return ((h >>> 0) / 4294967296) * 2 - 1;
}

const wireFloat = (v) => (Number.isFinite(v) ? v : Number.isNaN(v) ? 'NaN' : v > 0 ? 'Infinity' : '-Infinity');
const label = (r) => ({ id: r.id, display_id: r.display_id, name: r.name });

/** attempts: [{first, last, base: step|null, seconds per step, start (µs)}] */
function makeRun(o) {
  counter++;
  const number = counter;
  const id = `0${(0x19a5c3e000 + number * 7919).toString(32)}${(number * 2654435761 % 2 ** 32).toString(32).padStart(7, '0')}q7h3k2mz`.padEnd(26, 'x').slice(0, 26);
  const parent = o.parent ? runs.get(o.parent) : null;
  const owner = o.owner ? runs.get(o.owner) : parent;
  const config = parent ? structuredClone(owner.config) : { model: 'llama-160m', lr: 0.0003, batch_size: 64, optimizer: { name: 'adamw', weight_decay: 0.1, betas: [0.9, 0.95] }, data: 'fineweb-edu', seed: 17, warmup: 100 };
  const patch = (into, from) => { for (const [k, v] of Object.entries(from)) { if (v && typeof v === 'object' && !Array.isArray(v)) patch((into[k] ??= {}), v); else into[k] = v; } };
  patch(config, o.config ?? {});
  const created = o.created ?? T0 + number * 3_600_000_000;
  const run = {
    id, number, display_id: `MMP-${number}`, name: o.name, project: o.project ?? 'my-moe-pretraining', config, parent, owner, fork_step: o.fork ?? null,
    root: owner ? owner.root : id, experiment: owner ? owner.experiment : o.name, status: o.status ?? 'completed', reason: o.reason ?? null, tags: o.tags ?? [],
    created, rate: o.rate ?? 1, seed: number * 31, nanFrom: o.nanFrom ?? null, infAt: o.infAt ?? null, notes: o.notes ?? null, base: o.base ?? null, deleted: false,
    stride: o.stride ?? 5, children: [],
    attempts: (o.attempts ?? [{ first: owner ? o.fork + 1 : 0, last: o.last ?? 2000 }]).map((a, i) => ({ attempt: i + 1, start: created + i * 5_400_000_000, ...a })),
  };
  if (owner) owner.children.push(run);
  runs.set(o.name, run);
  // Checkpoints on every attempt.
  for (const a of run.attempts) {
    if (a.last === undefined || a.last < a.first) continue;
    const every = o.every ?? 250;
    for (let step = Math.ceil(a.first / every) * every; step <= a.last; step += every) {
      if (step === 0) continue;
      const ckid = `ck_${id.slice(4, 16)}${a.attempt}${String(step).padStart(6, '0')}`;
      checkpoints.set(ckid, { id: ckid, run, attempt: a.attempt, step, pinned: o.pin === step, state: o.deleted?.includes(step) ? 'deleted' : o.pending === step ? 'pending' : 'complete', name: o.named?.[step] ?? null });
    }
  }
  return run;
}

const stepMicros = (r) => 820_000 / r.rate;

/** Effective stretches of a run, root first: {run, attempt, first, last}. */
function timeline(run, through = Infinity) {
  // Newest attempt, walked back over bases.
  const own = [];
  let limit = through;
  for (let i = run.attempts.length - 1; i >= 0; i--) {
    const a = run.attempts[i];
    if (a.first <= limit && (a.last ?? -1) >= a.first) own.unshift({ run, attempt: a, first: a.first, last: Math.min(a.last, limit) });
    limit = Math.min(limit, a.first - 1);
  }
  if (run.owner && run.fork_step !== null) return [...timeline(run.owner, Math.min(run.fork_step, through)), ...own];
  return own;
}

const METRICS = { loss: 1, 'train/grad_norm': 1, 'train/lr': 1, 'val/loss': 20, 'val/accuracy': 20, 'perf/tokens_per_s': 2 };
const SYSTEM = ['sys/gpu0.util', 'sys/gpu0.memory_gb', 'sys/cpu.percent', 'sys/ram_gb'];

function valueAt(run, metric, step) {
  const lr = run.config.lr;
  const speed = lr / 0.0003;
  if (metric.startsWith('sys/')) return metric.endsWith('percent') || metric.endsWith('util') ? 70 + 25 * noise(run.seed + 9, step) : 31 + 4 * Math.sin(step / 40);
  if (run.nanFrom !== null && step >= run.nanFrom && (metric === 'loss' || metric === 'val/loss' || metric === 'train/grad_norm')) return NaN;
  if (run.infAt === step && metric === 'train/grad_norm') return Infinity;
  const forkPoint = run.fork_step ?? 0;
  const base = 7.2 * Math.exp(-step / 420) + 2.6 + 0.9 * Math.exp(-step / 2600);
  const effect = run.owner ? (speed < 1 ? -0.25 : 0.12 * (speed - 1)) * (1 - Math.exp(-(step - forkPoint) / 160)) + (run.config.optimizer.weight_decay - 0.1) * 0.5 * (1 - Math.exp(-(step - forkPoint) / 300)) : 0;
  const spike = step % 613 === 7 ? 1.4 : 0;
  const blow = run.nanFrom !== null && step > run.nanFrom - 60 ? ((step - run.nanFrom + 60) / 60) ** 3 * 4 : 0;
  switch (metric) {
    case 'loss': return base + effect + 0.09 * noise(run.seed, step) * (1 + 2 * Math.exp(-step / 500)) + spike + blow;
    case 'val/loss': return base + effect * 0.9 + 0.12 + 0.02 * noise(run.seed + 1, step) + blow;
    case 'val/accuracy': return 1 / (1 + Math.exp((base + effect - 3.4) * 1.4)) + 0.006 * noise(run.seed + 2, step);
    case 'train/grad_norm': return 0.6 + 3 * Math.exp(-step / 200) + 0.4 * Math.abs(noise(run.seed + 3, step)) ** 3 * 4 + spike * 3 + blow * 5;
    case 'train/lr': return lr * Math.min(1, step / run.config.warmup) * (0.55 + 0.45 * Math.cos((Math.PI * Math.min(step, 4000)) / 4000));
    default: return 51_000 * run.rate + 900 * noise(run.seed + 4, step) - (step % 250 === 0 ? 16_000 : 0);
  }
}

function strideOf(run, metric) {
  if (metric.startsWith('sys/')) return 10;
  const stride = METRICS[metric];
  return stride === undefined ? null : stride * run.stride;
}

/** Points of an effective history, or of one attempt alone, with all three axes. */
const cache = new Map();
function points(run, metric, attempt, inherited) {
  const version = run.attempts.map((a) => a.last).join();
  const key = `${run.id}|${metric}|${attempt}|${inherited}|${version}`;
  const hit = cache.get(key);
  if (hit) return hit;
  const system = metric.startsWith('sys/');
  let stretches = attempt ? run.attempts.filter((a) => a.attempt === attempt && a.last >= a.first).map((a) => ({ run, attempt: a, first: a.first, last: a.last })) : timeline(run);
  const whole = attempt ? timeline(run) : stretches;
  if (!inherited || system) stretches = stretches.filter((s) => s.run === run);
  const out = [];
  const segments = [];
  // Training time before each stretch: gaps taken out.
  const relativeStart = new Map();
  let clock = 0;
  for (const s of whole) {
    relativeStart.set(`${s.run.id}/${s.attempt.attempt}`, clock - 0);
    clock += (s.last - s.first + 1) * stepMicros(s.run);
  }
  for (const s of stretches) {
    const stride = strideOf(s.run, metric);
    if (stride === null) continue;
    const step0 = s.first;
    const rel0 = relativeStart.get(`${s.run.id}/${s.attempt.attempt}`) ?? (s.attempt.first - 0) * stepMicros(s.run);
    const at = (step) => ({ step, relative: Math.round(rel0 + (step - step0) * stepMicros(s.run)), wall: Math.round(s.attempt.start + (step - s.attempt.first) * stepMicros(s.run)) });
    const index = segments.length;
    segments.push({ run: s.run.id, attempt: s.attempt.attempt, inherited: s.run !== run, start: { ...at(step0), step: s.run.owner && s.run.fork_step === step0 - 1 ? step0 - 1 : step0 } });
    for (let step = Math.ceil(step0 / stride) * stride; step <= s.last; step += stride) {
      if (s.run.name === 'longer context 8k' && step > 1600 && step < 2100) continue;
      out.push({ ...at(step), value: valueAt(s.run, metric, step), segment: index });
    }
  }
  const answer = { out, segments };
  cache.set(key, answer);
  return answer;
}

function find(text) {
  for (const r of runs.values()) if (r.id === text || r.display_id === text || r.name === text) return r;
  throw fail(404, 'not_found', `run \`${text}\` is not in this store`, 'runtree runs lists what there is');
}

function series(request) {
  return { series: request.series.map((sel) => {
    const run = find(sel.run);
    const { out, segments } = points(run, sel.metric, sel.attempt ?? null, request.inherited);
    const axis = request.x;
    const left = sel.from ?? request.from;
    const inside = out.filter((p) => (left == null || p[axis] >= left) && (request.to == null || p[axis] <= request.to));
    const logged = points(run, sel.metric, sel.attempt ?? null, false).out.length;
    const b = { run: run.id, metric: sel.metric, attempt: sel.attempt ?? null, points: inside.length, logged, x_first: [], x_last: [], min: [], max: [], mean: [], first: [], last: [], count: [], nonfinite: [], segment: [], segments: segments.map((s) => ({ run: s.run, attempt: s.attempt, inherited: s.inherited, x_start: s.start[axis] })) };
    if (inside.length === 0) return b;
    const from = left ?? inside[0][axis];
    const to = request.to ?? inside[inside.length - 1][axis];
    const width = Math.max(1, (to - from + 1) / request.pixels);
    let open = null;
    const close = () => {
      if (!open) return;
      const finite = open.list.map((p) => p.value).filter(Number.isFinite);
      const n = open.list.length;
      b.x_first.push(open.list[0][axis]); b.x_last.push(open.list[n - 1][axis]);
      b.min.push(wireFloat(finite.length ? Math.min(...finite) : NaN)); b.max.push(wireFloat(finite.length ? Math.max(...finite) : NaN));
      b.mean.push(wireFloat(finite.length ? finite.reduce((x, y) => x + y, 0) / finite.length : NaN));
      b.first.push(wireFloat(open.list[0].value)); b.last.push(wireFloat(open.list[n - 1].value));
      b.count.push(n); b.nonfinite.push(n - finite.length); b.segment.push(open.segment);
    };
    for (const p of inside) {
      const column = Math.floor((p[axis] - from) / width);
      if (!open || open.column !== column || open.segment !== p.segment) { close(); open = { column, segment: p.segment, list: [] }; }
      open.list.push(p);
    }
    close();
    return b;
  }) };
}

function last(run, metric) {
  const { out } = points(run, metric, null, true);
  const p = out[out.length - 1];
  return p ? { step: p.step, value: wireFloat(p.value) } : null;
}

/** Last, smallest and largest of a metric. */
function total(run, metric) {
  const { out } = points(run, metric, null, true);
  const p = last(run, metric);
  if (!p) return null;
  const finite = out.filter((q) => Number.isFinite(q.value));
  const by = (f) => finite.reduce((best, q) => (best === null || f(q.value, best.value) ? q : best), null);
  const mv = (q) => q && { step: q.step, value: q.value };
  return { ...p, min: mv(by((x, y) => x < y)), max: mv(by((x, y) => x > y)) };
}

function summary(run, wanted = Object.keys(METRICS)) {
  const stretches = timeline(run);
  const lastStep = stretches.length ? stretches[stretches.length - 1].last : null;
  const attempt = run.attempts[run.attempts.length - 1];
  const metrics = {};
  for (const m of wanted) { const v = METRICS[m] && total(run, m); if (v) metrics[m] = v; }
  const bad = run.nanFrom;
  return {
    id: run.id, display_id: run.display_id, number: run.number, key: null, name: run.name, project: run.project, experiment: run.experiment, root: run.root,
    status: run.status, status_reason: run.reason, created: run.created, last_activity: attempt.last !== undefined ? attempt.start + (attempt.last - attempt.first) * stepMicros(run) : run.created,
    attempt: attempt.attempt, parent: run.parent ? label(run.parent) : null, owner: run.owner ? label(run.owner) : null, fork_step: run.fork_step, base: run.base,
    children: run.children.length, last_step: lastStep, metrics, config: run.config, tags: run.tags, checkpoints: [...checkpoints.values()].filter((c) => c.run === run && c.state === 'complete').length,
    first_nonfinite: bad === null ? null : { metric: 'loss', step: bad, last_good: Math.floor((bad - 1) / 250) * 250 }, deleted: run.deleted,
  };
}

function ghostFrom(run, a) {
  const later = run.attempts.filter((b) => b.attempt > a.attempt);
  const start = Math.min(...later.map((b) => b.first));
  return a.last >= start ? start : null;
}

const outline = (run) => ({
  run: run.id, metrics: Object.keys(METRICS).filter((m) => points(run, m, null, true).out.length > 0).sort(),
  ghosts: run.attempts.flatMap((a) => (ghostFrom(run, a) === null ? [] : [{ attempt: a.attempt, from: ghostFrom(run, a) }])),
});

const attemptInfo = (run) => run.attempts.map((a, i) => ({
  attempt: a.attempt, kind: i > 0 ? (a.rewind ? 'rewind' : 'resume') : run.owner ? 'fork' : 'start',
  base: i > 0 ? { run: label(run), attempt: a.attempt - 1, step: a.first - 1 } : run.owner ? { run: label(run.owner), attempt: run.owner.attempts.length, step: run.fork_step } : null,
  checkpoint_step: i > 0 || run.owner ? a.first - 1 : null, created: a.start, last_activity: a.start + ((a.last ?? a.first) - a.first) * stepMicros(run),
  steps: a.last >= a.first ? { first: a.first, last: a.last } : null, ghost_from: ghostFrom(run, a),
  launch: { host: `gpu-node-${(run.number % 4) + 1}`, command: 'python train.py --config pretrain.toml', commit: '8f3ac21d9e', python: '3.11.7', gpus: '8 × H100 80GB' },
}));

function flat(c, prefix = '', out = {}) {
  for (const [k, v] of Object.entries(c)) if (v && typeof v === 'object' && !Array.isArray(v)) flat(v, `${prefix}${k}.`, out); else out[prefix + k] = v;
  return out;
}

function configDiff(a, b) {
  const x = a ? flat(a) : {};
  const y = flat(b);
  return [...new Set([...Object.keys(x), ...Object.keys(y)])].sort().filter((k) => JSON.stringify(x[k]) !== JSON.stringify(y[k]))
    .map((key) => ({ key, before: x[key] ?? null, after: y[key] ?? null, had_before: key in x, has_after: key in y }));
}

function detail(run) {
  const metrics = [...Object.keys(METRICS), ...SYSTEM].flatMap((name) => {
    const { out } = points(run, name, null, true);
    if (out.length === 0) return [];
    const finite = out.filter((p) => Number.isFinite(p.value));
    const by = (f) => finite.reduce((best, p) => (best === null || f(p.value, best.value) ? p : best), null);
    const mv = (p) => p && { step: p.step, value: wireFloat(p.value) };
    const own = points(run, name, null, false).out;
    const ownFinite = own.filter((p) => Number.isFinite(p.value));
    const ownBy = (f) => ownFinite.reduce((best, p) => (best === null || f(p.value, best.value) ? p : best), null);
    return [{ name, own_points: own.length, own_min: mv(ownBy((x, y) => x < y)), own_max: mv(ownBy((x, y) => x > y)), own_last: own.length ? mv(own[own.length - 1]) : null, system: name.startsWith('sys/'), points: out.length, nonfinite: out.length - finite.length, steps: { first: out[0].step, last: out[out.length - 1].step }, min: mv(by((x, y) => x < y)), max: mv(by((x, y) => x > y)), last: mv(out[out.length - 1]) }];
  });
  return {
    summary: summary(run), notes: run.notes, attempts: attemptInfo(run),
    segments: timeline(run).map((s) => ({ run: label(s.run), attempt: s.attempt.attempt, first: s.first, last: s.run === run ? null : s.last })),
    children: run.children.map((c) => ({ run: label(c), fork_step: c.fork_step, status: c.status })), config_diff: configDiff(run.owner?.config, run.config), metrics,
    resume_report: run.attempts.length > 1 ? { attempt: 2, ghost_attempt: 1, overlapping_steps: 40, bit_equal_steps: 40, diverged_at: null, metric: null, text: 'bit-equal for 40 steps' } : null,
    files: run.attempts[0].last >= 0 ? [{ name: 'pretrain.toml', bytes: 1874, at: run.created }, { name: 'samples/step_2000.txt', bytes: 48210, at: run.created + 9e9 }] : [],
    alerts: [], processes: [],
    lost: run.name.startsWith('warmup') ? [{ reason: 'logged below the fork step', points: { loss: 12 }, at: run.created }] : [],
  };
}

function checkpointInfo(c, viewer = c.run) {
  const a = c.run.attempts.find((x) => x.attempt === c.attempt);
  const g = ghostFrom(c.run, a);
  const parts = c.state === 'pending' ? [true, true, false, false] : [true, true, true, true];
  return {
    id: c.id, reference: `${c.run.display_id}@${c.step}`, run: label(c.run), attempt: c.attempt, step: c.step, k: 0, name: c.name, created: a.start + (c.step - a.first) * stepMicros(c.run),
    state: c.state, inherited: viewer !== c.run, effective: g === null || c.step < g, superseded: false, bytes: 1_942_000_000, stored_bytes: 640_000_000 + (c.step % 1000) * 90_000, tensors: 148,
    metrics: Object.fromEntries(['loss', 'val/loss', 'val/accuracy'].map((m) => [m, wireFloat(valueAt(c.run, m, c.step))])), tags: c.name ? ['eval'] : [], pinned: c.pinned,
    parts: parts.map((present, rank) => ({ component: 'trainer', rank, present, bytes: present ? 485_500_000 : 0 })), forks: c.run.children.filter((r) => r.fork_step === c.step).map(label),
  };
}

function tensors() {
  const out = [];
  const add = (name, dtype, shape, rank) => {
    const bytes = shape.reduce((x, y) => x * y, 1) * (dtype === 'bf16' ? 2 : 4);
    const [kind, depth, share] = dtype === 'bf16' ? ['difference', 3, 0.013] : out.length % 5 ? ['planes', 0, 0.71] : ['raw', 0, 1];
    out.push({ name, entry: 'state', part: `trainer rank ${rank}`, dtype, shape, global_shape: null, bytes, encoding: { kind, depth, stored_bytes: Math.round(bytes * share) } });
  };
  for (const kind of ['model', 'optimizer.exp_avg', 'optimizer.exp_avg_sq']) {
    const dtype = kind === 'model' ? 'bf16' : 'f32';
    add(`${kind}.embed_tokens.weight`, dtype, [32000, 768], 0);
    for (let layer = 0; layer < 12; layer++) for (const [name, shape] of [['self_attn.qkv.weight', [2304, 768]], ['self_attn.out.weight', [768, 768]], ['mlp.up.weight', [3072, 768]], ['mlp.down.weight', [768, 3072]]]) add(`${kind}.layers.${layer}.${name}`, dtype, shape, layer % 4);
  }
  return out;
}

function statistics(places) {
  const list = tensors();
  return places.slice(0, 20).map((place) => {
    const t = list[place];
    if (!t) throw fail(400, 'invalid', `the checkpoint has ${list.length} tensors, and none at place ${place}`);
    const elements = t.shape.reduce((x, y) => x * y, 1);
    const bad = t.name.includes('exp_avg_sq') && place % 7 === 0 ? 3 : 0;
    const std = t.name.startsWith('model') ? 0.02 : 1.3e-5;
    return { tensor: place, elements, nan: bad, positive_infinity: bad && 1, negative_infinity: 0, finite: { min: -5.1 * std, max: 4.9 * std, mean: std * 1e-3, std, norm: std * Math.sqrt(elements) } };
  });
}

// --- the families
function build(variant) {
  if (variant === 'empty') return;
  if (variant === 'one') { makeRun({ name: 'first-run', last: 640, status: 'running', every: 100 }); return; }
  if (variant === 'deep') {
    let previous = null;
    for (let i = 0; i < 30; i++) {
      makeRun({ name: `depth-${String(i).padStart(2, '0')}`, parent: previous, fork: previous ? i * 100 : undefined, last: i * 100 + 260, config: { lr: 0.0003 * 0.97 ** i }, every: 100 });
      previous = `depth-${String(i).padStart(2, '0')}`;
    }
    return;
  }
  if (variant === 'many') {
    const statuses = ['completed', 'completed', 'failed', 'running', 'stopped', 'lost'];
    for (let i = 0; i < 300; i++) {
      const child = i > 3 && i % 3 === 0;
      makeRun({ name: `sweep-${String(i).padStart(3, '0')}`, parent: child ? `sweep-${String(i - 1 - (i % 2)).padStart(3, '0')}` : undefined, fork: child ? 500 : undefined, last: 900 + (i * 37) % 900, status: statuses[i % 6], stride: 10, config: { lr: 0.0001 * (1 + (i % 9)), seed: i, optimizer: { weight_decay: 0.05 * (i % 4) } }, every: 500 });
    }
    return;
  }
  makeRun({ name: 'pretrain-base', attempts: [{ first: 0, last: 1430 }, { first: 1251, last: 3000 }], pin: 1000, deleted: [250, 750], named: { 2000: 'before-anneal' }, tags: ['baseline'], notes: 'Base recipe for the small mixture. Node 3 fell over at 1430; resumed from 1250.' });
  makeRun({ name: 'lr 1e-4', parent: 'pretrain-base', fork: 500, last: 2400, config: { lr: 0.0001 }, tags: ['lr-sweep'] });
  makeRun({ name: 'lr 6e-4', parent: 'pretrain-base', fork: 500, last: 1400, config: { lr: 0.0009 }, status: 'failed', reason: 'RuntimeError: loss is not finite', nanFrom: 1251, infAt: 1230, tags: ['lr-sweep'] });
  makeRun({ name: 'lr 6e-4, clipped', parent: 'lr 6e-4', fork: 1000, last: 2600, config: { lr: 0.0006, grad_clip: 0.5 }, tags: ['lr-sweep'] });
  makeRun({ name: 'weight decay 0.2', parent: 'lr 1e-4', fork: 1500, last: 2900, config: { optimizer: { weight_decay: 0.2 } }, status: 'running', pending: 2750, created: T0 + 40 * 3_600_000_000 });
  makeRun({ name: 'a very long run name that somebody generated from every hyperparameter of the sweep lr=3e-4,wd=0.05,bs=64,seed=17,warmup=200', parent: 'pretrain-base', fork: 1000, last: 1800, config: { optimizer: { weight_decay: 0.05 }, warmup: 200 }, status: 'stopped', reason: 'SIGTERM' });
  makeRun({ name: 'longer context 8k', last: 2700, config: { context: 8192, batch_size: 32 }, rate: 0.6, status: 'lost' });
  makeRun({ name: 'warmup-500', parent: 'longer context 8k', fork: 250, last: 1500, config: { warmup: 500 }, rate: 0.6 });
  const fork = makeRun({ name: 'lr 6e-4-f1', parent: 'lr 6e-4', fork: 1250, status: 'created', config: { lr: 0.0002 }, attempts: [{ first: 1251, last: undefined }] });
  fork.notes = 'from the last good checkpoint';
  makeRun({ name: 'rl-warmstart', project: 'rl', last: 400, base: 'MMP-1@3000', every: 100, rate: 0.3 });
}
build(args.variant);

// --- HTTP
const fail = (status, kind, message, hint = null) => Object.assign(new Error(message), { status, body: { error: { kind, message, hint } } });
const streams = new Set();
const views = new Map();
const heads = new Map();
const announce = (...changed) => { for (const s of streams) s.write(`event: change\ndata: ${JSON.stringify({ runs: changed.map((r) => r.id) })}\n\n`); };
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

function listRuns(q) {
  let list = [...runs.values()].filter((r) => !r.deleted && (!q.get('project') || r.project === q.get('project')));
  const text = (q.get('search') ?? '').toLowerCase();
  if (text) list = list.filter((r) => [r.name, r.display_id, r.id, ...r.tags].some((s) => s.toLowerCase().includes(text)));
  if (q.get('status')) list = list.filter((r) => r.status === q.get('status'));
  if (q.get('tag')) list = list.filter((r) => r.tags.includes(q.get('tag')));
  if (q.get('ids')) list = list.filter((r) => q.get('ids').split(',').includes(r.id));
  const named = /^id in \((.*)\)$/.exec(q.get('filter') ?? '');
  if (named) { const ids = named[1].split(',').map((t) => t.trim()); list = list.filter((r) => ids.includes(r.display_id) || ids.includes(r.id)); }
  for (const term of named ? [] : (q.get('filter') ?? '').split(/\s+/).filter(Boolean)) {
    const colon = term.indexOf(':');
    const [key, value] = colon < 0 ? ['', term] : [term.slice(0, colon), term.slice(colon + 1)];
    if (key === 'status' && !['running', 'completed', 'failed', 'stopped', 'lost', 'created'].includes(value)) throw fail(400, 'invalid', `status \`${value}\` is not one`, 'running, completed, failed, stopped, lost or created');
    if (key === 'status') list = list.filter((r) => r.status === value);
    else if (key === 'tag') list = list.filter((r) => r.tags.includes(value));
    else if (key === 'root') list = list.filter((r) => r.root === find(value).root);
    else list = list.filter((r) => [r.name, r.display_id, ...r.tags, JSON.stringify(r.config)].some((s) => s.toLowerCase().includes(term.toLowerCase())));
  }
  const sort = q.get('sort') ?? 'created';
  const value = (r) => { const s = summary(r); if (sort.startsWith('metric:')) return s.metrics[sort.slice(7)]?.value; if (sort.startsWith('config:')) return flat(r.config)[sort.slice(7)]; return s[sort]; };
  const sign = (q.get('order') ?? 'desc') === 'asc' ? 1 : -1;
  const keyed = list.map((r) => [value(r), r]);
  keyed.sort(([a, r], [b, s]) => (a == null) - (b == null) || (a < b ? -sign : a > b ? sign : s.number - r.number));
  const start = Number(q.get('cursor') ?? 0);
  const limit = Number(q.get('limit') ?? 100);
  const wanted = q.has('metrics') ? q.get('metrics').split(',').filter(Boolean) : undefined;
  return { runs: keyed.slice(start, start + limit).map(([, r]) => summary(r, wanted)), total: list.length, next_cursor: start + limit < list.length ? String(start + limit) : null };
}

function fork(body) {
  const [ref, step] = String(body.reference).split('@');
  const parent = find(ref);
  const at = step === 'last-good' ? summary(parent).first_nonfinite?.last_good : Number(step);
  const exists = [...checkpoints.values()].some((c) => (c.run === parent || timeline(parent).some((s) => s.run === c.run)) && c.step === at);
  if (!exists) throw fail(404, 'not_found', `\`${ref}\` has no checkpoint at step ${step}`, `runtree checkpoints ${ref}`);
  const owner = timeline(parent).find((s) => at >= s.first && at <= s.last)?.run ?? parent;
  let name = body.name || `${parent.name}-f${parent.children.length + 1}`;
  if (runs.has(name)) name += ` (${counter + 1})`;
  const run = makeRun({ name, project: parent.project, parent: parent.name, owner: owner.name, fork: at, status: 'created', config: body.config ?? {}, tags: body.tags ?? [], attempts: [{ first: at + 1, last: undefined }], created: Date.now() * 1000 });
  announce(run, parent, owner);
  return summary(run);
}

async function route(method, path, q, body) {
  let m;
  const ck = (id) => checkpoints.get(decodeURIComponent(id)) ?? (() => { throw fail(404, 'not_found', `checkpoint \`${id}\` is not in this store`); })();
  if (path === '/store') return { id: 'st_fixture', location: '/data/experiments/.runtree', version: '0.1.0', writable: true };
  if (path === '/projects') {
    const names = new Map();
    for (const r of runs.values()) if (!r.deleted) names.set(r.project, [...(names.get(r.project) ?? []), r]);
    return [...names].map(([name, list]) => ({ name, runs: list.length, running: list.filter((r) => r.status === 'running').length, last_activity: Math.max(...list.map((r) => summary(r).last_activity)) }));
  }
  if (path === '/runs' && method === 'GET') return listRuns(q);
  if ((m = /^\/projects\/([^/]+)\/views(?:\/(.+))?$/.exec(path))) {
    const name = m[2] && decodeURIComponent(m[2]);
    if (method === 'PUT') views.set(name, { name, query: body.query, updated: Date.now() * 1000 });
    if (method === 'DELETE') views.delete(name);
    return [...views.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
  if (path === '/sweep') {
    const [ref, step] = q.get('ref').split('@');
    const parent = find(ref);
    const forks = parent.children.filter((r) => r.fork_step === Number(step) && !r.deleted);
    const keys = [...new Set(forks.flatMap((r) => configDiff(parent.config, r.config).map((c) => c.key)))].sort();
    return { reference: q.get('ref'), config_keys: keys, metrics: Object.keys(METRICS).sort().map((name) => ({ name, lower_is_better: /loss|norm/.test(name) })), parent: summary(parent), runs: forks.map((r) => summary(r)) };
  }
  if (path === '/series') return series(body);
  if (path === '/outlines') return q.get('runs').split(',').filter(Boolean).map((r) => outline(find(r)));
  if ((m = /^\/projects\/([^/]+)\/keys$/.exec(path))) {
    const list = [...runs.values()].filter((r) => !r.deleted && r.project === decodeURIComponent(m[1]));
    return { metrics: [...new Set(list.flatMap((r) => outline(r).metrics))].sort(), config: [...new Set(list.flatMap((r) => Object.keys(flat(r.config))))].sort(), tags: [...new Set(list.flatMap((r) => r.tags))].sort() };
  }
  if (path === '/forks') return [201, fork(body)];
  if (path === '/diff') { const a = find(q.get('a').split('@')[0]); const b = find(q.get('b').split('@')[0]); return { a: q.get('a'), b: q.get('b'), config: configDiff(a.config, b.config), tensors: q.get('a').includes('@') ? [{ name: 'model.embed_tokens.weight', change: 'changed', a: 'bf16[32000,768]', b: 'bf16[32000,768]', relative_norm: 0.0123, changed_elements: 18_211_004 }, { name: 'model.layers.0.mlp.up.weight', change: 'changed', a: 'bf16[3072,768]', b: 'bf16[3072,768]', relative_norm: 0.0311, changed_elements: 2_211_004 }] : [], equal_tensors: 3, metrics: {} }; }
  if ((m = /^\/checkpoints\/([^/]+)(?:\/(\w+))?$/.exec(path))) {
    const c = ck(m[1]);
    if (method === 'GET' && m[2] === 'tensors') return tensors();
    if (method === 'GET' && m[2] === 'statistics') return statistics(q.get('tensors').split(',').map(Number));
    if (method === 'GET' && !m[2]) return checkpointInfo(c);
    if (m[2] === 'pin') c.pinned = true;
    else if (m[2] === 'unpin') c.pinned = false;
    else if (m[2] === 'restore') c.state = 'complete';
    else if (method === 'DELETE') { const used = checkpointInfo(c).forks; if (used.length) throw fail(409, 'conflict', `checkpoint \`${c.run.display_id}@${c.step}\` is what ${used[0].display_id} starts from`, 'delete the fork first, or keep the checkpoint'); c.state = 'deleted'; }
    announce(c.run);
    return checkpointInfo(c);
  }
  if ((m = /^\/runs\/([^/]+)(?:\/(.*))?$/.exec(path))) {
    const run = find(decodeURIComponent(m[1]));
    if (method === 'DELETE' && !m[2]) { run.deleted = true; announce(run); return summary(run); }
    if (method === 'PATCH') { if (body.name) run.name = body.name; if (body.notes !== undefined) run.notes = body.notes; run.tags = [...new Set([...run.tags, ...(body.add_tags ?? [])])].filter((t) => !(body.remove_tags ?? []).includes(t)); announce(run); return summary(run); }
    if (!m[2]) return detail(run);
    if (m[2] === 'metrics') { const names = q.get('names').split(',').map((n) => n.replaceAll('%2C', ',').replaceAll('%25', '%')); return detail(run).metrics.filter((i) => names.includes(i.name)); }
    if (m[2] === 'head') { if (method === 'PUT') heads.set(run.root, run); else heads.delete(run.root); announce(run); return null; }
    if (m[2] === 'lineage') { const family = [...runs.values()].filter((r) => r.root === run.root && !r.deleted); const chosen = heads.get(run.root); const head = chosen ?? family.reduce((a, b) => (summary(b).last_activity > summary(a).last_activity ? b : a)); return { root: run.root, experiment: run.experiment, head: label(head), head_is_set: chosen !== undefined, runs: family.map((r) => ({ summary: summary(r), attempts: attemptInfo(r), checkpoints: [...checkpoints.values()].filter((c) => c.run === r).map((c) => checkpointInfo(c)), config_diff: r.owner ? configDiff(r.owner.config, r.config) : [] })) }; }
    if (m[2] === 'checkpoints') { const stretches = timeline(run); return [...checkpoints.values()].filter((c) => (c.run === run || (q.get('inherited') !== 'false' && stretches.some((s) => s.run === c.run && s.attempt.attempt === c.attempt && c.step >= s.first && c.step <= s.last))) && (c.state === 'complete' || (c.state === 'pending' && q.get('pending') === 'true') || (c.state === 'deleted' && q.get('deleted') === 'true'))).sort((a, b) => a.step - b.step).map((c) => checkpointInfo(c, run)); }
    if (m[2] === 'console') {
      const start = Number(q.get('cursor') ?? 0); const total = 420; const limit = Number(q.get('limit') ?? 200);
      const lines = []; for (let i = start; i < Math.min(total, start + limit); i++) lines.push({ attempt: 1, stream: i % 57 === 3 ? 'stderr' : 'stdout', at: run.created + i * 4e6, text: i % 57 === 3 ? 'UserWarning: lr_scheduler.step() before optimizer.step()' : `step ${i * 5} loss ${valueAt(run, 'loss', i * 5).toFixed(4)} grad_norm ${valueAt(run, 'train/grad_norm', i * 5).toFixed(3)}  51.2k tok/s` });
      return { lines, next_cursor: start + limit < total ? String(start + limit) : null };
    }
    if (m[2].startsWith('files/')) return { file: `# ${decodeURIComponent(m[2].slice(6))}\nlr = ${run.config.lr}\nbatch_size = 64\n` };
  }
  throw fail(404, 'not_found', `no such route ${method} ${path}`);
}

const server = createServer((req, res) => {
  const url = new URL(req.url, 'http://x');
  const send = (status, value) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(value)); };
  if (url.pathname === '/api/v1/events') { res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' }); res.write('retry: 2000\n\n'); streams.add(res); req.on('close', () => streams.delete(res)); return; }
  if (url.pathname.startsWith('/api/v1/')) {
    const chunks = [];
    req.on('data', (c) => chunks.push(c));
    req.on('end', () => setTimeout(async () => {
      try {
        if (url.pathname.endsWith('/download')) { res.writeHead(200, { 'content-type': 'application/x-tar' }); res.end('tar'); return; }
        const answer = await route(req.method, url.pathname.slice(7), url.searchParams, chunks.length ? JSON.parse(Buffer.concat(chunks)) : null);
        if (answer === null) { res.writeHead(204); res.end(); } else if (answer.file) { res.writeHead(200, { 'content-type': 'text/plain' }); res.end(answer.file); } else if (Array.isArray(answer) && answer[0] === 201) send(201, answer[1]);
        else send(200, answer);
      } catch (e) { send(e.status ?? 500, e.body ?? { error: { kind: 'internal', message: String(e.stack), hint: null } }); }
    }, Number(args.slow)));
    return;
  }
  let file = join(args.dist, normalize(url.pathname));
  if (!existsSync(file) || statSync(file).isDirectory()) file = join(args.dist, 'index.html');
  res.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(res);
});
server.listen(Number(args.port), '127.0.0.1', () => console.log(`fixtures (${args.variant}) on http://127.0.0.1:${args.port}`));

// Runs that are running go on, so that live updates can be seen.
setInterval(() => {
  for (const r of runs.values()) {
    if (r.status !== 'running') continue;
    const a = r.attempts[r.attempts.length - 1];
    a.last += 5;
    announce(r);
  }
}, 2000).unref();

// The empty store gets its first run after a while, when asked to: kill -USR1.
process.on('SIGUSR1', () => announce(makeRun({ name: 'first-run', last: 100, status: 'running', every: 50 })));
