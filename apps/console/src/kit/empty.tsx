import { type ReactNode } from 'react';

/** Says that there is nothing, and what would make something. */
export function Empty({ children }: { children: ReactNode }) {
  return <p className="dim">{children}</p>;
}
