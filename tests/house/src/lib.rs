//! What the tests of the house share: where the repository is, and as much Markdown as they read.
//!
//! Enter at `tests/`: `edges` (dependencies are those that ARCHITECTURE.md draws), `purity` (the core reaches no I/O),
//! `documents` (what the documents name exists). No Markdown parser: fenced blocks, code spans and links of this
//! repository's own files are all that is needed, and a line scanner reads those.

mod markdown;
mod repository;

pub use markdown::{Markdown, slug};
pub use repository::{markdown_files, root};
