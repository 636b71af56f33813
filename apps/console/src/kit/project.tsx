// Which project a view is about: in the address, and chosen by a list of those that one may see.
import { NativeSelect } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { client, unwrap } from '~/api/client';

export function ProjectChoice({ value, choose }: { value: string; choose: (project: string) => void }) {
  const projects = useQuery({ queryKey: ['projects'], queryFn: () => unwrap(client.GET('/v1/projects')) });
  const names = projects.data?.items.map(({ name }) => name) ?? [];
  return (
    <NativeSelect
      aria-label="Project"
      value={value}
      onChange={(event) => choose(event.currentTarget.value)}
      data={names.includes(value) ? names : [value, ...names]}
    />
  );
}
