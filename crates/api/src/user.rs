//! People: users and their roles, logins, invitations.
//!
//! **Login by code** (RFC 8628): `POST` [`paths::DEVICE_CODES`](crate::paths::DEVICE_CODES) gives a code for the
//! person and a secret for the program. The person approves the code, on a page of the server or where they
//! are signed in already. The program asks [`paths::DEVICE_TOKEN`](crate::paths::DEVICE_TOKEN) every
//! [`DeviceStarted::interval_ms`]; until then it is refused with
//! [`AuthorizationPending`](crate::ErrorCode::AuthorizationPending), and with
//! [`SlowDown`](crate::ErrorCode::SlowDown) where it asks more often.

use lattice_model::{Binding, Timestamp, TokenId, UserName};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Text that is a secret: a password, a code that is good once. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// What they are called.
    pub name: UserName,
    /// What they are, and where.
    pub roles: Vec<Binding>,
    /// Whether they are kept out.
    pub disabled: bool,
    /// Whether they have a password; without one, only an invitation lets them in.
    pub has_password: bool,
    /// How many sessions they have.
    pub sessions: u32,
    /// When they last did something in a session that is still open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Who made the user.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// Makes a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// What they are called.
    pub name: UserName,
    /// What they are, and where; none where absent.
    #[serde(default)]
    pub roles: Vec<Binding>,
    /// At least 12 characters; absent: an invitation sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Hidden>,
}

/// Roles to give or to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolesChange {
    /// Which; at least one.
    pub roles: Vec<Binding>,
}

/// Sets a password. Every other session of the user ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The new one, of at least 12 characters.
    pub password: Hidden,
    /// The present one; needed of whoever changes their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Hidden>,
}

/// Makes an invitation, and the user where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteCreate {
    /// Whose password it sets.
    pub user: UserName,
    /// What they become besides what they are.
    #[serde(default)]
    pub roles: Vec<Binding>,
    /// How long it works, in milliseconds, at most 30 days; one day where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// An invitation, shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteCreated {
    /// Whose.
    pub user: UserName,
    /// Good once: a secret.
    pub code: Hidden,
    /// Where a browser takes it: a secret too.
    pub url: Hidden,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Takes an invitation: sets the password and signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteAccept {
    /// The invitation.
    pub code: Hidden,
    /// The password, of at least 12 characters.
    pub password: Hidden,
    /// What one signs in with, for people: the computer's name.
    #[serde(default)]
    pub client: String,
    /// For a browser: the session is kept in a cookie that no script reads, and the answer has
    /// [`SessionCreated::csrf`] instead of the token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cookie: bool,
}

/// Signs in by password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who. Any text: what is no name is refused as a wrong one is.
    pub user: String,
    /// Their password.
    pub password: Hidden,
    /// What one signs in with, for people: the computer's name.
    #[serde(default)]
    pub client: String,
    /// For a browser: the session is kept in a cookie that no script reads, and the answer has
    /// [`SessionCreated::csrf`] instead of the token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cookie: bool,
}

/// The header by which a page of this server shows that a request with the cookie is its own.
pub const CSRF_HEADER: &str = "x-lattice-csrf";

/// A session that began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Its id.
    pub id: TokenId,
    /// The bearer token: a secret. Absent where a cookie has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Hidden>,
    /// What each change by cookie sends as [`CSRF_HEADER`]; absent where there is no cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Hidden>,
    /// Who signed in; absent for whoever runs the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// When it ends at the latest; without a request it ends earlier.
    pub expires_at: Timestamp,
}

/// A link by which a browser is signed in as whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLink {
    /// Where to go: a secret, good once. It is behind the `#`, which browsers keep to themselves.
    pub url: Hidden,
    /// The first instant at which it is of no use.
    pub expires_at: Timestamp,
}

/// Opens a link to the console: the session is kept in a cookie that no script reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleLinkUse {
    /// What stands behind the `#`.
    pub code: Hidden,
    /// What one signs in with, for people: the browser.
    #[serde(default)]
    pub client: String,
}

/// Begins a login by code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceStart {
    /// What asks, for people: the computer's name.
    #[serde(default)]
    pub client: String,
}

/// A login by code that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStarted {
    /// The program's secret.
    pub device_code: Hidden,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: String,
    /// How long to wait between two questions, in milliseconds.
    pub interval_ms: u64,
    /// When the code stops working.
    pub expires_at: Timestamp,
}

/// Asks what came of a login by code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DevicePoll {
    /// The program's secret.
    pub device_code: Hidden,
}

/// Says yes or no to a login by code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDecision {
    /// As the other machine shows it.
    pub user_code: String,
    /// Turn it away.
    #[serde(default)]
    pub deny: bool,
}

/// What asked to sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceDecided {
    /// What it calls itself.
    pub client: String,
    /// Where it asked from.
    pub address: String,
    /// Whether it was let in.
    pub approved: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug() {
        let login = Login {
            user: "ada".into(),
            password: Hidden("hunter2".into()),
            client: String::new(),
            cookie: false,
        };
        assert!(!format!("{login:?}").contains("hunter2"));
        let json = serde_json::to_value(&login).unwrap();
        assert_eq!(json, serde_json::json!({ "user": "ada", "password": "hunter2", "client": "" }));
    }
}
