import { expect, it } from 'vitest';
import type { NodeView } from '~/api/client';
import { inProject, onNode } from './rights';

it('a project that is named has rights of its own, others have the cluster’s', () => {
  const rights = { cluster: ['stack.look'], projects: { shop: ['stack.look', 'stack.change'], shut: [] } };
  expect(inProject(rights, 'stack.change', 'shop')).toBe(true);
  expect(inProject(rights, 'stack.change', 'other')).toBe(false);
  expect(inProject({ ...rights, cluster: ['stack.change'] }, 'stack.change', 'other')).toBe(true);
  expect(inProject({ ...rights, cluster: ['stack.change'] }, 'stack.change', 'shut')).toBe(false);
});

it('a node is changed by right of the cluster, of its pool, or of its owner', () => {
  const node = { owner: 'ada', pool: 'lab' } as NodeView;
  expect(onNode({ cluster: ['node.pause'] }, 'node.pause', node, 'bob')).toBe(true);
  expect(onNode({ pools: { lab: ['node.pause'] } }, 'node.pause', node, 'bob')).toBe(true);
  expect(onNode({ pools: { den: ['node.pause'] } }, 'node.pause', node, 'bob')).toBe(false);
  expect(onNode({ own_nodes: ['node.pause'] }, 'node.pause', node, 'bob')).toBe(false);
  expect(onNode({ own_nodes: ['node.pause'] }, 'node.pause', node, 'ada')).toBe(true);
  expect(onNode({ own_nodes_in: { lab: ['node.pause'] } }, 'node.pause', node, 'ada')).toBe(true);
});
