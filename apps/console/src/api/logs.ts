// What a container writes, as it writes it: lines of JSON over one request that stays open.
import { ApiError, type Schemas } from './client';

export type LogRecord = Schemas['LogLine'];
type Record = LogRecord | { error: Schemas['ErrorBody'] };

/** Whole lines out of pieces that end anywhere. */
export function lines(): (piece: string) => string[] {
  let rest = '';
  return (piece) => {
    const parts = (rest + piece).split('\n');
    rest = parts.pop() ?? '';
    return parts.filter((line) => line !== '');
  };
}

/** Follows a container's log until `signal` ends it. Throws what the server refused. */
export async function follow(
  allocation: string,
  signal: AbortSignal,
  take: (records: LogRecord[]) => void,
): Promise<void> {
  const path = `/v1/allocations/${encodeURIComponent(allocation)}/logs?follow=true&tail=500&timestamps=true`;
  const response = await fetch(path, { signal, credentials: 'same-origin' });
  if (!response.ok || response.body === null) {
    const body = (await response.json().catch(() => ({}))) as Partial<Schemas['ErrorBody']>;
    throw new ApiError(response.status, body);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const whole = lines();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const records = whole(value).map((line) => JSON.parse(line) as Record);
    const refusal = records.find((record) => 'error' in record);
    take(records.filter((record): record is LogRecord => !('error' in record)));
    if (refusal !== undefined && 'error' in refusal) throw new ApiError(0, refusal.error);
  }
}
