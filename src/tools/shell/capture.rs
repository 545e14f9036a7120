//! What a program writes: kept up to a limit, the rest counted.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::cut;

/// This much of the beginning is kept.
const KEPT_BYTES: usize = 1024 * 1024;
/// And this much of the end, where programs say why they failed.
const TAIL_BYTES: usize = 8 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// What a program wrote to one of its outputs.
#[derive(Debug, Default)]
pub(super) struct Capture {
    kept: Vec<u8>,
    /// The end of what was not kept.
    tail: VecDeque<u8>,
    total: u64,
}

impl Capture {
    /// Reads until there is nobody left who could write.
    pub(super) async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.take(&buffer[..read]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (kept, rest) = bytes.split_at(bytes.len().min(KEPT_BYTES - self.kept.len()));
        self.kept.extend_from_slice(kept);
        self.tail.extend(&rest[rest.len().saturating_sub(TAIL_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }

    /// How much was written in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether more was written than is kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.total > self.kept.len() as u64
    }

    /// The end of all that was written, or at most `bytes` of it behind a mark.
    pub(super) fn tail(&self, bytes: usize) -> String {
        let end: Vec<u8> = match self.tail.len() {
            0 => self.kept[self.kept.len().saturating_sub(bytes)..].to_vec(),
            _ => self.tail.iter().copied().skip(self.tail.len().saturating_sub(bytes)).collect(),
        };
        if self.total > end.len() as u64 { cut::ending(&end) } else { String::from_utf8_lossy(&end).into_owned() }
    }

    /// The beginning as text, with a mark if there was more, and whether something in it was not UTF-8 and is shown as a
    /// replacement character.
    pub(super) fn into_text(self) -> (String, bool) {
        let truncated = self.is_truncated();
        let (mut text, replaced) = match String::from_utf8(self.kept) {
            Ok(text) => (text, false),
            Err(error) => {
                // It may have been the cut that went through the last character.
                let is_whole = truncated && error.utf8_error().error_len().is_none();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), !is_whole)
            }
        };
        if truncated {
            text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
            text.push_str(cut::MARK);
        }
        (text, replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut capture = Capture::default();
        capture.take(b"first ");
        capture.take(&vec![b'x'; 3 * KEPT_BYTES]);
        capture.take("ü last".as_bytes());
        assert_eq!(capture.total(), 6 + 3 * KEPT_BYTES as u64 + 7);
        assert!(capture.is_truncated());
        assert_eq!(capture.tail(7), "...ü last");
        assert_eq!(capture.tail(6), "... last");
        assert_eq!(capture.tail(usize::MAX).len(), TAIL_BYTES + 3);
        let (text, replaced) = capture.into_text();
        assert!(text.starts_with("first xxx") && text.len() == KEPT_BYTES + 3 && text.ends_with("x...") && !replaced);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        let mut capture = Capture::default();
        capture.take(b"gr\xfcn");
        assert_eq!((capture.tail(2), capture.tail(4)), ("...n".to_owned(), "gr\u{fffd}n".to_owned()));
        assert_eq!(capture.into_text(), ("gr\u{fffd}n".to_owned(), true));
    }

    #[test]
    fn a_cut_through_a_character_is_no_mistake() {
        let mut capture = Capture::default();
        capture.take(&vec![b'x'; KEPT_BYTES - 1]);
        capture.take("ü".as_bytes());
        let (text, replaced) = capture.into_text();
        assert_eq!((text.len(), replaced), (KEPT_BYTES + 2, false));
    }
}
