// One node: how it is, what it has, what runs there, and what can be done with it.
import { useParams } from '@tanstack/react-router';
import { useList } from '~/api/lists';
import { ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { bytes, cores } from '~/kit/format';
import { nodeState } from '~/kit/node-state';
import { Panel } from '~/kit/panel';
import { Actions, Approval } from './actions';

const LEVELS = { good: 'good', unknown: 'off', warning: 'warn', bad: 'bad' } as const;

export default function Node() {
  const { node: name } = useParams({ from: '/nodes/$node' });
  const nodes = useList('node');
  const allocations = useList('allocation');
  if (nodes.isPending) return <Loading />;
  if (nodes.data === undefined) return <ErrorState error={nodes.error} retry={() => void nodes.refetch()} />;
  const node = nodes.data.items.find((one) => one.name === name);
  if (node === undefined)
    return <Page title={name}>There is no node of this name, or you may not see it.</Page>;
  const here = allocations.data?.items.filter((allocation) => allocation.node_id === node.id) ?? [];
  return (
    <Page title={node.name} actions={<Actions node={node} />}>
      <p>
        <State {...nodeState(node)} /> <span className="dim">since</span> <Time at={node.presence.since} />
        {node.standing?.why == null ? '' : `: ${node.standing.why}`}
      </p>
      {node.approval === 'pending' && <Approval node={node} />}
      <Panel title="Health">
        {(node.conditions ?? []).length === 0 && <p>The node has not told yet how it is.</p>}
        <dl className="facts">
          {node.conditions?.map((condition) => (
            <div key={condition.kind} style={{ display: 'contents' }}>
              <dt>
                <State word={condition.kind.replace('_', ' ')} tone={LEVELS[condition.level]} />
              </dt>
              <dd>{condition.message || condition.level}</dd>
            </div>
          ))}
        </dl>
      </Panel>
      <Panel title="Machine">
        <dl className="facts">
          <dt>System</dt>
          <dd>{`${node.facts.os} ${node.facts.os_version}, ${node.facts.arch}, kernel ${node.facts.kernel}`}</dd>
          <dt>Processor</dt>
          <dd>{`${node.facts.cpu_model}, lends ${cores(node.capacity.cpu)}, ${cores(node.reserved.cpu)} reserved`}</dd>
          <dt>Memory</dt>
          <dd>{`lends ${bytes(node.capacity.memory)}, ${bytes(node.reserved.memory)} reserved`}</dd>
          <dt>Disk</dt>
          <dd>{`lends ${bytes(node.capacity.disk)}${node.load == null ? '' : `, ${bytes(node.load.disk_free)} free`}`}</dd>
          <dt>GPUs</dt>
          <dd>
            {node.facts.machine?.gpus?.map((gpu) => `${gpu.model} (${gpu.state})`).join(', ') || 'none'}
          </dd>
          <dt>Versions</dt>
          <dd>{`agent ${node.facts.agent_version}, engine ${node.facts.engine_version}`}</dd>
          <dt>Pool</dt>
          <dd>{`${node.pool}${node.pool_why ? `: ${node.pool_why}` : ''}`}</dd>
          <dt>Owner</dt>
          <dd>{node.owner}</dd>
        </dl>
      </Panel>
      {node.rank != null && (
        <Panel title={`Rank: place ${node.rank.place} of ${node.rank.size}, ${node.rank.points} points`}>
          <dl className="facts">
            {node.rank.parts.map((part) => (
              <div key={part.part} style={{ display: 'contents' }}>
                <dt>{`${part.part}: ${part.points} of ${part.most}`}</dt>
                <dd>{part.why}</dd>
              </div>
            ))}
          </dl>
        </Panel>
      )}
      <Panel title="Allocations">
        {allocations.isError && <ErrorState error={allocations.error} />}
        {allocations.isSuccess && here.length === 0 && <p>Nothing runs here.</p>}
        <dl className="facts">
          {here.map((allocation) => (
            <div key={allocation.id} style={{ display: 'contents' }}>
              <dt>{`${allocation.stack}/${allocation.workload} ${allocation.slot}`}</dt>
              <dd>
                {allocation.status.state.replace('_', ' ')}
                {allocation.status.reason == null ? '' : `: ${allocation.status.reason}`}{' '}
                <span className="dim">{allocation.explanation}</span>
              </dd>
            </div>
          ))}
        </dl>
      </Panel>
    </Page>
  );
}
