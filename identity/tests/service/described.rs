//! The API's description, held against every answer that the tests get.

use std::sync::LazyLock;

use http::Method;
use serde_json::Value;

use super::harness::Answer;

/// What is served at `/openapi.json`.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap());

/// The template of the path that a request went to.
pub fn template(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap();
    let paths = DOCUMENT["paths"].as_object().unwrap().keys();
    let fits = |template: &&String| {
        let (mut ours, mut theirs) = (template.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(ours), Some(theirs)) if ours == theirs => {}
                (Some(ours), Some(theirs)) if ours.starts_with('{') && !theirs.is_empty() => {}
                _ => return false,
            }
        }
    };
    paths.filter(fits).min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

/// Check an answer: a status that is described, and a body in the shape that goes with it.
#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(template) = template(path) else { return };
    let method = match method.as_str() {
        "HEAD" => "get".to_owned(),
        other => other.to_lowercase(),
    };
    let operation = &DOCUMENT["paths"][template][&method];
    if operation.is_null() {
        assert!(
            matches!(answer.status.as_u16(), 204 | 405),
            "{method} {template} is not described"
        );
        assert!(answer.headers.contains_key("allow"), "{method} {template}");
        return;
    }
    let status = answer.status.as_str();
    let response = resolved(&operation["responses"][status]);
    let body = String::from_utf8_lossy(&answer.bytes);
    assert!(
        response.is_object(),
        "{method} {template} answers {status}, which its `#[utoipa::path]` does not tell: {body}"
    );
    let Some(kinds) = response["content"].as_object() else {
        assert!(body.is_empty(), "{method} {template} {status} has a body that is not described");
        return;
    };
    if body.is_empty() {
        // That of HEAD.
        return;
    }
    let kind = answer.headers["content-type"].to_str().unwrap().split(';').next().unwrap();
    assert!(kinds.contains_key(kind), "{method} {template} {status} is {kind}");
    if kind == "application/json" {
        let body = answer.json();
        if let Err(error) = fits(&kinds[kind]["schema"], &body) {
            panic!("{method} {template} {status} is not as described: {error}\n{body:#}");
        }
    }
}

/// What a reference points to.
pub fn resolved(part: &'static Value) -> &'static Value {
    match part["$ref"].as_str() {
        Some(place) => {
            DOCUMENT.pointer(&place[1..]).unwrap_or_else(|| panic!("{place} is nowhere"))
        }
        None => part,
    }
}

/// Check a value against a schema, in the words that this document uses. One that is not known here
/// stops the tests.
fn fits(schema: &'static Value, value: &Value) -> Result<(), String> {
    let Some(schema) = resolved(schema).as_object() else { return Ok(()) };
    let no = |what: &str| Err(format!("{value} {what}"));
    for (word, rule) in schema {
        let rules = || rule.as_array().unwrap().iter();
        match word.as_str() {
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    "null" => value.is_null(),
                    other => panic!("there is no type {other}"),
                };
                if !(if rule.is_array() { rules().any(is) } else { is(rule) }) {
                    return no(&format!("is not {rule}"));
                }
            }
            "enum" if !rules().any(|one| one == value) => return no(&format!("is none of {rule}")),
            "allOf" => rules().try_for_each(|one| fits(one, value))?,
            "oneOf" if rules().filter(|one| fits(one, value).is_ok()).count() != 1 => {
                return no("is not just one of the choices");
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|one| fits(rule, one))?;
            }
            "required" => {
                if let Some(name) = rules().find(|name| value.get(name.as_str().unwrap()).is_none())
                {
                    return no(&format!("lacks {name}"));
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |one| fits(rule, one))?;
                }
            }
            "additionalProperties" if rule.is_object() => {
                value.as_object().into_iter().flatten().try_for_each(|(_, one)| fits(rule, one))?;
            }
            // Those of what is sent, and words for people.
            "enum"
            | "oneOf"
            | "additionalProperties"
            | "minimum"
            | "maximum"
            | "minLength"
            | "maxLength"
            | "minItems"
            | "maxItems"
            | "uniqueItems"
            | "pattern"
            | "format"
            | "description"
            | "title"
            | "example"
            | "examples"
            | "default"
            | "propertyNames"
            | "deprecated" => {}
            other => {
                panic!("the tests do not know `{other}` in a schema; tell them in described.rs")
            }
        }
    }
    Ok(())
}
