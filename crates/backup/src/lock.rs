//! With what a backup is encrypted ([`Lock`]) and opened ([`Key`]).

use crate::BackupError;
use age::{
    secrecy::{ExposeSecret, SecretString},
    x25519,
};
use std::fmt;
use zeroize::Zeroizing;

/// A passphrase: wiped when dropped, never shown.
pub type Passphrase = SecretString;

/// The shortest passphrase, in characters.
pub const MIN_PASSPHRASE: usize = 12;

/// scrypt with N = 2^17 (r = 8, p = 1): 128 MiB and some tenths of a second for each guess.
const WORK: u8 = 17;
/// The most work that a backup may ask of whoever opens it: 2 GiB.
const MAX_WORK: u8 = 21;

/// With what a backup is encrypted. There is no way not to.
#[derive(Clone)]
pub enum Lock {
    /// A passphrase, as [`passphrase`] gives it.
    Passphrase(Passphrase),
    /// Keys of those who may open it; at least one.
    Recipients(Vec<x25519::Recipient>),
}

/// With what a backup is opened.
#[derive(Clone)]
pub enum Key {
    /// The passphrase.
    Passphrase(Passphrase),
    /// Secret keys, one of which is to fit.
    Identities(Vec<x25519::Identity>),
}

/// A key pair that lives as long as one transfer: a server encrypts to it what it sends, so that no
/// proxy and no log on the way sees a master key.
pub struct Session(x25519::Identity);

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase(_) => f.write_str("Passphrase(…)"),
            Self::Recipients(keys) => write!(f, "Recipients({keys:?})"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::Identities(_) => "Identities(…)",
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.recipient())
    }
}

impl Session {
    /// A new one.
    pub fn new() -> Self {
        Self(x25519::Identity::generate())
    }

    /// What the other end encrypts to.
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// What opens it here.
    pub fn key(&self) -> Key {
        Key::Identities(vec![self.0.clone()])
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

/// A passphrase as it stands in a file or was typed: without the end of its line.
///
/// # Errors
/// [`BackupError::ShortPassphrase`].
pub fn passphrase(text: &str) -> Result<Passphrase, BackupError> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.chars().count() < MIN_PASSPHRASE {
        return Err(BackupError::ShortPassphrase { least: MIN_PASSPHRASE });
    }
    Ok(SecretString::from(text.to_owned()))
}

impl Lock {
    /// Reads recipients (`age1…`).
    ///
    /// # Errors
    /// [`BackupError::InvalidKey`] names the one that is none; [`BackupError::NoLock`] where there is none.
    pub fn recipients<T: AsRef<str>>(texts: &[T]) -> Result<Self, BackupError> {
        let read = |text: &T| {
            let text: &str = text.as_ref().trim();
            text.parse::<x25519::Recipient>().map_err(|problem| {
                let shown: String = match text.starts_with("age1") {
                    true => text.chars().take(80).collect(),
                    // It may be a secret key by mistake.
                    false => "what was given".into(),
                };
                BackupError::InvalidKey { what: format!("{shown} is not a recipient ({problem})") }
            })
        };
        let keys = texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(BackupError::NoLock);
        }
        Ok(Self::Recipients(keys))
    }

    /// What opens again what this locks, where it is known.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Passphrase(passphrase) => Some(Key::Passphrase(passphrase.clone())),
            Self::Recipients(_) => None,
        }
    }

    pub(crate) fn encryptor(&self) -> Result<age::Encryptor, BackupError> {
        let made = match self {
            Self::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK);
                age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
            Self::Recipients(keys) => {
                age::Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
            }
        };
        // An empty list is the one refusal that is left.
        made.map_err(|_| BackupError::NoLock)
    }
}

impl Key {
    /// Reads secret keys (`AGE-SECRET-KEY-1…`), one a line; comments begin with `#`.
    ///
    /// # Errors
    /// [`BackupError::InvalidKey`], which does not show what it could not read.
    pub fn identities(text: &str) -> Result<Self, BackupError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read = |(number, line): (usize, &str)| {
            line.parse::<x25519::Identity>().map_err(|problem| BackupError::InvalidKey {
                what: format!("key {} of the file is not a secret key ({problem})", number + 1),
            })
        };
        let keys = lines.enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(BackupError::InvalidKey { what: "the file has no secret key".into() });
        }
        Ok(Self::Identities(keys))
    }

    /// The recipients that these keys open, where they are keys.
    pub fn recipients(&self) -> Vec<String> {
        match self {
            Self::Passphrase(_) => Vec::new(),
            Self::Identities(keys) => keys.iter().map(|key| key.to_public().to_string()).collect(),
        }
    }

    /// Wipes itself; for a passphrase that has to be handed on.
    pub fn reveal_passphrase(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Passphrase(passphrase) => Some(Zeroizing::new(passphrase.expose_secret().to_owned())),
            Self::Identities(_) => None,
        }
    }

    pub(crate) fn open<R: std::io::Read>(
        &self,
        input: R,
    ) -> Result<age::stream::StreamReader<R>, BackupError> {
        use age::DecryptError as E;
        let decryptor = age::Decryptor::new(input).map_err(|error| match error {
            E::Io(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
                BackupError::Io { action: "read", source }
            }
            E::Io(_) => BackupError::damaged("it ends within its first bytes"),
            _ => BackupError::damaged("its first bytes are not those of an age file"),
        })?;
        let (wants, what) = match self {
            Self::Passphrase(_) => (true, "passphrase"),
            Self::Identities(_) => (false, "key"),
        };
        if decryptor.is_scrypt() != wants {
            return Err(BackupError::WrongKey { what });
        }
        let opened = match self {
            Self::Passphrase(passphrase) => {
                let mut identity = age::scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
            Self::Identities(keys) => decryptor.decrypt(keys.iter().map(|key| key as &dyn age::Identity)),
        };
        opened.map_err(|error| match error {
            E::NoMatchingKeys | E::KeyDecryptionFailed | E::DecryptionFailed => {
                BackupError::WrongKey { what }
            }
            E::ExcessiveWork { .. } => BackupError::damaged("it asks for more work than any backup does"),
            _ => BackupError::damaged("its key does not fit its first bytes"),
        })
    }
}
