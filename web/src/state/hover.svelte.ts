/** The run under the pointer, in whichever chart, table or tree: all the others light it up too. */
export const hover = $state<{ run: string | null }>({ run: null });
