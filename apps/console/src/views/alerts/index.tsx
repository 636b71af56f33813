// What deserves attention now.
import { Switch } from '@mantine/core';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useAlerts } from '~/api/alerts';
import { ErrorState, Loading, Page } from '~/kit/basics';
import { Alerts } from './list';

export default function AllAlerts() {
  const alerts = useAlerts();
  const { all = false } = useSearch({ from: '/alerts' });
  const navigate = useNavigate();
  if (alerts.isPending) return <Loading />;
  if (alerts.data === undefined)
    return <ErrorState error={alerts.error} retry={() => void alerts.refetch()} />;
  const shown = alerts.data.filter((alert) => all || alert.hushed_by == null);
  const hushed = alerts.data.length - alerts.data.filter((alert) => alert.hushed_by == null).length;
  return (
    <Page
      title="Alerts"
      actions={
        <Switch
          label={`Show the hushed ones too (${hushed})`}
          checked={all}
          onChange={(event) =>
            void navigate({
              to: '/alerts',
              search: event.currentTarget.checked ? { all: true } : {},
              replace: true,
            })
          }
        />
      }
    >
      <div className="panel">
        {shown.length === 0 ? (
          <p>Nothing fires: everything that is watched is as it should be.</p>
        ) : (
          <Alerts alerts={shown} />
        )}
      </div>
    </Page>
  );
}
