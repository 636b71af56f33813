// The way in: name and password become a session, which the browser keeps as an HttpOnly cookie.
import { Button, PasswordInput, Stack, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { client, unwrap } from '~/api/client';
import { ErrorState } from '~/kit/basics';

export default function SignIn({ done, refused }: { done: () => void; refused: Error | null }) {
  const [user, setUser] = useState('');
  const [password, setPassword] = useState('');
  const signIn = useMutation({
    // `cookie` asks for a session that scripts cannot read.
    mutationFn: () =>
      unwrap(client.POST('/v1/login', { body: { user, password, client: 'console', ...{ cookie: true } } })),
    onSuccess: done,
  });
  const wrong = signIn.error ?? refused;
  return (
    <main className="center">
      <h1>Sign in to Lattice</h1>
      <form
        className="panel"
        onSubmit={(event) => {
          event.preventDefault();
          signIn.mutate();
        }}
      >
        <Stack>
          {wrong !== null && <ErrorState error={wrong} />}
          <TextInput
            label="User"
            autoComplete="username"
            required
            value={user}
            onChange={(event) => setUser(event.currentTarget.value)}
          />
          <PasswordInput
            label="Password"
            autoComplete="current-password"
            required
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          <p>
            On the server&apos;s machine, <code>lattice console</code> prints a link that signs you in without
            a password.
          </p>
          <Button type="submit" loading={signIn.isPending}>
            Sign in
          </Button>
        </Stack>
      </form>
    </main>
  );
}
