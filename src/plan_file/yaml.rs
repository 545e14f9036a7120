//! YAML with places.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Spanned};

use super::node::{Data, Entry, Node, Span};
use super::shape::{self, Finding, shortened, too_deep};

/// How many values aliases may stand for in all: enough for what people share between steps, too few for a bomb.
const MAX_REPLAYED: usize = 100_000;

/// How deep lists and objects may nest: as deep as `serde_json` lets them in JSON. What is less deep and still too deep to
/// be an argument is told as such.
const NESTED: usize = 127;

/// Reads a text as a tree.
///
/// # Errors
///
/// The first place at which it is not YAML. A key that comes twice hides nothing else that is wrong.
pub(super) fn read(text: &str) -> Result<Node, Vec<Finding>> {
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#')) {
        return Err(vec![Finding::new("there is nothing in it", 0..0)]);
    }
    let error = match read_with(text, DuplicateKeyPolicy::Error) {
        Ok(node) => return Ok(node),
        Err(error) => error,
    };
    let Error::DuplicateMappingKey { key: Some(key), location } = error.without_snippet() else {
        return Err(vec![unreadable(text, &error)]);
    };
    let second = span(text, *location);
    let mut finding = Finding::new(format!("the key `{}` comes twice", shortened(key)), second.clone()).label("second");
    let mut others = Vec::new();
    let policies = [DuplicateKeyPolicy::FirstWins, DuplicateKeyPolicy::LastWins];
    if let [Ok(first), Ok(last)] = policies.map(|policy| read_with(text, policy)) {
        if let Some(first) = first_key(&first, &last, second.start) {
            finding = finding.place_first(first, "first");
        }
        others = shape::check(&first);
    }
    others.insert(0, finding);
    Err(others)
}

/// Whether a line says that the steps of a plan come now, and is no sentence.
pub(super) fn begins_steps(line: &str) -> bool {
    let line = line.replace(['"', '\''], "");
    let rest = line.trim().strip_prefix("steps:").map(str::trim_start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '#']))
}

fn read_with(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Node, Error> {
    // The size of the text is bounded by the caller, and every event takes a byte of it, aliases apart.
    let most = text.len() + MAX_REPLAYED;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: most,
            max_nodes: most,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
            max_depth: NESTED,
            flow_nesting_limit: NESTED,
            max_recorded_anchor_events: MAX_REPLAYED,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        duplicate_keys: duplicate_keys,
        emit_comments: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options).map(Node::from)
}

fn unreadable(text: &str, error: &Error) -> Finding {
    let at = error.location().map_or(0..0, |location| span(text, location));
    let original = match error.without_snippet() {
        Error::AliasError { error, .. } => error,
        error => error,
    };
    match original {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(at),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
            Finding::new("the aliases stand for too much", at).help("write out what they stand for")
        }
        Error::MultipleDocuments { .. } => {
            Finding::new("there is more than one document", at).help("put each plan into a file of its own")
        }
        Error::NonFiniteFloat { value, .. } => {
            Finding::new(format!("a plan cannot hold the number `{}`", shortened(value)), at)
        }
        error => {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            if message.starts_with("recursion limit") { too_deep(at) } else { Finding::new(message, at) }
        }
    }
}

/// The key that the one at `second` doubles, found by comparing the tree in which the first of equal keys was kept
/// with the one in which the last was.
fn first_key(first: &Node, last: &Node, second: usize) -> Option<Span> {
    let before: HashMap<&str, &Entry> = first.entries().iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let entries = last.entries().iter().filter_map(|entry| {
        let before = before.get(entry.key.as_str())?;
        match entry.key_span.start == second {
            true => Some(before.key_span.clone()),
            false => first_key(&before.value, &entry.value, second),
        }
    });
    let items = first.items().iter().zip(last.items()).filter_map(|(first, last)| first_key(first, last, second));
    entries.chain(items).next()
}

/// Where an error is. Some errors are only placed in lines and characters.
fn span(text: &str, location: Location) -> Span {
    if let Some(span) = value_span(location) {
        return span.start.min(text.len())..span.end.min(text.len());
    }
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let line_start = match whole(location.line()) {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let rest = &text[line_start..];
    let column = whole(location.column()).saturating_sub(1);
    let start = line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    start..start
}

/// Where a value is.
fn value_span(location: Location) -> Option<Span> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    Some(start..start.checked_add(length)?)
}

impl From<Spanned<Tree>> for Node {
    fn from(tree: Spanned<Tree>) -> Self {
        Self { span: value_span(tree.referenced).unwrap_or(0..0), data: tree.value.0 }
    }
}

struct Tree(Data);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    // JSON readers, too, take integers that are too large for 64 bits for floating-point numbers.
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Data, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Data, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a plan has no NaN and no infinity"))?;
        Ok(Data::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<Spanned<Tree>>()? {
            items.push(item.into());
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Tree>>()?.into();
            entries.push(Entry { key: key.value, key_span: value_span(key.referenced).unwrap_or(0..0), value });
        }
        Ok(Data::Map(entries))
    }
}
