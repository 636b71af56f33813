//! The session ratchet: each session moves it, and a stale one means a clone or a restored image.
//!
//! A certificate and a key can be copied; the copy is as good as the original. So the server
//! gives each session a new random value that replaces the last one in the node's directory. Two
//! copies of a directory cannot both keep up, since each new value goes to one of them only.
//!
//! ```text
//! agent                                    server {confirmed, offered?}
//!   hello(durable value)            ─▶   == confirmed or == offered?  no: Stale
//!                                          confirmed := presented
//!                                          offered := fresh        (commit before answering)
//!   save durably                    ◀─   Accept{next = offered}
//!   confirm(saved value)            ─▶   == offered?  confirmed := it, offered := none (commit)
//! ```
//!
//! A fresh value is drawn for every hello, never the outstanding offer again: an offer given twice
//! would go to two copies, and neither would ever be noticed. A node's first value is
//! [`RatchetValue::GENESIS`]: enrolment needs no step of its own.
//!
//! # What is proven (see the tests), given the callers' duties below
//! 1. **A single honest agent is never called stale**, whatever is lost, delayed, or crashes: agent
//!    (before or after the save), server (between commit and answer), link.
//! 2. **Any value but the last accepted one and the last offered one is stale.** So a replayed
//!    older value always is; and once a session's confirmation has arrived, so is every value from before it.
//! 3. **Two copies.** (a) Once one copy has completed a session (saved, confirmation arrived), the
//!    other one's next hello is stale. (b) If confirmations never arrive: once one copy has
//!    saved a value, so that the copies differ, then after each of the two has sent one more hello,
//!    in any order, at least one of them was stale. Hence of two copies that connect and save by turns,
//!    the first one's second connection is noticed at the latest.
//!
//! Not proven, because it cannot be: copies of which only one ever connects again, and copies that
//! crash before every save; their directories are the same, and so are they to the server. Which
//! copy is noticed is chance: therefore leases freeze for the node, and a person chooses
//! ([`ServerRatchet::resume`]).
//!
//! # Duties of the callers
//! - The server commits its state before it answers; hellos of one node are handled one by one.
//! - The server numbers a node's connections as they arrive and passes the number to [`ServerRatchet::hello`]; a
//!   hello of an older connection than the newest that was judged is `Superseded`: it is closed
//!   without a verdict, since it may just have been slow. A restart closes all connections.
//! - The agent drives [`AgentRatchet`], a new one in each run: it saves only offers of its present session, saves whole or not at
//!   all ([`crate::keyfile::replace`]), and starts no session while a save is under way.
//!
//! Rejected: a counter alone (a clone could guess), the TLS session as evidence (it ends with the
//! process), hardware keys (few machines have them; where they are, they come on top).

use crate::IdentityError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq;

/// One step of the ratchet: a random value, and its number for people to read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RatchetValue {
    counter: u64,
    bytes: [u8; 32],
}

impl RatchetValue {
    /// The value of a node that has had no session yet.
    pub const GENESIS: Self = Self { counter: 0, bytes: [0; 32] };

    /// The number of the session that it was offered in.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    fn next(&self, fresh: [u8; 32]) -> Self {
        Self { counter: self.counter.saturating_add(1), bytes: fresh }
    }
}

impl PartialEq for RatchetValue {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.counter.ct_eq(&other.counter) & self.bytes.ct_eq(&other.bytes))
    }
}

impl Eq for RatchetValue {}

impl fmt::Debug for RatchetValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RatchetValue(#{})", self.counter)
    }
}

/// `<counter>-<64 hexadecimal digits>`: for the wire and the agent's file. A secret.
impl From<RatchetValue> for String {
    fn from(value: RatchetValue) -> Self {
        format!("{}-{}", value.counter, hex::encode(value.bytes))
    }
}

impl FromStr for RatchetValue {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        // The text is not repeated in the error: it may be a secret.
        let wrong = || IdentityError::not_a("a session value", "…", "12-<64 hexadecimal digits>");
        let (counter, digits) = text.trim().split_once('-').ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self { counter: counter.parse().map_err(|_| wrong())?, bytes })
    }
}

impl TryFrom<String> for RatchetValue {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

/// A session that presented a value of the past, or of nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "this node's directory is not the one that connected last: it presented session {presented}, and session {accepted} was accepted since; it is a copy, or was restored from an older image. Stop the copy, then choose with `lattice node approve` which machine continues"
)]
pub struct StaleSession {
    /// The number that was presented.
    pub presented: u64,
    /// The number of the last accepted value.
    pub accepted: u64,
}

/// The server's answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; the agent saves `next` and confirms it. Commit the state first.
    Accept {
        /// What the next session will present.
        next: RatchetValue,
    },
    /// A clone or a restored image: freeze the node's leases, tell people. The state is unchanged.
    Stale(StaleSession),
    /// A newer connection of this node was judged meanwhile: close this one, conclude nothing.
    Superseded,
}

/// What the server keeps per node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRatchet {
    confirmed: RatchetValue,
    offered: Option<RatchetValue>,
    /// Not stored: connections do not survive the process that numbers them.
    #[serde(skip)]
    newest: Option<u64>,
}

impl Default for ServerRatchet {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerRatchet {
    /// Of a node that was just enrolled.
    pub const fn new() -> Self {
        Self { confirmed: RatchetValue::GENESIS, offered: None, newest: None }
    }

    /// Judges the start of a session on the node's `connection`-th connection of this process.
    /// `fresh` must come from a cryptographic source.
    pub fn hello(&mut self, connection: u64, presented: &RatchetValue, fresh: [u8; 32]) -> Verdict {
        if self.newest.is_some_and(|newest| connection < newest) {
            return Verdict::Superseded;
        }
        self.newest = Some(connection);
        if self.offered.as_ref() == Some(presented) {
            // It had been saved; only the confirmation did not arrive.
            self.confirmed = presented.clone();
        } else if self.confirmed != *presented {
            return Verdict::Stale(StaleSession {
                presented: presented.counter,
                accepted: self.confirmed.counter,
            });
        }
        let next = self.confirmed.next(fresh);
        self.offered = Some(next.clone());
        Verdict::Accept { next }
    }

    /// The agent has saved the offer. Returns whether the state changed and must be stored; a late
    /// confirmation of an older session changes nothing.
    pub fn confirm(&mut self, saved: &RatchetValue) -> bool {
        if self.offered.as_ref() != Some(saved) {
            return false;
        }
        self.confirmed = saved.clone();
        self.offered = None;
        true
    }

    /// A person chose the copy that presents this value: it goes on, all others are stale.
    pub fn resume(&mut self, presented: &RatchetValue) {
        self.confirmed = presented.clone();
        self.offered = None;
    }

    /// The number of the last accepted value.
    pub fn accepted(&self) -> u64 {
        self.confirmed.counter
    }
}

/// One run of the agent: hands out the value to present and says what to save and to confirm.
#[derive(Debug)]
pub struct AgentRatchet {
    durable: RatchetValue,
    session: u64,
    saving: Option<RatchetValue>,
}

impl AgentRatchet {
    /// Starts with what the agent's file holds; `None` when there is none.
    pub fn new(saved: Option<RatchetValue>) -> Self {
        Self { durable: saved.unwrap_or(RatchetValue::GENESIS), session: 0, saving: None }
    }

    /// Begins a session: its number and the value to present. `None` while a save is under way: wait
    /// for it, since what the file holds is not known.
    pub fn hello(&mut self) -> Option<(u64, RatchetValue)> {
        if self.saving.is_some() {
            return None;
        }
        self.session += 1;
        Some((self.session, self.durable.clone()))
    }

    /// The server's offer in session `session`: the value to save durably now. `None` when it is of an older
    /// session, and must not be saved.
    pub fn offer(&mut self, session: u64, next: RatchetValue) -> Option<RatchetValue> {
        if session != self.session || self.saving.is_some() {
            return None;
        }
        self.saving = Some(next.clone());
        Some(next)
    }

    /// The save succeeded; returns what to confirm.
    pub fn saved(&mut self) -> Option<RatchetValue> {
        self.durable = self.saving.take()?;
        Some(self.durable.clone())
    }

    /// The save failed, so the file holds the old value or the new: `found` is what was read back.
    pub fn save_failed(&mut self, found: RatchetValue) {
        self.saving = None;
        self.durable = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fresh values without a random source: distinct is all that the proofs need.
    fn fresh(n: &mut u64) -> [u8; 32] {
        *n += 1;
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        bytes
    }

    /// As the store would: what is not stored is forgotten.
    fn restart(server: &ServerRatchet) -> ServerRatchet {
        serde_json::from_str(&serde_json::to_string(server).unwrap()).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Connect,
        DeliverHello(prop::sample::Index),
        DeliverOffer(prop::sample::Index, Save),
        DeliverConfirm(prop::sample::Index),
        LoseAll,
        AgentCrash,
        ServerCrash { uncommitted_hello: bool },
    }

    #[derive(Clone, Copy, Debug)]
    enum Save {
        Done,
        CrashBefore,
        CrashAfter,
        FailedBefore,
        FailedAfter,
    }

    fn step() -> impl Strategy<Value = Step> {
        let save = prop_oneof![
            4 => Just(Save::Done), 1 => Just(Save::CrashBefore), 1 => Just(Save::CrashAfter),
            1 => Just(Save::FailedBefore), 1 => Just(Save::FailedAfter),
        ];
        prop_oneof![
            4 => Just(Step::Connect),
            4 => any::<prop::sample::Index>().prop_map(Step::DeliverHello),
            4 => (any::<prop::sample::Index>(), save).prop_map(|(at, save)| Step::DeliverOffer(at, save)),
            3 => any::<prop::sample::Index>().prop_map(Step::DeliverConfirm),
            1 => Just(Step::LoseAll),
            1 => Just(Step::AgentCrash),
            1 => any::<bool>().prop_map(|uncommitted_hello| Step::ServerCrash { uncommitted_hello }),
        ]
    }

    fn take<T>(queue: &mut Vec<T>, at: &prop::sample::Index) -> Option<T> {
        (!queue.is_empty()).then(|| queue.remove(at.index(queue.len())))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Claim 1: messages of old connections arrive late, in any order or not at all, and
        /// everything crashes anywhere; the one honest agent is never called stale.
        #[test]
        fn an_honest_agent_is_never_stale(steps in prop::collection::vec(step(), 1..80)) {
            let (mut server, mut n, mut connections) = (ServerRatchet::new(), 0, 0);
            let mut file: Option<RatchetValue> = None;
            let mut agent = AgentRatchet::new(None);
            // The run of the agent that made a connection: what is sent on it reaches no later run.
            let mut run = 0;
            let (mut hellos, mut offers, mut confirms) = (Vec::new(), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Connect => {
                        let (session, value) = agent.hello().expect("saves are synchronous here");
                        connections += 1;
                        hellos.push((connections, (run, session), value));
                    }
                    Step::DeliverHello(at) => {
                        let Some((connection, session, value)) = take(&mut hellos, &at) else { continue };
                        match server.hello(connection, &value, fresh(&mut n)) {
                            Verdict::Accept { next } if session.0 == run => offers.push((session.1, next)),
                            Verdict::Accept { .. } => {}
                            Verdict::Superseded => {}
                            Verdict::Stale(stale) => panic!("honest agent refused: {stale}"),
                        }
                    }
                    Step::DeliverOffer(at, save) => {
                        let Some((session, next)) = take(&mut offers, &at) else { continue };
                        let Some(value) = agent.offer(session, next) else { continue };
                        prop_assert!(agent.hello().is_none(), "no session while a save is under way");
                        match save {
                            Save::Done => {
                                file = Some(value);
                                confirms.push(agent.saved().unwrap());
                            }
                            Save::CrashBefore => agent = AgentRatchet::new(file.clone()),
                            Save::CrashAfter => {
                                file = Some(value);
                                agent = AgentRatchet::new(file.clone());
                            }
                            Save::FailedBefore => agent.save_failed(file.clone().unwrap_or(RatchetValue::GENESIS)),
                            Save::FailedAfter => {
                                file = Some(value.clone());
                                agent.save_failed(value);
                            }
                        }
                        // A process that died takes its connections' answers with it.
                        if matches!(save, Save::CrashBefore | Save::CrashAfter) {
                            run += 1;
                            offers.clear();
                        }
                    }
                    Step::DeliverConfirm(at) => {
                        if let Some(value) = take(&mut confirms, &at) {
                            server.confirm(&value);
                        }
                    }
                    Step::LoseAll => {
                        hellos.clear();
                        offers.clear();
                        confirms.clear();
                    }
                    Step::AgentCrash => {
                        run += 1;
                        agent = AgentRatchet::new(file.clone());
                        offers.clear();
                    }
                    Step::ServerCrash { uncommitted_hello } => {
                        let stored = restart(&server);
                        if uncommitted_hello && let Some((connection, _, value)) = hellos.pop() {
                            // Judged, not committed, hence not answered.
                            let verdict = server.hello(connection, &value, fresh(&mut n));
                            prop_assert!(!matches!(verdict, Verdict::Stale(_)));
                        }
                        server = stored;
                        hellos.clear();
                        offers.clear();
                        confirms.clear();
                    }
                }
            }
        }

        /// Claims 2 and 3: any number of sessions of two copies, by turns at random, each saved or
        /// not and confirmed or not.
        #[test]
        fn two_copies_are_noticed(
            shared in prop::collection::vec(any::<bool>(), 0..5),
            turns in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..30),
        ) {
            let (mut server, mut n, mut connection) = (ServerRatchet::new(), 0, 0);
            let mut value = RatchetValue::GENESIS;
            let mut past = vec![value.clone()];
            for confirmed in shared {
                connection += 1;
                let Verdict::Accept { next } = server.hello(connection, &value, fresh(&mut n)) else { panic!() };
                value = next;
                past.push(value.clone());
                if confirmed { server.confirm(&value); }
            }
            // The copy is made here.
            let mut files = [value.clone(), value];
            let mut helloed_since_differing = [false; 2];
            let mut completed_by: Option<usize> = None;
            for (second, saves, confirms) in turns {
                let (me, other) = (usize::from(second), usize::from(!second));
                // Claim 2: of all values there ever were, at most the two are accepted.
                let accepted = past.iter().filter(|old| {
                    !matches!(server.clone().hello(connection + 1, old, [9; 32]), Verdict::Stale(_))
                }).count();
                prop_assert!(accepted <= 2, "{accepted} values are accepted");
                let differed = files[me] != files[other];
                connection += 1;
                match server.hello(connection, &files[me], fresh(&mut n)) {
                    Verdict::Stale(stale) => {
                        prop_assert!(differed, "equal copies are one agent to the server: {}", stale);
                        return Ok(());
                    }
                    Verdict::Superseded => unreachable!("connections are in order"),
                    Verdict::Accept { next } => {
                        // Claim 3a.
                        prop_assert!(completed_by != Some(other), "accepted after the other copy completed a session");
                        helloed_since_differing[me] |= differed;
                        // Claim 3b.
                        prop_assert!(helloed_since_differing != [true; 2], "both went on after they differed");
                        past.push(next.clone());
                        if saves {
                            files[me] = next;
                            if confirms {
                                prop_assert!(server.confirm(&files[me]));
                                completed_by = Some(me);
                            }
                        }
                    }
                }
            }
        }

        #[test]
        fn values_survive_text_and_noise_never_panics(counter: u64, bytes: [u8; 32], noise: String) {
            let value = RatchetValue { counter, bytes };
            prop_assert_eq!(&String::from(value.clone()).parse::<RatchetValue>().unwrap(), &value);
            prop_assert!(!format!("{value:?}").contains(&hex::encode(bytes)), "shown");
            let _ = noise.parse::<RatchetValue>();
        }
    }

    #[test]
    fn a_copied_directory_as_a_story() {
        let (mut server, mut n) = (ServerRatchet::new(), 0);
        let mut hello = |server: &mut ServerRatchet, connection, value: &RatchetValue| {
            server.hello(connection, value, fresh(&mut n))
        };
        let Verdict::Accept { next: first } = hello(&mut server, 1, &RatchetValue::GENESIS) else { panic!() };
        assert!(server.confirm(&first));
        let copy = first.clone();
        let Verdict::Accept { next: second } = hello(&mut server, 2, &first) else { panic!() };
        assert!(server.confirm(&second));
        // The copy's very first connection, also after a restart of the server.
        let stale = Verdict::Stale(StaleSession { presented: 1, accepted: 2 });
        assert_eq!(hello(&mut server, 3, &copy), stale);
        let mut server = restart(&server);
        assert_eq!(hello(&mut server, 1, &copy), stale);
        // The original goes on unless a person says otherwise; a lost directory is stale, too.
        assert!(matches!(hello(&mut server.clone(), 2, &second), Verdict::Accept { .. }));
        assert!(matches!(hello(&mut server.clone(), 2, &RatchetValue::GENESIS), Verdict::Stale(_)));
        server.resume(&copy);
        assert!(matches!(hello(&mut server.clone(), 3, &second), Verdict::Stale(_)));
        assert!(matches!(hello(&mut server, 3, &copy), Verdict::Accept { .. }));
    }
}
