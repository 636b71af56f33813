// How good nodes are: kept promises and measured speed, by place.
import { NativeSelect } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { client, unwrap, type Schemas } from '~/api/client';
import { Page } from '~/kit/basics';
import { Asked } from '~/kit/panel';
import { Table, type Cell } from '~/kit/table';

type Ranked = Schemas['RankedNode'];
const CELLS: readonly Cell<Ranked>[] = [
  { name: 'Place', show: ({ rank }) => rank.place },
  {
    name: 'Node',
    show: ({ name }) => (
      <Link to="/nodes/$node" params={{ node: name }}>
        {name}
      </Link>
    ),
  },
  { name: 'Owner', show: ({ owner }) => owner },
  { name: 'Points', show: ({ rank }) => <b>{rank.points}</b> },
  { name: 'Class', show: ({ rank }) => `${rank.class}, ${rank.class_place} of ${rank.class_size}` },
  {
    name: 'Made of',
    show: ({ rank }) => rank.parts.map((part) => `${part.part} ${part.points}/${part.most}`).join(' · '),
  },
  { name: 'Badges', show: ({ rank }) => rank.badges?.map(({ badge }) => badge).join(', ') || '–' },
];
const CLASSES = ['laptop', 'desktop', 'server', 'gpu'] as const;

export default function Ranking() {
  const { of } = useSearch({ from: '/ranking' });
  const navigate = useNavigate();
  const ranking = useQuery({
    queryKey: ['ranking', of],
    queryFn: () => unwrap(client.GET('/v1/ranking', { params: { query: { class: of } } })),
  });
  return (
    <Page
      title="Ranking"
      actions={
        <NativeSelect
          aria-label="Class"
          value={of ?? ''}
          data={[{ value: '', label: 'All classes' }, ...CLASSES]}
          onChange={(event) => {
            const chosen = CLASSES.find((one) => one === event.currentTarget.value);
            void navigate({ to: '/ranking', search: chosen === undefined ? {} : { of: chosen } });
          }}
        />
      }
    >
      <Asked title="Nodes by place" query={ranking}>
        {({ items }) => (
          <Table
            label="Ranking"
            rows={items}
            id={({ id }) => id}
            cells={CELLS}
            empty="No node has a rank yet: it takes one that was approved and measured."
          />
        )}
      </Asked>
    </Page>
  );
}
