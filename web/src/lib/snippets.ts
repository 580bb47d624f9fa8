/** What to paste to go on from here: a shell line, or three lines of Python. */

export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./<>~-]+$/.test(text) && !/[<>~]/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export function pythonLiteral(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${pythonLiteral(v)}`).join(', ')}}`;
  return JSON.stringify(value);
}

export function forkCommand(reference: string, name: string, assignments: readonly string[]): string {
  const parts = ['runtree', 'fork', shellQuote(reference)];
  if (name !== '') parts.push('--name', shellQuote(name));
  for (const line of assignments) if (line.trim() !== '') parts.push('--set', shellQuote(line.trim()));
  return parts.join(' ');
}

export function forkPython(reference: string, name: string, config: Record<string, unknown>): string {
  const options = [`fork=${JSON.stringify(reference)}`];
  if (name !== '') options.push(`name=${JSON.stringify(name)}`);
  if (Object.keys(config).length > 0) options.push(`config=${pythonLiteral(config)}`);
  return `import runtree\nrun = runtree.init(${options.join(', ')})\nstate = run.load()`;
}

export function loadPython(reference: string): string {
  return `import runtree\ncheckpoint = runtree.Store().checkpoint(${JSON.stringify(reference)})\nstate = checkpoint.load()`;
}

export const FIRST_RUN = `import runtree
run = runtree.init("my-project", config={"lr": 1e-3})
for step in range(100): run.log({"loss": 1 / (step + 1)})
run.finish()`;
