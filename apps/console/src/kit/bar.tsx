import { type Tone } from './node-state';

/** How much of a whole, drawn; the words beside it say the same. */
export function Bar({ share, label, tone }: { share: number; label: string; tone?: Tone }) {
  const part = Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0));
  return (
    <span
      className="bar"
      data-tone={tone ?? (part === 1 ? 'good' : 'info')}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(part * 100)}
    >
      <i style={{ transform: `scaleX(${part})` }} />
    </span>
  );
}
