//! The files of the web console, built into the program: what `npm run build` made of `apps/console`, compressed.
//!
//! A table and nothing else: who serves it decides about headers. A path is looked up as it is, so there is nothing
//! to resolve, to decode or to escape from. Rejected: rust-embed (keeps the bytes uncompressed, or uncompresses them
//! at run time, and reads the disk in debug builds).

/// A file.
#[derive(Debug)]
pub struct File {
    /// Its path in addresses, as `/assets/index-BDHR2TGa.css`.
    pub path: &'static str,
    /// What it is.
    pub media_type: &'static str,
    /// Names its content, in quotes, as RFC 9110 (8.8.3) wants it.
    pub etag: &'static str,
    /// Its size uncompressed, in bytes.
    pub size: usize,
    /// Its bytes, as gzip.
    pub gzip: &'static [u8],
}

/// All of them, by path.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The page from which each view begins.
pub const INDEX: &str = "/index.html";

impl File {
    /// Whether its name has the hash of its content, so that what is at this path never changes.
    pub fn is_immutable(&self) -> bool {
        self.path.starts_with(ASSETS)
    }
}

/// Where the files are whose names have their hashes.
const ASSETS: &str = "/assets/";

/// The file at a path.
pub fn find(path: &str) -> Option<&'static File> {
    let at = FILES.binary_search_by(|file| file.path.cmp(path)).ok()?;
    FILES.get(at)
}

/// Whether a path may be of a view, which begins from [`INDEX`], and not of a file that is gone: a page of another
/// version asks for those, and would take a page for a script.
pub fn is_view(path: &str) -> bool {
    !path.starts_with(ASSETS)
}

/// Whether the console was there when the program was built.
pub fn is_built() -> bool {
    find(INDEX).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn every_file_is_found_by_its_path_and_unpacks() {
        for file in FILES {
            assert_eq!(find(file.path).unwrap().etag, file.etag);
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(file.gzip).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), file.size, "{}", file.path);
            assert!(!file.path.contains("/."), "tools' files stay at home: {}", file.path);
        }
        assert_eq!(is_built(), !FILES.is_empty(), "all or nothing");
    }

    #[test]
    fn no_path_leads_elsewhere() {
        for path in
            ["", "/", "index.html", "/../Cargo.toml", "/assets/../index.html", "/%2e%2e/x", "//index.html"]
        {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn views_are_told_from_files() {
        assert!(["/", "/nodes", "/nodes/elm.local", "/stacks/default/shop"].into_iter().all(is_view));
        assert!(!is_view("/assets/index-old.js"));
    }
}
