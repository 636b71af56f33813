// Every stack as a row: how it is, how many of its replicas serve, since when it is as it is.
import { Button, TextInput } from '@mantine/core';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo } from 'react';
import { type StackView, type WorkloadView } from '~/api/client';
import { useList } from '~/api/lists';
import { Bar } from '~/kit/bar';
import { ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { Table } from '~/kit/table';
import { serving, stackState } from '~/kit/work-state';

interface Row {
  stack: StackView;
  workloads: readonly WorkloadView[];
}

export default function Stacks() {
  const stacks = useList('stack');
  const workloads = useList('workload');
  const { q = '' } = useSearch({ from: '/stacks' });
  const navigate = useNavigate();
  const rows = useMemo(() => {
    const byStack = new Map<string, WorkloadView[]>();
    for (const workload of workloads.data?.items ?? []) {
      const key = `${workload.project}/${workload.stack}`;
      byStack.set(key, [...(byStack.get(key) ?? []), workload]);
    }
    const wanted = q.toLowerCase();
    return (stacks.data?.items ?? [])
      .map((stack): Row => ({ stack, workloads: byStack.get(`${stack.project}/${stack.name}`) ?? [] }))
      .filter(({ stack, workloads }) =>
        `${stack.project}/${stack.name} ${stack.owner} ${stackState(workloads, stack.deleting).word}`
          .toLowerCase()
          .includes(wanted),
      )
      .sort((a, b) =>
        `${a.stack.project}/${a.stack.name}`.localeCompare(`${b.stack.project}/${b.stack.name}`),
      );
  }, [stacks.data, workloads.data, q]);
  if (stacks.isPending || workloads.isPending) return <Loading />;
  if (stacks.data === undefined)
    return <ErrorState error={stacks.error} retry={() => void stacks.refetch()} />;
  return (
    <Page
      title="Stacks"
      actions={
        <>
          <TextInput
            aria-label="Find stacks by name, owner or state"
            placeholder="Find by name, owner, state"
            value={q}
            onChange={(event) =>
              void navigate({ to: '/stacks', search: { q: event.currentTarget.value }, replace: true })
            }
          />
          <Button onClick={() => void navigate({ to: '/deploy' })}>Deploy…</Button>
        </>
      }
    >
      <div className="panel">
        <Table
          label="Stacks"
          rows={rows}
          id={({ stack }) => stack.id}
          empty={
            q === ''
              ? 'Nothing is deployed yet. Deploy takes the Compose file that you have.'
              : `No stack fits “${q}”.`
          }
          cells={[
            {
              name: 'Name',
              show: ({ stack: { project, name } }) => (
                <Link to="/stacks/$project/$stack" params={{ project, stack: name }}>
                  {project === 'default' ? name : `${project}/${name}`}
                </Link>
              ),
            },
            {
              name: 'State',
              show: ({ stack, workloads }) => <State {...stackState(workloads, stack.deleting)} />,
            },
            {
              name: 'Serving',
              show: ({ workloads }) => {
                const { now, wanted } = serving(workloads);
                return (
                  <>
                    <Bar share={wanted === 0 ? 1 : now / wanted} label="Replicas that serve" /> {now} of{' '}
                    {wanted}
                  </>
                );
              },
            },
            { name: 'Services', show: ({ stack }) => stack.workloads },
            { name: 'Version', show: ({ stack }) => stack.version },
            { name: 'Deployed', show: ({ stack }) => <Time at={stack.deployed_at} /> },
            { name: 'Owner', show: ({ stack }) => stack.owner },
          ]}
        />
      </div>
    </Page>
  );
}
