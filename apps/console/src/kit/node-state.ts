// What one word and one colour say of a node: the worst that is true of it.
import type { NodeView } from '~/api/client';

export type Tone = 'good' | 'warn' | 'bad' | 'off' | 'info';
export interface Told {
  word: string;
  tone: Tone;
}

export function nodeState(node: NodeView): Told {
  if (node.approval === 'pending') return { word: 'waits for approval', tone: 'info' };
  if (node.approval !== 'approved') return { word: node.approval, tone: 'bad' };
  if (node.presence.state === 'lost') return { word: 'lost', tone: 'bad' };
  const standing = node.standing?.state;
  if (standing === 'asleep' || standing === 'away' || standing === 'suspended')
    return { word: standing, tone: 'off' };
  if (node.presence.state !== 'connected') return { word: node.presence.state, tone: 'warn' };
  if (node.conditions?.some((condition) => condition.level === 'bad'))
    return { word: 'unhealthy', tone: 'bad' };
  if (node.eligibility !== 'eligible') return { word: node.eligibility, tone: 'warn' };
  if (node.conditions?.some((condition) => condition.level === 'warning'))
    return { word: 'warning', tone: 'warn' };
  return { word: 'ready', tone: 'good' };
}

/** The share of the processors in use, 0 to 1; nothing where nobody measured. */
export function cpuShare(node: NodeView): number | undefined {
  if (node.load == null || node.capacity.cpu === 0) return undefined;
  return Math.min(1, Math.max(0, node.load.cpu / node.capacity.cpu));
}
