//! Values that are shown to nobody.

use std::collections::BTreeMap;

use serde_json::Value;

/// Parts of names of variables whose values are secrets.
const SECRET_NAMES: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSW", "AUTH", "CREDENTIAL", "COOKIE"];
/// Shorter values are found everywhere.
const MIN_BYTES: usize = 4;
const HIDDEN: &str = "[secret]";

/// The secrets that a server was given. It may repeat them, by mistake or on purpose.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn new(env: &BTreeMap<String, String>, headers: &BTreeMap<String, String>) -> Self {
        let is_secret = |name: &str| SECRET_NAMES.iter().any(|part| name.to_ascii_uppercase().contains(part));
        let of_env = env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str());
        // `Bearer abc`: the second word alone is one, too.
        let of_headers =
            headers.values().flat_map(|value| [value.as_str(), value.rsplit(' ').next().unwrap_or_default()]);
        let mut secrets: Vec<String> =
            of_env.chain(of_headers).filter(|value| value.len() >= MIN_BYTES).map(str::to_owned).collect();
        // The longer ones first, so that none is hidden in part.
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self(secrets)
    }

    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }

    /// Hides secrets in every text of a value, names of fields included.
    pub(super) fn hide_in(&self, value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        // What a server sends was parsed, and so nests no deeper than the parser goes.
        match value {
            Value::String(text) => Value::String(self.hide(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.hide_in(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, field)| (self.hide(&name), self.hide_in(field))).collect())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_come_back() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let secrets = Secrets::new(
            &map(&[("API_KEY", "abcd"), ("my_token", "abcdefgh"), ("NODE_ENV", "production"), ("KEY", "x")]),
            &map(&[("Authorization", "Bearer 12345")]),
        );
        let value = json!({ "abcdefgh": ["abcd in production", 7, "12345", "x"] });
        assert_eq!(secrets.hide_in(value), json!({ "[secret]": ["[secret] in production", 7, "[secret]", "x"] }));
        assert_eq!(secrets.hide("Bearer 12345"), "[secret]");
    }
}
