// The public list of numbers that the directory has given out: how long it is. Checking it is the client's work.

import type { ListHead } from './api/types';
import { keyFromHex, FormatError, fromBase64Url } from './formats/bytes';
import { decode, field } from './formats/cbor';
import { api, session } from './session.svelte';

/** From an entry beyond any list on: asks for the head alone. */
const NO_ENTRIES = Number.MAX_SAFE_INTEGER;

/** How many entries the list has, by the head that the directory has signed. */
export async function listLength(): Promise<number> {
  const [{ directory }, { head }] = await Promise.all([session.directory(), api.get<ListHead>(`/list?from=${NO_ENTRIES}`)]);
  const { open, verify } = await import('./formats/envelope');
  const envelope = open(fromBase64Url(head));
  if (!verify(envelope, keyFromHex(directory), 'offhook/list-head/1')) throw new FormatError('bad signature');
  return field(decode(envelope.payload, (r) => r.map()), 1, (r) => r.count());
}
