//! What a failed handshake means, in words that a person can act on.
//!
//! The verifiers put [`TlsError`] into rustls' errors; [`explain`] finds it again, and reads the
//! errors and alerts of rustls itself. [`explain_chain`] starts at any error and finds the TLS error
//! inside, through the I/O errors in which connectors wrap it.

use crate::Fingerprint;
use lattice_model::ClusterId;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::UnixTime;
use std::{error::Error as StdError, io};
use time::OffsetDateTime;

/// Why a verifier of ours refused a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A Lattice server of another authority.
    #[error(
        "the server belongs to another Lattice cluster ({cluster}): its root certificate is {presented}, expected {expected}"
    )]
    WrongAuthority {
        /// The pinned root.
        expected: Fingerprint,
        /// The topmost certificate that was presented.
        presented: Fingerprint,
        /// The cluster that the certificate names.
        cluster: ClusterId,
    },
    /// No Lattice server at all: something between answers in its place.
    #[error("the connection does not reach the server: its certificate was issued by {issuer}")]
    Intercepted {
        /// Who issued what was presented.
        issuer: String,
    },
    /// A node's certificate names another cluster.
    #[error("the client's certificate is of another cluster ({cluster})")]
    ForeignCluster {
        /// The cluster that it names.
        cluster: ClusterId,
    },
    /// A client's certificate names no node.
    #[error("the client's certificate names no node")]
    NotANode,
}

/// The kind of trouble; stable, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// The server is of another cluster, or was set up anew.
    WrongAuthority,
    /// TLS is intercepted, or another service answers.
    Intercepted,
    /// The server's certificate lacks the name that was dialled.
    NameMismatch,
    /// A certificate's time is over, or the clock is wrong.
    Expired,
    /// A certificate's time has not begun, or the clock is wrong.
    NotYetValid,
    /// The other end says that our certificate's time is over.
    OwnCertificateExpired,
    /// The other end does not accept our certificate.
    OwnCertificateRefused,
    /// The peer's certificate is not one of a node of this cluster.
    NotOurNode,
    /// The other end does not speak TLS, or not our protocol.
    NotLattice,
}

impl Trouble {
    /// A stable word for wires and logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongAuthority => "tls_wrong_authority",
            Self::Intercepted => "tls_intercepted",
            Self::NameMismatch => "tls_name_mismatch",
            Self::Expired => "tls_expired",
            Self::NotYetValid => "tls_not_yet_valid",
            Self::OwnCertificateExpired => "tls_own_certificate_expired",
            Self::OwnCertificateRefused => "tls_own_certificate_refused",
            Self::NotOurNode => "tls_not_our_node",
            Self::NotLattice => "tls_not_lattice",
        }
    }
}

/// What happened, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The kind.
    pub trouble: Trouble,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: &'static str,
}

/// Explains a TLS error; `None` for one that has nothing to do with identity.
pub fn explain(error: &Error) -> Option<Explanation> {
    let (trouble, message, hint) = match error {
        Error::InvalidCertificate(refused) => return explain_certificate(refused),
        Error::AlertReceived(AlertDescription::CertificateExpired) => (
            Trouble::OwnCertificateExpired,
            "the server says that this node's certificate has expired".to_owned(),
            "check this machine's clock; the agent renews by its registered key on its own",
        ),
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::CertificateUnknown) => (
            Trouble::OwnCertificateRefused,
            "the server does not accept this node's certificate: it was issued by another cluster".to_owned(),
            "this node is enrolled elsewhere; `lattice-agent leave` there first, then join with a token of this cluster",
        ),
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => (
            Trouble::OwnCertificateRefused,
            "the server does not accept this node's certificate".to_owned(),
            "ask the operator whether the node was revoked (`lattice node show`), or join again with a new token",
        ),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        )
        | Error::PeerIncompatible(_)
        | Error::NoApplicationProtocol
        | Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
            | AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure,
        ) => (
            Trouble::NotLattice,
            format!("the other end is no Lattice server's agent port ({error})"),
            "check address and port; agents connect to port 7443, people to 7400. Where this network has a sign-in page (a captive portal), open a browser and sign in",
        ),
        _ => return None,
    };
    Some(Explanation { trouble, message, hint })
}

fn explain_certificate(refused: &CertificateError) -> Option<Explanation> {
    const CLOCK: &str = "compare this machine's date and time with the server's; if both are right, the server must renew its certificate (restart it)";
    let (trouble, message, hint) = match refused {
        CertificateError::Other(other) => return other.0.downcast_ref::<TlsError>().map(explain_ours),
        CertificateError::ExpiredContext { time, not_after } => (
            Trouble::Expired,
            format!(
                "the certificate ended at {}, and this machine's clock says {}",
                utc(*not_after),
                utc(*time)
            ),
            CLOCK,
        ),
        CertificateError::Expired => {
            (Trouble::Expired, "the certificate has ended by this machine's clock".to_owned(), CLOCK)
        }
        CertificateError::NotValidYetContext { time, not_before } => (
            Trouble::NotYetValid,
            format!(
                "the certificate begins at {}, and this machine's clock says {}",
                utc(*not_before),
                utc(*time)
            ),
            CLOCK,
        ),
        CertificateError::NotValidYet => {
            (Trouble::NotYetValid, "the certificate has not begun by this machine's clock".to_owned(), CLOCK)
        }
        CertificateError::NotValidForNameContext { expected, presented } => (
            Trouble::NameMismatch,
            format!(
                "the server's certificate is not for {}; it is for {}",
                expected.to_str(),
                presented.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
            "connect by one of those names, or add this one to the server's names and restart it",
        ),
        CertificateError::NotValidForName => (
            Trouble::NameMismatch,
            "the server's certificate is not for the name that was dialled".to_owned(),
            "add the name to the server's names and restart it",
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            Trouble::NotOurNode,
            "the peer's certificate was not issued by this cluster".to_owned(),
            "the machine is enrolled in another cluster; it must leave that one and join this one with a token",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            Trouble::NotOurNode,
            "the peer's certificate was issued for another role".to_owned(),
            "a node's certificate cannot serve, and a server's cannot act as a node; check which machine answers at this address",
        ),
        _ => return None,
    };
    Some(Explanation { trouble, message, hint })
}

fn explain_ours(refused: &TlsError) -> Explanation {
    let (trouble, hint) = match refused {
        TlsError::WrongAuthority { .. } => (
            Trouble::WrongAuthority,
            "check the address; if this cluster was set up anew, the old enrolment is of no use: `lattice-agent reset`, then join with a new token",
        ),
        TlsError::Intercepted { .. } => (
            Trouble::Intercepted,
            "a captive portal, proxy, firewall or virus scanner answers in the server's place: where this network has a sign-in page, open a browser and sign in; else exempt the server's address from inspection. It is not trusted, and the agent comes back by itself",
        ),
        TlsError::ForeignCluster { .. } | TlsError::NotANode => (
            Trouble::NotOurNode,
            "the machine is enrolled in another cluster; it must leave that one and join this one with a token",
        ),
    };
    Explanation { trouble, message: refused.to_string(), hint }
}

/// Finds a TLS error inside any error, through I/O errors and sources, and explains it.
pub fn explain_chain(error: &(dyn StdError + 'static)) -> Option<Explanation> {
    let mut next = Some(error);
    // Bounded, since a faulty error type may be its own source.
    for _ in 0..32 {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<Error>() {
            return explain(tls);
        }
        // An I/O error's `source` skips the error that it wraps.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn utc(at: UnixTime) -> String {
    match i64::try_from(at.as_secs()).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()) {
        Some(at) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        ),
        None => format!("{} s after 1970", at.as_secs()),
    }
}
