// What can be done with a node. What destroys asks for its name; what moves work is shown before it is done.
import { Button, Group, Modal, Stack, TextInput } from '@mantine/core';
import { useState } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type NodeView, type Schemas } from '~/api/client';
import { Act, ErrorState } from '~/kit/basics';
import { useWhy } from '~/kit/rights';

const NODES = [['list', 'node']];

function Drain({ node, blocked }: { node: NodeView; blocked: string | undefined }) {
  const params = { path: { node: node.name } };
  const [plan, setPlan] = useState<Schemas['DrainResult']>();
  const preview = useChange(
    NODES,
    () => unwrap(client.POST('/v1/nodes/{node}/drain', { params, body: { dry_run: true } })),
    setPlan,
  );
  const drain = useChange(
    NODES,
    () => unwrap(client.POST('/v1/nodes/{node}/drain', { params, body: {} })),
    () => setPlan(undefined),
  );
  return (
    <>
      <Act why={blocked} onClick={() => preview.mutate()} loading={preview.isPending}>
        Drain…
      </Act>
      {preview.error && <ErrorState error={preview.error} />}
      <Modal
        opened={plan !== undefined}
        onClose={() => setPlan(undefined)}
        title={`Drain ${node.name}`}
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        <Stack>
          {plan?.moves.length === 0 && <p>Nothing runs here: the node only takes no new work.</p>}
          <ul>
            {plan?.moves.map((move) => (
              <li key={`${move.project}/${move.stack}/${move.workload}/${move.slot}`}>
                <b>{`${move.stack}/${move.workload} ${move.slot}`}</b>: {move.fate}
                {move.to == null ? '' : ` to ${move.to}`}. <span className="dim">{move.why}</span>
              </li>
            ))}
          </ul>
          {drain.error && <ErrorState error={drain.error} />}
          <Button onClick={() => drain.mutate()} loading={drain.isPending}>
            Drain
          </Button>
        </Stack>
      </Modal>
    </>
  );
}

function Revoke({ node, blocked }: { node: NodeView; blocked: string | undefined }) {
  const [open, setOpen] = useState(false);
  const [name, setName] = useState('');
  const revoke = useChange(
    NODES,
    () =>
      unwrap(
        client.POST('/v1/nodes/{node}/revoke', {
          params: { path: { node: node.name } },
          body: { reason: 'revoked in the console' },
        }),
      ),
    () => setOpen(false),
  );
  return (
    <>
      <Act why={blocked} onClick={() => setOpen(true)}>
        Revoke…
      </Act>
      <Modal
        opened={open}
        onClose={() => setOpen(false)}
        title={`Revoke ${node.name}`}
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        <Stack>
          <p>
            Its key is worth nothing from then on, and there is no way back: the computer would have to join
            anew.
          </p>
          <TextInput
            label={`Type ${node.name} to confirm`}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          {revoke.error && <ErrorState error={revoke.error} />}
          <Button
            color="red"
            variant="outline"
            disabled={name !== node.name}
            loading={revoke.isPending}
            onClick={() => revoke.mutate()}
          >
            Revoke
          </Button>
        </Stack>
      </Modal>
    </>
  );
}

/** A request to join, with what it is judged by. */
export function Approval({ node }: { node: NodeView }) {
  const params = { path: { node: node.name } };
  // The fingerprint that was shown goes with the approval: should the key have changed meanwhile, it is refused.
  const approve = useChange(NODES, () =>
    unwrap(
      client.POST('/v1/nodes/{node}/approve', {
        params,
        body: { fingerprint: node.evidence.key_fingerprint },
      }),
    ),
  );
  const reject = useChange(NODES, () =>
    unwrap(client.POST('/v1/nodes/{node}/reject', { params, body: { reason: 'rejected in the console' } })),
  );
  const mayNot = useWhy().node('node.approve', node);
  return (
    <section className="panel" aria-labelledby="approval">
      <h2 id="approval">This computer asks to join</h2>
      <p>
        Compare the fingerprint with the one that <code>lattice-agent join</code> shows on the computer
        itself.
      </p>
      <dl className="facts">
        <dt>Fingerprint</dt>
        <dd>
          <code>{node.evidence.key_fingerprint}</code>
        </dd>
        <dt>Address</dt>
        <dd>{node.evidence.address}</dd>
        <dt>Owner, pool</dt>
        <dd>{`${node.owner}, ${node.pool}`}</dd>
      </dl>
      <Group mt="md">
        <Act why={mayNot} onClick={() => approve.mutate()} loading={approve.isPending} main>
          Approve
        </Act>
        <Act why={mayNot} onClick={() => reject.mutate()} loading={reject.isPending}>
          Reject
        </Act>
      </Group>
      {(approve.error ?? reject.error) && <ErrorState error={approve.error ?? reject.error} />}
    </section>
  );
}

export function Actions({ node }: { node: NodeView }) {
  const params = { path: { node: node.name } };
  const free = node.eligibility === 'eligible';
  const cordon = useChange(NODES, () =>
    unwrap(
      free
        ? client.POST('/v1/nodes/{node}/cordon', { params })
        : client.POST('/v1/nodes/{node}/uncordon', { params }),
    ),
  );
  const why = useWhy();
  const blocked =
    node.approval === 'approved'
      ? undefined
      : `The node is ${node.approval}: only an approved one can be changed.`;
  return (
    <Group gap="xs">
      <Act
        why={why.node('node.pause', node) ?? blocked}
        onClick={() => cordon.mutate()}
        loading={cordon.isPending}
      >
        {free ? 'Cordon' : 'Uncordon'}
      </Act>
      <Drain
        node={node}
        blocked={
          why.node('node.change', node) ??
          (node.eligibility === 'draining' ? 'It is being drained already.' : blocked)
        }
      />
      <Revoke node={node} blocked={why.node('node.revoke', node) ?? blocked} />
      {cordon.error && <ErrorState error={cordon.error} />}
    </Group>
  );
}
