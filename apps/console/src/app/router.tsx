// Every view has a line here: its address, and the file that is loaded when somebody goes there.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from '@tanstack/react-router';
import { ErrorState, Loading, Page } from '~/kit/basics';
import { type Schemas } from '~/api/client';
import { Shell } from './shell';

type RankClass = Schemas['RankClass'];

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
  createRoute({
    getParentRoute: () => root,
    path: '/add-node',
    component: lazyRouteComponent(() => import('~/views/nodes/add')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/pools',
    component: lazyRouteComponent(() => import('~/views/pools/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/ranking',
    validateSearch: ({ of }: Record<string, unknown>): { of?: RankClass } =>
      of === 'laptop' || of === 'desktop' || of === 'server' || of === 'gpu' ? { of } : {},
    component: lazyRouteComponent(() => import('~/views/ranking/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/settings',
    component: lazyRouteComponent(() => import('~/views/settings/index')),
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
