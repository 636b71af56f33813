// The secrets of a project: names, versions and who set them. A value goes to the server and never comes back.
import { Button, Group, Modal, PasswordInput, Stack, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type Schemas } from '~/api/client';
import { Act, ErrorState, Page, State, Time } from '~/kit/basics';
import { Confirm } from '~/kit/confirm';
import { Asked } from '~/kit/panel';
import { ProjectChoice } from '~/kit/project';
import { useWhy } from '~/kit/rights';
import { Table } from '~/kit/table';

const KEYS = [['secrets'], ['secret-versions']];

/** Sets a value; the same value again makes no new version. */
function SetValue({ project, name, mayNot }: { project: string; name?: string; mayNot: string | undefined }) {
  const [open, setOpen] = useState(false);
  const [title, setTitle] = useState('');
  const [value, setValue] = useState('');
  const close = () => {
    setOpen(false);
    setValue('');
  };
  const set = useChange(
    KEYS,
    () =>
      unwrap(
        client.PUT('/v1/projects/{project}/secrets/{name}', {
          params: { path: { project, name: name ?? title } },
          // The raw bytes of the body are the value.
          body: value as never,
          bodySerializer: (body: unknown) => body as string,
          headers: { 'content-type': 'application/octet-stream' },
        }),
      ),
    close,
  );
  return (
    <>
      <Act why={mayNot} onClick={() => setOpen(true)} main={name === undefined}>
        {name === undefined ? 'New secret…' : 'New value…'}
      </Act>
      <Modal
        opened={open}
        onClose={close}
        title={name === undefined ? `New secret of ${project}` : `New value of ${name}`}
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        <form
          onSubmit={(event) => {
            event.preventDefault();
            set.mutate();
          }}
        >
          <Stack>
            {name === undefined && (
              <TextInput
                label="Name"
                required
                autoComplete="off"
                value={title}
                onChange={(event) => setTitle(event.currentTarget.value)}
              />
            )}
            <PasswordInput
              label="Value"
              required
              autoComplete="off"
              description="One line of text. For files and bytes: lattice secret set NAME --from-file FILE"
              value={value}
              onChange={(event) => setValue(event.currentTarget.value)}
            />
            <p className="dim">
              Services that mount it have the new value within seconds. Nobody gets it back from the server.
            </p>
            {set.error && <ErrorState error={set.error} />}
            <Button type="submit" loading={set.isPending}>
              Set
            </Button>
          </Stack>
        </form>
      </Modal>
    </>
  );
}

function Versions({ project, name, mayNot }: { project: string; name: string; mayNot: string | undefined }) {
  const [open, setOpen] = useState(false);
  const params = { path: { project, name } };
  const versions = useQuery({
    queryKey: ['secret-versions', project, name],
    queryFn: () => unwrap(client.GET('/v1/projects/{project}/secrets/{name}/versions', { params })),
    enabled: open,
  });
  const back = useChange(KEYS, (version: number) =>
    unwrap(client.POST('/v1/projects/{project}/secrets/{name}/rollback', { params, body: { version } })),
  );
  return (
    <>
      <Act onClick={() => setOpen(true)}>Versions…</Act>
      <Modal
        opened={open}
        onClose={() => setOpen(false)}
        title={`Versions of ${name}`}
        size="lg"
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        {versions.error && <ErrorState error={versions.error} />}
        {back.error && <ErrorState error={back.error} />}
        <Table<Schemas['SecretVersionView']>
          label="Versions"
          rows={versions.data?.items ?? []}
          id={({ version }) => String(version)}
          empty={versions.isPending ? 'Asking…' : 'No version is kept.'}
          cells={[
            { name: 'Version', show: ({ version }) => version },
            { name: 'Set', show: ({ set_at }) => <Time at={set_at} /> },
            { name: 'By', show: ({ set_by }) => set_by },
            {
              name: 'Go back',
              show: ({ version, current }) =>
                current ? (
                  <State word="present" tone="good" />
                ) : (
                  <Act why={mayNot} onClick={() => back.mutate(version)}>
                    Make it the present one
                  </Act>
                ),
            },
          ]}
        />
      </Modal>
    </>
  );
}

function Delete({ project, name, mayNot }: { project: string; name: string; mayNot: string | undefined }) {
  const remove = useChange(KEYS, () =>
    unwrap(client.DELETE('/v1/projects/{project}/secrets/{name}', { params: { path: { project, name } } })),
  );
  return (
    <Confirm
      verb="Delete"
      name={name}
      why={mayNot}
      busy={remove.isPending}
      error={remove.error}
      onConfirm={() => remove.mutate()}
    >
      <p>All of its versions are gone for good. A secret that a service mounts is not deleted.</p>
    </Confirm>
  );
}

export default function Secrets() {
  const { project = 'default' } = useSearch({ from: '/secrets' });
  const navigate = useNavigate();
  const mayNot = useWhy().project('secret.change', project);
  const query = useQuery({
    queryKey: ['secrets', project],
    queryFn: () => unwrap(client.GET('/v1/projects/{project}/secrets', { params: { path: { project } } })),
  });
  return (
    <Page
      title="Secrets"
      actions={
        <>
          <ProjectChoice
            value={project}
            choose={(project) => void navigate({ to: '/secrets', search: { project }, replace: true })}
          />
          <SetValue project={project} mayNot={mayNot} />
        </>
      }
    >
      <Asked title={`Secrets of ${project}`} query={query}>
        {({ items }) => (
          <Table
            label="Names of secrets"
            rows={items}
            id={({ name }) => name}
            empty="This project has no secrets. Services get them as files in memory."
            cells={[
              { name: 'Name', show: ({ name }) => <code>{name}</code> },
              { name: 'Version', show: ({ version }) => version },
              { name: 'Set', show: ({ updated_at }) => <Time at={updated_at} /> },
              { name: 'By', show: ({ updated_by }) => updated_by },
              {
                name: 'Change',
                show: ({ name }) => (
                  <Group gap="xs">
                    <SetValue project={project} name={name} mayNot={mayNot} />
                    <Versions project={project} name={name} mayNot={mayNot} />
                    <Delete project={project} name={name} mayNot={mayNot} />
                  </Group>
                ),
              },
            ]}
          />
        )}
      </Asked>
    </Page>
  );
}
