//! Secrets, taken out of text before it is written anywhere.

mod data;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::iter::successors;
use std::ops::Range;
use std::path::{Path, is_separator};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use serde_json::Value;

#[cfg(feature = "sqlite")]
pub(crate) use data::Redact;

/// What stands where a secret was.
pub(crate) const REDACTED: &str = "[redacted]";
/// Shorter values would take ordinary words out of a text.
const MIN_BYTES: usize = 6;
/// Shorter numbers are counts and sizes.
const MIN_DIGITS: usize = 12;
/// Shorter lines of a value occur in others.
const MIN_LINE_BYTES: usize = 16;
/// How often one is looked for in JSON that is text in JSON: an event has outputs in it, which can be the JSON of a tool,
/// which can have JSON in it.
const MOST_ESCAPED: usize = 3;
/// So much of a secret is one where a text is cut.
const MIN_CUT_BYTES: usize = 6;
/// Longer words can be keys.
const MAX_WORD_BYTES: usize = 12;
/// What the name of an environment variable contains if its value is to be kept secret.
const SECRET_NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "COOKIE"];
/// Beside that, what the name of a header, of an option or in the query of a URL contains.
const SECRET_FIELDS: [&str; 3] = ["AUTH", "SIG", "PWD"];
/// What it can be as a whole.
const SECRET_FIELD: [&str; 2] = ["CODE", "PASS"];

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
/// They are found by their value, whatever is around them, and so is each longer line of one that has several. Values of
/// fewer than six bytes, and numbers of fewer than twelve digits, are left alone: they occur everywhere. Where a text was
/// cut, which three points or an ellipsis say, what is left of one before or behind them is found, too.
///
/// A journal takes them out of whatever is text: objectives, arguments, outputs, messages. Names that a run is put
/// together with stay, whatever they are: ids of steps, names of tools, inputs and pools, and references to them. In
/// [labels](crate::RunStart::labels) so do short words in small letters, and paths of what is there: they are names there.
///
/// Clones share what they know: a journal that was opened with one keeps out what is [added](Self::add) later, too.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    values: BTreeSet<String>,
    /// What they can look like.
    patterns: Option<AhoCorasick>,
    /// What is left of that in front of a cut.
    fronts: Fronts,
    /// And behind one: the same of what is read backwards.
    backs: Fronts,
}

/// The texts of which there can be a part in front of a cut.
#[derive(Default)]
struct Fronts {
    /// In order.
    forms: Vec<String>,
    /// How they begin.
    beginnings: Option<AhoCorasick>,
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

    /// What is secret in a URL, as it stands there and as it is meant: the password, or the name where there is none, and
    /// what is called a key in the query.
    ///
    /// ```
    /// use plandag::Secrets;
    ///
    /// assert_eq!(Secrets::in_url("https://host/v1?page=2&apiKey=abc#top"), ["abc"]);
    /// assert_eq!(Secrets::in_url("https://me:se%20cret@host/v1"), ["se%20cret", "se cret"]);
    /// ```
    pub fn in_url(url: &str) -> Vec<String> {
        let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
        let rest = rest.split('#').next().unwrap_or_default();
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| match login.split_once(':') {
            Some((name, "")) => name,
            Some((_, password)) => password,
            None => login,
        });
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        let keys = fields.filter(|(name, _)| is_secret_field(&url_decoded(name))).map(|(_, key)| key);
        let written: Vec<&str> = login.into_iter().chain(keys).filter(|secret| !secret.is_empty()).collect();
        let meant = written.iter().map(|secret| url_decoded(secret)).filter(|meant| !written.contains(&meant.as_str()));
        written.iter().map(|secret| (*secret).to_owned()).chain(meant).collect()
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
        // They are not built only if there is more than gigabytes of it, which no environment holds.
        known.patterns = builder().match_kind(MatchKind::LeftmostLongest).build(&forms).ok();
        known.backs = Fronts::of(forms.iter().map(|form| backwards(form)).collect());
        known.fronts = Fronts::of(forms);
    }

    /// What another one knows, too, from now on.
    pub fn add_all(&self, other: &Self) {
        let values = other.known().values.clone();
        self.add(values);
    }

    /// Those that can be nothing but a key. Others are found in names, too, by which a run is gone on with: a server that
    /// needs no key is given some word for one, such as its name, and where a variable says in what place the secrets are,
    /// that can be the place where the run is.
    fn keys(&self) -> Self {
        Self::new(self.known().values.iter().filter(|value| !is_name(value)).cloned())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_around(text, &[])
    }

    /// The text without secrets, but for those that lie within one of these places.
    fn redact_around<'a>(&self, text: &'a str, places: &[Range<usize>]) -> Cow<'a, str> {
        let found = self.known().find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut redacted = String::with_capacity(text.len());
        let mut at = 0;
        for secret in found {
            let is_kept = places.iter().any(|place| place.start <= secret.start && secret.end <= place.end);
            if !is_kept {
                redacted.push_str(&text[at..secret.start]);
                redacted.push_str(REDACTED);
                at = secret.end;
            }
        }
        redacted.push_str(&text[at..]);
        Cow::Owned(redacted)
    }

    /// JSON without secrets, and still JSON: only what is in strings is taken out.
    pub fn redact_json(&self, json: String) -> String {
        let Cow::Owned(redacted) = self.redact(&json) else { return json };
        serde_json::from_str(&json).map_or(redacted, |value| self.redact_value(value).to_string())
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

impl Known {
    /// Where there is a secret in a text, or what is left of one. No two of these places have something in common.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let Some(patterns) = &self.patterns else { return Vec::new() };
        let whole = patterns.find_iter(text).map(|found| found.range());
        // Most texts are not cut.
        if !text.contains("...") && !text.contains('…') {
            return whole.collect();
        }
        let turned = backwards(text);
        let behind = self.backs.find(&turned).map(|place| text.len() - place.end..text.len() - place.start);
        let mut found: Vec<Range<usize>> = whole.chain(self.fronts.find(text)).chain(behind).collect();
        found.sort_unstable_by_key(|place| (place.start, Reverse(place.end)));
        found.dedup_by(|later, earlier| {
            let is_apart = earlier.end <= later.start;
            if !is_apart {
                earlier.end = earlier.end.max(later.end);
            }
            !is_apart
        });
        found
    }
}

impl Fronts {
    fn of(forms: BTreeSet<String>) -> Self {
        let forms: Vec<String> = forms.into_iter().collect();
        let mut beginnings: Vec<&[u8]> = forms.iter().filter_map(|form| beginning(form)).collect();
        beginnings.dedup();
        Self { beginnings: builder().build(beginnings).ok(), forms }
    }

    /// Where there is the beginning of one, and then a mark that something was cut off.
    fn find(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        let begun = self.beginnings.iter().flat_map(move |beginnings| beginnings.find_overlapping_iter(text));
        begun.flat_map(move |begun| {
            let rest = &text[begun.start()..];
            let begins = &rest.as_bytes()[..MIN_CUT_BYTES];
            let first = self.forms.partition_point(|form| form.as_bytes() < begins);
            let forms = self.forms[first..].iter().take_while(move |form| form.as_bytes().starts_with(begins));
            let ends = forms.map(|form| common(form, rest)).filter(|length| is_cut(&rest[*length..]));
            ends.map(move |length| begun.start()..begun.start() + length)
        })
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

/// Whether a header, an option or a field in the query of a URL with this name looks as if it held a secret.
pub(crate) fn is_secret_field(name: &str) -> bool {
    let name = name.to_uppercase();
    is_secret_name(&name)
        || SECRET_FIELDS.iter().any(|word| name.contains(word))
        || SECRET_FIELD.contains(&name.trim_start_matches('-'))
}

fn is_long(value: &str) -> bool {
    let is_number = value.parse::<f64>().is_ok();
    value.len() >= if is_number { MIN_DIGITS } else { MIN_BYTES }
}

/// Whether a value is a short word in small letters, or the path of something that is there.
fn is_name(value: &str) -> bool {
    let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'));
    is_word && value.len() <= MAX_WORD_BYTES || value.contains(is_separator) && Path::new(value).exists()
}

/// Each process makes one and has it look at little text: what is soonest made is best.
fn builder() -> AhoCorasickBuilder {
    let mut builder = AhoCorasick::builder();
    builder.kind(Some(AhoCorasickKind::ContiguousNFA));
    builder
}

fn beginning(form: &str) -> Option<&[u8]> {
    form.as_bytes().get(..MIN_CUT_BYTES)
}

/// How many bytes two texts have in common, in whole characters.
fn common(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(one, other)| one == other).map(|(c, _)| c.len_utf8()).sum()
}

fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}

/// Whether what comes before this was cut. A mark can have been cut itself.
fn is_cut(rest: &str) -> bool {
    let rest = rest.trim_start_matches(' ');
    let after_points = rest.trim_start_matches('.');
    rest.len() - after_points.len() >= 3 || after_points.starts_with('…')
}

/// What a secret can look like.
fn forms(secret: &str) -> Vec<String> {
    let one_line = secret.split_whitespace().collect::<Vec<_>>().join(" ");
    // Texts are taken apart by lines.
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES).map(str::to_owned);
    let texts = [secret.to_owned(), one_line].into_iter().chain(lines);
    let in_json = |text: String| successors(Some(text), |text| Some(escaped(text))).take(1 + MOST_ESCAPED);
    let mut forms: Vec<String> = texts.flat_map(in_json).collect();
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

/// A text as it is in JSON.
fn escaped(text: &str) -> String {
    let json = Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

fn url_encoded(text: &str, kept: &str, space: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => space.to_owned(),
        _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// `%2F` as `/`. A plus sign stays: in a key it is one.
fn url_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
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

    /// What a tool gives can be JSON, with JSON in it, and is text in an event.
    #[test]
    fn a_secret_is_found_in_json_that_is_text_in_json() {
        let lines = "{\n  \"id\": \"canary-of-one-line\",\n  \"x\": 1\n}";
        for (secret, said) in [(r#"pa"ss\canary"#, r#"pa"ss\canary"#), (lines, r#""id": "canary-of-one-line","#)] {
            let secrets = Secrets::new([secret]);
            let mut text = said.to_owned();
            for depth in 0..=2 {
                let redacted = secrets.redact_json(Value::from(text.as_str()).to_string());
                assert!(redacted.contains(REDACTED) && !redacted.contains("canary"), "{depth}: {redacted}");
                text = serde_json::json!({ "k": text }).to_string();
            }
        }
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
    fn what_is_left_of_a_secret_where_a_text_is_cut_is_found() {
        let secrets = Secrets::new([SECRET, "s3cr3t or not", "two\nlines"]);
        let redacted = |text: &str| secrets.redact(text).into_owned();
        for mark in ["…", "...", ".…", "..…", "...`", "....…"] {
            for (at, _) in SECRET.char_indices().filter(|(at, _)| *at >= MIN_CUT_BYTES) {
                assert_eq!(redacted(&format!("a {}{mark}", &SECRET[..at])), format!("a [redacted]{mark}"));
            }
            assert_eq!(redacted(&format!("s3cr3t%2Fcan{mark}")), format!("[redacted]{mark}"));
            assert_eq!(redacted(&format!("dXNlcjpzM2NyM3QvY2{mark}")), format!("dXNlcjp[redacted]{mark}"));
            assert_eq!(redacted(&format!("two lin{mark}")), format!("[redacted]{mark}"));
            assert_eq!(redacted(&format!("s3cr3{mark}")), format!("s3cr3{mark}"), "too short");
        }
        for mark in ["…", "...", "…..", "`...", "…...."] {
            for (at, _) in SECRET.char_indices().filter(|(at, _)| SECRET.len() - at >= MIN_CUT_BYTES) {
                assert_eq!(redacted(&format!("{mark}{} b", &SECRET[at..])), format!("{mark}[redacted] b"));
            }
            assert_eq!(redacted(&format!("{mark}2Bvalue%20%C3%A9%22")), format!("{mark}[redacted]"));
            assert_eq!(redacted(&format!("{mark}lines")), format!("{mark}lines"), "too short");
        }
        assert_eq!(redacted("...value é\"\n...\nvalue é\" é\""), "...[redacted]\n...\nvalue é\" é\"", "not cut");
        assert_eq!(redacted("s3cr3t/ca...ary+value é\""), "[redacted]...[redacted]");
        assert_eq!(redacted("s3cr3t/ca ... (200 bytes)"), "[redacted] ... (200 bytes)");
        assert_eq!(redacted("s3cr3t/ca. s3cr3t/ca"), "s3cr3t/ca. s3cr3t/ca", "not cut");
        assert_eq!(redacted("s3cr3t or… s3cr3t/c... x"), "[redacted]… [redacted]... x");
        assert_eq!(redacted(&format!("{SECRET}… s3cr3t–…")), "[redacted]… s3cr3t–…");
        assert_eq!(secrets.redact_json(r#"["s3cr3t/ca..."]"#.to_owned()), r#"["[redacted]..."]"#);
    }

    #[test]
    fn what_is_secret_in_a_url_is_known() {
        let secrets = |url: &str| Secrets::in_url(url);
        assert_eq!(secrets("https://host/mcp?tavilyApiKey=tvly-1&x=1"), ["tvly-1"]);
        assert_eq!(secrets("https://host/mcp?access%5Ftoken=a%2Bb&sig=c=d#key=e"), ["a%2Bb", "c=d", "a+b"]);
        assert_eq!(secrets("https://host/mcp?code=abc&encoding=utf8&Authorization="), ["abc"]);
        assert_eq!(secrets("postgres://me:p@ss:w@host/db?key"), ["p@ss:w"]);
        assert_eq!(secrets("http://only-a-key@host"), ["only-a-key"]);
        assert_eq!(secrets("http://only-a-key:@host"), ["only-a-key"]);
        for harmless in ["http://host/a@b:c", "http://host/?q=a:b@c", "http://host/#key=1", "?key=1", "100%"] {
            assert_eq!(secrets(harmless), [""; 0], "{harmless}");
        }
    }

    #[test]
    fn a_line_of_a_secret_is_one() {
        let secrets = Secrets::new(["-- begin --\n  first-line-of-it\r\nlast-line-of-it-\n-- end --"]);
        let said = "1: first-line-of-it\n2: last-line-of-it-, -- begin --";
        assert_eq!(secrets.redact(said), "1: [redacted]\n2: [redacted], -- begin --");
    }

    #[test]
    fn clones_share_what_they_know() {
        let secrets = Secrets::default();
        let clone = secrets.clone();
        secrets.add(["correct horse"]);
        assert_eq!(clone.redact("a correct horse"), "a [redacted]");
    }
}
