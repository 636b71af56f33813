/** What the navigation and the palette show, in this order. */
export const VIEWS = [
  { to: '/', label: 'Overview' },
  { to: '/nodes', label: 'Nodes' },
  { to: '/add-node', label: 'Add a node' },
  { to: '/stacks', label: 'Stacks' },
  { to: '/jobs', label: 'Jobs' },
  { to: '/volumes', label: 'Volumes' },
  { to: '/secrets', label: 'Secrets' },
  { to: '/pools', label: 'Pools' },
  { to: '/ranking', label: 'Ranking' },
  { to: '/alerts', label: 'Alerts' },
  { to: '/events', label: 'Events' },
  { to: '/audit', label: 'Audit' },
  { to: '/settings', label: 'Settings' },
] as const;
