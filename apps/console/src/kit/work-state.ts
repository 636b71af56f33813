// What one word and one colour say of a service, of one of its replicas, and of a stack: the worst that is true of it.
import type { AllocationView, WorkloadView } from '~/api/client';
import type { Told, Tone } from './node-state';

const WORKLOADS: Record<WorkloadView['state'], Tone> = {
  running: 'good',
  progressing: 'info',
  pending: 'warn',
  degraded: 'warn',
  failed: 'bad',
  completed: 'off',
  scheduled: 'info',
  stopped: 'off',
  unknown: 'off',
};

export function workloadState(workload: WorkloadView): Told {
  return { word: workload.state, tone: WORKLOADS[workload.state] ?? 'off' };
}

const ALLOCATIONS: Record<AllocationView['status']['state'], Tone> = {
  assigned: 'info',
  waiting: 'info',
  pulling: 'info',
  starting: 'info',
  running: 'good',
  backing_off: 'warn',
  stopping: 'off',
  stopped: 'off',
  completed: 'off',
  failed: 'bad',
  unknown: 'warn',
};

export function allocationState(allocation: AllocationView): Told {
  const { state, health } = allocation.status;
  if (allocation.node_lost) return { word: 'node lost', tone: 'bad' };
  if (state === 'running' && health === 'unhealthy') return { word: 'unhealthy', tone: 'bad' };
  if (state === 'running' && health === 'starting')
    return { word: 'running, health not known yet', tone: 'info' };
  return { word: state.replace('_', ' '), tone: ALLOCATIONS[state] ?? 'off' };
}

const WORST: readonly Tone[] = ['bad', 'warn', 'info', 'good', 'off'];

/** A stack is as well as the worst of its services. */
export function stackState(workloads: readonly WorkloadView[], deleting: boolean): Told {
  if (deleting) return { word: 'being removed', tone: 'warn' };
  const told = workloads.map(workloadState);
  for (const tone of WORST) {
    const found = told.find((one) => one.tone === tone);
    if (found !== undefined) return found;
  }
  return { word: 'empty', tone: 'off' };
}

/** How many of the replicas that should serve do: jobs end, and do not count. */
export function serving(workloads: readonly WorkloadView[]): { now: number; wanted: number } {
  const lasting = workloads.filter(
    ({ state }) => state !== 'completed' && state !== 'scheduled' && state !== 'stopped',
  );
  return {
    now: lasting.reduce((sum, workload) => sum + workload.serving, 0),
    wanted: lasting.reduce((sum, workload) => sum + workload.replicas, 0),
  };
}
