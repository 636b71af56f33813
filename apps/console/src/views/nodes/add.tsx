// A computer joins: a token is made, the command is shown, and then one sees it arrive, step by step.
import { Button, Checkbox, CopyButton, NativeSelect, Stack, Stepper } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { client, unwrap, type NodeView } from '~/api/client';
import { useList } from '~/api/lists';
import { ErrorState, Page } from '~/kit/basics';
import { Panel } from '~/kit/panel';
import { Approval } from './actions';

const HOUR = 3_600_000;

function Copied({ text }: { text: string }) {
  return (
    <>
      <code className="secret">{text}</code>
      <CopyButton value={text}>
        {({ copied, copy }) => (
          <Button size="xs" variant="default" onClick={copy}>
            {copied ? 'Copied' : 'Copy'}
          </Button>
        )}
      </CopyButton>
    </>
  );
}

function step(node: NodeView | undefined): number {
  if (node === undefined) return 0;
  if (node.approval !== 'approved') return 1;
  return node.presence.state === 'connected' ? 3 : 2;
}

function Arrival({ token }: { token: string }) {
  const nodes = useList('node');
  const node = nodes.data?.items.find((one) => one.evidence.token_id === token);
  return (
    <Panel title="It arrives">
      <div role="status">
        <Stepper active={step(node)} orientation="vertical" size="sm">
          <Stepper.Step
            label="It asks to join"
            description={node?.facts.hostname ?? 'waiting for the command to run there'}
          />
          <Stepper.Step label="It is approved" description={node?.approval} />
          <Stepper.Step label="Its link is up" description={node?.presence.state} />
        </Stepper>
      </div>
      {node?.approval === 'pending' && <Approval node={node} />}
      {node !== undefined && (
        <p>
          <Link to="/nodes/$node" params={{ node: node.name }}>
            {node.name}
          </Link>
        </p>
      )}
    </Panel>
  );
}

export default function AddNode() {
  const [pool, setPool] = useState('default');
  const [auto, setAuto] = useState(false);
  const pools = useQuery({ queryKey: ['pools'], queryFn: () => unwrap(client.GET('/v1/pools')) });
  const make = useMutation({
    mutationFn: () =>
      unwrap(
        client.POST('/v1/join-tokens', {
          body: { pool, auto_approve: auto, uses: 1, ttl_ms: HOUR, description: 'made in the console' },
        }),
      ),
  });
  return (
    <Page title="Add a node">
      <Panel title="What it may become">
        <Stack align="flex-start">
          <NativeSelect
            label="Pool"
            value={pool}
            data={pools.data?.items.map(({ name }) => name) ?? ['default']}
            onChange={(event) => setPool(event.currentTarget.value)}
          />
          <Checkbox
            label="Approve it without asking"
            description="Whoever has the token gets in. Else you compare the key's fingerprint and approve by hand."
            checked={auto}
            onChange={(event) => setAuto(event.currentTarget.checked)}
          />
          {make.error && <ErrorState error={make.error} />}
          <Button loading={make.isPending} onClick={() => make.mutate()}>
            Make a join token
          </Button>
        </Stack>
      </Panel>
      {make.data !== undefined && (
        <>
          <Panel title="On the computer">
            <Stack align="flex-start">
              <p>It needs Docker and the agent. This command asks for the token:</p>
              <Copied text="lattice-agent join" />
              <p>The token, which is shown this once, is good for one computer and one hour:</p>
              <Copied text={make.data.token} />
            </Stack>
          </Panel>
          <Arrival token={make.data.id} />
        </>
      )}
    </Page>
  );
}
