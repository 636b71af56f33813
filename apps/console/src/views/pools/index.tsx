// Pools: which there are, who belongs to them and why, and what another rule would change before it does.
import { Button, Group, NativeSelect, Stack, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { client, unwrap, type Schemas } from '~/api/client';
import { ErrorState, Page } from '~/kit/basics';
import { Asked, Panel } from '~/kit/panel';
import { Table, type Cell } from '~/kit/table';

type Pool = Schemas['PoolView'];
const CELLS: readonly Cell<Pool>[] = [
  {
    name: 'Pool',
    show: ({ name, description }) => (
      <>
        <b>{name}</b> {description}
      </>
    ),
  },
  { name: 'Nodes', show: ({ nodes }) => nodes },
  { name: 'Rule', show: ({ rule }) => (rule == null ? '–' : <code>{rule.rule}</code>) },
  { name: 'Trusted with data', show: ({ trusted }) => (trusted ? 'yes' : 'no') },
  { name: 'Projects', show: ({ projects }) => projects?.join(', ') || 'all' },
];

function Rule({ pools }: { pools: readonly Pool[] }) {
  const cache = useQueryClient();
  const [pool, setPool] = useState(pools[0]?.name ?? '');
  const [rule, setRule] = useState('');
  const asked = { params: { path: { pool } }, body: { rule } };
  const preview = useMutation({ mutationFn: () => unwrap(client.POST('/v1/pools/{pool}/preview', asked)) });
  const save = useMutation({
    mutationFn: () => unwrap(client.PATCH('/v1/pools/{pool}', asked)),
    onSuccess: async () => {
      preview.reset();
      await cache.invalidateQueries({ queryKey: ['pools'] });
    },
  });
  const error = preview.error ?? save.error;
  return (
    <Panel title="Who belongs, by a rule">
      <Stack align="flex-start">
        <Group align="flex-end">
          <NativeSelect
            label="Pool"
            value={pool}
            data={pools.map(({ name }) => name)}
            onChange={(event) => {
              setPool(event.currentTarget.value);
              preview.reset();
            }}
          />
          <TextInput
            label="Rule"
            placeholder="node.memory >= 16g"
            value={rule}
            onChange={(event) => {
              setRule(event.currentTarget.value);
              preview.reset();
            }}
          />
          <Button
            variant="default"
            loading={preview.isPending}
            disabled={rule === ''}
            onClick={() => preview.mutate()}
          >
            Preview
          </Button>
        </Group>
        {error && <ErrorState error={error} />}
        {preview.data && (
          <>
            <Table
              label="What the rule does"
              rows={preview.data.nodes}
              id={({ node }) => node}
              cells={[
                { name: 'Node', show: ({ node }) => node },
                { name: 'Fits', show: ({ matches }) => (matches ? 'yes' : 'no') },
                { name: 'Pool', show: ({ from, to }) => (from === to ? to : `${from} → ${to}`) },
                { name: 'Why', show: ({ why, stays }) => stays ?? why },
              ]}
              empty="There is no node yet."
            />
            <p>
              {preview.data.moves.length === 0
                ? 'No allocation moves.'
                : `${preview.data.moves.length} allocations move.`}
            </p>
            <Button loading={save.isPending} onClick={() => save.mutate()}>
              Set this rule
            </Button>
          </>
        )}
      </Stack>
    </Panel>
  );
}

export default function Pools() {
  const pools = useQuery({ queryKey: ['pools'], queryFn: () => unwrap(client.GET('/v1/pools')) });
  return (
    <Page title="Pools">
      <Asked title="All pools" query={pools}>
        {({ items }) => (
          <Table
            label="Pools and their nodes"
            rows={items}
            id={({ name }) => name}
            cells={CELLS}
            empty="There is no pool."
          />
        )}
      </Asked>
      {pools.data && pools.data.items.length > 0 && <Rule pools={pools.data.items} />}
    </Page>
  );
}
