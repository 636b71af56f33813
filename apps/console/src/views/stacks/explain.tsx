// Why the replicas of a service are where they are, where one more would go, and what stands against the other nodes.
import { useQuery } from '@tanstack/react-query';
import { client, unwrap, type Schemas, type WorkloadView } from '~/api/client';
import { Bar } from '~/kit/bar';
import { ErrorState, Loading, State } from '~/kit/basics';
import { Table } from '~/kit/table';

type Account = Schemas['AccountView'];
type Ranked = Account['ranked'][number];
const PARTS = ['prefers', 'near', 'spread', 'crowd', 'stays', 'rank', 'room'] as const;
const MEANINGS: Record<(typeof PARTS)[number], string> = {
  prefers: 'What is preferred of the node',
  near: 'Who is near',
  spread: 'How empty its zone is',
  crowd: 'How few of its like are there',
  stays: 'How likely it stays',
  rank: 'Its rank',
  room: 'How well its room is used',
};

/** The parts of the scores, each against the best of its kind. */
function Scores({ ranked }: { ranked: readonly Ranked[] }) {
  const told = PARTS.filter((part) => ranked.some((node) => node[part] !== 0));
  const widest = (part: (typeof PARTS)[number]) => Math.max(1, ...ranked.map((node) => Math.abs(node[part])));
  return (
    <Table
      label="The best nodes"
      rows={ranked}
      id={({ node }) => node}
      empty="No node can take one more."
      cells={[
        { name: 'Node', show: ({ node }) => <b>{node}</b> },
        ...told.map((part) => ({
          name: MEANINGS[part],
          show: (node: Ranked) => (
            <>
              <Bar
                share={Math.abs(node[part]) / widest(part)}
                label={MEANINGS[part]}
                tone={node[part] < 0 ? 'bad' : 'info'}
              />{' '}
              {node[part]}
            </>
          ),
        })),
      ]}
    />
  );
}

function Counted({ title, counts, of }: { title: string; counts: Record<string, number>; of: number }) {
  const rows = Object.entries(counts).sort(([, a], [, b]) => b - a);
  if (rows.length === 0) return null;
  return (
    <>
      <h3>{title}</h3>
      <dl className="facts">
        {rows.map(([why, count]) => (
          <div key={why} style={{ display: 'contents' }}>
            <dt>
              <Bar share={count / Math.max(1, of)} label={why} tone="off" />{' '}
              {count === 1 ? '1 node' : `${count} nodes`}
            </dt>
            <dd>{why}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

export function Explain({ workload }: { workload: WorkloadView }) {
  const { project, stack, name } = workload;
  const query = useQuery({
    queryKey: ['explain', project, stack, name, workload.generation, workload.serving],
    queryFn: () =>
      unwrap(
        client.GET('/v1/projects/{project}/stacks/{stack}/workloads/{workload}/explain', {
          params: { path: { project, stack, workload: name } },
        }),
      ),
    placeholderData: (before) => before,
  });
  if (query.isPending) return <Loading />;
  if (query.data === undefined) return <ErrorState error={query.error} retry={() => void query.refetch()} />;
  const { bound, pending, another } = query.data;
  return (
    <>
      {bound != null && <p>{bound}</p>}
      {pending.map((slot) => (
        <p key={slot.slot}>
          <State word={`replica ${slot.slot} waits`} tone="warn" /> {slot.why}.{' '}
          <span className="dim">{slot.hint}</span>
        </p>
      ))}
      <p>{another.summary}</p>
      {another.ranked.length > 0 && <Scores ranked={another.ranked} />}
      <Counted title="Nodes that cannot take one more" counts={another.refused} of={another.considered} />
      <Counted title="What would help" counts={another.would_do} of={another.considered} />
    </>
  );
}
