//! Secrets, taken out of text before it is written anywhere.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::Value;

/// What stands where a secret was.
const REDACTED: &str = "[redacted]";
/// Shorter values would take ordinary words out of a text.
const MIN_BYTES: usize = 6;
/// Shorter numbers are counts and sizes.
const MIN_DIGITS: usize = 12;
/// What the name of an environment variable contains if its value is to be kept secret.
const SECRET_NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "COOKIE"];

/// Values that must not be written down, with what they look like in base64, in a URL and in JSON.
///
/// ```
/// use plandag::Secrets;
///
/// let secrets = Secrets::new(["correct horse"]);
/// assert_eq!(secrets.redact("it is correct horse."), "it is [redacted].");
/// assert_eq!(secrets.redact("https://host/?key=correct%20horse"), "https://host/?key=[redacted]");
/// ```
///
/// They are found by their value, whatever is around them. Values of fewer than six bytes, and numbers of fewer than
/// twelve digits, are left alone: they occur everywhere.
///
/// A journal takes them out of whatever is text: objectives, arguments, outputs, messages. Names that a run is put
/// together with stay, whatever they are: ids of steps, names of tools, inputs and pools, and references to them.
///
/// Clones share what they know: a journal that was opened with one keeps out what is [added](Self::add) later, too.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    values: BTreeSet<String>,
    patterns: Option<AhoCorasick>,
}

impl Secrets {
    /// These values.
    pub fn new(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let secrets = Self::default();
        secrets.add(values);
        secrets
    }

    /// The values of all environment variables whose names look as if they held one: those with `KEY`, `TOKEN`,
    /// `SECRET`, `PASSW`, `CREDENTIAL` or `COOKIE` in them.
    pub fn from_env() -> Self {
        let named = std::env::vars_os().filter(|(name, _)| is_secret_name(&name.to_string_lossy()));
        Self::new(named.filter_map(|(_, value)| value.into_string().ok()))
    }

    /// These values, too, from now on.
    pub fn add(&self, values: impl IntoIterator<Item = impl Into<String>>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.values.len();
        known
            .values
            .extend(values.into_iter().map(|value| value.into().trim().to_owned()).filter(|value| is_long(value)));
        if known.values.len() == before {
            return;
        }
        let forms: BTreeSet<String> = known.values.iter().flat_map(|value| forms(value)).collect();
        // Each process makes one and has it look at little text: what is soonest made is best.
        let built = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms);
        // It is not built only if there is more than gigabytes of it, which no environment holds.
        known.patterns = built.ok().filter(|_| !forms.is_empty());
    }

    /// What another one knows, too, from now on.
    pub fn add_all(&self, other: &Self) {
        let values = other.known().values.clone();
        self.add(values);
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_around(text, &[])
    }

    /// The text without secrets, but for those that lie within one of these places.
    pub(crate) fn redact_around<'a>(&self, text: &'a str, places: &[Range<usize>]) -> Cow<'a, str> {
        match &self.known().patterns {
            Some(patterns) if patterns.is_match(text) => {
                let mut redacted = String::with_capacity(text.len());
                patterns.replace_all_with(text, &mut redacted, |found, secret, redacted| {
                    let is_kept = places.iter().any(|place| place.start <= found.start() && found.end() <= place.end);
                    redacted.push_str(if is_kept { secret } else { REDACTED });
                    true
                });
                Cow::Owned(redacted)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// JSON without secrets, and still JSON: only what is in strings is taken out.
    pub fn redact_json(&self, json: String) -> String {
        if self.known().patterns.as_ref().is_none_or(|patterns| !patterns.is_match(&json)) {
            return json;
        }
        match serde_json::from_str(&json) {
            Ok(value) => self.redact_value(value).to_string(),
            Err(_) => self.redact(&json).into_owned(),
        }
    }

    /// A value without secrets in its texts, names of fields included. It has to be one that was read from JSON, which
    /// bounds how deep it is.
    pub fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.redact_value(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, field)| (self.redact(&name).into_owned(), self.redact_value(field)))
                .collect(),
            other => other,
        }
    }
}

/// Shows how many there are, and none of them.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.known().values.len()).finish_non_exhaustive()
    }
}

/// Whether a variable of this name looks as if it held a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_uppercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

fn is_long(value: &str) -> bool {
    let is_number = value.parse::<f64>().is_ok();
    value.len() >= if is_number { MIN_DIGITS } else { MIN_BYTES }
}

/// What a secret can look like.
fn forms(secret: &str) -> Vec<String> {
    let json = Value::from(secret).to_string();
    let mut forms = vec![secret.to_owned(), json[1..json.len() - 1].to_owned()];
    for (kept, space) in [("-_.~", "%20"), ("-_.~", "+"), ("-_.!~*'()", "%20"), ("", "%20")] {
        let url = url_encoded(secret, kept, space);
        forms.push(lower_case_escapes(&url));
        forms.push(url);
    }
    for alphabet in [BASE64, BASE64_URL] {
        forms.extend((0..3).map(|offset| base64_inside(secret.as_bytes(), offset, alphabet)));
    }
    forms
}

fn url_encoded(text: &str, kept: &str, space: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => space.to_owned(),
        _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// `%2F` as `%2f`.
fn lower_case_escapes(url: &str) -> String {
    let mut parts = url.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(part.len().min(2));
        text + "%" + &digits.to_lowercase() + rest
    })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of base64 that only the secret decides, where it begins `offset` bytes (modulo 3) into what is
/// encoded: a secret is often encoded together with something else, such as a name in front of it.
fn base64_inside(secret: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret);
    let sextets = bytes.len() * 8 / 6;
    let bit = |index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    let first = (offset * 8).div_ceil(6);
    let sextet = |index: usize| (0..6).fold(0, |value, at| value << 1 | usize::from(bit(index * 6 + at)));
    (first..sextets).map(|index| char::from(alphabet[sextet(index)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t/canary+value é\"";

    #[test]
    fn every_form_of_a_secret_is_found() {
        let secrets = Secrets::new([SECRET]);
        let encoded = [
            SECRET.to_owned(),
            serde_json::to_string(SECRET).unwrap(),
            "s3cr3t%2Fcanary%2Bvalue%20%C3%A9%22".to_owned(),
            "s3cr3t%2fcanary%2bvalue+%c3%a9%22".to_owned(),
            // base64 of the secret, of `user:` and the secret, of `me:` and the secret and ` end`, by another program.
            "czNjcjN0L2NhbmFyeSt2YWx1ZSDDqSI=".to_owned(),
            "dXNlcjpzM2NyM3QvY2FuYXJ5K3ZhbHVlIMOpIg==".to_owned(),
            "bWU6czNjcjN0L2NhbmFyeSt2YWx1ZSDDqSIgZW5k".to_owned(),
        ];
        for text in encoded {
            let redacted = secrets.redact(&text).into_owned();
            assert!(redacted.contains(REDACTED), "{text}");
            assert!(!redacted.contains("canary") && !redacted.contains("NhbmFy"), "{redacted}");
        }
        assert_eq!(secrets.redact("nothing to see"), "nothing to see");
    }

    #[test]
    fn json_stays_json() {
        let secrets = Secrets::new(["123456789012", "true story", "x"]);
        let json = r#"{"n":123456789012,"true story":["123456789012","x"]}"#.to_owned();
        let redacted: Value = serde_json::from_str(&secrets.redact_json(json)).unwrap();
        assert_eq!(redacted, serde_json::json!({ "n": 123_456_789_012_u64, "[redacted]": ["[redacted]", "x"] }));
        assert_eq!(format!("{secrets:?}"), "Secrets { count: 2, .. }");
    }

    #[test]
    fn clones_share_what_they_know() {
        let secrets = Secrets::default();
        let clone = secrets.clone();
        secrets.add(["correct horse"]);
        assert_eq!(clone.redact("a correct horse"), "a [redacted]");
    }
}
