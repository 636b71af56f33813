// What happened, the newest first, as it happens: who it happened to, why, and where to look.
import { TextInput } from '@mantine/core';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo } from 'react';
import { type EventView } from '~/api/client';
import { useList } from '~/api/lists';
import { ErrorState, Loading, Page, State, Time } from '~/kit/basics';
import { type Tone } from '~/kit/node-state';
import { Table } from '~/kit/table';
import { EventChain } from './chain';

const TONES: Record<NonNullable<EventView['level']>, Tone> = { info: 'off', warning: 'warn', error: 'bad' };
/** More are drawn on request by a narrower filter. */
const DRAWN = 300;

function Where({ event }: { event: EventView }) {
  const [project, stack] = event.stack?.split('/') ?? [];
  return (
    <>
      {project !== undefined && stack !== undefined && (
        <Link to="/stacks/$project/$stack" params={{ project, stack }}>
          {event.stack}
        </Link>
      )}{' '}
      {event.node != null && (
        <Link to="/nodes/$node" params={{ node: event.node }}>
          {event.node}
        </Link>
      )}
    </>
  );
}

export default function Events() {
  const events = useList('event');
  const { q = '', event: chosen } = useSearch({ from: '/events' });
  const navigate = useNavigate();
  const rows = useMemo(() => {
    const wanted = q.toLowerCase();
    return (events.data?.items ?? [])
      .filter(({ kind, subject, message, cause, node }) =>
        `${kind} ${subject} ${message} ${cause ?? ''} ${node ?? ''}`.toLowerCase().includes(wanted),
      )
      .slice(-DRAWN)
      .reverse();
  }, [events.data, q]);
  if (events.isPending) return <Loading />;
  if (events.data === undefined)
    return <ErrorState error={events.error} retry={() => void events.refetch()} />;
  return (
    <Page
      title="Events"
      actions={
        <TextInput
          aria-label="Find events by what happened, to what, why or where"
          placeholder="Find by what, to what, why, where"
          value={q}
          onChange={(event) =>
            void navigate({ to: '/events', search: { q: event.currentTarget.value }, replace: true })
          }
        />
      }
    >
      {chosen !== undefined && (
        <EventChain
          id={chosen}
          close={() => void navigate({ to: '/events', search: q === '' ? {} : { q }, replace: true })}
        />
      )}
      <div className="panel">
        <Table
          label="Events"
          rows={rows}
          id={({ id }) => String(id)}
          empty={q === '' ? 'Nothing has happened yet.' : `No event fits “${q}”.`}
          cells={[
            { name: 'When', show: ({ at }) => <Time at={at} /> },
            {
              name: 'Level',
              show: ({ level }) => <State word={level ?? 'info'} tone={TONES[level ?? 'info']} />,
            },
            { name: 'To what', show: ({ subject }) => <b>{subject}</b> },
            {
              name: 'What happened',
              show: ({ message, cause }) => (
                <>
                  {message}
                  {cause != null && cause !== '' && <span className="dim">{`: ${cause}`}</span>}
                </>
              ),
            },
            { name: 'Where', show: (event) => <Where event={event} /> },
            { name: 'Kind', show: ({ kind }) => <code>{kind}</code> },
            {
              name: 'Chain',
              show: ({ id, caused_by, subject }) => (
                <Link
                  to="/events"
                  search={{ ...(q === '' ? {} : { q }), event: id }}
                  aria-label={`${caused_by == null ? 'what came of it' : 'because of'}: ${subject}`}
                >
                  {caused_by == null ? 'what came of it' : 'because of'}
                </Link>
              ),
            },
          ]}
        />
        {rows.length === DRAWN && <p className="dim">{`The last ${DRAWN} that fit are shown.`}</p>}
      </div>
    </Page>
  );
}
