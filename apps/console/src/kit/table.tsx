// A table of the short lists: no more rows than people make by hand.
import { type ReactNode } from 'react';
import { Empty } from './empty';

export interface Cell<T> {
  name: string;
  show: (row: T) => ReactNode;
}
interface Props<T> {
  label: string;
  rows: readonly T[];
  id: (row: T) => string;
  cells: readonly Cell<T>[];
  empty: string;
}

export function Table<T>({ label, rows, id, cells, empty }: Props<T>) {
  if (rows.length === 0) return <Empty>{empty}</Empty>;
  return (
    <div className="wide" tabIndex={0} role="group" aria-label={label}>
      <table className="table" aria-label={label}>
        <thead>
          <tr>
            {cells.map(({ name }) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)}>
              {cells.map(({ name, show }) => (
                <td key={name}>{show(row)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
