// Deploys a Compose file: read as it is typed, with each problem at its line; what would change is shown before it does.
import { Button, Group, NativeSelect, Stack, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useDebouncedValue } from '@mantine/hooks';
import { useState } from 'react';
import { useChange } from '~/api/change';
import { client, unwrap, type Schemas } from '~/api/client';
import { ErrorState, Loading, Page, State } from '~/kit/basics';
import { Panel } from '~/kit/panel';
import { useWhy } from '~/kit/rights';
import { Changes } from '../stacks/changes';
import { Editor } from './editor';

type Read = Schemas['ComposeView'];
type Problem = Schemas['ComposeProblem'];

const EXAMPLE = `name: hello
services:
  web:
    image: nginx:1
    ports: ["80"]
    deploy:
      replicas: 2
`;

function Problems({ problems, go }: { problems: readonly Problem[]; go: (line: number) => void }) {
  return (
    <ul className="problems">
      {problems.map((problem) => (
        <li key={`${problem.line} ${problem.column} ${problem.message}`}>
          <button
            type="button"
            data-tone={problem.severity === 'error' ? 'bad' : 'warn'}
            onClick={() => go(problem.line)}
          >
            <b>{`Line ${problem.line}`}</b> {problem.path !== '' && <code>{problem.path}</code>}
            <br />
            {problem.message}
            {problem.hint !== '' && <span className="dim">{`. ${problem.hint}`}</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}

/** The verdict on the text as it stands: what stands against it, or what it would do. */
function Verdict({ read, go }: { read: Read; go: (line: number) => void }) {
  const errors = read.problems.filter(({ severity }) => severity === 'error').length;
  const services = Object.keys(read.spec?.workloads ?? {}).length;
  return (
    <Stack>
      {errors > 0 ? (
        <State word={errors === 1 ? 'one error' : `${errors} errors`} tone="bad" />
      ) : (
        <span>
          <State word="can be deployed" tone="good" />{' '}
          <span className="dim">{`stack ${read.name ?? ''}, ${services === 1 ? 'one service' : `${services} services`}`}</span>
        </span>
      )}
      <Problems problems={read.problems} go={go} />
    </Stack>
  );
}

function Form({ first, project: asked, locked }: { first: string; project: string; locked: boolean }) {
  const navigate = useNavigate();
  const [text, setText] = useState(first);
  const [project, setProject] = useState(asked);
  const [name, setName] = useState('');
  const [line, setLine] = useState<{ line: number }>();
  const [settled] = useDebouncedValue(text, 250);
  const projects = useQuery({ queryKey: ['projects'], queryFn: () => unwrap(client.GET('/v1/projects')) });
  const read = useQuery({
    queryKey: ['compose', project, settled, name],
    queryFn: () =>
      unwrap(
        client.POST('/v1/projects/{project}/compose', {
          params: { path: { project } },
          body: { source: settled, ...(name === '' ? {} : { name }) },
        }),
      ),
    enabled: settled.trim() !== '',
    placeholderData: (before) => before,
    staleTime: Infinity,
    gcTime: 60_000,
  });
  // A plan is of the text that it was asked for.
  const [plan, setPlan] = useState<{ of: unknown; result: Schemas['DeployResult'] }>();
  const deploy = useChange(
    [
      ['list', 'stack'],
      ['list', 'workload'],
      ['list', 'volume'],
    ],
    async (dry_run: boolean) => {
      const { name: stack, spec } = read.data ?? {};
      if (stack == null || spec == null) throw new Error('the file has errors');
      return unwrap(
        client.PUT('/v1/projects/{project}/stacks/{stack}', {
          params: { path: { project, stack }, query: { dry_run } },
          body: { spec, source: settled },
        }),
      );
    },
    (result) => {
      if (result.dry_run) setPlan({ of: read.data, result });
      else
        void navigate({
          to: '/stacks/$project/$stack',
          params: { project: result.project, stack: result.stack },
        });
    },
  );
  const mayNot = useWhy().project('stack.change', project);
  const ready =
    mayNot === undefined &&
    read.data?.spec != null &&
    settled === text &&
    !read.isFetching &&
    !read.isPlaceholderData;
  return (
    <div className="editor">
      <Panel title="Compose file">
        <Group mb="sm" align="end">
          <NativeSelect
            size="xs"
            label="Project"
            disabled={locked}
            value={project}
            onChange={(event) => setProject(event.currentTarget.value)}
            data={projects.data?.items.map((one) => one.name) ?? [project]}
          />
          <TextInput
            size="xs"
            label="Name of the stack"
            placeholder={read.data?.name ?? 'as the file says'}
            disabled={locked}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
          />
        </Group>
        <Editor text={text} change={setText} problems={read.data?.problems ?? []} go={line} />
      </Panel>
      <div>
        <Panel title="What it says">
          {read.isError && <ErrorState error={read.error} retry={() => void read.refetch()} />}
          {read.isPending && <p className="dim">Paste or type a Compose file.</p>}
          {read.data !== undefined && <Verdict read={read.data} go={(line) => setLine({ line })} />}
          <Group mt="md">
            <Button
              variant="default"
              disabled={!ready}
              loading={deploy.isPending && deploy.variables}
              onClick={() => deploy.mutate(true)}
            >
              Show what changes
            </Button>
            <Button
              disabled={!ready}
              loading={deploy.isPending && !deploy.variables}
              onClick={() => deploy.mutate(false)}
            >
              Deploy
            </Button>
          </Group>
          {mayNot !== undefined && <p className="dim">{mayNot}</p>}
          {deploy.error && <ErrorState error={deploy.error} />}
        </Panel>
        {plan !== undefined && plan.of === read.data && settled === text && (
          <Panel title="What changes">
            <Changes result={plan.result} />
          </Panel>
        )}
      </div>
    </div>
  );
}

export default function Deploy() {
  const { project = 'default', stack } = useSearch({ from: '/deploy' });
  const former = useQuery({
    queryKey: ['stack', project, stack],
    queryFn: () =>
      unwrap(
        client.GET('/v1/projects/{project}/stacks/{stack}', {
          params: { path: { project, stack: stack ?? '' } },
        }),
      ),
    enabled: stack !== undefined,
    staleTime: Infinity,
  });
  if (stack !== undefined && former.isPending) return <Loading />;
  if (former.isError) return <ErrorState error={former.error} retry={() => void former.refetch()} />;
  const source = former.data?.source;
  return (
    <Page title={stack === undefined ? 'Deploy' : `Deploy ${stack} again`}>
      {stack !== undefined && source == null && (
        <p>
          <State word="no file" tone="warn" /> This stack was not deployed from a Compose file that the server
          knows: what you deploy here takes its place.
        </p>
      )}
      <Form
        key={`${project}/${stack ?? ''}`}
        first={source ?? EXAMPLE}
        project={project}
        locked={stack !== undefined}
      />
    </Page>
  );
}
