//! Texts with a grammar of their own: spans of time, command lines, image references, paths in
//! a container. Each yields a value or a sentence that says what is wrong.

use lattice_model::Duration;

/// Reads Compose's durations: numbers with units, largest first or not: `1m30s`, `1.5h`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration(0));
    }
    let mut nanos: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += number
            * match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 86_400e9,
                "w" => 604_800e9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    // A span that is not nothing does not become nothing by rounding.
    let millis = (nanos / 1e6).ceil();
    // A century: beyond it somebody mistyped, and sums with the present stay in range.
    (millis <= 3.2e12).then_some(Duration(millis as u64))
}

/// Splits a command line as Compose does: quotes, backslashes, no shell.
///
/// # Errors
/// What is wrong. Compose silently drops everything from an unquoted `;`, `&`, `|`, `<` or `>`
/// on; that is refused here, since the program would start with half of its arguments.
pub(crate) fn shell_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\\') => word.get_or_insert_default().push('\\'),
            (_, '\\') => {
                let escaped = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
            }
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`') => {
                return Err(format!(
                    "`{c}` stands outside of quotes, and no shell is there to understand it"
                ));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// What is wrong with an image reference, if anything.
pub(crate) fn image_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > 512 {
        return Some("it is longer than 512 characters");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._/:@-+".contains(c)) {
        return Some("only letters, digits and `. _ / : @ -` can stand in it");
    }
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some("after `@` a digest is expected: sha256: and 64 hexadecimal digits");
        }
    }
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    if tag.is_some_and(|tag| {
        tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || tag.contains([':', '+'])
    }) {
        return Some("after the last `:` a tag is expected");
    }
    let mut parts = repository.split('/').peekable();
    if let Some(host) = parts.peek().copied()
        && repository.contains('/')
        && (host.contains(['.', ':']) || host == "localhost" || host.chars().any(|c| c.is_ascii_uppercase()))
    {
        parts.next();
    }
    for part in parts {
        if part.is_empty() {
            return Some("a part of the name is empty");
        }
        if part.chars().any(|c| c.is_ascii_uppercase()) {
            return Some("the name of a repository is written in lower case");
        }
        let end = |c: char| !c.is_ascii_alphanumeric();
        if part.starts_with(end) || part.ends_with(end) || part.contains([':', '+']) {
            return Some("a part of the name must begin and end with a letter or digit");
        }
    }
    None
}

/// Whether a text can be a name in a network: letters, digits, `-` and `_`, dots between parts.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// An absolute path inside a container in its shortest form, or what is wrong with it.
pub(crate) fn container_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("the path inside the container must be absolute, beginning with `/`");
    }
    if text.len() > 4096 {
        return Err("the path inside the container is longer than 4096 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("the path inside the container has a control character in it");
    }
    let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err("`..` cannot stand in the path inside the container");
    }
    match parts.first() {
        None => Err("a volume cannot replace the container's whole file system `/`"),
        Some(&"proc" | &"sys" | &"dev") => {
            Err("/proc, /sys and /dev belong to the kernel and cannot be mounted over")
        }
        Some(_) => Ok(format!("/{}", parts.join("/"))),
    }
}

/// The candidate that a typo most likely meant.
pub(crate) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    let allowed = match text.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        6..=40 => 2,
        _ => return None,
    };
    candidates
        .into_iter()
        // Enough for every honest file.
        .take(500)
        // A name that nobody can read is refused where it stands, and no help here.
        .filter(|c| c.len().abs_diff(text.len()) <= 4 && !c.contains(char::is_control))
        .map(|c| (distance(&text, &c.to_ascii_lowercase().replace('-', "_")), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edits (insert, delete, replace, swap of neighbours) between two texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().take(80).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("2h32m", 9_120_000),
            ("1us", 1),
            ("0", 0),
            ("0s", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration(ms)), "{text}");
        }
        for text in ["", "10", "s", "1x", "-1s", "1 m", "1..2s", "9999999999h", "1m30", "NaNs", "infs"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn command_lines() {
        for (text, words) in [
            ("", &[][..]),
            ("  nginx   -g 'daemon off;' ", &["nginx", "-g", "daemon off;"]),
            (r#"sh -c "echo \"hi\" && ls""#, &["sh", "-c", r#"echo "hi" && ls"#]),
            (r"a\ b 'c\d' e\tf", &["a b", r"c\d", "e\tf"]),
            ("a '' \"\"", &["a", "", ""]),
            ("--x='a b'c", &["--x=a bc"]),
            ("a\n  b\n", &["a", "b"]),
        ] {
            assert_eq!(shell_words(text).unwrap(), words, "{text}");
        }
        for text in ["a && b", "a | b", "a; b", "a > b", "'a", "\"a", "a\\", "a $(b)", "`a`"] {
            assert!(shell_words(text).is_err(), "{text}");
        }
    }

    #[test]
    fn images() {
        let digest = format!("app@sha256:{}", "0a".repeat(32));
        for text in [
            "nginx",
            "postgres:15-alpine",
            "localhost:5000/a/b:v1",
            "ghcr.io/org/App-Not".to_lowercase().as_str(),
            &digest,
        ] {
            assert_eq!(image_fault(text), None, "{text}");
        }
        for text in ["", "a b", "Nginx", "nginx:", "a//b", "/a", "a@sha256:12", "a:b:c", "-a", "http://x/y"] {
            assert!(image_fault(text).is_some(), "{text}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(container_path("/var//lib/./x/"), Ok("/var/lib/x".into()));
        for text in ["", "a", "/", "/a/../b", "/proc/x", "/dev", "//", "/a\n"] {
            assert!(container_path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn typos() {
        let keys = ["image", "environment", "depends_on", "ports"];
        for (text, key) in [
            ("enviroment", Some("environment")),
            ("iamge", Some("image")),
            ("depends-on", Some("depends_on")),
            ("Ports", Some("ports")),
            ("port", Some("ports")),
            ("zzz", None),
            ("x", None),
        ] {
            assert_eq!(nearest(text, keys), key, "{text}");
        }
    }
}
