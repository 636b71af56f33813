// Jobs: those with a timetable and when they run next, what ran and how it ended, and what was due and did not run.
import { Link } from '@tanstack/react-router';
import { useQuery } from '@tanstack/react-query';
import { useEffect } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type WorkloadView } from '~/api/client';
import { useList } from '~/api/lists';
import { Act, ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { span } from '~/kit/format';
import { Asked, Panel } from '~/kit/panel';
import { useWhy } from '~/kit/rights';
import { Table } from '~/kit/table';

function Service({ project, stack, workload }: { project: string; stack: string; workload: string }) {
  return (
    <Link to="/stacks/$project/$stack/$workload" params={{ project, stack, workload }}>
      {`${project === 'default' ? '' : `${project}/`}${stack}/${workload}`}
    </Link>
  );
}

function Hold({ workload }: { workload: WorkloadView }) {
  const params = { path: { project: workload.project, stack: workload.stack, workload: workload.name } };
  const base = '/v1/projects/{project}/stacks/{stack}/workloads/{workload}/schedule' as const;
  const paused = workload.timetable?.paused != null;
  const change = useChange([['list', 'workload']], () =>
    unwrap(paused ? client.POST(`${base}/resume`, { params }) : client.POST(`${base}/pause`, { params })),
  );
  const why = useWhy().project('stack.change', workload.project);
  return (
    <>
      <Act why={why} onClick={() => change.mutate()} loading={change.isPending}>
        {paused ? 'Resume' : 'Pause'}
      </Act>
      {change.error && <ErrorState error={change.error} />}
    </>
  );
}

function Timetables({ workloads }: { workloads: readonly WorkloadView[] }) {
  return (
    <Table
      label="Jobs with a timetable"
      rows={workloads}
      id={({ project, stack, name }) => `${project}/${stack}/${name}`}
      empty="No job has a timetable. x-lattice: { schedule: … } in a Compose file gives it one."
      cells={[
        {
          name: 'Job',
          show: ({ project, stack, name }) => <Service project={project} stack={stack} workload={name} />,
        },
        {
          name: 'When',
          show: ({ spec }) => (
            <code>{`${spec.schedule?.cron ?? ''}${spec.schedule?.zone === undefined ? '' : ` ${spec.schedule.zone}`}`}</code>
          ),
        },
        {
          name: 'Next',
          show: ({ timetable }) =>
            timetable?.paused != null ? (
              <State word={`paused by ${timetable.paused.by}`} tone="warn" />
            ) : timetable?.next != null ? (
              <Time at={timetable.next} />
            ) : (
              <span className="dim">never</span>
            ),
        },
        { name: 'Change', show: (workload) => <Hold workload={workload} /> },
      ]}
    />
  );
}

export default function Jobs() {
  const workloads = useList('workload');
  const events = useList('event');
  const runs = useQuery({
    queryKey: ['job-runs'],
    queryFn: () => unwrap(client.GET('/v1/job-runs', { params: { query: { limit: 200 } } })),
  });
  const missed = useQuery({
    queryKey: ['missed-runs'],
    queryFn: () => unwrap(client.GET('/v1/missed-runs', { params: { query: { limit: 200 } } })),
  });
  // Runs are in no list of the watch; each that begins or ends changes its service.
  const revision = workloads.data?.revision ?? events.data?.revision;
  const [{ refetch: again }, { refetch: also }] = [runs, missed];
  useEffect(() => {
    void again();
    void also();
  }, [revision, again, also]);
  if (workloads.isPending) return <Loading />;
  return (
    <Page title="Jobs">
      <Panel title="Timetables">
        {workloads.isError && <ErrorState error={workloads.error} />}
        <Timetables workloads={(workloads.data?.items ?? []).filter(({ spec }) => spec.schedule != null)} />
      </Panel>
      <Asked title="What ran" query={runs}>
        {({ items }) => (
          <Table
            label="Runs of jobs"
            rows={[...items].reverse()}
            id={({ id }) => String(id)}
            empty="No job has ended yet."
            cells={[
              { name: 'Job', show: (run) => <Service {...run} /> },
              {
                name: 'Ended',
                show: ({ exit_code, reason }) =>
                  exit_code === 0 ? (
                    <State word="well" tone="good" />
                  ) : (
                    <>
                      <State word={exit_code == null ? 'failed' : `exit code ${exit_code}`} tone="bad" />{' '}
                      {reason}
                    </>
                  ),
              },
              { name: 'When', show: ({ ended_at }) => <Time at={ended_at} /> },
              { name: 'Took', show: ({ started_at, ended_at }) => span(ended_at - started_at) },
              {
                name: 'Late',
                show: ({ late }) => (late == null || late < 1000 ? '' : span(late)),
              },
              { name: 'Node', show: ({ node }) => node },
              { name: 'Replica', show: ({ slot }) => slot },
            ]}
          />
        )}
      </Asked>
      <Asked title="What was due and did not run" query={missed}>
        {({ items }) => (
          <Table
            label="Runs that were missed"
            rows={[...items].reverse()}
            id={({ id }) => String(id)}
            empty="No job has missed a run."
            cells={[
              { name: 'Job', show: (one) => <Service {...one} /> },
              { name: 'How many', show: ({ count, more }) => `${count}${more === true ? ' and more' : ''}` },
              { name: 'First', show: ({ first }) => <Time at={first} /> },
              { name: 'Last', show: ({ last }) => <Time at={last} /> },
              { name: 'Why', show: ({ reason }) => reason },
            ]}
          />
        )}
      </Asked>
    </Page>
  );
}
