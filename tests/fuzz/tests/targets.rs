//! The targets. Each is an ordinary test, with a budget from the environment.
#![allow(missing_docs)]

use lattice_fuzz::{run, subjects};

macro_rules! targets {
    ($($name:ident: $subject:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            run::<subjects::$subject>(bolero::check!());
        }
    )+};
}

targets! {
    compose: Compose,
    tokens: Token,
    words: Word,
    certificates: Certificate,
    measurements: Measurement,
    messages: Messages,
    goals: Goals,
    archives: Archive,
    dockerfiles: Dockerfile,
    documents: Document,
    requests: Requests,
    rules: Rules,
}
