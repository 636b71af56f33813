// The watch (GET /v1/watch, server-sent events): one stream for the whole console. Changes are gathered and put into
// the cache once per frame. When the stream cannot go on from where it was, every list is fetched anew.
import type { QueryClient } from '@tanstack/react-query';
import type { NodeView } from './client';
import { apply, type Change, type Collection } from './collection';
import { forget, ids, KINDS, remember, type Kind, type Kinds } from './lists';

export type LiveState = 'connecting' | 'live' | 'offline';
type Loads = Record<string, NonNullable<NodeView['load']>>;
type Listener = (state: LiveState) => void;

let state: LiveState = 'connecting';
const listeners = new Set<Listener>();
export const live = {
  get: () => state,
  subscribe(listener: Listener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};
function become(next: LiveState): void {
  if (next === state) return;
  state = next;
  for (const listener of listeners) listener(next);
}

/** Puts changes into the lists that are in the cache. */
export function absorb(cache: QueryClient, changes: readonly Change[]): void {
  remember(changes);
  for (const kind of KINDS) {
    const mine = changes.filter((change) => change.kind === kind);
    if (mine.length === 0) continue;
    cache.setQueryData<Collection<Kinds[Kind]>>(['list', kind], (list) =>
      list === undefined ? list : apply(list, mine, ids[kind] as (item: Kinds[Kind]) => string),
    );
  }
}

const VIEWS = {
  node: 'NodeView',
  allocation: 'AllocationView',
  workload: 'WorkloadView',
  stack: 'StackView',
  volume: 'VolumeView',
  event: 'EventView',
} as const;

/** Queries that a change makes old, where the watch says no more than that. */
const ASKED: Partial<Record<Change['kind'], string[]>> = {
  alert: ['alerts'],
  pool: ['pools'],
  project: ['projects'],
};

/** What nodes use now, into the list of nodes: no change of the store, so it has no revision. */
export function load(cache: QueryClient, loads: Loads): void {
  cache.setQueryData<Collection<NodeView>>(['list', 'node'], (list) =>
    list === undefined
      ? list
      : {
          ...list,
          items: list.items.map((node) =>
            loads[node.id] === undefined ? node : { ...node, load: loads[node.id] },
          ),
        },
  );
}

/** Begins to watch; the answer ends it. `denied` is called when the session has ended. */
export function watch(cache: QueryClient, denied: () => void): () => void {
  let source: EventSource | undefined;
  let waiting: Change[] = [];
  let frame = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  let wasAway = false;

  const flush = () => {
    frame = 0;
    const changes = waiting;
    waiting = [];
    absorb(cache, changes);
  };
  const again = () => {
    source?.close();
    forget();
    wasAway = true;
    become('offline');
    // Not all browsers at the same instant after a restart of the server.
    retry = setTimeout(() => void open(), 1000 + Math.random() * 2000);
  };
  const open = async () => {
    const checks = await import('./generated/validators');
    if (stopped) return;
    source = new EventSource('/v1/watch?loads=true');
    source.onopen = () => {
      become('live');
      if (wasAway) void cache.invalidateQueries();
      wasAway = false;
    };
    source.addEventListener('change', ({ data }: MessageEvent<string>) => {
      const change: unknown = JSON.parse(data);
      if (!checks.WatchEvent(change)) return;
      const known = change as Change;
      // Told without what it is now: whoever draws it asks again.
      const asked = ASKED[known.kind];
      if (asked !== undefined) return void cache.invalidateQueries({ queryKey: asked });
      const view = VIEWS[known.kind as Kind];
      // What this console does not understand is left out, and not half understood.
      if (view === undefined || (known.object != null && !checks[view](known.object))) return;
      waiting.push(known);
      // A hidden page has no frames: its changes would pile up.
      if (document.hidden) flush();
      else frame ||= requestAnimationFrame(flush);
    });
    source.addEventListener('load', ({ data }: MessageEvent<string>) => {
      const told = JSON.parse(data) as { nodes?: Loads };
      if (told.nodes !== undefined) load(cache, told.nodes);
    });
    // The server ends the stream: it goes down, the revision is too old, or the right has ended.
    source.addEventListener('error', (event) => {
      if (event instanceof MessageEvent) {
        const body = JSON.parse(String(event.data)) as { code?: string };
        if (body.code === 'unauthenticated') denied();
        again();
      } else if (source?.readyState === EventSource.CLOSED) {
        void cache.invalidateQueries({ queryKey: ['whoami'] });
        again();
      } else {
        become('offline');
      }
    });
  };
  void open();
  return () => {
    stopped = true;
    clearTimeout(retry);
    cancelAnimationFrame(frame);
    source?.close();
    become('connecting');
  };
}
