// Volumes as a table: where the data is, who uses it, and how it stands.
import { Link } from '@tanstack/react-router';
import { type VolumeView } from '~/api/client';
import { State, Time } from '~/kit/basics';
import { type Tone } from '~/kit/node-state';
import { Table } from '~/kit/table';

const TONES: Record<VolumeView['state'], Tone> = {
  new: 'info',
  available: 'good',
  missing: 'bad',
  deleting: 'warn',
};
const WORDS: Record<VolumeView['state'], string> = {
  new: 'not used yet',
  available: 'available',
  missing: 'missing',
  deleting: 'being deleted',
};

interface Props {
  volumes: readonly VolumeView[];
  empty: string;
  /** The stack as a column: where volumes of several are shown. */
  stacks?: boolean;
}
export function Volumes({ volumes, empty, stacks = false }: Props) {
  return (
    <Table
      label="Volumes"
      rows={volumes}
      id={({ id }) => id}
      empty={empty}
      cells={[
        { name: 'Name', show: ({ name }) => name },
        ...(stacks
          ? [
              {
                name: 'Stack',
                show: ({ project, stack }: VolumeView) => (
                  <Link to="/stacks/$project/$stack" params={{ project, stack }}>
                    {project === 'default' ? stack : `${project}/${stack}`}
                  </Link>
                ),
              },
            ]
          : []),
        { name: 'State', show: ({ state }) => <State word={WORDS[state]} tone={TONES[state]} /> },
        {
          name: 'Data on',
          show: ({ node }) =>
            node == null ? (
              <span className="dim">no node yet</span>
            ) : (
              <Link to="/nodes/$node" params={{ node }}>
                {node}
              </Link>
            ),
        },
        {
          name: 'Used by',
          show: ({ used_by }) => used_by?.join(', ') || <span className="dim">nobody</span>,
        },
        { name: 'Writer’s epoch', show: ({ epoch }) => epoch },
        { name: 'Made', show: ({ created_at }) => <Time at={created_at} /> },
      ]}
    />
  );
}
