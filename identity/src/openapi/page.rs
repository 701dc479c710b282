//! `GET /docs`: the description as a page. It is made from the document once; nothing in it runs, and
//! nothing is fetched for it.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{Html, IntoResponse, Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};
use serde_json::Value;

use super::DOCUMENT;

const STYLE: &str = include_str!("../../templates/docs.css");
static PAGE: LazyLock<Option<String>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(DOCUMENT).ok()?;
    Docs::of(&document).render().ok()
});
static HEADERS: LazyLock<[(HeaderName, HeaderValue); 5]> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'none'; frame-ancestors 'none'; \
         base-uri 'none'"
    );
    let policy =
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    [
        (CONTENT_SECURITY_POLICY, policy),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ]
});

/// This document, to be read.
#[utoipa::path(get, path = "/docs", tag = "operation", security(()),
    responses((status = 200, body = String, content_type = "text/html", description = "The page.")))]
pub async fn show() -> Response {
    (HEADERS.clone(), Html(PAGE.as_deref().unwrap_or_default())).into_response()
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs<'a> {
    style: &'static str,
    title: &'a str,
    version: &'a str,
    about: Vec<Prose<'a>>,
    groups: Vec<Group<'a>>,
    shapes: Vec<Shape<'a>>,
}

/// A piece of text; code stands out.
struct Prose<'a> {
    code: bool,
    text: &'a str,
}

struct Group<'a> {
    name: &'a str,
    about: Vec<Prose<'a>>,
    operations: Vec<Operation<'a>>,
}

struct Operation<'a> {
    id: &'a str,
    method: String,
    path: &'a str,
    summary: Vec<Prose<'a>>,
    about: Vec<Prose<'a>>,
    access: &'static str,
    parameters: Vec<Field<'a>>,
    bodies: Vec<Body<'a>>,
    responses: Vec<Answer<'a>>,
}

struct Body<'a> {
    media: &'a str,
    kind: Kind<'a>,
}

struct Answer<'a> {
    status: &'a str,
    about: Vec<Prose<'a>>,
    bodies: Vec<Body<'a>>,
}

struct Shape<'a> {
    name: &'a str,
    about: Vec<Prose<'a>>,
    fields: Vec<Field<'a>>,
    /// Where it is one of several others.
    choices: Vec<Kind<'a>>,
    closed: bool,
}

struct Field<'a> {
    name: &'a str,
    place: &'a str,
    needed: bool,
    kind: Kind<'a>,
    about: Vec<Prose<'a>>,
    example: Option<String>,
}

/// What a value is: words, and the name of a shape that is told elsewhere.
struct Kind<'a> {
    words: String,
    shape: Option<&'a str>,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn prose(text: &str) -> Vec<Prose<'_>> {
    let pieces = text.split('`').enumerate();
    pieces.map(|(at, text)| Prose { code: at % 2 == 1, text }).collect()
}

impl<'a> Docs<'a> {
    fn of(document: &'a Value) -> Self {
        let tags = document["tags"].as_array().into_iter().flatten();
        let groups = tags
            .map(|tag| {
                let name = text(tag, "name");
                let operations = operations(document).filter(|(.., one)| one["tags"][0] == name);
                let operations = operations
                    .map(|(path, method, one)| Operation::of(document, path, method, one));
                let about = prose(text(tag, "description"));
                Group { name, about, operations: operations.collect() }
            })
            .collect();
        let shapes = document["components"]["schemas"].as_object().into_iter().flatten();
        Self {
            style: STYLE,
            title: text(&document["info"], "title"),
            version: text(&document["info"], "version"),
            about: prose(text(&document["info"], "description")),
            groups,
            shapes: shapes.map(|(name, schema)| Shape::of(name, schema)).collect(),
        }
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    const ORDER: [&str; 5] = ["get", "post", "put", "patch", "delete"];
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        ORDER.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(*method)?)))
    })
}

impl<'a> Operation<'a> {
    fn of(document: &'a Value, path: &'a str, method: &str, operation: &'a Value) -> Self {
        let schemes = operation["security"].as_array().into_iter().flatten();
        let open =
            schemes.clone().any(|one| one.as_object().is_some_and(serde_json::Map::is_empty));
        let has = |name: &str| schemes.clone().any(|one| one.get(name).is_some());
        let access = match (has("bearer"), has("client"), open) {
            (true, ..) => "a token",
            (_, true, _) => "a client",
            _ => "anybody",
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let responses = operation["responses"].as_object().into_iter().flatten();
        Self {
            id: text(operation, "operationId"),
            method: method.to_uppercase(),
            path,
            summary: prose(text(operation, "summary")),
            about: prose(text(operation, "description")),
            access,
            parameters: parameters
                .map(|one| Field {
                    name: text(one, "name"),
                    place: text(one, "in"),
                    needed: one["required"] == true,
                    kind: Kind::of(&one["schema"]),
                    about: prose(text(one, "description")),
                    example: example(one).or_else(|| example(&one["schema"])),
                })
                .collect(),
            bodies: bodies(&operation["requestBody"]),
            responses: responses
                .map(|(status, one)| {
                    let one = resolved(document, one);
                    Answer { status, about: prose(text(one, "description")), bodies: bodies(one) }
                })
                .collect(),
        }
    }
}

/// What a reference points to.
fn resolved<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let place = part["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(part)
}

fn bodies(of: &Value) -> Vec<Body<'_>> {
    let content = of["content"].as_object().into_iter().flatten();
    content.map(|(media, one)| Body { media, kind: Kind::of(&one["schema"]) }).collect()
}

fn example(of: &Value) -> Option<String> {
    of.get("example").map(Value::to_string)
}

impl<'a> Shape<'a> {
    fn of(name: &'a str, schema: &'a Value) -> Self {
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let properties = std::iter::once(schema).chain(parts.clone()).flat_map(|part| {
            let needed = part["required"].as_array();
            let properties = part["properties"].as_object().into_iter().flatten();
            properties.map(move |(name, one)| Field {
                name,
                place: "",
                needed: needed.is_some_and(|names| names.iter().any(|needed| needed == name)),
                kind: Kind::of(one),
                about: prose(text(one, "description")),
                example: example(one),
            })
        });
        let of_others = parts.filter(|part| part.get("$ref").is_some());
        let choices = schema["oneOf"].as_array().into_iter().flatten().chain(of_others);
        Self {
            name,
            about: prose(text(schema, "description")),
            fields: properties.collect(),
            choices: choices.map(Kind::of).collect(),
            closed: schema["additionalProperties"] == false,
        }
    }
}

impl<'a> Kind<'a> {
    fn of(schema: &'a Value) -> Self {
        if let Some(name) = schema["$ref"].as_str() {
            return Self { words: String::new(), shape: name.rsplit('/').next() };
        }
        if let Some(first) = schema["allOf"].get(0) {
            return Self::of(first);
        }
        if let Some(items) = schema.get("items") {
            let Self { words, shape } = Self::of(items);
            return Self { words: format!("list of {words}"), shape };
        }
        let types = match &schema["type"] {
            Value::Array(types) => {
                let types = types.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                types.collect::<Vec<_>>().join(" or ")
            }
            Value::String(kind) => kind.clone(),
            _ => "any".to_owned(),
        };
        let mut words = types;
        if let Some(format) = schema["format"].as_str().filter(|format| *format != "int64") {
            words = format!("{words}, {format}");
        }
        for (name, told) in [
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("minLength", "length at least"),
            ("maxLength", "length at most"),
            ("maxItems", "items at most"),
        ] {
            if let Some(bound) = schema[name].as_u64().filter(|bound| *bound > 0) {
                words = format!("{words}, {told} {bound}");
            }
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            words = format!("{words}, {pattern}");
        }
        Self { words, shape: None }
    }
}
