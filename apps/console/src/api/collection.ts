// A list of the API as the cache holds it: in the server's order, found by id, and at a revision. Changes are applied
// many at a time, so that a burst costs one copy and one drawing.
import type { Schemas } from './client';

export type Change = Schemas['WatchEvent'];

export interface Collection<T> {
  readonly items: readonly T[];
  readonly index: ReadonlyMap<string, number>;
  readonly revision: number;
}

export function collect<T>(items: readonly T[], revision: number, id: (item: T) => string): Collection<T> {
  return { items, revision, index: new Map(items.map((item, at) => [id(item), at])) };
}

/** The list after these changes; those that it already contains are passed over. */
export function apply<T>(
  list: Collection<T>,
  changes: readonly Change[],
  id: (item: T) => string,
): Collection<T> {
  const news = changes.filter((change) => change.revision > list.revision);
  if (news.length === 0) return list;
  const items = [...list.items];
  const index = new Map(list.index);
  const gone = new Set<number>();
  let revision = list.revision;
  for (const change of news) {
    revision = Math.max(revision, change.revision);
    const at = index.get(change.id);
    if (change.op === 'delete' || change.object == null) {
      if (at !== undefined) {
        gone.add(at);
        index.delete(change.id);
      }
    } else if (at === undefined) {
      index.set(change.id, items.push(change.object as T) - 1);
    } else {
      items[at] = change.object as T;
    }
  }
  if (gone.size === 0) return { items, index, revision };
  return collect(
    items.filter((_, at) => !gone.has(at)),
    revision,
    id,
  );
}
