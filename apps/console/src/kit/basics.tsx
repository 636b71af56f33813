// The small parts that every view is made of.
import { Alert, Button, Skeleton, Stack, Tooltip } from '@mantine/core';
import { useEffect, useState, type ReactNode } from 'react';
import { ApiError } from '~/api/client';
import { ago } from './format';
import { type Told } from './node-state';

export function Page({
  title,
  actions,
  children,
}: {
  title: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Lattice`;
  }, [title]);
  return (
    <>
      <div className="page-head">
        <h1>{title}</h1>
        {actions}
      </div>
      {children}
    </>
  );
}

export function State({ word, tone }: Told) {
  return (
    <span className="state" data-tone={tone}>
      {word}
    </span>
  );
}

export function Time({ at }: { at: number }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 15_000);
    return () => clearInterval(timer);
  }, []);
  const date = new Date(at);
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString()}>
      {ago(at, now)}
    </time>
  );
}

export function Loading() {
  return (
    <Stack aria-busy="true" aria-label="Loading" role="status">
      <Skeleton height={28} />
      <Skeleton height={120} />
      <Skeleton height={120} />
    </Stack>
  );
}

/** A refusal: what happened and why, what to do next, and a way to try again. */
export function ErrorState({ error, retry }: { error: unknown; retry?: () => void }) {
  const told = error instanceof ApiError ? error : undefined;
  return (
    <Alert color="red" variant="outline" role="alert" title={told?.message ?? String(error)}>
      {told?.hint !== '' && <p>{told?.hint}</p>}
      {told?.details.map((detail) => (
        <p key={`${detail.path}${detail.message}`}>{`${detail.path ?? ''} ${detail.message}`}</p>
      ))}
      {retry && (
        <Button size="xs" variant="default" onClick={retry}>
          Try again
        </Button>
      )}
    </Alert>
  );
}

/** A button that stays where it is when it cannot be used, and says why. */
export function Act({
  why,
  main = false,
  children,
  ...rest
}: {
  why?: string | undefined;
  /** The one thing that is mostly wanted. */
  main?: boolean;
  children: ReactNode;
  onClick: () => void;
  loading?: boolean;
  color?: string;
}) {
  const button = (
    <Button
      size="xs"
      {...(main ? {} : { variant: 'default' })}
      {...rest}
      onClick={why === undefined ? rest.onClick : () => undefined}
      aria-disabled={why !== undefined}
      data-disabled={why === undefined ? undefined : true}
    >
      {children}
    </Button>
  );
  return why === undefined ? button : <Tooltip label={why}>{button}</Tooltip>;
}
