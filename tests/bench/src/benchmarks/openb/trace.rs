//! A trace as the FGD paper loads it: nodes, tasks, and the order in which these arrive under a seed.

use anyhow::Context as _;
use std::path::Path;

/// A node with GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Thousandths of a core.
    pub(crate) cpu: u64,
    /// MiB.
    pub(crate) memory: u64,
    pub(crate) gpus: usize,
    pub(crate) model: String,
}

/// What arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) gpus: u16,
    /// Thousandths of one GPU, where it asks for one.
    pub(crate) milli: u16,
    /// The models that will do; empty is any.
    pub(crate) models: Vec<String>,
}

impl Task {
    /// Thousandths of GPUs that it asks for.
    pub(crate) fn asked(&self) -> u64 {
        match self.gpus {
            0 => 0,
            1 => self.milli.into(),
            n => u64::from(n) * 1000,
        }
    }
}

/// Nodes and tasks.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) hosts: Vec<Host>,
    pub(crate) tasks: Vec<Task>,
}

/// The file of nodes in the folder that is given.
const NODES: &str = "openb_node_list_gpu_node.csv";

impl Trace {
    /// From the folder with the nodes, and a file of tasks, which is looked for there too.
    pub(crate) fn read(folder: &str, tasks: &str) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let folder = Path::new(folder);
        let nodes = read(&folder.join(NODES))?;
        let inside = folder.join(tasks);
        let tasks = read(if inside.is_file() { &inside } else { Path::new(tasks) })?;
        Self::parse(&nodes, &tasks)
    }

    /// From the text of both files: columns by their place, a heading first.
    pub(crate) fn parse(nodes: &str, tasks: &str) -> anyhow::Result<Self> {
        let hosts = rows(nodes)
            .map(|(line, row)| {
                let host = || {
                    Some(Host {
                        cpu: row.get(1)?.parse().ok()?,
                        memory: row.get(2)?.parse().ok()?,
                        gpus: row.get(3)?.parse().ok()?,
                        model: (*row.get(4)?).to_owned(),
                    })
                };
                host().with_context(|| format!("line {line} of the nodes is not sn,cpu,memory,gpu,model"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let tasks = rows(tasks)
            .map(|(line, row)| {
                let task = || {
                    let models = row.get(5).copied().unwrap_or_default();
                    Some(Task {
                        cpu: row.get(1)?.parse().ok()?,
                        memory: row.get(2)?.parse().ok()?,
                        gpus: row.get(3)?.parse().ok()?,
                        milli: row.get(4)?.parse().ok()?,
                        models: models.split('|').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
                    })
                };
                task().with_context(|| {
                    format!("line {line} of the tasks is not name,cpu,memory,num_gpu,gpu_milli")
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let trace = Self { hosts, tasks };
        anyhow::ensure!(trace.capacity() > 0, "no node has a GPU");
        anyhow::ensure!(trace.tasks.iter().any(|task| task.asked() > 0), "no task asks for a GPU");
        Ok(trace)
    }

    /// Thousandths of GPUs that there are.
    pub(crate) fn capacity(&self) -> u64 {
        self.hosts.iter().map(|host| host.gpus as u64 * 1000).sum()
    }

    /// What arrives under a seed, and the order of the nodes by which ties are broken: all tasks shuffled, then more
    /// drawn from them until the next would pass 1.3 times the capacity; where there are more already, chance ones go.
    pub(crate) fn arrivals(&self, seed: u64) -> (Vec<usize>, Vec<usize>) {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED);
        let most = self.capacity() * 13 / 10;
        let mut tasks: Vec<usize> = (0..self.tasks.len()).collect();
        dice.shuffle(&mut tasks);
        let mut sum: u64 = self.tasks.iter().map(Task::asked).sum();
        while sum > most {
            let at = dice.below(tasks.len());
            sum -= self.tasks[tasks.remove(at)].asked();
        }
        loop {
            let next = dice.below(self.tasks.len());
            sum += self.tasks[next].asked();
            if sum > most {
                break;
            }
            tasks.push(next);
        }
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        dice.shuffle(&mut hosts);
        (tasks, hosts)
    }
}

fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| (at + 1, line.trim_end_matches('\r').split(',').map(str::trim).collect()))
}

/// SplitMix64: the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_arrive_up_to_the_limit_and_by_seed() {
        let nodes = "sn,cpu_milli,memory_mib,gpu,model\na,8000,1024,4,X\nb,8000,1024,2,Y\n";
        let tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
                     t1,1000,10,1,500,\nt2,1000,10,2,1000,X|Y\nt3,1000,10,0,0,\n";
        let trace = Trace::parse(nodes, tasks).unwrap();
        assert_eq!((trace.capacity(), trace.tasks[1].models.len()), (6000, 2));
        let (order, hosts) = trace.arrivals(3);
        let sum: u64 = order.iter().map(|at| trace.tasks[*at].asked()).sum();
        assert!(sum <= 7800 && sum > 5000, "{sum}");
        assert_eq!(hosts.len(), 2);
        assert_eq!(trace.arrivals(3), (order, hosts));
        // Other files of the family lack the last columns.
        assert!(Trace::parse(nodes, "name,cpu,memory,gpu,milli\nt,1,1,1,100\n").is_ok());
        assert!(Trace::parse(nodes, "name\nt,1\n").is_err());
        // More than fits in is cut.
        let many = format!("h\n{}", "t,1,1,8,1000\n".repeat(5));
        let cut = Trace::parse(nodes, &many).unwrap().arrivals(1).0;
        assert!(cut.is_empty(), "one of 8,000 is more than 7,800");
    }
}
