//! What is fuzzed: a file for each kind of input.

mod archives;
mod certificates;
mod compose;
mod dockerfiles;
mod documents;
mod goals;
mod measurements;
mod messages;
mod requests;
mod rules;
mod tokens;
mod words;

pub use archives::Archive;
pub use certificates::Certificate;
pub use compose::Compose;
pub use dockerfiles::Dockerfile;
pub use documents::Document;
pub use goals::Goals;
pub use measurements::Measurement;
pub use messages::Messages;
pub use requests::Requests;
pub use rules::Rules;
pub use tokens::Token;
pub use words::Word;
