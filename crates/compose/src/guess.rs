//! Whether a variable looks as if it held a secret: by its name, or by a value that no person
//! would have thought of. A guess, for a warning only.

/// Parts of names that speak for themselves, wherever they stand.
const PARTS: [&str; 7] = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "APIKEY", "CREDENTIAL"];
/// How values begin that services hand out as credentials.
const BEGINNINGS: [&str; 9] =
    ["-----BEGIN ", "ghp_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "sk-", "sk_live_", "AKIA"];
/// Last words of names that say something *about* a secret.
const ABOUT: [&str; 22] = [
    "FILE",
    "PATH",
    "DIR",
    "URL",
    "URI",
    "NAME",
    "HOST",
    "PORT",
    "TTL",
    "EXPIRY",
    "EXPIRATION",
    "EXPIRES",
    "LIFETIME",
    "LENGTH",
    "TYPE",
    "ALGORITHM",
    "HEADER",
    "ENABLED",
    "ISSUER",
    "AUDIENCE",
    "ID",
    "HASHER",
];

/// Whether a variable looks as if it held a secret, wherever its value comes from: for what is
/// shown to people.
pub fn looks_secret(name: &str, value: &str) -> bool {
    is_secret(name, value, true)
}

/// `literal`: the value stands in the file and does not come from a variable.
pub(crate) fn is_secret(name: &str, value: &str, literal: bool) -> bool {
    let value = value.trim();
    let odd_name = !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if odd_name || value.is_empty() || is_plain(value) && !ends_with_password(name) {
        return false;
    }
    if BEGINNINGS.iter().any(|start| value.starts_with(start) && value.len() >= start.len() + 12)
        || has_userinfo(value)
    {
        return literal || !has_userinfo(value);
    }
    let upper = name.to_ascii_uppercase();
    let words: Vec<&str> =
        upper.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let last = words.last().copied().unwrap_or_default();
    if ABOUT.contains(&last) {
        return false;
    }
    let by_name = PARTS.iter().any(|part| upper.contains(part))
        || last == "PASS"
        || last == "PWD" && words.len() > 1
        || matches!(last, "KEY" | "SALT" | "PEPPER") && !words.contains(&"PUBLIC") && value.len() >= 8;
    (by_name && literal) || is_random(value)
}

fn ends_with_password(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let switch = ["ALLOW", "RANDOM", "ENABLE", "DISABLE", "REQUIRE", "EMPTY", "NO_"];
    (upper.ends_with("PASSWORD") || upper.ends_with("PASSWD") || upper.ends_with("_PASS"))
        && !switch.iter().any(|word| upper.contains(word))
}

/// Numbers, booleans and the like.
fn is_plain(value: &str) -> bool {
    value.parse::<f64>().is_ok()
        || matches!(
            value.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "none" | "null" | "auto" | "default"
        )
        || value.starts_with('/')
        || crate::scalar::duration(value).is_some()
}

/// `scheme://user:password@host`.
fn has_userinfo(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).is_some_and(|(_, p)| !p.is_empty())
}

/// Long, of one word, and with the mixture of characters that only chance makes.
fn is_random(value: &str) -> bool {
    if !(24..=512).contains(&value.len())
        || !value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-'))
    {
        return false;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    if digits < 4 || letters < 4 || value.matches(['/', '-', '_']).count() > 3 {
        return false;
    }
    let mut counts = [0u32; 256];
    value.bytes().for_each(|b| counts[usize::from(b)] += 1);
    let total = value.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|n| **n > 0)
        .map(|n| {
            let p = f64::from(*n) / total;
            -p * p.log2()
        })
        .sum();
    let hex = value.bytes().all(|b| b.is_ascii_hexdigit());
    entropy >= if hex { 3.2 } else { 4.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret() {
        for (name, value) in [
            ("POSTGRES_PASSWORD", "example"),
            ("PGPASSWORD", "1234"),
            ("MYSQL_ROOT_PASSWORD", "true"),
            ("SECRET_KEY_BASE", "abc"),
            ("API_TOKEN", "x"),
            ("DATABASE_URL", "postgres://app:secret@db/app"),
            ("APP_KEY", "base64:abcdefgh"),
            ("SMTP_PASS", "hunter2"),
            ("ANYTHING", "9f86d081884c7d659a2feaa0c55ad015"),
            ("GH", "ghp_0123456789abcdefABCDEF"),
        ] {
            assert!(is_secret(name, value, true), "{name}");
        }
        for (name, value) in [
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/db"),
            ("TOKEN_TTL", "3600"),
            ("SESSION_SECRET", ""),
            ("PUBLIC_KEY", "ssh-rsa-abcdefg"),
            ("PRIMARY_KEY", "id"),
            ("PATH", "/usr/local/bin:/usr/bin"),
            ("PWD", "/srv"),
            ("KEYBOARD", "querty-keyboard"),
            ("DATABASE_URL", "postgres://db/app"),
            ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes"),
            ("MYSQL_RANDOM_ROOT_PASSWORD", "1"),
            ("JAVA_OPTS", "-Xms512m -Xmx512m"),
            ("IMAGE", "registry.example/team/app-with-long-name"),
        ] {
            assert!(!is_secret(name, value, true), "{name}");
        }
        assert!(!is_secret("DB_PASSWORD", "shop", false));
        assert!(is_secret("DB_PASSWORD", "9f86d081884c7d659a2feaa0c55ad015", false));
    }
}
