//! What is written down, without secrets.

use std::borrow::Cow;

use serde::Serialize;

use crate::journal::Letter;
use crate::redact::{Redact, Secrets};

/// The JSON of something, without secrets. Most of it has none, and is not looked into.
pub(super) fn to_json<T: Clone + Redact + Serialize>(value: &T, secrets: &Secrets) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    if let Cow::Borrowed(_) = secrets.redact(&json) {
        return Ok(json);
    }
    let mut value = value.clone();
    value.redact(secrets);
    serde_json::to_string(&value)
}

impl Redact for Letter {
    fn redact(&mut self, secrets: &Secrets) {
        let Self { step: _, attempt: _, decision } = self;
        decision.redact(secrets);
    }
}
