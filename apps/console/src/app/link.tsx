// A link that `lattice console` printed: its secret stands behind the `#`, and is taken off the address before anything
// is drawn, so that it is in no history. It signs in whoever is not signed in yet; who is, is asked: a link from a
// stranger must not make somebody else of them unseen.
import { Button, Group, Stack } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { client, unwrap } from '~/api/client';
import { ErrorState } from '~/kit/basics';

function take(): string | undefined {
  const code = globalThis.location?.hash.slice(1) ?? '';
  if (!code.startsWith('lac1_')) return undefined;
  history.replaceState(history.state, '', location.pathname + location.search);
  return code;
}

const first = take();

/** What comes of the link in the address. `nobody` says that nobody is signed in. */
export function useLink(nobody: boolean, done: () => void) {
  const [code, setCode] = useState(first);
  const open = useMutation({
    mutationFn: (code: string) =>
      unwrap(client.POST('/v1/console-links/use', { body: { code, client: 'console' } })),
    onSettled: () => setCode(undefined),
    onSuccess: done,
  });
  // In a tab that is open already, a link changes the address alone.
  useEffect(() => {
    const look = () => setCode((before) => take() ?? before);
    window.addEventListener('hashchange', look);
    return () => window.removeEventListener('hashchange', look);
  }, []);
  const { mutate, isPending } = open;
  useEffect(() => {
    if (nobody && code !== undefined && !isPending) mutate(code);
  }, [nobody, code, mutate, isPending]);
  return {
    opening: nobody && (code !== undefined || isPending),
    offered: !nobody && code !== undefined,
    busy: isPending,
    error: open.error,
    open: () => code !== undefined && mutate(code),
    leave: () => setCode(undefined),
  };
}

/** Somebody is signed in already: shall the link count? */
export function LinkOffer({ name, link }: { name: string; link: ReturnType<typeof useLink> }) {
  return (
    <main className="center">
      <h1>Sign in by this link?</h1>
      <Stack className="panel">
        {link.error !== null && <ErrorState error={link.error} />}
        <p>
          You are signed in as <strong>{name}</strong>. The link that you opened signs you in as whoever made
          it, in place of that. If you did not make it yourself, stay who you are.
        </p>
        <Group>
          <Button variant="default" onClick={link.leave}>
            Stay {name}
          </Button>
          <Button loading={link.busy} onClick={link.open}>
            Sign in by the link
          </Button>
        </Group>
      </Stack>
    </main>
  );
}
