// Alerts, the worst first, each with what to do.
import { Link } from '@tanstack/react-router';
import { type AlertView } from '~/api/alerts';
import { State, Time } from '~/kit/basics';
import { type Tone } from '~/kit/node-state';

const TONES: Record<AlertView['severity'], Tone> = { critical: 'bad', warning: 'warn', info: 'info' };

function About({ subject }: { subject: AlertView['subject'] }) {
  if (subject.kind === 'node' && subject.node != null)
    return (
      <Link to="/nodes/$node" params={{ node: subject.node }}>
        {subject.name}
      </Link>
    );
  if (subject.project != null && subject.stack != null)
    return (
      <Link to="/stacks/$project/$stack" params={{ project: subject.project, stack: subject.stack }}>
        {subject.name}
      </Link>
    );
  return <>{subject.name}</>;
}

export function Alerts({ alerts }: { alerts: readonly AlertView[] }) {
  return (
    <ul className="alerts">
      {alerts.map((alert) => (
        <li key={alert.id} data-tone={TONES[alert.severity]}>
          <div>
            <State word={alert.severity} tone={TONES[alert.severity]} /> <b>{alert.title}</b>:{' '}
            <About subject={alert.subject} />
            <span className="dim">
              {' '}
              since <Time at={alert.since} />
              {alert.state === 'pending' && ', not for long enough yet to count'}
              {alert.flapping && ', comes and goes'}
            </span>
          </div>
          <div>{alert.summary}</div>
          <div className="dim">
            {alert.hint} (<code>{alert.doc}</code>)
          </div>
          {alert.hushed_by != null && (
            <div className="dim">{`Hushed: ${alert.hushed_by} says all that this one says.`}</div>
          )}
        </li>
      ))}
    </ul>
  );
}
