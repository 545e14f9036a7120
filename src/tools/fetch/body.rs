//! The body of an answer: read up to a limit, and decoded into text.

use encoding_rs::{Encoding, UTF_8};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use crate::error::StepError;

/// More of a body is not read. Counted after decompression, so a small body that unpacks to a large one gains nothing.
const MAX_BODY_BYTES: usize = 5 * 1024 * 1024;
/// How much of a body tells what it is.
const SNIFFED_BYTES: usize = 1024;

/// The `Content-Type` of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    /// In lower case, without parameters; empty if the server does not say.
    pub(super) essence: String,
    charset: Option<String>,
}

impl ContentType {
    pub(super) fn of(response: &Response) -> Self {
        let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self::parse(header.unwrap_or_default())
    }

    fn parse(header: &str) -> Self {
        let mut parts = header.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned());
        Self { essence, charset }
    }

    pub(super) fn is_html(&self) -> bool {
        matches!(&*self.essence, "text/html" | "application/xhtml+xml")
    }

    pub(super) fn is_json(&self) -> bool {
        self.essence == "application/json" || self.essence.ends_with("+json")
    }

    /// Whether text is never of this type, so that the body need not be read.
    fn is_binary(&self) -> bool {
        let (family, _) = self.essence.split_once('/').unwrap_or_default();
        matches!(family, "image" | "audio" | "video" | "font" | "model") && !self.essence.ends_with("+xml")
    }
}

/// The text of an answer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) content_type: ContentType,
    pub(super) text: String,
    /// Whether it was longer.
    pub(super) truncated: bool,
}

/// Why there is none.
pub(super) enum Unreadable {
    /// The connection broke off, or what came could not be decompressed.
    Broken(reqwest::Error),
    /// It is not text.
    Binary(ContentType),
}

impl Body {
    /// Reads the body of `response`.
    pub(super) async fn read(mut response: Response) -> Result<Self, Unreadable> {
        let mut content_type = ContentType::of(&response);
        if content_type.is_binary() {
            return Err(Unreadable::Binary(content_type));
        }
        let mut bytes = Vec::new();
        let mut truncated = false;
        while let Some(chunk) = response.chunk().await.map_err(Unreadable::Broken)? {
            let room = MAX_BODY_BYTES - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                truncated = true;
                break;
            }
        }
        if content_type.essence.is_empty() && looks_like_html(&bytes) {
            content_type.essence.push_str("text/html");
        }
        match decode(&bytes, &content_type, truncated) {
            Some(text) => Ok(Self { content_type, text, truncated }),
            None => Err(Unreadable::Binary(content_type)),
        }
    }
}

impl Unreadable {
    pub(super) fn into_error(self, url: &str) -> StepError {
        match self {
            Self::Broken(error) => {
                StepError::transient(format!("{url} broke off: {}", super::causes(&error.without_url())))
            }
            Self::Binary(content_type) => {
                let what = if content_type.essence.is_empty() { "binary data" } else { &content_type.essence };
                StepError::permanent(format!("{url} is {what}, and fetch only reads text, such as HTML and JSON"))
            }
        }
    }
}

/// The text in `bytes`; none if they are something else.
///
/// What is declared as text is decoded as a browser would: after the mark at its beginning, the charset of the
/// header, then the one that the page itself names. Anything else is only taken if it is text without a doubt.
fn decode(bytes: &[u8], content_type: &ContentType, truncated: bool) -> Option<String> {
    let sniffed = &bytes[..bytes.len().min(SNIFFED_BYTES)];
    let declared = content_type.charset.as_deref().and_then(|label| Encoding::for_label(label.as_bytes()));
    let encoding = declared.or_else(|| if content_type.is_html() { meta_charset(sniffed) } else { None });
    let (text, _, replaced) = encoding.unwrap_or(UTF_8).decode(bytes);
    // The cut may have gone through a character.
    let text = if truncated { text.trim_end_matches(char::REPLACEMENT_CHARACTER) } else { &text };
    let is_declared = declared.is_some() || content_type.is_html() || content_type.essence.starts_with("text/");
    let is_text = !text.contains('\0') && (is_declared || !replaced || truncated && !text.contains('\u{fffd}'));
    is_text.then(|| text.to_owned())
}

/// The charset in the first `<meta>` that names one.
fn meta_charset(sniffed: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(sniffed).to_ascii_lowercase();
    let meta = &head[head.find("<meta")?..];
    let (_, value) = meta.split_once("charset")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let label = value.split(|character: char| "\"'/>; ".contains(character)).next()?;
    // A page that can be read up to here is not in UTF-16, whatever it says.
    Encoding::for_label(label.as_bytes()).map(|encoding| if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|found| found.eq_ignore_ascii_case(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], content_type: &str) -> Option<String> {
        decode(bytes, &ContentType::parse(content_type), false)
    }

    #[test]
    fn charsets_are_found_where_browsers_look() {
        let cases: [(&[u8], &str, &str); 9] = [
            ("grün".as_bytes(), "text/plain", "grün"),
            (b"gr\xfcn", "text/plain; charset=iso-8859-1", "grün"),
            (b"gr\xfcn", "text/plain;charset=\"ISO-8859-1\"", "grün"),
            (b"gr\xfcn", "text/plain", "gr\u{fffd}n"),
            (b"<meta charset=latin1>gr\xfcn", "text/html", "<meta charset=latin1>grün"),
            (
                b"<META content='text/html; CHARSET=latin1'>\xfc",
                "text/html",
                "<META content='text/html; CHARSET=latin1'>ü",
            ),
            (b"<meta charset=utf-16>g", "text/html", "<meta charset=utf-16>g"),
            (b"\xff\xfeg\0", "text/plain", "g"),
            ("\u{feff}g".as_bytes(), "application/json", "g"),
        ];
        for (bytes, content_type, text) in cases {
            assert_eq!(decoded(bytes, content_type).as_deref(), Some(text), "{content_type}");
        }
    }

    #[test]
    fn only_text_is_taken() {
        assert_eq!(decoded(b"%PDF-1.7\n\xe2\xe3\xcf\xd3", "application/pdf"), None);
        assert_eq!(decoded(b"PK\x03\x04\0\0", "application/zip"), None);
        assert_eq!(decoded(b"MZ\0", "text/plain"), None);
        assert_eq!(decoded(b"key: value", "application/octet-stream").as_deref(), Some("key: value"));
        assert_eq!(decoded(b"plain", "").as_deref(), Some("plain"));
        assert_eq!(decoded(b"", "application/json").as_deref(), Some(""));
        assert!(ContentType::parse("image/png").is_binary());
        assert!(!ContentType::parse("image/svg+xml").is_binary());
    }

    #[test]
    fn a_cut_through_a_character_leaves_no_trace() {
        let bytes = &"grü".as_bytes()[..3];
        assert_eq!(decode(bytes, &ContentType::parse("application/json"), true).as_deref(), Some("gr"));
    }
}
