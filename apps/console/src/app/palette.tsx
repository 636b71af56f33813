// The command palette (Ctrl+K or ⌘K): go to any view or node by a part of its name.
import { Modal, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { type NodeView } from '~/api/client';
import { type Collection } from '~/api/collection';
import { VIEWS } from './views';

interface Goal {
  label: string;
  to: string;
}
const MOST = 30;

export function Palette() {
  const [open, setOpen] = useState(false);
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  const cache = useQueryClient();
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setText('');
      setAt(0);
      setOpen(true);
    };
    addEventListener('keydown', listen);
    return () => removeEventListener('keydown', listen);
  }, []);
  // Of what was fetched already: the palette answers at once, and asks nobody.
  const nodes = open ? (cache.getQueryData<Collection<NodeView>>(['list', 'node'])?.items ?? []) : [];
  const goals: Goal[] = [
    ...VIEWS,
    ...nodes.map(({ name }) => ({ label: `Node ${name}`, to: `/nodes/${encodeURIComponent(name)}` })),
  ];
  const found = goals.filter(({ label }) => label.toLowerCase().includes(text.toLowerCase())).slice(0, MOST);
  const go = (goal: Goal | undefined) => {
    if (goal === undefined) return;
    setOpen(false);
    void navigate({ to: goal.to });
  };
  if (!open) return null;
  return (
    <Modal
      opened={open}
      onClose={() => setOpen(false)}
      withCloseButton={false}
      title="Go to"
      className="palette"
    >
      <TextInput
        data-autofocus
        aria-label="Go to"
        role="combobox"
        aria-expanded="true"
        aria-controls="goals"
        aria-activedescendant={found[at] === undefined ? undefined : `goal-${at}`}
        placeholder="Go to a view or a node"
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (step !== undefined) {
            event.preventDefault();
            setAt((now) => Math.max(0, Math.min(found.length - 1, now + step)));
          } else if (event.key === 'Enter') go(found[at]);
        }}
      />
      <ul id="goals" role="listbox" aria-label="Where to go">
        {found.map((goal, index) => (
          // The keyboard's way to these is the text field above.
          <li
            key={goal.to}
            id={`goal-${index}`}
            role="option"
            aria-selected={index === at}
            onClick={() => go(goal)}
          >
            {goal.label}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p role="status">Nothing has this in its name.</p>}
    </Modal>
  );
}
