// The log of one replica, followed. Only the last lines are kept, and they are drawn once per frame however fast they
// come; whoever scrolls up is left where they are.
import { Group, NativeSelect, Switch, TextInput } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { type AllocationView } from '~/api/client';
import { follow, type LogRecord } from '~/api/logs';
import { ErrorState } from '~/kit/basics';
import { Empty } from '~/kit/empty';

const KEPT = 2000;
interface Line extends LogRecord {
  n: number;
}

/** What one container writes. */
function useLog(allocation: string) {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [error, setError] = useState<Error>();
  const [ended, setEnded] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    let waiting: Line[] = [];
    let frame = 0;
    let n = 0;
    const flush = () => {
      frame = 0;
      const news = waiting;
      waiting = [];
      setLines((lines) => [...lines, ...news].slice(-KEPT));
    };
    const take = (records: LogRecord[]) => {
      for (const record of records) waiting.push({ ...record, n: n++ });
      waiting = waiting.slice(-KEPT);
      // A hidden page has no frames; what it did not draw is not kept for ever either.
      if (waiting.length > 0) frame ||= requestAnimationFrame(flush);
    };
    follow(allocation, stop.signal, take).then(
      () => !stop.signal.aborted && setEnded(true),
      (error: unknown) => {
        if (!stop.signal.aborted) setError(error instanceof Error ? error : new Error(String(error)));
      },
    );
    return () => {
      stop.abort();
      cancelAnimationFrame(frame);
    };
  }, [allocation]);
  return { lines, error, ended };
}

function text(line: Line): string {
  if (line.text != null) return line.text;
  return line.data_base64 == null ? '' : '(bytes that are no text)';
}

function Box({ allocation, filter, times }: { allocation: string; filter: string; times: boolean }) {
  const { lines, error, ended } = useLog(allocation);
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, filter, times]);
  const wanted = filter.toLowerCase();
  const drawn = filter === '' ? lines : lines.filter((line) => text(line).toLowerCase().includes(wanted));
  return (
    <>
      {error !== undefined && <ErrorState error={error} />}
      <div
        className="log"
        ref={box}
        role="log"
        aria-live="off"
        aria-label="Log"
        tabIndex={0}
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          atEnd.current = scrollHeight - scrollTop - clientHeight < 30;
        }}
      >
        {drawn.map((line) => (
          <div key={line.n} data-stream={line.stream}>
            {times && line.at_ms != null && <time>{new Date(line.at_ms).toISOString().slice(11, 23)}</time>}
            {text(line)}
          </div>
        ))}
        {drawn.length === 0 && error === undefined && (
          <span className="dim">{filter === '' ? 'It has written nothing yet.' : 'No line has that.'}</span>
        )}
      </div>
      <p className="dim">
        {ended ? 'The log has ended.' : 'Followed as it is written.'}{' '}
        {`The last ${KEPT} lines are kept here.`}
      </p>
    </>
  );
}

interface Props {
  allocations: readonly AllocationView[];
  /** The id of the replica's allocation. */
  chosen: string | undefined;
  choose: (id: string) => void;
}
export function Logs({ allocations, chosen, choose }: Props) {
  const [filter, setFilter] = useState('');
  const [times, setTimes] = useState(false);
  const best =
    allocations.find(({ id }) => id === chosen) ??
    allocations.find(({ status }) => status.state === 'running') ??
    allocations[0];
  if (best === undefined) return <Empty>There is no replica, so nothing writes a log.</Empty>;
  return (
    <>
      <Group mb="sm" align="end">
        <NativeSelect
          size="xs"
          label="Replica"
          value={best.id}
          onChange={(event) => choose(event.currentTarget.value)}
          data={allocations.map(({ id, slot, node, status }) => ({
            value: id,
            label: `${slot} on ${node} (${status.state.replace('_', ' ')})`,
          }))}
        />
        <TextInput
          size="xs"
          label="Only lines with"
          value={filter}
          onChange={(event) => setFilter(event.currentTarget.value)}
        />
        <Switch
          size="xs"
          label="Times"
          checked={times}
          onChange={(event) => setTimes(event.currentTarget.checked)}
        />
      </Group>
      <Box key={best.id} allocation={best.id} filter={filter} times={times} />
    </>
  );
}
