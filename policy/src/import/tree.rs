//! A YAML or JSON document as a tree whose every value knows its line. JSON is read as the YAML it
//! is: one reader, one kind of place.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::Source;
use crate::complaint::{Complaints, Place};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Text, Node)>),
}

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// A text, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub text: String,
    pub place: Place,
}

impl Node {
    /// Read a document.
    ///
    /// # Errors
    ///
    /// When it is none, or says a thing twice; with the place.
    pub fn parse(source: &Source) -> Result<Self, Complaints> {
        Self::read(source, serde_saphyr::Options::default())
    }

    /// Read a document of many entries, such as everybody of an organization: up to four million values.
    ///
    /// # Errors
    ///
    /// As [`Node::parse`].
    pub fn parse_large(source: &Source) -> Result<Self, Complaints> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 16_000_000,
                max_nodes: 4_000_000,
            },
        };
        Self::read(source, options)
    }

    fn read(source: &Source, options: serde_saphyr::Options) -> Result<Self, Complaints> {
        let raw: Result<Spanned<Raw>, _> =
            serde_saphyr::from_str_with_options(&source.text, options);
        let raw = raw.map_err(|error| {
            let place = error.location().map_or(Place::file(Arc::clone(&source.file)), |at| {
                place(&source.file, at.line(), at.column())
            });
            let text = error.without_snippet().to_string();
            let line = text.lines().find(|line| !line.trim().is_empty());
            // Advice to programmers, and the place over again, are no news to the reader.
            let line = line.and_then(|line| line.split(", set ").next()).unwrap_or("not YAML");
            place.complain(line.split(" at line ").next().unwrap_or(line).trim())
        })?;
        Ok(Self::placed(&source.file, raw))
    }

    /// A document that was read as JSON already; nothing in it has a place.
    pub fn of_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;

        let nowhere = || Place::file("");
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => Value::Number(number.to_string()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::of_json).collect()),
            Json::Object(members) => {
                let entry = |(key, value): (&String, &Json)| {
                    (Text { text: key.clone(), place: nowhere() }, Self::of_json(value))
                };
                Value::Map(members.iter().map(entry).collect())
            }
        };
        Self { value, place: nowhere() }
    }

    fn placed(file: &Arc<str>, raw: Spanned<Raw>) -> Self {
        let at = place(file, raw.referenced.line(), raw.referenced.column());
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(bool) => Value::Bool(bool),
            Raw::Number(number) => Value::Number(number),
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| Self::placed(file, item)).collect())
            }
            Raw::Map(entries) => {
                let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                    let at = place(file, key.referenced.line(), key.referenced.column());
                    (Text { text: key.value, place: at }, Self::placed(file, value))
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Self { value, place: at }
    }

    /// A member of a mapping. A member that is `null` is not there.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let (_, node) = self.entries().iter().find(|(key, _)| key.text == name)?;
        (node.value != Value::Null).then_some(node)
    }

    /// The members of a mapping, in the order of the file; of anything else, none.
    pub fn entries(&self) -> &[(Text, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; of anything else, none.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The text that it is.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The truth that it is.
    pub fn bool(&self) -> Option<bool> {
        if let Value::Bool(bool) = &self.value { Some(*bool) } else { None }
    }

    /// The whole number that it is.
    pub fn number(&self) -> Option<u64> {
        if let Value::Number(number) = &self.value { number.parse().ok() } else { None }
    }

    /// Whether it is a mapping.
    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// Whether there is nothing in it: `null`, or an empty text, list or mapping.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// What kind of value it is, as a complaint names it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

fn place(file: &Arc<str>, line: u64, column: u64) -> Place {
    let small = |n: u64| u32::try_from(n).unwrap_or(0);
    Place { file: Arc::clone(file), line: small(line), column: small(column) }
}

enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(v))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
                Ok(Raw::Number(v.to_string()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
                Ok(Raw::Number(v.to_string()))
            }

            fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
                Ok(Raw::Number(v.to_string()))
            }

            fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
                Ok(Raw::Text(v.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, Complaints> {
        Node::parse(&Source { file: "f".into(), text: text.to_owned() })
    }

    #[test]
    fn every_value_knows_its_place() {
        for text in [
            "value: {a: 1}\n200: [x, null, true]\nother: ''\n",
            "{\"value\": {\"a\": 1},\n\"200\": [\"x\", null, true],\n\t\"other\": \"\"}",
        ] {
            let node = parse(text).unwrap();
            let keys: Vec<&str> = node.entries().iter().map(|(key, _)| &*key.text).collect();
            assert_eq!(keys, ["value", "200", "other"], "{text}");
            assert_eq!(node.get("value").unwrap().get("a").unwrap().number(), Some(1));
            let list = node.get("200").unwrap();
            assert_eq!(list.place.line, 2, "{text}");
            assert_eq!(list.items()[0].text(), Some("x"));
            assert_eq!(list.items()[1].value, Value::Null);
            assert_eq!(list.items()[2].bool(), Some(true));
            assert_eq!(node.entries()[2].0.place.line, 3);
        }
    }

    #[test]
    fn what_is_no_document_or_says_a_thing_twice_is_told() {
        for text in ["a: [", "{\"a\": 1, \"a\": 2}", "a: 1\na: 2\n"] {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.starts_with("f:"), "{told}");
        }
    }
}
