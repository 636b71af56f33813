// Who may do what, who may join, what programs hold, and whether the control plane is backed up.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { client, unwrap, type Schemas } from '~/api/client';
import { Act, ErrorState, Page, Time } from '~/kit/basics';
import { bytes, cores } from '~/kit/format';
import { Asked } from '~/kit/panel';
import { Table, type Cell } from '~/kit/table';

/** Something done to one row, by its name; the list is fetched anew. */
function useDone(key: string, change: (name: string) => Promise<unknown>) {
  const cache = useQueryClient();
  return useMutation({ mutationFn: change, onSuccess: () => cache.invalidateQueries({ queryKey: [key] }) });
}

function Users() {
  const users = useQuery({ queryKey: ['users'], queryFn: () => unwrap(client.GET('/v1/users')) });
  const disable = useDone('users', (user) =>
    unwrap(client.POST('/v1/users/{user}/disable', { params: { path: { user } } })),
  );
  const enable = useDone('users', (user) =>
    unwrap(client.POST('/v1/users/{user}/enable', { params: { path: { user } } })),
  );
  const error = disable.error ?? enable.error;
  const cells: Cell<Schemas['UserView']>[] = [
    { name: 'User', show: ({ name }) => <b>{name}</b> },
    { name: 'Roles', show: ({ roles }) => roles.join(', ') || '–' },
    { name: 'Sessions', show: ({ sessions }) => sessions },
    { name: 'Last seen', show: ({ last_seen_at: at }) => (at == null ? 'never' : <Time at={at} />) },
    {
      name: 'Change',
      show: ({ name, disabled }) => (
        <Act onClick={() => (disabled ? enable : disable).mutate(name)}>
          {disabled ? `Enable ${name}` : `Disable ${name}`}
        </Act>
      ),
    },
  ];
  return (
    <Asked title="Users" query={users}>
      {({ items }) => (
        <>
          {error && <ErrorState error={error} />}
          <Table
            label="Users and their roles"
            rows={items}
            id={({ name }) => name}
            cells={cells}
            empty="Nobody but who sits at the server. lattice user invite lets people in."
          />
        </>
      )}
    </Asked>
  );
}

function Tokens() {
  const joins = useQuery({ queryKey: ['join-tokens'], queryFn: () => unwrap(client.GET('/v1/join-tokens')) });
  const remove = useDone('join-tokens', (id) =>
    unwrap(client.DELETE('/v1/join-tokens/{id}', { params: { path: { id } } })),
  );
  const cells: Cell<Schemas['JoinTokenView']>[] = [
    { name: 'For', show: ({ description, id }) => description || id },
    { name: 'Pool', show: ({ pool }) => pool },
    { name: 'Used', show: ({ used, uses }) => `${used} of ${uses}` },
    { name: 'Approves', show: ({ auto_approve }) => (auto_approve ? 'by itself' : 'nobody') },
    { name: 'Ends', show: ({ expires_at }) => <Time at={expires_at} /> },
    { name: 'Change', show: ({ id }) => <Act onClick={() => remove.mutate(id)}>Make useless</Act> },
  ];
  return (
    <Asked title="Join tokens" query={joins}>
      {({ items }) => (
        <>
          {remove.error && <ErrorState error={remove.error} />}
          <Table
            label="Tokens by which computers join"
            rows={items}
            id={({ id }) => id}
            cells={cells}
            empty="There is none: “Add a node” makes one."
          />
        </>
      )}
    </Asked>
  );
}

const PROGRAMS: readonly Cell<Schemas['ApiTokenView']>[] = [
  { name: 'Used by', show: ({ name }) => <b>{name}</b> },
  { name: 'Roles', show: ({ roles }) => roles.join(', ') },
  { name: 'Made by', show: ({ created_by }) => created_by },
  { name: 'Last used', show: ({ last_used_at: at }) => (at == null ? 'never' : <Time at={at} />) },
  { name: 'Ends', show: ({ expires_at: at }) => (at == null ? 'never' : <Time at={at} />) },
];
const PROJECTS: readonly Cell<Schemas['ProjectView']>[] = [
  { name: 'Project', show: ({ name, description }) => `${name} ${description ?? ''}` },
  {
    name: 'Members',
    show: ({ members }) =>
      members.map(({ user, roles }) => `${user} (${roles.join(', ')})`).join(', ') || '–',
  },
  {
    name: 'Stacks',
    show: ({ used, quota }) => `${used.stacks}${quota.stacks == null ? '' : ` of ${quota.stacks}`}`,
  },
  {
    name: 'Processors',
    show: ({ used, quota }) => `${cores(used.cpu)}${quota.cpu == null ? '' : ` of ${cores(quota.cpu)}`}`,
  },
  {
    name: 'Memory',
    show: ({ used, quota }) =>
      `${bytes(used.memory)}${quota.memory == null ? '' : ` of ${bytes(quota.memory)}`}`,
  },
];

function Backup() {
  const backup = useQuery({ queryKey: ['backup'], queryFn: () => unwrap(client.GET('/v1/backup')) });
  const make = useDone('backup', () => unwrap(client.POST('/v1/backup')));
  return (
    <Asked title="Backup of the control plane" query={backup}>
      {({ place, last, overdue, error }) => (
        <>
          <dl className="facts">
            <dt>Where</dt>
            <dd>{place ?? 'nowhere: the server’s configuration names no place'}</dd>
            <dt>Last</dt>
            <dd>
              {last == null ? (
                'none'
              ) : (
                <>
                  <Time at={last.at} /> {`${bytes(last.bytes)}, ${last.rows} rows`}
                </>
              )}
            </dd>
            {overdue && (
              <>
                <dt>Overdue</dt>
                <dd>yes</dd>
              </>
            )}
            {error != null && (
              <>
                <dt>Failed</dt>
                <dd>{error}</dd>
              </>
            )}
          </dl>
          {make.error && <ErrorState error={make.error} />}
          <Act
            why={place == null ? 'The server’s configuration names no place for backups.' : undefined}
            loading={make.isPending}
            onClick={() => make.mutate('')}
          >
            Back up now
          </Act>
        </>
      )}
    </Asked>
  );
}

export default function Settings() {
  const programs = useQuery({
    queryKey: ['api-tokens'],
    queryFn: () => unwrap(client.GET('/v1/api-tokens')),
  });
  const projects = useQuery({ queryKey: ['projects'], queryFn: () => unwrap(client.GET('/v1/projects')) });
  return (
    <Page title="Settings">
      <Users />
      <Asked title="Projects" query={projects}>
        {({ items }) => (
          <Table
            label="Projects and quotas"
            rows={items}
            id={({ name }) => name}
            cells={PROJECTS}
            empty="There is no project."
          />
        )}
      </Asked>
      <Asked title="API tokens" query={programs}>
        {({ items }) => (
          <Table
            label="Tokens of programs"
            rows={items}
            id={({ id }) => id}
            cells={PROGRAMS}
            empty="No program has one."
          />
        )}
      </Asked>
      <Tokens />
      <Backup />
    </Page>
  );
}
