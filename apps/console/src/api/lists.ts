// The live lists: what the watch keeps up to date, by kind. A list is fetched once; from then on changes come in.
import { queryOptions, useQuery } from '@tanstack/react-query';
import {
  client,
  unwrap,
  type AllocationView,
  type EventView,
  type NodeView,
  type StackView,
  type VolumeView,
  type WorkloadView,
} from './client';
import { apply, collect, type Change, type Collection } from './collection';

export interface Kinds {
  node: NodeView;
  allocation: AllocationView;
  workload: WorkloadView;
  stack: StackView;
  volume: VolumeView;
  event: EventView;
}
export type Kind = keyof Kinds;
export const KINDS: readonly Kind[] = ['node', 'allocation', 'workload', 'stack', 'volume', 'event'];

/** How the watch names an object of each kind. */
export const ids: { [K in Kind]: (item: Kinds[K]) => string } = {
  node: (node) => node.id,
  allocation: (allocation) => allocation.id,
  workload: (workload) => `${workload.project}/${workload.stack}/${workload.name}`,
  stack: (stack) => `${stack.project}/${stack.name}`,
  volume: (volume) => volume.id,
  event: (event) => String(event.id),
};

interface Listing<T> {
  items: T[];
  revision: number;
}
const fetchers: { [K in Kind]: () => Promise<Listing<Kinds[K]>> } = {
  node: () => unwrap(client.GET('/v1/nodes')),
  allocation: () => unwrap(client.GET('/v1/allocations')),
  workload: () => unwrap(client.GET('/v1/workloads')),
  stack: () => unwrap(client.GET('/v1/stacks')),
  volume: () => unwrap(client.GET('/v1/volumes')),
  event: () => unwrap(client.GET('/v1/events', { params: { query: { limit: 200 } } })),
};

/** The last changes, so that a list that was on its way while they came does not miss them. */
const RECENT = 4000;
let recent: Change[] = [];
export function remember(changes: readonly Change[]): void {
  recent = [...recent, ...changes].slice(-RECENT);
}
export function forget(): void {
  recent = [];
}

export function list<K extends Kind>(kind: K) {
  return queryOptions<Collection<Kinds[K]>>({
    queryKey: ['list', kind],
    queryFn: async () => {
      const { items, revision } = await fetchers[kind]();
      const id = ids[kind];
      const missed = recent.filter((change) => change.kind === kind);
      return apply(collect(items, revision, id), missed, id);
    },
    staleTime: Infinity,
    structuralSharing: false,
  });
}

export function useList<K extends Kind>(kind: K, every?: number) {
  return useQuery({ ...list(kind), refetchInterval: every ?? false });
}
