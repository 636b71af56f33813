// Every node as a row: those that wait for approval first. Only the rows in sight are drawn.
import { TextInput } from '@mantine/core';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useMemo, useRef, useState, type CSSProperties } from 'react';
import { type NodeView } from '~/api/client';
import { useList } from '~/api/lists';
import { ErrorState, Loading, Page, State } from '~/kit/basics';
import { bytes, cores } from '~/kit/format';
import { cpuShare, nodeState } from '~/kit/node-state';

interface Column {
  name: string;
  by: (node: NodeView) => string | number;
  show: (node: NodeView) => React.ReactNode;
}
const COLUMNS: readonly Column[] = [
  {
    name: 'Name',
    by: (node) => node.name,
    show: (node) => (
      <Link to="/nodes/$node" params={{ node: node.name }}>
        {node.name}
      </Link>
    ),
  },
  { name: 'State', by: (node) => nodeState(node).word, show: (node) => <State {...nodeState(node)} /> },
  { name: 'Pool', by: (node) => node.pool, show: (node) => node.pool },
  { name: 'Owner', by: (node) => node.owner, show: (node) => node.owner },
  {
    name: 'Processors',
    by: (node) => cpuShare(node) ?? -1,
    show: (node) =>
      `${cores(node.capacity.cpu)}${node.load == null ? '' : `, ${Math.round((cpuShare(node) ?? 0) * 100)} %`}`,
  },
  { name: 'Memory', by: (node) => node.capacity.memory, show: (node) => bytes(node.capacity.memory) },
  { name: 'Allocations', by: (node) => node.allocations, show: (node) => node.allocations },
];

export default function Nodes() {
  const nodes = useList('node');
  const { q = '' } = useSearch({ from: '/nodes' });
  const navigate = useNavigate();
  const [sort, setSort] = useState<{ name: string; down: boolean }>({ name: 'Name', down: false });
  const scroll = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => {
    const wanted = q.toLowerCase();
    const column = COLUMNS.find(({ name }) => name === sort.name);
    const found = (nodes.data?.items ?? []).filter((node) =>
      `${node.name} ${node.pool} ${node.owner} ${nodeState(node).word}`.toLowerCase().includes(wanted),
    );
    const waits = (node: NodeView) => Number(node.approval !== 'pending');
    return found.sort((a, b) => {
      const [x, y] = [column?.by(a) ?? 0, column?.by(b) ?? 0];
      const order =
        typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y));
      return waits(a) - waits(b) || (sort.down ? -order : order);
    });
  }, [nodes.data, q, sort]);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => 40,
    overscan: 12,
  });
  if (nodes.isPending) return <Loading />;
  if (nodes.data === undefined) return <ErrorState error={nodes.error} retry={() => void nodes.refetch()} />;
  const drawn = virtual.getVirtualItems();
  const before = drawn[0]?.start ?? 0;
  return (
    <Page
      title="Nodes"
      actions={
        <TextInput
          aria-label="Find nodes by name, pool, owner or state"
          placeholder="Find by name, pool, owner, state"
          value={q}
          onChange={(event) =>
            void navigate({ to: '/nodes', search: { q: event.currentTarget.value }, replace: true })
          }
        />
      }
    >
      <div className="panel">
        {rows.length === 0 && <p>{q === '' ? 'No computer has joined yet.' : `No node fits “${q}”.`}</p>}
        <div className="scroll" ref={scroll} tabIndex={0} role="region" aria-label="Nodes">
          <div
            className="rows"
            role="table"
            aria-label="Nodes"
            aria-rowcount={rows.length + 1}
            style={{ '--cols': '1.5fr 1.4fr 1fr 1fr 1.2fr 1fr 0.8fr' } as CSSProperties}
          >
            <div role="row" className="row head" aria-rowindex={1}>
              {COLUMNS.map(({ name }) => (
                <span
                  key={name}
                  role="columnheader"
                  aria-sort={sort.name !== name ? 'none' : sort.down ? 'descending' : 'ascending'}
                >
                  <button
                    type="button"
                    onClick={() => setSort({ name, down: sort.name === name && !sort.down })}
                  >
                    {name}
                    {sort.name === name && <span aria-hidden="true">{sort.down ? ' ↓' : ' ↑'}</span>}
                  </button>
                </span>
              ))}
            </div>
            <div
              role="rowgroup"
              style={{ paddingTop: before, height: virtual.getTotalSize(), boxSizing: 'border-box' }}
            >
              {drawn.map(({ index }) => {
                const node = rows[index];
                return (
                  node && (
                    <div role="row" className="row" key={node.id} aria-rowindex={index + 2}>
                      {COLUMNS.map(({ name, show }) => (
                        <span key={name} role="cell">
                          {show(node)}
                        </span>
                      ))}
                    </div>
                  )
                );
              })}
            </div>
          </div>
        </div>
      </div>
    </Page>
  );
}
