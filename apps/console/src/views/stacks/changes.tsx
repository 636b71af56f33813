// What a deployment changes and where its replicas go: shown before it is done, and after.
import { type Schemas } from '~/api/client';
import { State } from '~/kit/basics';
import { Empty } from '~/kit/empty';
import { type Tone } from '~/kit/node-state';

type Change = Schemas['Change'];
const TONES: Record<Change['kind'], Tone> = {
  create: 'good',
  update: 'info',
  remove: 'bad',
  unchanged: 'off',
};
const THINGS: Record<Change['what'], string> = { workload: 'service', volume: 'volume', network: 'network' };

export function Changes({ result }: { result: Schemas['DeployResult'] }) {
  const changes = result.changes.filter(({ kind }) => kind !== 'unchanged');
  const same = result.changes.length - changes.length;
  return (
    <>
      {result.warnings?.map((warning) => (
        <p key={warning}>
          <State word="warning" tone="warn" /> {warning}
        </p>
      ))}
      {changes.length === 0 && <Empty>Nothing changes.</Empty>}
      <ul className="changes">
        {changes.map((change) => (
          <li key={`${change.what} ${change.name}`}>
            <State word={change.kind} tone={TONES[change.kind]} />
            <span>
              {THINGS[change.what]} <b>{change.name}</b>
              {change.details?.map((detail) => (
                <span key={detail} className="dim">
                  <br />
                  {detail}
                </span>
              ))}
            </span>
          </li>
        ))}
      </ul>
      {same > 0 && (
        <p className="dim">{`${same} more ${same === 1 ? 'stays as it is' : 'stay as they are'}.`}</p>
      )}
      {(result.placements ?? []).length > 0 && (
        <>
          <h3>Where</h3>
          <dl className="facts">
            {result.placements?.map((place) => (
              <div key={`${place.workload} ${place.slot}`} style={{ display: 'contents' }}>
                <dt>{`${place.workload} ${place.slot}`}</dt>
                <dd>
                  <b>{place.node}</b> <span className="dim">{place.why}</span>
                </dd>
              </div>
            ))}
          </dl>
        </>
      )}
      {result.pending?.map((slot) => (
        <p key={`${slot.workload} ${slot.slot}`}>
          <State word={`${slot.workload} ${slot.slot} waits`} tone="warn" /> {slot.why}.{' '}
          <span className="dim">{slot.hint}</span>
        </p>
      ))}
    </>
  );
}
