// Why an event came about, from the first cause down, and what came of it: drawn as a tree.
import { CloseButton } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { client, unwrap, type EventView, type Schemas } from '~/api/client';
import { ErrorState, Loading, Time } from '~/kit/basics';

type Chain = Schemas['EventChain'];

function Told({ event, here }: { event: EventView; here?: boolean }) {
  return (
    <span aria-current={here ? 'true' : undefined}>
      <Time at={event.at} /> <b>{event.subject}</b> {event.message}
    </span>
  );
}

/** What came of an event, each below what led to it. */
function LedTo({ of, all }: { of: number; all: readonly EventView[] }) {
  const next = all.filter(({ caused_by }) => caused_by?.kind === 'event' && caused_by.id === of);
  if (next.length === 0) return null;
  return (
    <ul>
      {next.map((event) => (
        <li key={event.id}>
          <Told event={event} />
          <LedTo of={event.id} all={all} />
        </li>
      ))}
    </ul>
  );
}

function Tree({ chain, causes }: { chain: Chain; causes: readonly EventView[] }) {
  const [first, ...rest] = causes;
  if (first === undefined)
    return (
      <li>
        <Told event={chain.event} here />
        <LedTo of={chain.event.id} all={chain.led_to} />
      </li>
    );
  return (
    <li>
      <Told event={first} />
      <ul>
        <Tree chain={chain} causes={rest} />
      </ul>
    </li>
  );
}

export function EventChain({ id, close }: { id: number; close: () => void }) {
  const query = useQuery({
    queryKey: ['chain', id],
    queryFn: () => unwrap(client.GET('/v1/events/{id}/chain', { params: { path: { id: String(id) } } })),
  });
  return (
    <section className="panel" aria-label="What led to it, and what came of it">
      <div className="page-head">
        <h2>What led to it, and what came of it</h2>
        <CloseButton aria-label="Close" onClick={close} />
      </div>
      {query.isPending && <Loading />}
      {query.isError && <ErrorState error={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && (
        <>
          {query.data.audit != null && (
            <p>
              <Time at={query.data.audit.at} /> <b>{query.data.audit.who}</b> asked for it:{' '}
              <code>{query.data.audit.action}</code> {query.data.audit.subject}
            </p>
          )}
          <ul className="tree">
            <Tree chain={query.data} causes={[...query.data.because].reverse()} />
          </ul>
          {query.data.led_to.length === 0 && query.data.because.length === 0 && (
            <p className="dim">Nothing that is written down led to it, and nothing came of it.</p>
          )}
          {query.data.more === true && <p className="dim">More came of it than is shown.</p>}
        </>
      )}
    </section>
  );
}
