/** Lists in one query parameter: items between commas, whatever is in them. */

export function packList(items: Iterable<string>): string {
  return [...items].map((item) => item.replaceAll('%', '%25').replaceAll(',', '%2C')).join(',');
}

/** Somebody typed or cut the address: what can not be unpacked stands for itself. */
export function unpackList(text: string | null): string[] {
  return (text ?? '').split(',').filter((item) => item !== '').map((item) => item.replaceAll('%2C', ',').replaceAll('%25', '%'));
}
