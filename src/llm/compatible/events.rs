//! Server-sent events, read from bytes that come in pieces which end anywhere.

/// The event after which nothing comes.
pub(super) const DONE: &[u8] = b"[DONE]";

/// What has come of an event that is not complete.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The beginning of a line.
    line: Vec<u8>,
    /// The data of the lines before it.
    data: Vec<u8>,
}

impl Events {
    /// Takes bytes up, and hands on the data of each event that is complete now.
    pub(super) fn take<E>(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                None => self.line.extend_from_slice(piece),
                Some(line) if self.line.is_empty() => self.end_line(line, &mut event)?,
                Some(end) => {
                    self.line.extend_from_slice(end);
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&line, &mut event)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing more comes: hands on what there is, also if the end of its line or the empty line after it is missing.
    pub(super) fn end<E>(&mut self, event: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.take(b"\n\n", event)
    }

    /// How many bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn end_line<E>(&mut self, line: &[u8], event: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let line = without_mark(line.strip_suffix(b"\r").unwrap_or(line));
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.trim_ascii();
            if self.data.ends_with(b"}") && data.starts_with(b"{") || data.starts_with(DONE) {
                // Two objects are two events, also if the empty line between them is missing.
                self.end_line(b"", event)?;
            } else if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        } else if let Some(error) = line.strip_prefix(b"error:") {
            // llama.cpp had a field of its own for that, until late in 2025.
            self.data = [b"{\"error\":", error, b"}"].concat();
        } else if line.is_empty() && !self.data.is_empty() {
            let read = event(&self.data);
            self.data.clear();
            return read;
        }
        // All else are comments, which keep the connection open, and fields that say nothing here.
        Ok(())
    }
}

/// Text without the mark of its encoding, which some servers begin it with.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a text that comes in pieces of so many bytes.
    fn read(text: &str, piece: usize) -> Vec<String> {
        let (mut events, mut read) = (Events::default(), Vec::new());
        let mut keep = |data: &[u8]| {
            read.push(String::from_utf8(data.to_vec()).unwrap());
            Ok::<(), ()>(())
        };
        for bytes in text.as_bytes().chunks(piece) {
            events.take(bytes, &mut keep).unwrap();
        }
        events.end(keep).unwrap();
        assert_eq!(events.len(), 0);
        read
    }

    #[test]
    fn events_are_the_same_however_their_bytes_come() {
        let text =
            ": hello\n\nevent: x\ndata: {\"a\": \"ü\"}\n\nid: 7\n\n\r\ndata:one\r\ndata: two\r\n\r\ndata: [DONE]";
        for piece in 1..=text.len() {
            assert_eq!(read(text, piece), ["{\"a\": \"ü\"}", "one\ntwo", "[DONE]"], "in pieces of {piece} bytes");
        }
    }

    #[test]
    fn what_servers_do_otherwise_is_understood() {
        for (text, events) in [
            ("\u{feff}data: {}\n\n", &["{}"][..]),
            // Without an empty line between them.
            ("data: {}\ndata: {}\ndata: [DONE]\n", &["{}", "{}", "[DONE]"]),
            // One object in several lines.
            ("data: {\ndata: \"a\": {}\ndata: }\n\n", &["{\n\"a\": {}\n}"]),
            ("data: {\"a\": [{},\ndata: {}]}\n\n", &["{\"a\": [{},\n{}]}"]),
            (": ping\n\ndata:\n\ndata: \n\n", &[]),
            ("error: {\"code\": 500}\n\ndata: [DONE]\n\n", &["{\"error\": {\"code\": 500}}", "[DONE]"]),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(read(text, piece), events, "{text:?} in pieces of {piece} bytes");
            }
        }
    }
}
