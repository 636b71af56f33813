//! A replay: every task in its order, one at a time, without departures, and what of the GPUs is allocated then.

use super::{
    baselines::{Baseline, Yard},
    trace::Trace,
};
use lattice_model::{AllocationId, NodeId};
use lattice_scheduler::{
    Strategy,
    fleet::{Fleet, Gpu, GpuNeed, Machine, Need, Room, Tags},
};
use std::sync::Arc;

/// Shares of the capacity that have arrived when it is looked, in percent.
pub(crate) const MARKS: [u64; 4] = [80, 90, 100, 130];

/// What came of a replay, in percent of the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shares {
    /// What is allocated at each of [`MARKS`].
    pub(crate) allocated: [f64; 4],
    /// What had arrived when something was refused first.
    pub(crate) first_refusal: f64,
}

/// Who decides.
pub(crate) trait Decides {
    /// Takes one in, or refuses it.
    fn place(&mut self, task: usize) -> bool;
}

/// One replay.
pub(crate) fn replay(trace: &Trace, tasks: &[usize], mut by: impl Decides) -> Shares {
    let capacity = trace.capacity() as f64 / 100.0;
    let (mut arrived, mut allocated, mut mark) = (0u64, 0u64, 0);
    let mut shares = Shares { first_refusal: MARKS[3] as f64, ..Shares::default() };
    let mut refused = false;
    for task in tasks {
        let asked = trace.tasks[*task].asked();
        arrived += asked;
        if by.place(*task) {
            allocated += asked;
        } else if !std::mem::replace(&mut refused, true) {
            shares.first_refusal = arrived as f64 / capacity;
        }
        while mark < 3 && arrived as f64 / capacity >= MARKS[mark] as f64 {
            shares.allocated[mark] = allocated as f64 / capacity;
            mark += 1;
        }
    }
    // The last is that of the end, as the next one would have passed it.
    shares.allocated[mark..].fill(allocated as f64 / capacity);
    shares
}

/// One replay by a rule that others have published.
pub(crate) fn by_baseline(trace: &Trace, seed: u64, baseline: Baseline) -> Shares {
    let (tasks, hosts) = trace.arrivals(seed);
    replay(trace, &tasks, Yard::new(trace, &hosts, baseline, seed))
}

/// One replay by Lattice's scheduler, which knows what has arrived and nothing else.
pub(crate) fn by_lattice(trace: &Trace, seed: u64) -> Shares {
    let (tasks, hosts) = trace.arrivals(seed);
    replay(trace, &tasks, Lattice::new(trace, &hosts))
}

struct Lattice {
    fleet: Fleet,
    needs: Vec<Arc<Need>>,
    placed: u128,
}

impl Lattice {
    fn new(trace: &Trace, hosts: &[usize]) -> Self {
        let mut fleet = Fleet::new(Strategy::Pack);
        for (at, host) in hosts.iter().enumerate() {
            let host = &trace.hosts[*host];
            let room = Room { cpu: host.cpu, memory: host.memory << 20, ..Room::UNLIMITED };
            // Of equals the smallest id is taken, so this is the order of the nodes.
            let id = NodeId::from_random((at as u128) << 80);
            let gpu = Gpu::of(host.model.clone(), 0);
            fleet.put_node(Machine { gpus: vec![gpu; host.gpus], ..Machine::new(id, room) });
        }
        let need = |task: &super::trace::Task| {
            let gpus = GpuNeed { models: task.models.clone(), ..GpuNeed::whole(task.gpus) };
            let gpus = match task.gpus {
                0 => None,
                1 => Some(GpuNeed { share: task.milli, ..gpus }),
                _ => Some(gpus),
            };
            let room = Room { cpu: task.cpu, memory: task.memory << 20, slots: 1, ..Room::default() };
            Arc::new(Need { room, gpus, ..Need::default() })
        };
        Self { fleet, needs: trace.tasks.iter().map(need).collect(), placed: 0 }
    }
}

impl Decides for Lattice {
    fn place(&mut self, task: usize) -> bool {
        self.placed += 1;
        let need = &self.needs[task];
        self.fleet.learn(need);
        self.fleet.place(AllocationId::from_random(self.placed << 80), need, &Tags::new()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up: two kinds of nodes, and tasks that leave something over where they are put without thought.
    fn made_up() -> Trace {
        let mut nodes = "sn,cpu,memory,gpu,model\n".to_owned();
        for at in 0..30 {
            let (cpu, gpus, model) = if at % 3 == 0 { (96000, 8, "A") } else { (64000, 2, "B") };
            nodes += &format!("n{at},{cpu},262144,{gpus},{model}\n");
        }
        let mut tasks = "name,cpu,memory,num,milli,spec\n".to_owned();
        for at in 0..150 {
            tasks += match at % 10 {
                0 => "t,16000,8192,2,1000,\n",
                1..=3 => "t,12000,8192,1,1000,\n",
                4..=6 => "t,3000,4096,1,700,\n",
                7 => "t,4000,4096,1,300,\n",
                8 => "t,8000,4096,1,500,B\n",
                _ => "t,8000,4096,0,0,\n",
            };
        }
        Trace::parse(&nodes, &tasks).unwrap()
    }

    #[test]
    fn whoever_thinks_packs_better_than_chance_and_never_more_than_there_is() {
        let trace = made_up();
        let mean = |of: &dyn Fn(u64) -> Shares| (0..6).map(|seed| of(seed).allocated[3]).sum::<f64>() / 6.0;
        let random = mean(&|seed| by_baseline(&trace, seed, Baseline::Random));
        let fgd = mean(&|seed| by_baseline(&trace, seed, Baseline::Fgd));
        let lattice = mean(&|seed| by_lattice(&trace, seed));
        assert!(random < fgd && random < lattice && lattice <= 100.0, "{random} {fgd} {lattice}");
        assert_eq!(by_lattice(&trace, 1), by_lattice(&trace, 1));
    }
}
