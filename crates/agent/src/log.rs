//! The last lines of the log, in memory, so that the owner's programs can show them wherever the log
//! itself goes.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    sync::Arc,
};

/// How many lines are kept; the oldest go.
const LINES: usize = 500;
/// The most bytes of a line.
const LINE: usize = 1024;

/// The last lines of the log.
#[derive(Clone, Default)]
pub struct LogRing(Arc<Mutex<VecDeque<String>>>);

impl fmt::Debug for LogRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRing").field("lines", &self.0.lock().len()).finish()
    }
}

impl LogRing {
    /// The last `most` lines, the oldest first.
    pub fn last(&self, most: usize) -> Vec<String> {
        let lines = self.0.lock();
        lines.iter().skip(lines.len().saturating_sub(most)).cloned().collect()
    }

    /// A writer for it, beside the one for the log itself.
    pub fn writer(&self) -> impl Write + use<> {
        RingWriter(self.clone())
    }

    fn push(&self, bytes: &[u8]) {
        let text = plain(&String::from_utf8_lossy(bytes));
        let mut lines = self.0.lock();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if lines.len() >= LINES {
                lines.pop_front();
            }
            lines.push_back(line.chars().take(LINE).collect());
        }
    }
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // ECMA-48: a control sequence ends with a letter.
            let _ = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

struct RingWriter(LogRing);

impl Write for RingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_without_colours() {
        let ring = LogRing::default();
        for n in 0..LINES + 5 {
            ring.push(format!("\u{1b}[32mline\u{1b}[0m {n}\n").as_bytes());
        }
        let all = ring.last(usize::MAX);
        assert_eq!((all.len(), all[0].as_str()), (LINES, "line 5"));
        assert_eq!(ring.last(1), [format!("line {}", LINES + 4)]);
    }
}
