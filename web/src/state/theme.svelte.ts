/** Light or dark: the system's word, unless the reader said otherwise. */
const KEY = 'runtree.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

type Choice = 'system' | 'light' | 'dark';

function stored(): Choice {
  const text = localStorage.getItem(KEY);
  return text === 'light' || text === 'dark' ? text : 'system';
}

export const theme = $state({ choice: stored(), dark: false });

function apply(): void {
  theme.dark = theme.choice === 'dark' || (theme.choice === 'system' && system.matches);
  document.documentElement.dataset['theme'] = theme.dark ? 'dark' : 'light';
}

system.addEventListener('change', apply);
apply();

export function cycleTheme(): void {
  theme.choice = theme.choice === 'system' ? (theme.dark ? 'light' : 'dark') : theme.choice === 'dark' ? 'light' : 'dark';
  if ((theme.choice === 'dark') === system.matches) theme.choice = 'system';
  if (theme.choice === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme.choice);
  apply();
}
