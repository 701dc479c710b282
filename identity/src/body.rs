//! What clients send: read within bounds of size and time, and taken field by field.
//!
//! A field that nobody asked for is refused, so nobody learns by trying whether `isAdmin` does
//! something. All faults of a kind are told at once.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use policy::strict;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, error::Category};

use crate::{
    config::Config,
    error::{BodyFault, Error},
};

/// The members of a body, to be taken one by one.
#[derive(Debug)]
pub struct Fields {
    members: Map<String, Value>,
    missing: Vec<String>,
    wrong: Vec<String>,
}

/// The kinds of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    Form,
}

/// What the headers say a body is.
///
/// # Errors
///
/// When it is neither JSON nor a form.
pub fn media(headers: &HeaderMap) -> Result<Media, BodyFault> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(Media::Json);
    }
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(Media::Form);
    }
    Err(BodyFault::Unreadable("the `Content-Type` is not supported here".to_owned()))
}

/// Read a JSON object.
///
/// # Errors
///
/// When it is something else, too large, or too slow in coming.
pub async fn json(config: &Config, headers: &HeaderMap, body: Body) -> Result<Fields, BodyFault> {
    if media(headers)? != Media::Json {
        let what = "the `Content-Type` must be `application/json`";
        return Err(BodyFault::Unreadable(what.to_owned()));
    }
    let bytes = read(config, body, config.max_body_bytes).await?;
    let members = strict::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    Ok(Fields::new(members))
}

/// Read JSON of a shape that is known, of that many bytes at the most.
///
/// # Errors
///
/// When it is something else, too large, or too slow in coming.
pub async fn whole<T: DeserializeOwned>(
    config: &Config,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<T, BodyFault> {
    if media(headers)? != Media::Json {
        let what = "the `Content-Type` must be `application/json`";
        return Err(BodyFault::Unreadable(what.to_owned()));
    }
    let bytes = read(config, body, most).await?;
    strict::from_slice(&bytes).map_err(|error| unreadable(&error))
}

/// Where the JSON stops being right, and in what way. The parser's own words may hold a piece of the
/// body, which may be a secret.
fn unreadable(error: &serde_json::Error) -> BodyFault {
    let what = match error.classify() {
        Category::Io => "it cannot be read",
        Category::Syntax => "it is not JSON",
        Category::Data => "it is another kind of JSON, or repeats a member",
        Category::Eof => "it ends too early",
    };
    let (line, column) = (error.line(), error.column());
    BodyFault::Unreadable(format!(
        "the body is no JSON object: {what}, at line {line}, column {column}"
    ))
}

/// Read a form.
///
/// # Errors
///
/// When it is something else, repeats a field, is too large, or too slow in coming.
pub async fn form(config: &Config, headers: &HeaderMap, body: Body) -> Result<Fields, BodyFault> {
    let mut members = Map::new();
    for (name, value) in pairs(config, headers, body).await? {
        if members.insert(name, Value::String(value)).is_some() {
            return Err(BodyFault::Unreadable("a field of the form stands twice".to_owned()));
        }
    }
    Ok(Fields::new(members))
}

/// Read a form in which a field may stand more than once.
///
/// # Errors
///
/// When it is something else, too large, or too slow in coming.
pub async fn pairs(
    config: &Config,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<(String, String)>, BodyFault> {
    if media(headers)? != Media::Form {
        let what = "the `Content-Type` must be `application/x-www-form-urlencoded`";
        return Err(BodyFault::Unreadable(what.to_owned()));
    }
    let bytes = read(config, body, config.max_body_bytes).await?;
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

async fn read(config: &Config, body: Body, most: usize) -> Result<Vec<u8>, BodyFault> {
    let patience = Duration::from_secs(config.read_timeout_secs);
    let read = tokio::time::timeout(patience, Limited::new(body, most).collect());
    match read.await {
        Err(_) => Err(BodyFault::TooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge(most)),
        Ok(Err(_)) => Err(BodyFault::Unreadable("the body was cut short".to_owned())),
    }
}

impl Fields {
    fn new(members: Map<String, Value>) -> Self {
        Self { members, missing: Vec::new(), wrong: Vec::new() }
    }

    /// All that are left, whatever they are.
    pub fn members(self) -> Map<String, Value> {
        self.members
    }

    /// Whether there is such a member, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Give members other names. One that would then stand twice is left to be found unexpected.
    pub fn rename(&mut self, names: &[(&str, &str)]) {
        for (from, to) in names {
            if !self.has(to)
                && let Some(value) = self.members.remove(*from)
            {
                self.members.insert((*to).to_owned(), value);
            }
        }
    }

    /// A text, if there is one. `null` is the same as nothing.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.wrong.push(name.to_owned());
                None
            }
        }
    }

    /// A text, if something is said; `null` says that there is none, as an empty text does.
    pub fn text_or_none(&mut self, name: &str) -> Option<String> {
        let none = self.members.get(name).is_some_and(Value::is_null);
        let text = self.text(name);
        if none { Some(String::new()) } else { text }
    }

    /// A text that must be there and not be empty. Where it is not, the fault is noted for
    /// [`Fields::finish`] and the text is empty.
    pub fn need_text(&mut self, name: &str) -> String {
        let noted = self.wrong.len();
        match self.text(name) {
            Some(text) if !text.is_empty() => text,
            _ => {
                if self.wrong.len() == noted {
                    self.missing.push(name.to_owned());
                }
                String::new()
            }
        }
    }

    /// Yes or no, if it is said.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => {
                self.wrong.push(name.to_owned());
                None
            }
        }
    }

    /// A whole number that is not negative, if it is said.
    pub fn number(&mut self, name: &str) -> Option<u64> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let number = value.as_u64();
                if number.is_none() {
                    self.wrong.push(name.to_owned());
                }
                number
            }
        }
    }

    /// An object, if there is one.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => Some(members),
            Some(_) => {
                self.wrong.push(name.to_owned());
                None
            }
        }
    }

    /// A list of texts, if there is one.
    pub fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let items = match self.members.remove(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.wrong.push(name.to_owned());
                return None;
            }
        };
        let texts: Option<Vec<String>> = items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect();
        if texts.is_none() {
            self.wrong.push(name.to_owned());
        }
        texts
    }

    /// A list of texts that must be there; it may be empty.
    pub fn need_texts(&mut self, name: &str) -> Vec<String> {
        let noted = self.wrong.len();
        self.texts(name).unwrap_or_else(|| {
            if self.wrong.len() == noted {
                self.missing.push(name.to_owned());
            }
            Vec::new()
        })
    }

    /// Say that all fields are taken.
    ///
    /// # Errors
    ///
    /// When a field is left that nobody took, one had the wrong type, or one was missing.
    pub fn finish(self) -> Result<(), BodyFault> {
        if !self.members.is_empty() {
            // A name is the client's own text: what is told back of it is short and printable.
            let name = |name: &String| name.chars().take(64).flat_map(char::escape_debug).collect();
            return Err(BodyFault::Unknown(self.members.keys().take(16).map(name).collect()));
        }
        if !self.wrong.is_empty() {
            return Err(BodyFault::WrongType(self.wrong));
        }
        if !self.missing.is_empty() {
            return Err(BodyFault::Missing(self.missing));
        }
        Ok(())
    }

    /// [`Fields::finish`] for the fields of a grant, whose absence has a refusal of its own.
    ///
    /// # Errors
    ///
    /// As [`Fields::finish`].
    pub fn finish_grant(self) -> Result<(), Error> {
        match self.finish() {
            Err(BodyFault::Missing(names)) => Err(Error::GrantFields(names)),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        let Value::Object(members) = value else { panic!("{value}") };
        Fields::new(members)
    }

    #[test]
    fn every_field_is_taken_or_told() {
        let mut good = fields(json!({"a": "x", "b": ["y"], "c": null}));
        assert_eq!(good.need_text("a"), "x");
        assert_eq!(good.need_texts("b"), ["y"]);
        assert_eq!(good.text("c"), None);
        assert!(good.finish().is_ok());

        let mut missing = fields(json!({"a": ""}));
        missing.need_text("a");
        missing.need_texts("b");
        assert_eq!(missing.finish().unwrap_err().to_string(), "the request lacks `a`, `b`");

        let mut wrong = fields(json!({"a": 1, "b": [1]}));
        wrong.need_text("a");
        wrong.need_texts("b");
        assert!(matches!(wrong.finish(), Err(BodyFault::WrongType(names)) if names == ["a", "b"]));

        let unknown = fields(json!({"isAdmin": true}));
        assert!(matches!(unknown.finish(), Err(BodyFault::Unknown(names)) if names == ["isAdmin"]));
    }
}
