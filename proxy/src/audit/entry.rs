//! What the members of a record are, in their order.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use policy::{
    model::{
        caller::{Authentication, Principal, Subject},
        decision::{Decision, Revision},
    },
    store::access::Asked as Put,
};

use super::{
    Asked, DecisionId, Question, Several,
    line::Line,
    mask::{About, Mask, Shown, Value},
    micros,
};
use crate::{refusal::Why, trace};

/// What a question brings along is kept in its record up to this many bytes.
const MOST_BROUGHT: usize = 8 * 1024;

/// A list, written with spaces between.
pub struct Spaced<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Spaced<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, item) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// The trace that the request is part of, if it is part of one.
pub fn traced(line: &mut Line<'_>) {
    if let Some(id) = trace::id() {
        line.shown("trace_id", id);
    }
}

/// A path, or where its parameters are masked, the template that it matches.
pub fn path<'a>(mask: Option<&Mask>, path: &'a str, route: Option<&'a str>) -> &'a str {
    if mask.is_some_and(|mask| mask.parameters) { route.unwrap_or("-") } else { path }
}

/// What a question to a store brought along, unless it is large, or may name who is masked.
pub fn brought(line: &mut Line<'_>, mask: Option<&Mask>, put: &Put) {
    let context = put.context.as_object().is_some_and(|context| !context.is_empty());
    let context = context.then(|| put.context.to_string());
    let entities = (!put.entities.is_empty())
        .then(|| serde_json::Value::from(put.entities.clone()).to_string());
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let length = length(&context) + length(&entities);
    if length > MOST_BROUGHT || (length > 0 && mask.is_some()) {
        return line.yes("cut");
    }
    line.some("context", context.as_deref());
    line.some("entities", entities.as_deref());
}

impl Asked<'_> {
    /// What every record ends with.
    pub(super) fn end(&self, line: &mut Line<'_>, mask: Option<&Mask>) {
        if let Some(peer) = &self.peer {
            line.shown("peer", Shown(mask, peer));
        }
        if let Some(asker) = self.asker {
            line.shown("asker", Shown(mask, asker));
        }
        if let Some(about) = self.about {
            line.shown("about", About(mask, about));
        }
        line.text("request_id", self.request_id);
        traced(line);
        line.number("micros", micros(self.took));
    }
}

/// A record in the making.
pub struct Entry<'a> {
    pub verdict: &'static str,
    pub message: &'static str,
    pub id: DecisionId,
    pub revision: Revision,
    pub product: Option<&'a str>,
    pub principal: Option<&'a Principal>,
    pub permission: Option<&'a str>,
    pub decision: Option<&'a Decision>,
    pub question: Option<Question<'a>>,
    pub why: Option<&'a Why>,
}

impl Entry<'_> {
    /// Write it.
    pub fn compose(&self, asked: &Asked<'_>, line: &mut Line<'_>, mask: Option<&Mask>) {
        line.text("verdict", self.verdict);
        line.text("door", asked.door);
        line.some("reason", self.why.map(Why::word));
        match self.why {
            Some(Why::BadToken(error)) => line.shown("detail", error),
            Some(Why::NotCanonical(error)) => line.shown("detail", error),
            Some(Why::Headers(what)) => line.text("detail", what),
            _ => {}
        }
        line.shown("id", self.id);
        line.number("revision", self.revision.0);
        line.some("product", self.product);
        if let Some(principal) = self.principal {
            line.shown("principal", Shown(mask, principal));
        }
        line.text("method", asked.method);
        line.text("path", path(mask, asked.path, asked.route));
        line.some("permission", self.permission);
        match self.question.and_then(|question| question.several) {
            None => {}
            Some(Several::All(names)) => line.text("needs", names),
            Some(Several::Any(names)) => line.text("any_of", names),
        }
        line.shown("policies", Spaced(self.decision.map_or(&[][..], |d| d.policies.as_slice())));
        if let Some(decision) = self.decision {
            line.number("errors", decision.errors.len() as u64);
        }
        if let Some(question) = &self.question {
            question.compose(line, mask);
        }
        if let Some(client) = &asked.client {
            line.shown("client", Shown(mask, client));
        }
        asked.end(line, mask);
    }
}

impl Question<'_> {
    fn compose(&self, line: &mut Line<'_>, mask: Option<&Mask>) {
        let Subject { groups, roles, .. } = self.subject;
        if !groups.is_empty() {
            line.shown("groups", Spaced(groups));
        }
        if !roles.is_empty() {
            line.shown("roles", Spaced(roles));
        }
        let Authentication { acr, amr, auth_time } = self.authentication;
        line.some("acr", acr.as_deref());
        if !amr.is_empty() {
            line.shown("amr", Methods(amr));
        }
        if let Some(time) = auth_time {
            line.number("auth_time", *time);
        }
        if !self.parameters.is_empty() {
            line.shown("parameters", Form(mask, self.parameters));
        }
        line.number("now", self.now);
    }
}

/// What stands in a list of methods or a form for itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'=').add(b'+');

/// Ways of signing in.
struct Methods<'a>(&'a [String]);

impl fmt::Display for Methods<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, method) in self.0.iter().enumerate() {
            let space = if n > 0 { " " } else { "" };
            write!(f, "{space}{}", utf8_percent_encode(method, ENCODED))?;
        }
        Ok(())
    }
}

/// Names and values.
struct Form<'a>(Option<&'a Mask>, &'a [(String, String)]);

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, value)) in self.1.iter().enumerate() {
            let and = if n > 0 { "&" } else { "" };
            let encoded = |text| utf8_percent_encode(text, ENCODED);
            write!(f, "{and}{}=", encoded(name))?;
            match Value(self.0, value).masked() {
                Some(masked) => masked.fmt(f)?,
                None => encoded(value).fmt(f)?,
            }
        }
        Ok(())
    }
}
