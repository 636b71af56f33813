// What destroys asks for the name of what it destroys.
import { Button, Checkbox, Modal, Stack, TextInput } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { Act, ErrorState } from './basics';

interface Props {
  /** The word of the button: `Remove`. */
  verb: string;
  name: string;
  children: ReactNode;
  /** A further question, unanswered: `Its volumes too`. */
  also?: string;
  /** Why it cannot be done now. */
  why?: string | undefined;
  busy: boolean;
  error: Error | null;
  onConfirm: (also: boolean) => void;
}

export function Confirm({ verb, name, children, also, why, busy, error, onConfirm }: Props) {
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState('');
  const [more, setMore] = useState(false);
  return (
    <>
      <Act
        why={why}
        onClick={() => {
          setTyped('');
          setMore(false);
          setOpen(true);
        }}
      >
        {verb}…
      </Act>
      <Modal
        opened={open}
        onClose={() => setOpen(false)}
        title={`${verb} ${name}`}
        closeButtonProps={{ 'aria-label': 'Close' }}
      >
        <Stack>
          {children}
          {also !== undefined && (
            <Checkbox
              label={also}
              checked={more}
              onChange={(event) => setMore(event.currentTarget.checked)}
            />
          )}
          <TextInput
            label={`Type ${name} to confirm`}
            value={typed}
            autoComplete="off"
            onChange={(event) => setTyped(event.currentTarget.value)}
          />
          {error !== null && <ErrorState error={error} />}
          <Button
            color="red"
            variant="outline"
            disabled={typed !== name}
            loading={busy}
            onClick={() => onConfirm(more)}
          >
            {verb}
          </Button>
        </Stack>
      </Modal>
    </>
  );
}
