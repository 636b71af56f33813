//! Whether a node stays: what was seen of its comings and goings, and from that the chance that it is there for the
//! whole of the next while.
//!
//! Enter at [`History`]: each stretch that a node was there goes into [`History::observe`], and
//! [`History::outlook`] answers; [`Track`] makes stretches of what is seen now and then. Nothing is assumed of a node but that tomorrow resembles what was.
//!
//! Four ways of looking at a node are kept beside each other, from the coarsest to the finest:
//!
//! 1. *everybody*: how long nodes of this cluster stay, by how long they have been there already;
//! 2. *itself*: the same of this node alone. A rate is the mean of its Gamma posterior, whose prior is everybody's
//!    rate times how much more or less this node leaves than others;
//! 3. *its day*: how often it left in each half hour of the day in which it was there (Beta posterior, with what 2 says
//!    as the prior);
//! 4. *its week*: the same for each half hour of the week, with 3 as the prior.
//!
//! Each foretells every half hour before it is seen, and is weighed by how well it did (the prequential form of Bayesian
//! model averaging: A. P. Dawid, "Statistical theory: the prequential approach", JRSS A 147, 1984). A laptop that leaves
//! at eight each morning is soon judged by its day, an office PC by its week, and a machine without habits by its age:
//! who has been up for long stays longer (falling hazard rates: Javadi, Kondo, Vincent, Anderson, "Discovering
//! statistical models of availability in large distributed systems", IEEE TPDS 22, 2011).
//!
//! All that is counted fades, so that a machine which changed its owner is known anew within weeks.
//!
//! Rejected: fitting distributions (a fit needs a family, and habits have none); a neural predictor (nobody could
//! explain it to the owner who is ranked by it).

mod ages;
mod history;
mod outlook;
#[cfg(feature = "simulation")]
pub mod simulation;
mod track;
mod week;

pub use ages::Population;
pub use history::{History, Stretch};
pub use outlook::Outlook;
pub use track::{Sight, Track};
pub use week::Zone;
