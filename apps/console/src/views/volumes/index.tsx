// Every volume: where the data of which stack is.
import { TextInput } from '@mantine/core';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useList } from '~/api/lists';
import { ErrorState, Loading, Page } from '~/kit/basics';
import { Volumes } from './table';

export default function AllVolumes() {
  const volumes = useList('volume');
  const { q = '' } = useSearch({ from: '/volumes' });
  const navigate = useNavigate();
  if (volumes.isPending) return <Loading />;
  if (volumes.data === undefined)
    return <ErrorState error={volumes.error} retry={() => void volumes.refetch()} />;
  const wanted = q.toLowerCase();
  const found = volumes.data.items.filter((volume) =>
    `${volume.project}/${volume.stack}/${volume.name} ${volume.node ?? ''} ${volume.state}`
      .toLowerCase()
      .includes(wanted),
  );
  return (
    <Page
      title="Volumes"
      actions={
        <TextInput
          aria-label="Find volumes by name, stack, node or state"
          placeholder="Find by name, stack, node, state"
          value={q}
          onChange={(event) =>
            void navigate({ to: '/volumes', search: { q: event.currentTarget.value }, replace: true })
          }
        />
      }
    >
      <div className="panel">
        <Volumes
          volumes={found}
          stacks
          empty={
            q === ''
              ? 'No stack keeps data yet. A volume is made when a service that names one is deployed.'
              : `No volume fits “${q}”.`
          }
        />
      </div>
    </Page>
  );
}
