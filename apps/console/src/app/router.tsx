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
/** What somebody looks for in a list. */
const found = ({ q }: Record<string, unknown>): { q?: string } =>
  typeof q === 'string' && q !== '' ? { q } : {};
const routes = [
  createRoute({
    getParentRoute: () => root,
    path: '/',
    component: lazyRouteComponent(() => import('~/views/overview/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/nodes',
    validateSearch: found,
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
    path: '/stacks',
    validateSearch: found,
    component: lazyRouteComponent(() => import('~/views/stacks/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/stacks/$project/$stack',
    component: lazyRouteComponent(() => import('~/views/stacks/stack')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/stacks/$project/$stack/$workload',
    validateSearch: ({ replica }: Record<string, unknown>): { replica?: string } =>
      typeof replica === 'string' ? { replica } : {},
    component: lazyRouteComponent(() => import('~/views/stacks/workload')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/deploy',
    validateSearch: ({ project, stack }: Record<string, unknown>): { project?: string; stack?: string } => ({
      ...(typeof project === 'string' ? { project } : {}),
      ...(typeof stack === 'string' ? { stack } : {}),
    }),
    component: lazyRouteComponent(() => import('~/views/deploy/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/volumes',
    validateSearch: found,
    component: lazyRouteComponent(() => import('~/views/volumes/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/alerts',
    validateSearch: ({ all }: Record<string, unknown>): { all?: true } => (all === true ? { all } : {}),
    component: lazyRouteComponent(() => import('~/views/alerts/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/events',
    validateSearch: (search: Record<string, unknown>): { q?: string; event?: number } => ({
      ...found(search),
      ...(typeof search.event === 'number' ? { event: search.event } : {}),
    }),
    component: lazyRouteComponent(() => import('~/views/events/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/audit',
    validateSearch: found,
    component: lazyRouteComponent(() => import('~/views/audit/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/secrets',
    validateSearch: ({ project }: Record<string, unknown>): { project?: string } =>
      typeof project === 'string' ? { project } : {},
    component: lazyRouteComponent(() => import('~/views/secrets/index')),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/jobs',
    component: lazyRouteComponent(() => import('~/views/jobs/index')),
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
