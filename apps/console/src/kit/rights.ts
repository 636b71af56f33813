// What whoever looks may do, so that a button says beforehand why it cannot be used. The server judges each request anew.
import { useQuery } from '@tanstack/react-query';
import type { NodeView, Schemas, Whoami } from '~/api/client';

type Rights = Schemas['Rights'];
export type Permission =
  | 'audit.look'
  | 'exec'
  | 'logs.look'
  | 'node.approve'
  | 'node.change'
  | 'node.pause'
  | 'node.revoke'
  | 'secret.change'
  | 'stack.change';

export function inProject(rights: Rights, permission: Permission, project: string): boolean {
  return (rights.projects?.[project] ?? rights.cluster ?? []).includes(permission);
}

export function onNode(rights: Rights, permission: Permission, node: NodeView, user: string | null): boolean {
  const own = node.owner === (user ?? 'admin');
  const held = [
    rights.cluster,
    rights.pools?.[node.pool],
    ...(own ? [rights.own_nodes, rights.own_nodes_in?.[node.pool]] : []),
  ];
  return held.some((permissions) => permissions?.includes(permission));
}

/** Why not, for a tooltip; nothing where they may. */
export interface Why {
  project: (permission: Permission, project: string) => string | undefined;
  node: (permission: Permission, node: NodeView) => string | undefined;
}

export function useWhy(): Why {
  // The gate has asked already, and asks again when it has to.
  const { data: who } = useQuery<Whoami>({ queryKey: ['whoami'], enabled: false });
  const rights = who?.rights;
  const told = (may: boolean, permission: Permission, where: string) =>
    may ? undefined : `You, ${who?.name ?? ''}, may not: it needs ${permission} ${where}.`;
  return {
    project: (permission, project) =>
      rights === undefined
        ? undefined
        : told(inProject(rights, permission, project), permission, `in project ${project}`),
    node: (permission, node) =>
      rights === undefined
        ? undefined
        : told(onNode(rights, permission, node, who?.user ?? null), permission, `on node ${node.name}`),
  };
}
