// One service: its replicas and where they are, what can be done with it, why it is where it is, what it writes.
import { Button, Group, NumberInput, Stack, Switch } from '@mantine/core';
import { Link, useNavigate, useParams, useSearch } from '@tanstack/react-router';
import { lazy, Suspense, useState } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type AllocationView, type WorkloadView } from '~/api/client';
import { useList } from '~/api/lists';
import { Act, ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { Empty } from '~/kit/empty';
import { bytes, cores } from '~/kit/format';
import { Panel } from '~/kit/panel';
import { useWhy } from '~/kit/rights';
import { Table } from '~/kit/table';
import { allocationState, workloadState } from '~/kit/work-state';
import { Explain } from './explain';
import { Logs } from './logs';

const Exec = lazy(() => import('./exec'));
const CHANGED = [['list', 'workload'], ['list', 'allocation'], ['explain']];

function Actions({ workload }: { workload: WorkloadView }) {
  const params = {
    path: { project: workload.project, stack: workload.stack, workload: workload.name },
  };
  const base = '/v1/projects/{project}/stacks/{stack}/workloads/{workload}' as const;
  const [replicas, setReplicas] = useState<number>();
  const wanted = replicas ?? workload.replicas;
  const scale = useChange(
    CHANGED,
    () => unwrap(client.POST(`${base}/scale`, { params, body: { replicas: wanted } })),
    () => setReplicas(undefined),
  );
  const start = useChange(CHANGED, () => unwrap(client.POST(`${base}/start`, { params })));
  const stop = useChange(CHANGED, () => unwrap(client.POST(`${base}/stop`, { params })));
  const restart = useChange(CHANGED, () => unwrap(client.POST(`${base}/restart`, { params })));
  const stopped = workload.desired === 'stop';
  const mayNot = useWhy().project('stack.change', workload.project);
  const everywhere = workload.spec.mode === 'global';
  const error = scale.error ?? start.error ?? stop.error ?? restart.error;
  return (
    <Stack mb="md">
      <Group gap="xs" align="end">
        {!everywhere && (
          <>
            <NumberInput
              size="xs"
              w={90}
              label="Replicas"
              min={0}
              max={10_000}
              allowDecimal={false}
              value={wanted}
              onChange={(value) => setReplicas(typeof value === 'number' ? value : undefined)}
            />
            <Button
              size="xs"
              variant="default"
              disabled={wanted === workload.replicas || mayNot !== undefined}
              title={mayNot}
              loading={scale.isPending}
              onClick={() => scale.mutate()}
            >
              Scale
            </Button>
          </>
        )}
        <Act
          why={mayNot ?? (stopped ? 'It is stopped: start it.' : undefined)}
          onClick={() => restart.mutate()}
          loading={restart.isPending}
        >
          Restart
        </Act>
        {stopped ? (
          <Act why={mayNot} onClick={() => start.mutate()} loading={start.isPending}>
            Start
          </Act>
        ) : (
          <Act why={mayNot} onClick={() => stop.mutate()} loading={stop.isPending}>
            Stop
          </Act>
        )}
      </Group>
      {everywhere && (
        <p className="dim">It runs once on every node that fits, so it has no number of replicas.</p>
      )}
      {error && <ErrorState error={error} />}
    </Stack>
  );
}

function ports(allocation: AllocationView): string {
  const published = allocation.status.ports ?? [];
  return published.map((port) => `${port.host_ip}:${port.host_port} → ${port.target.port}`).join(', ');
}

function Replicas({ allocations }: { allocations: readonly AllocationView[] }) {
  return (
    <Table
      label="Replicas"
      rows={[...allocations].sort((a, b) => a.slot - b.slot || b.placed_at - a.placed_at)}
      id={({ id }) => id}
      empty="None of its replicas is on a node."
      cells={[
        { name: 'Replica', show: ({ slot }) => slot },
        {
          name: 'Node',
          show: ({ node }) => (
            <Link to="/nodes/$node" params={{ node }}>
              {node}
            </Link>
          ),
        },
        { name: 'State', show: (allocation) => <State {...allocationState(allocation)} /> },
        { name: 'Ports', show: ports },
        { name: 'Restarts', show: ({ status }) => status.restarts },
        { name: 'Placed', show: ({ placed_at }) => <Time at={placed_at} /> },
        {
          name: 'Why it is as it is',
          show: ({ status, explanation }) => status.reason ?? <span className="dim">{explanation}</span>,
        },
      ]}
    />
  );
}

/** A name that says that the value is nobody's business. */
const SECRET = /pass|secret|token|key|credential|auth/i;

function Environment({ workload }: { workload: WorkloadView }) {
  const [shown, setShown] = useState(false);
  const variables = Object.entries(workload.spec.environment ?? {});
  if (variables.length === 0) return <Empty>It gets no variables.</Empty>;
  return (
    <>
      {variables.some(([name]) => SECRET.test(name)) && (
        <Switch
          mb="sm"
          label="Show values whose names look like secrets"
          checked={shown}
          onChange={(event) => setShown(event.currentTarget.checked)}
        />
      )}
      <dl className="facts">
        {variables.map(([name, value]) => (
          <div key={name} style={{ display: 'contents' }}>
            <dt>
              <code>{name}</code>
            </dt>
            <dd>
              {SECRET.test(name) && !shown ? <span aria-label="hidden">••••••</span> : <code>{value}</code>}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Specification({ workload: { spec } }: { workload: WorkloadView }) {
  const { cpu_limit, memory_limit, reserved_cpu, reserved_memory } = spec.resources ?? {};
  const limit = [cpu_limit == null ? '' : cores(cpu_limit), memory_limit == null ? '' : bytes(memory_limit)];
  const reserved = [
    reserved_cpu == null ? '' : cores(reserved_cpu),
    reserved_memory == null ? '' : bytes(reserved_memory),
  ];
  const words = (list: readonly string[]) => list.filter((word) => word !== '').join(', ') || 'none';
  return (
    <dl className="facts">
      <dt>Image</dt>
      <dd>
        <code>{spec.image}</code>
      </dd>
      <dt>Command</dt>
      <dd>{spec.command == null ? 'the image’s own' : <code>{spec.command.join(' ')}</code>}</dd>
      <dt>Limits</dt>
      <dd>{words(limit)}</dd>
      <dt>Reserved</dt>
      <dd>{words(reserved)}</dd>
      <dt>Volumes</dt>
      <dd>{words((spec.mounts ?? []).map(({ volume, target }) => `${volume} at ${target}`))}</dd>
      <dt>Secrets</dt>
      <dd>{words((spec.secrets ?? []).map(({ secret, target }) => `${secret} at ${target}`))}</dd>
      <dt>Networks</dt>
      <dd>{words(Object.keys(spec.networks ?? {}))}</dd>
    </dl>
  );
}

export default function Workload() {
  const { project, stack, workload: name } = useParams({ from: '/stacks/$project/$stack/$workload' });
  const { replica } = useSearch({ from: '/stacks/$project/$stack/$workload' });
  const navigate = useNavigate();
  const workloads = useList('workload');
  const allocations = useList('allocation');
  const mayRun = useWhy().project('exec', project);
  if (workloads.isPending || allocations.isPending) return <Loading />;
  if (workloads.data === undefined)
    return <ErrorState error={workloads.error} retry={() => void workloads.refetch()} />;
  const workload = workloads.data.items.find(
    (one) => one.project === project && one.stack === stack && one.name === name,
  );
  if (workload === undefined)
    return <Page title={name}>There is no service of this name, or you may not see it.</Page>;
  const here = (allocations.data?.items ?? []).filter(
    (one) => one.project === project && one.stack === stack && one.workload === name,
  );
  return (
    <Page title={name}>
      <p className="crumbs">
        <Link to="/stacks/$project/$stack" params={{ project, stack }}>
          {project === 'default' ? stack : `${project}/${stack}`}
        </Link>
      </p>
      <p>
        <State {...workloadState(workload)} />{' '}
        <span className="dim">{`${workload.serving} of ${workload.replicas} serve, generation ${workload.generation}`}</span>
      </p>
      {workload.held != null && <p>{`Held: ${workload.held}`}</p>}
      {workload.rolled_back != null && (
        <p>
          <State word="taken back" tone="warn" /> {workload.rolled_back.why} (
          <Time at={workload.rolled_back.at} />)
        </p>
      )}
      <Actions workload={workload} />
      <Panel title="Replicas">
        <Replicas allocations={here} />
      </Panel>
      <Panel title="Where its replicas can go">
        <Explain workload={workload} />
      </Panel>
      <Panel title="Logs">
        <Logs
          allocations={here}
          chosen={replica}
          choose={(replica) =>
            void navigate({
              to: '/stacks/$project/$stack/$workload',
              params: { project, stack, workload: name },
              search: { replica },
              replace: true,
            })
          }
        />
      </Panel>
      <Panel title="Terminal">
        {mayRun === undefined ? (
          <Suspense fallback={<Loading />}>
            <Exec allocations={here} />
          </Suspense>
        ) : (
          <p className="dim">{mayRun}</p>
        )}
      </Panel>
      <Panel title="Environment">
        <Environment workload={workload} />
      </Panel>
      <Panel title="Specification">
        <Specification workload={workload} />
      </Panel>
    </Page>
  );
}
