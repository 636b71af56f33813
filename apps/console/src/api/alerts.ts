// Alerts that fire. The watch does not tell of them yet, so they are asked for every few seconds.
import { useQuery } from '@tanstack/react-query';
import { client, unwrap, type Schemas } from './client';

export type AlertView = Schemas['AlertView'];

export function useAlerts() {
  return useQuery({
    queryKey: ['alerts'],
    queryFn: async () => (await unwrap(client.GET('/v1/alerts'))).items,
    refetchInterval: 5_000,
  });
}
