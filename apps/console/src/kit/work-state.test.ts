import { describe, expect, it } from 'vitest';
import type { AllocationView, WorkloadView } from '~/api/client';
import { allocationState, serving, stackState } from './work-state';

const workload = (state: WorkloadView['state'], serving = 1, replicas = 1) =>
  ({ state, serving, replicas }) as WorkloadView;

describe('a stack', () => {
  it('is as well as the worst of its services', () => {
    expect(stackState([workload('running'), workload('failed'), workload('pending')], false).word).toBe(
      'failed',
    );
    expect(stackState([workload('running'), workload('progressing')], false).word).toBe('progressing');
    expect(stackState([workload('running'), workload('completed')], false).word).toBe('running');
    expect(stackState([workload('completed')], false)).toEqual({ word: 'completed', tone: 'off' });
    expect(stackState([], false).word).toBe('empty');
    expect(stackState([workload('running')], true).word).toBe('being removed');
  });
  it('counts the replicas that should serve, and no jobs', () => {
    expect(serving([workload('degraded', 2, 3), workload('completed', 0, 1), workload('running')])).toEqual({
      now: 3,
      wanted: 4,
    });
  });
});

it('a replica says the worst that is true of it', () => {
  const allocation = (state: string, health = 'none', node_lost = false) =>
    ({ node_lost, status: { state, health } }) as AllocationView;
  expect(allocationState(allocation('running'))).toEqual({ word: 'running', tone: 'good' });
  expect(allocationState(allocation('running', 'unhealthy')).tone).toBe('bad');
  expect(allocationState(allocation('running', 'healthy', true)).word).toBe('node lost');
  expect(allocationState(allocation('backing_off')).word).toBe('backing off');
});
