//! What is escaped comes back, and nothing is expanded twice. That every text is read or refused in order is
//! tried by the fuzz target `compose`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lattice_compose::{ComposeErrors, Loaded, NoFiles, Options, Source, load, parse_env};
use proptest::prelude::*;

fn read(text: &[u8]) -> Result<Loaded, ComposeErrors> {
    let variables = |name: &str| {
        (name.len().is_multiple_of(2) && !name.starts_with("COMPOSE_")).then(|| "value $X ${Y".to_owned())
    };
    let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
    load(&[Source { name: "c.yaml", text }], &options, &NoFiles)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// `$$` is one `$`, and nothing else is touched.
    #[test]
    fn escaped_text_comes_back(value in "[ -~äöü€]{0,40}") {
        let quoted = value.replace('\'', "''").replace('$', "$$");
        let text = format!("services:\n  a:\n    image: b\n    environment:\n      V: '{quoted}'\n");
        let loaded = read(text.as_bytes()).unwrap();
        let web = loaded.spec.workloads.into_values().next().unwrap();
        prop_assert_eq!(&web.environment["V"], &value);
    }

    /// The value of a variable is never expanded again.
    #[test]
    fn variables_arrive_as_they_are(value in "[^\0]{0,40}", default in "[a-z$]{0,5}") {
        let text = format!("services:\n  a:\n    image: b\n    environment:\n      V: 'a${{NAME:-{}}}z'\n", default.replace('$', "$$"));
        let variables = |name: &str| (name == "NAME").then(|| value.clone());
        let options = Options { fallback_name: Some("test"), ..Options::new(&variables) };
        let loaded = load(&[Source { name: "c.yaml", text: text.as_bytes() }], &options, &NoFiles).unwrap();
        let web = loaded.spec.workloads.into_values().next().unwrap();
        let expected = if value.is_empty() { format!("a{default}z") } else { format!("a{value}z") };
        prop_assert_eq!(&web.environment["V"], &expected);
    }

    #[test]
    fn quoted_env_lines_come_back(value in "[^\0\r]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let text = format!("# comment\nexport V=\"{quoted}\" # more\nW=1\n");
        let file = parse_env(Source { name: ".env", text: text.as_bytes() }, &|_| None).unwrap();
        prop_assert_eq!(&file.values["V"], &value);
        prop_assert_eq!(&file.values["W"], "1");
    }
}
