// How the last deployment of a stack fares, and the versions that are kept: hold it, let it go on, take it back.
import { Button, Group, Modal, Stack } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type Schemas, type StackView } from '~/api/client';
import { useList } from '~/api/lists';
import { Bar } from '~/kit/bar';
import { Act, ErrorState, State, Time } from '~/kit/basics';
import { type Tone } from '~/kit/node-state';
import { Asked } from '~/kit/panel';
import { useWhy } from '~/kit/rights';
import { Table } from '~/kit/table';
import { Changes } from './changes';

type View = Schemas['RolloutView'];
type Service = Schemas['RolloutWorkload'];
const TONES: Record<Service['state'], Tone> = {
  done: 'good',
  rolling: 'info',
  trial: 'info',
  paused: 'warn',
};
const WORDS: Record<Service['state'], string> = {
  done: 'done',
  rolling: 'rolling out',
  trial: 'on trial',
  paused: 'paused',
};

function strategy(service: Service): string {
  const said = service.strategy;
  if (said === undefined || said === 'rolling') return 'rolling';
  return 'canary' in said ? 'canary' : 'blue/green';
}

/** What stands in the way, or what was taken back: the one thing to know. */
function Note({ service }: { service: Service }) {
  const failing = Object.entries(service.failing ?? {})[0];
  if (service.rolled_back != null)
    return (
      <>
        taken back <Time at={service.rolled_back.at} />: {service.rolled_back.why}
      </>
    );
  if (failing !== undefined) return <>{`replica ${failing[0]} fails: ${failing[1]}`}</>;
  if (service.rollout?.paused != null)
    return (
      <>
        paused by {service.rollout.paused.by} <Time at={service.rollout.paused.at} />
      </>
    );
  return <>{service.waits?.[0] ?? ''}</>;
}

function Undo({ stack, version, word }: { stack: StackView; version: number; word: string }) {
  const path = { project: stack.project, stack: stack.name };
  const [plan, setPlan] = useState<Schemas['DeployResult']>();
  const mayNot = useWhy().project('stack.change', stack.project);
  const ask = useChange(
    [],
    () =>
      unwrap(
        client.POST('/v1/projects/{project}/stacks/{stack}/rollout/undo', {
          params: { path, query: { to: version, dry_run: true } },
        }),
      ),
    setPlan,
  );
  const undo = useChange(
    [['rollout'], ['list', 'stack']],
    () =>
      unwrap(
        client.POST('/v1/projects/{project}/stacks/{stack}/rollout/undo', {
          params: { path, query: { to: version } },
        }),
      ),
    () => setPlan(undefined),
  );
  return (
    <>
      <Act why={mayNot} onClick={() => ask.mutate()} loading={ask.isPending}>
        {word}
      </Act>
      {ask.error && <ErrorState error={ask.error} />}
      <Modal
        opened={plan !== undefined}
        onClose={() => setPlan(undefined)}
        title={`Back to version ${version}`}
        size="lg"
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        <Stack>
          {plan !== undefined && <Changes result={plan} />}
          {undo.error && <ErrorState error={undo.error} />}
          <Button onClick={() => undo.mutate()} loading={undo.isPending}>
            Deploy version {version} again
          </Button>
        </Stack>
      </Modal>
    </>
  );
}

function Steps({ stack, view }: { stack: StackView; view: View }) {
  const params = { path: { project: stack.project, stack: stack.name } };
  const base = '/v1/projects/{project}/stacks/{stack}/rollout' as const;
  const keys = [['rollout'], ['list', 'workload']];
  const pause = useChange(keys, () => unwrap(client.POST(`${base}/pause`, { params })));
  const resume = useChange(keys, () => unwrap(client.POST(`${base}/resume`, { params })));
  const promote = useChange(keys, () => unwrap(client.POST(`${base}/promote`, { params })));
  const some = (...states: Service['state'][]) => view.workloads.some(({ state }) => states.includes(state));
  const mayNot = useWhy().project('stack.change', stack.project);
  const error = pause.error ?? resume.error ?? promote.error;
  return (
    <Stack mb="md">
      <Group gap="xs">
        <Act
          why={
            mayNot !== undefined ? mayNot : some('rolling', 'trial') ? undefined : 'No rollout is under way.'
          }
          onClick={() => pause.mutate()}
          loading={pause.isPending}
        >
          Pause
        </Act>
        <Act
          why={mayNot !== undefined ? mayNot : some('paused') ? undefined : 'Nothing is paused.'}
          onClick={() => resume.mutate()}
          loading={resume.isPending}
        >
          Resume
        </Act>
        <Act
          why={
            mayNot !== undefined
              ? mayNot
              : some('trial')
                ? undefined
                : 'No new version is tried beside the old one.'
          }
          onClick={() => promote.mutate()}
          loading={promote.isPending}
        >
          Promote
        </Act>
      </Group>
      {error && <ErrorState error={error} />}
    </Stack>
  );
}

export function Rollout({ stack }: { stack: StackView }) {
  const workloads = useList('workload');
  const query = useQuery({
    queryKey: ['rollout', stack.project, stack.name],
    queryFn: () =>
      unwrap(
        client.GET('/v1/projects/{project}/stacks/{stack}/rollout', {
          params: { path: { project: stack.project, stack: stack.name } },
        }),
      ),
  });
  // It moves with its services, which the watch tells of.
  const { refetch } = query;
  const revision = workloads.data?.revision;
  useEffect(() => void refetch(), [refetch, revision, stack.version]);
  return (
    <Asked title="Rollout" query={query}>
      {(view) => (
        <>
          <Steps stack={stack} view={view} />
          <Table
            label="Rollout of each service"
            rows={view.workloads}
            id={({ name }) => name}
            empty="Nothing is rolled out."
            cells={[
              { name: 'Service', show: ({ name }) => name },
              { name: 'Rollout', show: ({ state }) => <State word={WORDS[state]} tone={TONES[state]} /> },
              {
                name: 'New version',
                show: ({ updated, replicas }) => (
                  <>
                    <Bar
                      share={replicas === 0 ? 1 : updated / replicas}
                      label="Replicas of the new version"
                    />{' '}
                    {updated} of {replicas}
                  </>
                ),
              },
              { name: 'By', show: strategy },
              { name: 'Note', show: (service) => <Note service={service} /> },
            ]}
          />
          <h3>Versions</h3>
          <Table
            label="Versions"
            rows={[...view.revisions].sort((a, b) => b.version - a.version)}
            id={({ version }) => String(version)}
            empty="No version is kept."
            cells={[
              { name: 'Version', show: ({ version }) => version },
              { name: 'Deployed', show: ({ at }) => <Time at={at} /> },
              { name: 'By', show: ({ by }) => by },
              {
                name: 'Came up',
                show: ({ came_up }) =>
                  came_up ? <State word="yes" tone="good" /> : <State word="not yet" tone="off" />,
              },
              {
                name: 'Images',
                show: ({ images }) => [...new Set(Object.values(images))].sort().join(', '),
              },
              {
                name: 'Go back',
                show: ({ version }) =>
                  version === view.version ? (
                    <span className="dim">present</span>
                  ) : (
                    <Undo stack={stack} version={version} word="Go back to it…" />
                  ),
              },
            ]}
          />
        </>
      )}
    </Asked>
  );
}
