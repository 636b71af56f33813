//! `ps` and `volume`.

use crate::{
    args::PsArgs,
    context::Context,
    resolve, show,
    table::{Cell, Style, Table},
};
use lattice_api::{AllocationQuery, VolumeQuery, VolumeState, WorkloadQuery, WorkloadView, paths};
use lattice_model::{ProjectName, Timestamp, report::AllocationState};

const HEADER: &[&str] = &["NAME", "ID", "NODE", "STATE", "PORTS", "RESTARTS", "AGE"];

/// `lattice ps`.
pub(crate) async fn ps(ctx: &Context, args: PsArgs) -> anyhow::Result<()> {
    let stack = match &args.stack {
        Some(text) => Some(ctx.stack(text).await?),
        None => None,
    };
    let project = stack.as_ref().map(|key| key.project.to_string()).or_else(|| ctx.project_query());
    let stack = stack.map(|key| key.stack.to_string());
    let query = AllocationQuery {
        project: project.clone(),
        stack: stack.clone(),
        all: args.all,
        ..AllocationQuery::default()
    };
    if ctx.is_json() {
        return ctx.list_json(&paths::allocations(), &query).await;
    }
    let now = ctx.now();
    let workloads = ctx.client.workloads(&WorkloadQuery { project, stack }).await?.items;
    let mut table = Table::new(HEADER);
    let mut allocations = ctx.client.allocations(&query).await?.items;
    allocations.sort_by_cached_key(|a| (resolve::allocation_name(a), a.placed_at));
    for allocation in &allocations {
        row(&mut table, allocation, now);
    }
    pending(&mut table, &workloads);
    ctx.table(&table, "Nothing runs; `lattice deploy` or `lattice run IMAGE` changes that, `lattice ps -a` shows what has ended.")
}

fn row(table: &mut Table, allocation: &lattice_api::AllocationView, now: Timestamp) {
    let since = allocation.status.started_at.unwrap_or(allocation.placed_at);
    table.row([
        resolve::allocation_name(allocation).into(),
        Cell::new(allocation.id.short(), Style::Dim),
        allocation.node.as_str().into(),
        show::state(allocation),
        show::ports(allocation).into(),
        allocation.status.restarts.to_string().into(),
        show::age(since, now).into(),
    ]);
}

fn pending(table: &mut Table, workloads: &[WorkloadView]) {
    for workload in workloads {
        for slot in workload.stuck() {
            let name = format!("{}/{}#{}", workload.stack, workload.name, slot.slot);
            let default = workload.project == ProjectName::default_project();
            let name = if default { name } else { format!("{}/{name}", workload.project) };
            table.row([
                name.into(),
                "".into(),
                "".into(),
                Cell::new(format!("pending: {}", slot.why), Style::Warn),
            ]);
        }
    }
}

/// The services of one stack, as a deployment ends with.
pub(crate) fn stack_table(workloads: &[WorkloadView]) -> Table {
    let mut table = Table::new(&["SERVICE", "NODE", "STATE", "PORTS"]);
    for workload in workloads {
        let mut allocations: Vec<_> = workload.allocations.iter().filter(|a| !a.is_going()).collect();
        allocations.sort_by_key(|a| (a.slot, a.generation));
        for allocation in allocations {
            // Stopped ones of a former generation say nothing about the present.
            if allocation.generation < workload.generation
                && allocation.status.state == AllocationState::Stopped
            {
                continue;
            }
            let name = if workload.replicas > 1 {
                format!("{}#{}", workload.name, allocation.slot)
            } else {
                workload.name.to_string()
            };
            table.row([
                name.into(),
                allocation.node.as_str().into(),
                show::state(allocation),
                show::ports(allocation).into(),
            ]);
        }
        for slot in workload.stuck() {
            let name = format!("{}#{}", workload.name, slot.slot);
            table.row([name.into(), "".into(), Cell::new(format!("pending: {}", slot.why), Style::Warn)]);
        }
    }
    table
}

/// `lattice volume ls`.
pub(crate) async fn volumes(ctx: &Context) -> anyhow::Result<()> {
    let query = VolumeQuery { project: ctx.project_query(), stack: None };
    if ctx.is_json() {
        return ctx.list_json(&paths::volumes(), &query).await;
    }
    let now = ctx.now();
    let mut table = Table::new(&["NAME", "ID", "STATE", "NODE", "USED BY", "AGE"]);
    for volume in ctx.client.volumes(&query).await?.items {
        let style = match volume.state {
            VolumeState::Available => Style::Good,
            VolumeState::Missing => Style::Bad,
            VolumeState::New | VolumeState::Deleting => Style::Warn,
        };
        let users: Vec<_> = volume.used_by.iter().map(|name| name.as_str()).collect();
        let name = format!("{}/{}", volume.stack, volume.name);
        let default = volume.project == ProjectName::default_project();
        table.row([
            if default { name } else { format!("{}/{name}", volume.project) }.into(),
            Cell::new(volume.id.short(), Style::Dim),
            Cell::new(volume.state.as_str(), style),
            volume.node.map(String::from).unwrap_or_default().into(),
            users.join(" ").into(),
            show::age(volume.created_at, now).into(),
        ]);
    }
    ctx.table(&table, "There is no volume; a Compose file with `volumes:` makes some.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::allocation;
    use lattice_api::PendingSlot;
    use lattice_model::{
        goal::DesiredState,
        resource::{Intent, Workload},
        spec::WorkloadSpec,
    };

    #[test]
    fn a_listing() {
        let mut table = Table::new(HEADER);
        let mut first = allocation("default/shop/web", 1, 0xbeef << 112, Intent::Run);
        first.status.started_at = Some(Timestamp(1000));
        row(&mut table, &first, Timestamp(93_000));
        let mut second = allocation("lab/shop/db", 1, 0xcafe << 112, Intent::Remove);
        second.status.state = AllocationState::Stopping;
        row(&mut table, &second, Timestamp(93_000));
        let workload = Workload {
            key: "default/shop/web".parse().unwrap(),
            spec: WorkloadSpec::of_image("nginx").into(),
            generation: 1,
            replicas: 2,
            desired: DesiredState::Run,
            restart: 0,
            alike: Vec::new(),
            settled: 0,
            rolled_back: None,
            rollout: None,
            moved_at: None,
            timetable: None,
        };
        let slot = PendingSlot {
            workload: "web".parse().unwrap(),
            slot: 2,
            why: "1 node: memory".into(),
            hint: String::new(),
            turn: false,
        };
        let view = WorkloadView::of(&workload, workload.replicas, vec![first], vec![slot]);
        pending(&mut table, std::slice::from_ref(&view));
        insta::assert_snapshot!(table.render(false), @r"
        NAME           ID        NODE    STATE                    PORTS  RESTARTS  AGE
        shop/web#1     beef0000  laptop  running                  -      0         1m32s
        lab/shop/db#1  cafe0000  laptop  stopping, going          -      0         1m32s
        shop/web#2     -         -       pending: 1 node: memory  -      -         -
        ");
        insta::assert_snapshot!(stack_table(&[view]).render(false), @r"
        SERVICE  NODE    STATE                    PORTS
        web#1    laptop  running                  -
        web#2    -       pending: 1 node: memory  -
        ");
    }
}
