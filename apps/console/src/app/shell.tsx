// What stands around every view: the way to the others, whether what is shown is live, who is signed in.
import { Button, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { Link, Outlet } from '@tanstack/react-router';
import { Suspense, useSyncExternalStore } from 'react';
import { client, unwrap, type Whoami } from '~/api/client';
import { live } from '~/api/live';
import { Loading } from '~/kit/basics';
import { Palette } from './palette';
import { VIEWS } from './views';

export function Shell() {
  const state = useSyncExternalStore(live.subscribe, live.get);
  const scheme = useComputedColorScheme('light');
  const { setColorScheme } = useMantineColorScheme();
  const queries = useQueryClient();
  const who = queries.getQueryData<Whoami>(['whoami']);
  const signOut = async () => {
    await unwrap(client.POST('/v1/logout'));
    await queries.resetQueries();
  };
  return (
    <div className="shell">
      <Palette />
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <nav className="side" aria-label="Views">
        <span className="brand">
          <img src="/icon.svg" alt="" width={24} height={24} /> Lattice
        </span>
        {VIEWS.map(({ to, label }) => (
          <Link key={to} to={to} activeOptions={{ exact: to === '/' }}>
            {label}
          </Link>
        ))}
        <div className="end">
          <span className="dim">{who?.name}</span>
          <Button
            size="xs"
            variant="default"
            onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
          >
            {scheme === 'dark' ? 'Light' : 'Dark'}
          </Button>
          {who?.credential === 'session' && (
            <Button size="xs" variant="default" onClick={() => void signOut()}>
              Sign out
            </Button>
          )}
        </div>
      </nav>
      <div>
        <div role="status">
          {state === 'offline' && (
            <div className="offline">The server is out of reach: this is how things were. Trying again…</div>
          )}
        </div>
        <main id="content" className="main" tabIndex={-1}>
          <Suspense fallback={<Loading />}>
            <Outlet />
          </Suspense>
        </main>
      </div>
    </div>
  );
}
