//! Reading JSON more strictly than derived code does.
//!
//! - Of two equal keys, JSON readers usually keep the last. In a plan that would silently drop an argument that
//!   somebody has written, or let one reader see another plan than the next: it is an error here.
//! - Derived code takes a list for a struct, its items for the fields in the order of their declaration. No plan is
//!   meant that way.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads any value. Use as `#[serde(deserialize_with = "strict::value")]`.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    StrictValue::deserialize(deserializer).map(|value| value.0)
}

/// Reads a text that is one value.
#[cfg(feature = "llm")]
pub(crate) fn from_str(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).map(|StrictValue(value)| value)
}

/// Reads a map. Use as `#[serde(deserialize_with = "strict::map")]`.
pub(crate) fn map<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(MapVisitor(PhantomData))
}

/// Reads a list of structs. Use as `#[serde(deserialize_with = "strict::objects")]`.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<Arc<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Vec::<Shared<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// Reads a struct or a null. Use as `#[serde(deserialize_with = "strict::optional_object")]`.
pub(crate) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// Reads a whole number that is not 0.
pub(crate) fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    NonZeroU32::deserialize(deserializer).map(NonZeroU32::get)
}

/// As [`at_least_one`], or a null.
pub(crate) fn optional_at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<NonZeroU64>::deserialize(deserializer)?.map(NonZeroU64::get))
}

/// Reads text straight into shared memory, where derived code would copy it twice.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    deserializer.deserialize_str(TextVisitor)
}

/// As [`text`], or a null.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    deserializer.deserialize_option(OptionalTextVisitor)
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Arc<str>, E> {
        Ok(text.into())
    }
}

struct OptionalTextVisitor;

impl<'de> Visitor<'de> for OptionalTextVisitor {
    type Value = Option<Arc<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        text(deserializer).map(Some)
    }
}

/// A struct that is written as an object and in no other way.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// As [`Object`], shared as soon as it is read: steps are large, and moving them about would show.
struct Shared<T>(Arc<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Arc::new).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries))
    }
}

fn doubled<E: Error>(key: &str) -> E {
    E::custom(format_args!("the key `{key}` comes twice"))
}

struct MapVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(doubled(&key));
            }
            map.insert(key, entries.next_value()?);
        }
        Ok(map)
    }
}

struct StrictValue(Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        value(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format_args!("{value} is not a number in JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(StrictValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(doubled(&key));
            }
            let StrictValue(value) = entries.next_value()?;
            map.insert(key, value);
        }
        match map.values().next() {
            // With some of its features, serde_json has numbers come as a map of a key of its own. Only it knows which.
            Some(Value::String(_)) if map.len() == 1 => Value::deserialize(Value::Object(map)).map_err(Error::custom),
            _ => Ok(map.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json};

    use crate::plan::Plan;

    #[test]
    fn reads_what_serde_json_reads() {
        let text =
            r#"{"a": [1, -2, 3.5, "x\u00e9", true, null, 18446744073709551615], "b": {"c": {}, "d": {"e": "f"}}}"#;
        assert_eq!(
            super::value(&mut serde_json::Deserializer::from_str(text)).unwrap(),
            from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn lists_are_not_taken_for_objects() {
        for text in [r#"{"steps": [["a"]]}"#, r#"{"steps": [{"id": "a", "retry": [3]}]}"#] {
            let error = from_str::<Plan>(text).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence, expected an object"), "{error}");
        }
        assert!(from_str::<Plan>(r#"{"steps": [{"id": "a", "retry": null}]}"#).is_ok());
    }

    #[test]
    fn no_key_comes_twice() {
        for text in [
            r#"{"steps": [], "steps": []}"#,
            r#"{"steps": [{"id": "a", "id": "b"}]}"#,
            r#"{"steps": [{"id": "a", "args": {"x": 1, "x": 1}}]}"#,
            r#"{"steps": [{"id": "a", "args": [{"y": {"x": 1, "\u0078": 2}}]}]}"#,
            r#"{"steps": [{"id": "a", "uses": {"gpu": 1, "gpu": 1}}]}"#,
            r#"{"steps": [], "pools": {"gpu": 1, "gpu": 1}}"#,
        ] {
            assert!(from_str::<Plan>(text).is_err(), "{text}");
        }
        let plan: Plan = from_str(r#"{"steps": [{"id": "a", "args": {"x": {"x": 1}}}]}"#).unwrap();
        assert_eq!(plan.steps[0].args, json!({ "x": { "x": 1 } }));
    }
}
