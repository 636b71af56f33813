import { describe, expect, it } from 'vitest';
import { apply, collect, type Change } from './collection';

interface Thing {
  id: string;
  n: number;
}
const id = (thing: Thing) => thing.id;
const put = (revision: number, key: string, n: number): Change => ({
  revision,
  kind: 'node',
  op: 'put',
  id: key,
  object: { id: key, n } as unknown as Change['object'],
});
const drop = (revision: number, key: string): Change => ({ revision, kind: 'node', op: 'delete', id: key });

describe('a collection', () => {
  const list = collect<Thing>(
    [
      { id: 'a', n: 1 },
      { id: 'b', n: 2 },
    ],
    10,
    id,
  );

  it('passes over what it already contains', () => {
    expect(apply(list, [put(9, 'a', 7), put(10, 'b', 7)], id)).toBe(list);
  });

  it('replaces, adds and removes, and finds everything by id afterwards', () => {
    const next = apply(list, [put(11, 'a', 3), put(12, 'c', 4), drop(13, 'b')], id);
    expect(next.items).toEqual([
      { id: 'a', n: 3 },
      { id: 'c', n: 4 },
    ]);
    expect(next.revision).toBe(13);
    for (const [key, at] of next.index) expect(next.items[at]?.id).toBe(key);
    expect(list.items).toHaveLength(2);
  });

  it('takes several changes of one object in their order', () => {
    expect(apply(list, [drop(11, 'a'), put(12, 'a', 9)], id).items).toEqual([
      { id: 'b', n: 2 },
      { id: 'a', n: 9 },
    ]);
  });
});
