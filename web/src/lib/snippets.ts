/** What to paste to go on from here: a shell line, or three lines of Python. */

export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./<>~-]+$/.test(text) && !/[<>~]/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export interface ForkPlan {
  /** REF of the checkpoint. */
  reference: string;
  name: string;
  /** `key=value`, as typed. */
  assignments: readonly string[];
  /** The fork's own key: by it a script finds the run again. */
  key: string;
}

export function forkCommand({ reference, name, assignments, key }: ForkPlan): string {
  const parts = ['runtree', 'fork', shellQuote(reference)];
  if (name !== '') parts.push('--name', shellQuote(name));
  for (const line of assignments) if (line.trim() !== '') parts.push('--set', shellQuote(line.trim()));
  parts.push('--run-id', shellQuote(key));
  return parts.join(' ');
}

/** The launch of a fork that was made: an unchanged script goes on as it. */
export function launchCommand(key: string): string {
  return `RUNTREE_RUN_ID=${shellQuote(key)} RUNTREE_RESUME=must python train.py`;
}

export function continuePython(project: string, key: string): string {
  return `import runtree\nrun = runtree.init(${JSON.stringify(project)}, run_id=${JSON.stringify(key)}, resume="must")\nstate = run.load()`;
}

export function loadPython(reference: string): string {
  return `import runtree\ncheckpoint = runtree.Store().checkpoint(${JSON.stringify(reference)})\nstate = checkpoint.load()`;
}

/** A key for a fork: of its name, or else of its parent and step, and of `salt`, which keeps two of them apart. */
export function keyFor(name: string, parent: string, step: number, salt: string): string {
  const slug = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '').slice(0, 40);
  return `${slug === '' ? `${parent.toLowerCase()}-at-${step}` : slug}-${salt}`;
}

export const FIRST_RUN = `import runtree
run = runtree.init("my-project", config={"lr": 1e-3})
for step in range(100): run.log({"loss": 1 / (step + 1)})
run.finish()`;
