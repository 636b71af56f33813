// A part of a page: its heading, and what it asked the server for, in whichever state that is.
import { type UseQueryResult } from '@tanstack/react-query';
import { type ReactNode } from 'react';
import { ErrorState, Loading } from './basics';

export function Panel({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="panel" aria-label={title}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

interface Props<T> {
  title: string;
  query: UseQueryResult<T>;
  children: (data: T) => ReactNode;
}
export function Asked<T>({ title, query, children }: Props<T>) {
  return (
    <Panel title={title}>
      {query.isPending && <Loading />}
      {query.isError && <ErrorState error={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && children(query.data)}
    </Panel>
  );
}
