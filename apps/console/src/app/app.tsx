// Who is there decides what is drawn: the way in, or the shell with the view that the address names.
import { MantineProvider, createTheme, Modal, Tooltip } from '@mantine/core';
import { QueryClient, QueryClientProvider, useQuery, useQueryClient } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { lazy, Suspense, useEffect } from 'react';
import { ApiError, client, setCsrf, unwrap, type Whoami } from '~/api/client';
import { watch } from '~/api/live';
import { ErrorState, Loading } from '~/kit/basics';
import { LinkOffer, useLink } from './link';
import { router } from './router';

const SignIn = lazy(() => import('~/views/sign-in'));

const cache = new QueryClient({
  defaultOptions: {
    queries: {
      refetchOnWindowFocus: false,
      retry: (count, error) =>
        count < 2 && error instanceof ApiError && (error.status === 0 || error.status >= 500),
    },
  },
});
// Mantine's own styles come as files; what it would write into the page, the Content-Security-Policy forbids.
const theme = createTheme({
  primaryColor: 'indigo',
  primaryShade: { light: 7, dark: 7 },
  respectReducedMotion: true,
  components: {
    Modal: Modal.extend({ defaultProps: { lockScroll: false } }),
    Tooltip: Tooltip.extend({ defaultProps: { events: { hover: true, focus: true, touch: true } } }),
  },
});

function Gate() {
  const queries = useQueryClient();
  const who = useQuery({
    queryKey: ['whoami'],
    queryFn: async () => {
      const answer: Whoami = await unwrap(client.GET('/v1/whoami'));
      setCsrf(answer.csrf);
      return answer;
    },
  });
  const nobody = who.error instanceof ApiError && who.error.status === 401;
  const link = useLink(nobody, () => void queries.resetQueries());
  const signedIn = who.data !== undefined && !who.isError;
  useEffect(() => {
    if (!signedIn) return;
    return watch(queries, () => void queries.invalidateQueries({ queryKey: ['whoami'] }));
  }, [signedIn, queries]);
  if (who.isPending || link.opening) return <Loading />;
  if (link.offered && who.data !== undefined) return <LinkOffer name={who.data.name} link={link} />;
  if (nobody) return <SignIn refused={link.error} done={() => void queries.resetQueries()} />;
  if (who.data === undefined)
    return (
      <div className="center">
        <ErrorState error={who.error} retry={() => void who.refetch()} />
      </div>
    );
  return <RouterProvider router={router} />;
}

export function App() {
  return (
    <MantineProvider
      theme={theme}
      defaultColorScheme="auto"
      withCssVariables={false}
      withGlobalClasses={false}
    >
      <QueryClientProvider client={cache}>
        <Suspense fallback={<Loading />}>
          <Gate />
        </Suspense>
      </QueryClientProvider>
    </MantineProvider>
  );
}
