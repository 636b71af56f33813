//! What can go wrong in this crate, apart from refusals: a refused token, peer, session or
//! challenge is a decision with a type of its own ([`crate::TokenRefused`], [`crate::TlsError`],
//! [`crate::StaleSession`], [`crate::ChallengeRefused`]).

use crate::KeyId;
use lattice_model::Timestamp;
use std::path::PathBuf;

/// A failed operation; each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes; keys cannot be made until it does")]
    Randomness,
    /// A password could not be hashed.
    #[error("the password cannot be hashed; is there enough free memory?")]
    Hashing,
    /// A key file could not be read or written.
    #[error("cannot {action} the key file {path}; check that its folder exists and belongs to this user")]
    KeyFile {
        /// What was tried: "read", "create" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read a key file.
    #[error(
        "the key file {path} has mode {mode:03o}, so other users may read it; if nobody has, run: chmod 600 {path}"
    )]
    LooseKeyFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file does not hold what it should.
    #[error(
        "the key file {path} is damaged ({problem}); restore it from a backup, never replace it by a new one"
    )]
    DamagedKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Older keys stay for a while after each rotation, and there were many.
    #[error("there are 16 master keys already, as older ones are kept for a while after each rotation")]
    TooManyKeys,
    /// Sealed data is not in a format that this version knows.
    #[error("this is not sealed data of a known version; it is damaged or was written by a newer version")]
    NotSealed,
    /// Sealed under another master key.
    #[error(
        "sealed under master key {wanted}, but this server has {present}; bring the master key file that belongs to this store"
    )]
    OtherMasterKey {
        /// The key that sealed it.
        wanted: KeyId,
        /// The key at hand.
        present: KeyId,
    },
    /// Sealed data was changed, or belongs to another place.
    #[error(
        "sealed data for {context:?} was altered, or was moved there from elsewhere; restore it from a backup"
    )]
    SealBroken {
        /// The place for which it was to be opened.
        context: String,
    },
    /// A stored authority is not consistent.
    #[error("the stored certificate authority is damaged ({problem}); restore the store from a backup")]
    DamagedAuthority {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The intermediate certificate cannot sign now.
    #[error(
        "the intermediate certificate is valid from {from:?} to {until:?} and the clock says {now:?}; check the clock, then rotate the intermediate"
    )]
    IntermediateOutOfTime {
        /// Its first instant.
        from: Timestamp,
        /// Its last instant.
        until: Timestamp,
        /// The instant asked about.
        now: Timestamp,
    },
    /// A server certificate was asked for names that no certificate can carry.
    #[error(
        "{name:?} cannot stand in a certificate ({problem}); give DNS names or IP addresses, without port"
    )]
    BadServerName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate signing request was refused.
    #[error("the certificate request was refused: {problem}; make a new one with this version of the agent")]
    BadRequest {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate could not be read.
    #[error("the certificate cannot be read ({problem})")]
    BadCertificate {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate is good but names no node of a cluster.
    #[error("the certificate names no node; it was not issued to a Lattice agent")]
    NotANode,
    /// The certificate library refused.
    #[error("cannot make the certificate or key")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused a configuration.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A token cannot be written with these contents.
    #[error("cannot make the token: {problem}")]
    BadToken {
        /// What is wrong and what is allowed.
        problem: &'static str,
    },
    /// A text is not what it should be.
    #[error("{text:?} is not {what}; an example is {example}")]
    NotA {
        /// What was expected.
        what: &'static str,
        /// The text, cut to a printable length.
        text: String,
        /// A valid one.
        example: &'static str,
    },
}

impl IdentityError {
    pub(crate) fn not_a(what: &'static str, text: &str, example: &'static str) -> Self {
        Self::NotA { what, text: text.chars().take(80).collect(), example }
    }
}
