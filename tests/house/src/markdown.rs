//! As much of Markdown as the documents here use: fenced blocks, code spans, inline links, headings.

/// A document, taken apart. Line numbers count from 1.
#[derive(Debug, Default)]
pub struct Markdown {
    /// Lines within fenced blocks, with the word that follows the opening fence.
    pub fenced: Vec<(usize, String, String)>,
    /// Code spans outside of fenced blocks.
    pub spans: Vec<(usize, String)>,
    /// Targets of inline links and images.
    pub links: Vec<(usize, String)>,
    /// The anchors of the headings.
    pub anchors: Vec<String>,
}

impl Markdown {
    /// Takes a document apart.
    pub fn read(text: &str) -> Self {
        let mut document = Self::default();
        let mut fence: Option<String> = None;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = line.trim_start().strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(word.trim().to_owned()) };
            } else if let Some(word) = &fence {
                document.fenced.push((number, word.clone(), line.to_owned()));
            } else {
                document.prose(number, line);
            }
        }
        document
    }

    fn prose(&mut self, number: usize, line: &str) {
        if line.starts_with('#') {
            self.anchors.push(slug(line.trim_start_matches('#')));
        }
        // Every second part between backticks is code, and the rest may hold links.
        for (index, part) in line.split('`').enumerate() {
            if index % 2 == 1 {
                self.spans.push((number, part.to_owned()));
            }
        }
        for (at, _) in line.match_indices("](") {
            if let Some((target, _)) = line[at + 2..].split_once(')') {
                self.links.push((number, target.trim().to_owned()));
            }
        }
    }

    /// Lines of code, in blocks and in spans, with their numbers.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let blocks = self.fenced.iter().map(|(number, _, line)| (*number, line.as_str()));
        blocks.chain(self.spans.iter().map(|(number, span)| (*number, span.as_str())))
    }
}

/// The anchor of a heading, as the usual hosts of repositories make it.
pub fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
