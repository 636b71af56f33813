// A command in a container, in a terminal: a WebSocket with frames of bytes, the channel as the first byte of each, and
// words as JSON (docs of crates/api, allocation). The command goes on where somebody leaves: an engine cannot end it.
import { Button, Group, NativeSelect, TextInput } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { ApiError, type AllocationView, type Schemas } from '~/api/client';
import { ErrorState } from '~/kit/basics';
import { Empty } from '~/kit/empty';
import { shell } from './terminal';

type Last = Schemas['ExecServerMessage'];
const [STDIN, STDOUT, STDERR] = [0, 1, 2];
/** The most bytes of a frame, its first one included. */
const FRAME = 64 * 1024;

function send(socket: WebSocket, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += FRAME - 1) {
    const part = bytes.subarray(at, at + FRAME - 1);
    const frame = new Uint8Array(part.length + 1);
    frame[0] = STDIN;
    frame.set(part, 1);
    socket.send(frame);
  }
}

interface Ended {
  code?: number;
  error?: Error;
}

function Session({
  allocation,
  argv,
  ended,
}: {
  allocation: string;
  argv: string[];
  ended: (how: Ended) => void;
}) {
  const host = useRef<HTMLDivElement>(null);
  const told = useRef(ended);
  useEffect(() => {
    told.current = ended;
  }, [ended]);
  const command = JSON.stringify(argv);
  useEffect(() => {
    if (host.current === null) return;
    const { terminal, fit, close } = shell(host.current);
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(
      `${scheme}//${location.host}/v1/allocations/${encodeURIComponent(allocation)}/exec`,
    );
    socket.binaryType = 'arraybuffer';
    let last = false;
    socket.onopen = () => {
      const argv = JSON.parse(command) as string[];
      const start: Schemas['ExecStart'] = {
        argv,
        tty: true,
        stdin: true,
        env: { TERM: 'xterm-256color' },
        size: fit(),
      };
      socket.send(JSON.stringify(start));
      terminal.focus();
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (typeof data !== 'string') {
        const bytes = new Uint8Array(data);
        if (bytes[0] === STDOUT || bytes[0] === STDERR) terminal.write(bytes.subarray(1));
        return;
      }
      last = true;
      const message = JSON.parse(data) as Last;
      told.current(
        message.type === 'exit' ? { code: message.code } : { error: new ApiError(0, message.error) },
      );
    };
    socket.onclose = () => {
      if (last) return;
      const message = 'the connection ended before the command did';
      told.current({
        error: new ApiError(0, { message, hint: 'it may run on; open another terminal to look' }),
      });
    };
    const open = () => socket.readyState === WebSocket.OPEN;
    const typed = new TextEncoder();
    terminal.onData((text) => open() && send(socket, typed.encode(text)));
    terminal.onBinary(
      (text) =>
        open() &&
        send(
          socket,
          Uint8Array.from(text, (c) => c.charCodeAt(0)),
        ),
    );
    terminal.onResize((size) => {
      const { cols, rows } = size;
      if (open()) socket.send(JSON.stringify({ type: 'resize', size: { cols, rows } }));
    });
    const watched = new ResizeObserver(() => fit());
    watched.observe(host.current);
    return () => {
      last = true;
      watched.disconnect();
      socket.close();
      close();
    };
  }, [allocation, command]);
  return <div ref={host} className="terminal" role="group" aria-label="Terminal" />;
}

export default function Exec({ allocations }: { allocations: readonly AllocationView[] }) {
  const running = allocations.filter(({ status }) => status.state === 'running');
  const [chosen, setChosen] = useState<string>();
  const [command, setCommand] = useState('sh');
  const [session, setSession] = useState<{ n: number; allocation: string; argv: string[] }>();
  const [how, setHow] = useState<Ended>();
  const at = running.find(({ id }) => id === chosen) ?? running[0];
  if (at === undefined && session === undefined)
    return <Empty>No replica runs, so there is nothing to run a command in.</Empty>;
  const argv = command.split(' ').filter((word) => word !== '');
  return (
    <>
      <Group mb="sm" align="end">
        <NativeSelect
          size="xs"
          label="Replica"
          value={at?.id ?? ''}
          onChange={(event) => setChosen(event.currentTarget.value)}
          data={running.map(({ id, slot, node }) => ({ value: id, label: `${slot} on ${node}` }))}
        />
        <TextInput
          size="xs"
          label="Command"
          value={command}
          onChange={(event) => setCommand(event.currentTarget.value)}
        />
        <Button
          size="xs"
          variant="default"
          disabled={argv.length === 0 || at === undefined}
          onClick={() => {
            setHow(undefined);
            setSession({ n: (session?.n ?? 0) + 1, allocation: at?.id ?? '', argv });
          }}
        >
          {session === undefined ? 'Open a terminal' : 'Open another'}
        </Button>
      </Group>
      {how?.error !== undefined && <ErrorState error={how.error} />}
      {session !== undefined && (
        <Session key={session.n} allocation={session.allocation} argv={session.argv} ended={setHow} />
      )}
      {how?.code !== undefined && <p className="dim">{`The command ended with exit code ${how.code}.`}</p>}
    </>
  );
}
