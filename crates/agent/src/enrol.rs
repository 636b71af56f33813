//! Becoming a node: the token says where the servers are and which root to trust, the node's own
//! key is the evidence, and somebody (or a rule) approves. A join that is interrupted, by a cut
//! link or by kill -9, goes on with the same key.

use crate::{
    AgentConfig, AgentError, certificate, clock,
    error::{Result, chain},
    facts::Machine,
    home::{Home, Identity, PendingJoin},
    owner::{self, Lent},
};
use futures::StreamExt as _;
use lattice_identity::{
    CertSlot, Fingerprint, RatchetValue,
    tls::{Trust, explain_chain},
};
use lattice_link::{
    Backoff, LinkError, PROTOCOL, code,
    message::{Approved, JoinRequest, JoinUpdate, Secret},
};
use lattice_model::NodeId;
use rustls_pki_types::CertificateDer;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How far a join is, for whoever watches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JoinProgress {
    /// The servers are dialled.
    Dialling {
        /// Where.
        servers: String,
        /// Of this machine's key, to be compared by whoever approves.
        fingerprint: String,
    },
    /// A person has to decide.
    Pending {
        /// The id that this machine has now.
        node: NodeId,
        /// Of this machine's key, as this machine knows it.
        fingerprint: String,
        /// What the person does.
        hint: String,
    },
    /// The link broke, or there is none yet; it is tried again.
    Again {
        /// What happened.
        why: String,
        /// When it is tried again.
        pause: Duration,
    },
    /// This machine is a node.
    Approved {
        /// Which.
        node: NodeId,
    },
}

/// How to join.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// How long to try before the first answer of a server; once there was one, without end.
    pub patience: Duration,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60) }
    }
}

/// Joins with a token, or goes on with a join that was begun. Tells its progress, also repeatedly.
///
/// # Errors
/// [`AgentError::Refused`] with the server's reason, [`AgentError::Untrusted`] when something else
/// than the token's server answers, [`AgentError::Link`] when nobody does for the whole patience,
/// [`AgentError::AlreadyJoined`].
pub async fn join(
    home: &Home,
    join: &PendingJoin,
    machine: &Machine,
    config: &AgentConfig,
    options: JoinOptions,
    progress: &mut (dyn FnMut(JoinProgress) + Send),
) -> Result<Identity> {
    if let Some(identity) = home.identity()? {
        return Err(AgentError::AlreadyJoined { node: identity.node });
    }
    let PendingJoin { token, name } = join;
    home.begin_join(token, name.as_ref())?;
    let servers: Vec<_> = token.servers().iter().map(ToString::to_string).collect();
    let servers = servers.join(", ");
    let fingerprint = home.key().fingerprint().evidence();
    let dialer =
        certificate::dialer(token.servers(), Trust::Fingerprint(token.root()), CertSlot::empty(), config)?;
    let lent = Lent::new(config.clone(), &owner::word(home.paths()));
    let (began, mut heard, mut backoff) = (Instant::now(), false, Backoff::default());
    loop {
        progress(JoinProgress::Dialling { servers: servers.clone(), fingerprint: fingerprint.clone() });
        let attempt = async {
            let connection = dialer.dial().await?;
            let common_name =
                name.as_ref().map_or_else(|| machine.facts.hostname.clone(), ToString::to_string);
            let request = JoinRequest {
                protocol: PROTOCOL,
                agent_version: crate::VERSION.to_owned(),
                token_id: token.id(),
                token_secret: Secret::new(token.secret().expose().to_vec()),
                csr_der: home.key().csr_der(&common_name)?,
                public_key: home.key().public_key_der().to_vec(),
                name: name.clone(),
                facts: machine.told(&lent),
                capacity: machine.capacity(config),
            };
            let mut updates = std::pin::pin!(connection.join(request).await?);
            while let Some(update) = updates.next().await {
                match update? {
                    JoinUpdate::Pending { node, fingerprint: theirs, hint } => {
                        heard = true;
                        if !theirs.is_empty()
                            && theirs != fingerprint
                            && theirs != home.key().fingerprint().to_string()
                        {
                            warn!(
                                ours = fingerprint,
                                theirs, "the server shows another fingerprint than this machine's key has"
                            );
                        }
                        progress(JoinProgress::Pending { node, fingerprint: fingerprint.clone(), hint });
                    }
                    JoinUpdate::Refused(refusal) => return Err(LinkError::from(refusal).into()),
                    JoinUpdate::Approved(approved) => {
                        let root =
                            connection.server_chain().iter().find(|der| Fingerprint::of(der) == token.root());
                        let root =
                            root.ok_or(AgentError::Misfit { problem: "the server did not show its root" })?;
                        return accept(home, join, approved, root);
                    }
                }
            }
            Err(AgentError::Misfit { problem: "it ended the request without a decision" })
        };
        let error = match attempt.await {
            Ok(identity) => {
                info!(node = %identity.node, cluster = %identity.cluster, "joined");
                progress(JoinProgress::Approved { node: identity.node });
                return Ok(identity);
            }
            Err(error) => error,
        };
        let retry_after = match judge(error) {
            Ok(retry_after) => retry_after,
            Err(error) => {
                // A refused token is of no use later; the key stays.
                home.end_join()?;
                return Err(error);
            }
        };
        let (why, after) = retry_after;
        if !heard && began.elapsed() >= options.patience {
            home.end_join()?;
            return Err(why);
        }
        let pause = backoff.next(clock::random(), after).as_std();
        progress(JoinProgress::Again { why: chain(&why), pause });
        tokio::time::sleep(pause).await;
    }
}

/// `Ok` when it is worth another attempt, with what happened and when the server wants it.
fn judge(error: AgentError) -> Result<(AgentError, Option<lattice_model::Duration>)> {
    if let Some(explained) = explain_chain(&error) {
        return Err(AgentError::Untrusted { message: explained.message, hint: explained.hint });
    }
    match error {
        AgentError::Link(LinkError::Refused(refusal) | LinkError::VersionRefused(refusal)) => {
            let passing = [code::BUSY, code::SHUTTING_DOWN, code::CLOSED, "unavailable"];
            match refusal.retry_after {
                None if !passing.contains(&&*refusal.code) => Err(AgentError::Refused(refusal)),
                after => Ok((AgentError::Refused(refusal), after)),
            }
        }
        AgentError::Link(error) => Ok((AgentError::Link(error), None)),
        other => Err(other),
    }
}

fn accept(
    home: &Home,
    join: &PendingJoin,
    approved: Approved,
    root: &CertificateDer<'_>,
) -> Result<Identity> {
    let Approved { node, cluster, certificate, ratchet } = approved;
    let chain = certificate::fits(certificate.chain_der, home.key(), (node, cluster))?;
    let ratchet = ratchet_value(&ratchet)?;
    let servers = join.token.servers().to_vec();
    let identity = Identity::new(node, cluster, join.name.clone(), servers, root, clock::now());
    home.become_node(&identity, &chain, ratchet.as_ref())?;
    Ok(identity)
}

/// The session value in bytes of the wire; empty is none.
pub(crate) fn ratchet_value(secret: &Secret) -> Result<Option<RatchetValue>> {
    if secret.reveal().is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(secret.reveal());
    let misfit = AgentError::Misfit { problem: "its session value cannot be read" };
    text.ok().and_then(|text| text.parse().ok()).map(Some).ok_or(misfit)
}
