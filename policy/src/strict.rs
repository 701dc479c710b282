//! JSON with one reading: a member that stands twice is an error, at any depth.
//!
//! Two parsers that meet a repeated member may each take another one, and what one checked the
//! other then uses (RFC 8259, section 4). Everything that decides anything is read through here.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Read JSON of a known shape.
///
/// # Errors
///
/// When the text is not JSON, repeats a member, nests too deeply, or has another shape.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let Strict(value) = serde_json::from_slice(bytes)?;
    serde_json::from_value(value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(Value::Bool(v))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(Value::Number(v.into()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(Value::Number(v.into()))
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
                let number =
                    Number::from_f64(v).ok_or_else(|| E::custom("a number out of range"))?;
                Ok(Value::Number(number))
            }

            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(Value::String(v.to_owned()))
            }

            fn visit_string<E>(self, v: String) -> Result<Value, E> {
                Ok(Value::String(v))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(Strict(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
                    if members.contains_key(&name) {
                        let name: String = name.chars().take(64).collect();
                        return Err(A::Error::custom(format!("the member {name:?} stands twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Value::Object(members))
            }
        }

        deserializer.deserialize_any(Any).map(Strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_repeated_member_is_refused_at_any_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":[{"c":1,"c":2}]}}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1} {"#,
            "",
            "{",
        ] {
            assert!(from_slice::<Value>(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(from_slice::<Value>(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_has_no_repeated_member_reads_as_ever(text in r#"[\[\]{}a-c0-9",: .e-]{0,40}"#) {
            let plain: Result<Value, _> = serde_json::from_str(&text);
            let strict = from_slice::<Value>(text.as_bytes());
            if let Ok(strict) = strict {
                prop_assert_eq!(Some(strict), plain.ok());
            }
        }
    }
}
