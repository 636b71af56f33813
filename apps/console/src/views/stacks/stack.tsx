// One stack: its services, how its last deployment fares and the versions to go back to, its volumes, what happened.
import { Button } from '@mantine/core';
import { Link, useNavigate, useParams } from '@tanstack/react-router';
import { useChange } from '~/api/change';
import { client, unwrap, type StackView, type WorkloadView } from '~/api/client';
import { useList } from '~/api/lists';
import { Bar } from '~/kit/bar';
import { ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { Confirm } from '~/kit/confirm';
import { Empty } from '~/kit/empty';
import { Panel } from '~/kit/panel';
import { useWhy } from '~/kit/rights';
import { Table } from '~/kit/table';
import { stackState, workloadState } from '~/kit/work-state';
import { Volumes } from '../volumes/table';
import { Rollout } from './rollout';

function Services({ workloads }: { workloads: readonly WorkloadView[] }) {
  return (
    <Table
      label="Services"
      rows={workloads}
      id={({ name }) => name}
      empty="This stack has no services."
      cells={[
        {
          name: 'Name',
          show: ({ project, stack, name }) => (
            <Link to="/stacks/$project/$stack/$workload" params={{ project, stack, workload: name }}>
              {name}
            </Link>
          ),
        },
        { name: 'State', show: (workload) => <State {...workloadState(workload)} /> },
        {
          name: 'Serving',
          show: ({ serving, replicas }) => (
            <>
              <Bar share={replicas === 0 ? 1 : serving / replicas} label="Replicas that serve" /> {serving} of{' '}
              {replicas}
            </>
          ),
        },
        { name: 'Image', show: ({ spec }) => <code>{spec.image}</code> },
        {
          name: 'Nodes',
          show: ({ allocations }) =>
            [...new Set(allocations.map(({ node }) => node))].sort().join(', ') || 'none',
        },
        { name: 'What it waits for', show: ({ held, pending }) => held ?? pending?.[0]?.why ?? '' },
      ]}
    />
  );
}

function Remove({ stack }: { stack: StackView }) {
  const mayNot = useWhy().project('stack.change', stack.project);
  const navigate = useNavigate();
  const remove = useChange(
    [
      ['list', 'stack'],
      ['list', 'volume'],
    ],
    (volumes: boolean) =>
      unwrap(
        client.DELETE('/v1/projects/{project}/stacks/{stack}', {
          params: { path: { project: stack.project, stack: stack.name }, query: { volumes } },
        }),
      ),
    () => void navigate({ to: '/stacks' }),
  );
  return (
    <Confirm
      verb="Remove"
      name={stack.name}
      also="Delete its volumes too: their data is gone for good"
      why={mayNot ?? (stack.deleting ? 'It is being removed already.' : undefined)}
      busy={remove.isPending}
      error={remove.error}
      onConfirm={(volumes) => remove.mutate(volumes)}
    >
      <p>Its containers are stopped and removed. Its volumes stay where they are, unless you say so here.</p>
    </Confirm>
  );
}

export default function Stack() {
  const { project, stack: name } = useParams({ from: '/stacks/$project/$stack' });
  const navigate = useNavigate();
  const stacks = useList('stack');
  const all = useList('workload');
  const volumes = useList('volume');
  const events = useList('event');
  if (stacks.isPending || all.isPending) return <Loading />;
  if (stacks.data === undefined)
    return <ErrorState error={stacks.error} retry={() => void stacks.refetch()} />;
  const stack = stacks.data.items.find((one) => one.project === project && one.name === name);
  if (stack === undefined)
    return <Page title={name}>There is no stack of this name, or you may not see it.</Page>;
  const mine = <T extends { project: string; stack: string }>(items: readonly T[] | undefined) =>
    (items ?? []).filter((item) => item.project === project && item.stack === name);
  const workloads = mine(all.data?.items);
  const told = (events.data?.items ?? []).filter((event) => event.stack === `${project}/${name}`);
  return (
    <Page
      title={project === 'default' ? name : `${project}/${name}`}
      actions={
        <>
          <Button
            size="xs"
            variant="default"
            onClick={() => void navigate({ to: '/deploy', search: { project, stack: name } })}
          >
            Edit and deploy…
          </Button>
          <Remove stack={stack} />
        </>
      }
    >
      <p>
        <State {...stackState(workloads, stack.deleting)} />{' '}
        <span className="dim">
          version {stack.version}, deployed <Time at={stack.deployed_at} /> by {stack.owner}
        </span>
      </p>
      <Panel title="Services">
        <Services workloads={workloads} />
      </Panel>
      <Rollout stack={stack} />
      <Panel title="Volumes">
        <Volumes volumes={mine(volumes.data?.items)} empty="This stack keeps no data in volumes." />
      </Panel>
      <Panel title="What happened">
        {told.length === 0 && <Empty>Nothing that is worth an event has happened lately.</Empty>}
        <ol className="changes">
          {told
            .slice(-30)
            .reverse()
            .map((event) => (
              <li key={event.id}>
                <Time at={event.at} />
                <span>
                  <b>{event.subject}</b> {event.message}
                </span>
              </li>
            ))}
        </ol>
      </Panel>
    </Page>
  );
}
