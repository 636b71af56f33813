// Alerts that fire. The watch tells that one changed, and they are asked for again.
import { useQuery } from '@tanstack/react-query';
import { client, unwrap, type Schemas } from './client';

export type AlertView = Schemas['AlertView'];

export function useAlerts() {
  return useQuery({
    queryKey: ['alerts'],
    queryFn: async () => (await unwrap(client.GET('/v1/alerts'))).items,
  });
}
