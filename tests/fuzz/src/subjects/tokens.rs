//! Tokens: a text that is one comes back as it was, whatever else is refused; also where the checksum is right
//! and what it guards is not.

use crate::{Blob, Draw, Subject, text};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lattice_identity::{ApiToken, DeviceToken, InviteToken, JoinToken, SessionToken, TokenParseError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A text that may be a token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Token(Blob);

const PREFIXES: &[&str] = &["lat1_", "lap1_", "las1_", "lai1_", "lad1_"];

impl Subject for Token {
    const NAME: &'static str = "tokens";

    fn draw(draw: &mut dyn Draw) -> Self {
        let prefix = *draw.of(PREFIXES);
        let mut payload = vec![7; 48];
        if prefix == "lat1_" {
            payload.resize(16 + 32 + 32, 9);
            let hosts = ["lattice.example", "10.0.0.1", "::1", "LOCALHOST", "a..b", "", "xn--", "1.2.3"];
            let count = draw.below(10);
            payload.push(count as u8);
            for _ in 0..count {
                let host = *draw.of(&hosts);
                payload.extend_from_slice(&(draw.below(3) as u16 * 3721).to_be_bytes());
                payload.push(host.len() as u8);
                payload.extend_from_slice(host.as_bytes());
            }
        }
        if draw.one_in(2) {
            text::alter(draw, &mut payload, &[]);
        }
        let sum = Sha256::new().chain_update(prefix).chain_update(&payload).finalize();
        payload.extend_from_slice(&sum[..6]);
        let mut token = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(&payload)).into_bytes();
        if draw.one_in(3) {
            text::alter(draw, &mut token, &[]);
        }
        Self(Blob(token))
    }

    fn check(&self) -> Result<(), String> {
        let Ok(text) = std::str::from_utf8(&self.0.0) else { return Ok(()) };
        let same = |what: &str, back: Result<String, TokenParseError>| match back {
            Ok(back) if back == text.trim() => Ok(()),
            Ok(_) => Err(format!("{what} is another after it was read")),
            Err(_) => Ok(()),
        };
        // Hosts have one spelling, and a token may have been written with another.
        if let Ok(token) = JoinToken::parse(text) {
            let again =
                JoinToken::parse(&token.reveal()).map_err(|error| format!("read once, then: {error}"))?;
            if (again.id(), again.root(), again.servers()) != (token.id(), token.root(), token.servers())
                || again.secret().expose() != token.secret().expose()
            {
                return Err("a join token is another after it was read".to_owned());
            }
        }
        same("an API token", ApiToken::parse(text).map(|token| token.reveal().to_string()))?;
        same("a session token", SessionToken::parse(text).map(|token| token.reveal().to_string()))?;
        same("an invitation", InviteToken::parse(text).map(|token| token.reveal().to_string()))?;
        same("a device secret", DeviceToken::parse(text).map(|token| token.reveal().to_string()))
    }
}
