// Who changed what, the newest first.
import { TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { client, unwrap, type Schemas } from '~/api/client';
import { Page, State, Time } from '~/kit/basics';
import { type Tone } from '~/kit/node-state';
import { Asked } from '~/kit/panel';
import { Table } from '~/kit/table';

const TONES: Record<Schemas['AuditOutcome'], Tone> = { done: 'good', denied: 'bad', failed: 'warn' };
const LAST = 500;

export default function Audit() {
  const { q = '' } = useSearch({ from: '/audit' });
  const navigate = useNavigate();
  const query = useQuery({
    queryKey: ['audit'],
    queryFn: async () =>
      (await unwrap(client.GET('/v1/audit', { params: { query: { limit: LAST } } }))).items,
    refetchInterval: 10_000,
  });
  const wanted = q.toLowerCase();
  return (
    <Page
      title="Audit"
      actions={
        <TextInput
          aria-label="Find entries by who, what or details"
          placeholder="Find by who, what, details"
          value={q}
          onChange={(event) =>
            void navigate({ to: '/audit', search: { q: event.currentTarget.value }, replace: true })
          }
        />
      }
    >
      <Asked title="Who changed what" query={query}>
        {(items) => (
          <Table
            label="Audit entries"
            rows={items
              .filter(({ who, action, subject, details }) =>
                `${who} ${action} ${subject} ${details ?? ''}`.toLowerCase().includes(wanted),
              )
              .reverse()}
            id={({ id }) => String(id)}
            empty={q === '' ? 'Nobody has changed anything yet.' : `No entry fits “${q}”.`}
            cells={[
              { name: 'When', show: ({ at }) => <Time at={at} /> },
              { name: 'Who', show: ({ who }) => <b>{who}</b> },
              { name: 'What', show: ({ action }) => <code>{action}</code> },
              { name: 'To what', show: ({ subject }) => subject },
              { name: 'Outcome', show: ({ outcome }) => <State word={outcome} tone={TONES[outcome]} /> },
              { name: 'Details', show: ({ details }) => <span className="dim">{details}</span> },
            ]}
          />
        )}
      </Asked>
    </Page>
  );
}
