// A change that, once made, is fetched: the watch tells it as well, but perhaps a moment later.
import { useMutation, useQueryClient, type QueryKey } from '@tanstack/react-query';

/** `keys` are the queries that the change makes old; a list of the watch is `['list', kind]`. */
export function useChange<T, V = void>(
  keys: readonly QueryKey[],
  change: (value: V) => Promise<T>,
  done?: (answer: T) => void,
) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: async (answer) => {
      done?.(answer);
      await Promise.all(keys.map((queryKey) => cache.invalidateQueries({ queryKey })));
    },
  });
}
