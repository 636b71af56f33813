// Every view has a line here: its address, and the file that is loaded when somebody goes there.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from '@tanstack/react-router';
import { ErrorState, Loading, Page } from '~/kit/basics';
import { Shell } from './shell';

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => <Page title="Not found">There is no view at this address.</Page>,
});
const routes = [
  createRoute({
    getParentRoute: () => root,
    path: '/',
    component: lazyRouteComponent(() => import('~/views/overview/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/nodes',
    validateSearch: (search: Record<string, unknown>): { q?: string } =>
      typeof search.q === 'string' && search.q !== '' ? { q: search.q } : {},
    component: lazyRouteComponent(() => import('~/views/nodes/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/nodes/$node',
    component: lazyRouteComponent(() => import('~/views/nodes/node')),
  }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  defaultPreload: 'intent',
  defaultPendingComponent: Loading,
  defaultErrorComponent: ({ error }) => <ErrorState error={error} />,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
