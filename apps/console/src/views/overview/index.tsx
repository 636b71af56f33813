// The cluster at a glance: every node as a tile that shows state and load, what there is and what is used, what changes.
import { Link } from '@tanstack/react-router';
import { memo, type CSSProperties } from 'react';
import { type NodeView } from '~/api/client';
import { useAlerts } from '~/api/alerts';
import { useList } from '~/api/lists';
import { ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { Empty } from '~/kit/empty';
import { bytes, cores } from '~/kit/format';
import { cpuShare, nodeState, type Tone } from '~/kit/node-state';
import { Panel } from '~/kit/panel';
import { Alerts } from '../alerts/list';

const Tile = memo(function Tile({ node, named }: { node: NodeView; named: boolean }) {
  const { word, tone } = nodeState(node);
  const load = cpuShare(node);
  const text = `${node.name}: ${word}${load === undefined ? '' : `, ${Math.round(load * 100)} % of its processors in use`}`;
  return (
    <Link
      className="tile"
      data-tone={tone}
      to="/nodes/$node"
      params={{ node: node.name }}
      aria-label={text}
      title={text}
      preload={false}
    >
      {named && <span>{node.name}</span>}
      <i style={{ transform: `scaleY(${load ?? 0})` }} />
    </Link>
  );
});

function Figure({ name, value, of }: { name: string; value: string; of?: string }) {
  return (
    <div className="figure">
      <span className="dim">{name}</span>
      <b>{value}</b>
      <span className="dim">{of ?? '\u00a0'}</span>
    </div>
  );
}

export default function Overview() {
  const nodes = useList('node');
  const allocations = useList('allocation');
  const events = useList('event');
  const alerts = useAlerts();
  const firing = (alerts.data ?? []).filter(
    ({ state, hushed_by }) => state === 'firing' && hushed_by == null,
  );
  if (nodes.isPending) return <Loading />;
  if (nodes.isError && nodes.data === undefined)
    return <ErrorState error={nodes.error} retry={() => void nodes.refetch()} />;
  const items = nodes.data?.items ?? [];
  const ready = items.filter((node) => node.approval === 'approved' && node.presence.state === 'connected');
  const sum = (of: (node: NodeView) => number) => ready.reduce((total, node) => total + of(node), 0);
  const running = allocations.data?.items.filter(
    (allocation) => allocation.status.state === 'running',
  ).length;
  const size = items.length > 300 ? 24 : items.length > 60 ? 36 : 72;
  const counts = new Map<string, { tone: Tone; count: number }>();
  for (const node of items) {
    const { word, tone } = nodeState(node);
    counts.set(word, { tone, count: (counts.get(word)?.count ?? 0) + 1 });
  }
  const states = [...counts].sort(([, a], [, b]) => b.count - a.count);
  return (
    <Page title="Overview">
      <div className="figures">
        <Figure name="Nodes connected" value={String(ready.length)} of={`of ${items.length}`} />
        <Figure
          name="Processors in use"
          value={cores(sum((node) => node.load?.cpu ?? 0))}
          of={`of ${cores(sum((node) => node.capacity.cpu))}`}
        />
        <Figure
          name="Memory in use"
          value={bytes(sum((node) => node.load?.memory ?? 0))}
          of={`of ${bytes(sum((node) => node.capacity.memory))}`}
        />
        <Figure
          name="Allocations running"
          value={running === undefined ? '…' : String(running)}
          of={`of ${allocations.data?.items.length ?? '…'}`}
        />
      </div>
      {firing.length > 0 && (
        <Panel title={firing.length === 1 ? 'One alert' : `${firing.length} alerts`}>
          <Alerts alerts={firing.slice(0, 5)} />
          {firing.length > 5 && (
            <p>
              <Link to="/alerts">All of them</Link>
            </p>
          )}
        </Panel>
      )}
      <section className="panel" aria-labelledby="map">
        <h2 id="map">Nodes</h2>
        <ul className="legend">
          {states.map(([word, { tone, count }]) => (
            <li key={word}>
              <Link to="/nodes" search={{ q: word }}>
                <State word={`${count} ${word}`} tone={tone} />
              </Link>
            </li>
          ))}
        </ul>
        {items.length === 0 ? (
          <p>
            No computer has joined yet. <Link to="/add-node">Add a node</Link>
          </p>
        ) : (
          <div className="tiles" style={{ '--tile': `${size}px`, maxWidth: size * 40 } as CSSProperties}>
            {items.map((node) => (
              <Tile key={node.id} node={node} named={size >= 72} />
            ))}
          </div>
        )}
      </section>
      <section className="panel" aria-labelledby="changes">
        <h2 id="changes">What changed last</h2>
        {events.isError && <ErrorState error={events.error} />}
        {events.data?.items.length === 0 && <Empty>Nothing has happened yet.</Empty>}
        <ul className="changes">
          {[...(events.data?.items ?? [])]
            .sort((a, b) => b.id - a.id)
            .slice(0, 12)
            .map((event) => (
              <li key={event.id}>
                <Time at={event.at} />
                <span>
                  <b>{event.subject}</b> {event.message}
                </span>
              </li>
            ))}
        </ul>
      </section>
    </Page>
  );
}
