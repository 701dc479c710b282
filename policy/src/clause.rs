//! A hand-written policy taken apart, in its author's own words: which of its clauses hold?
//!
//! The parts of its scope, then what stands between the `&&` of a `when` and between the `||` of an
//! `unless`, in the order that Cedar evaluates them. Each becomes a policy of its own for Cedar to
//! evaluate, so nothing here knows what an expression means.

use std::fmt;

use cedar_policy::{Authorizer, Entities, Policy, PolicySet, Request};

/// Which part of a policy a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Principal,
    Action,
    Resource,
    When,
    Unless,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "principal",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::When => "when",
            Self::Unless => "unless",
        })
    }
}

/// One of the things that must hold for a policy to hold.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    pub part: Part,
    /// Its source, on one line and without comments.
    pub text: String,
    test: PolicySet,
}

/// Whether a clause holds, as far as a policy's effect goes: an `unless` holds when its expression
/// is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
    Failed(String),
}

impl Clause {
    fn new(part: Part, text: &str) -> Option<Self> {
        let text = text.trim();
        let source = match part {
            Part::Principal => format!("permit ({text}, action, resource);"),
            Part::Action => format!("permit (principal, {text}, resource);"),
            Part::Resource => format!("permit (principal, action, {text});"),
            Part::When | Part::Unless => {
                format!("permit (principal, action, resource) {part} {{ {text} }};")
            }
        };
        let policy = Policy::parse(None, &source).ok()?;
        let test = PolicySet::from_policies([policy]).ok()?;
        Some(Self { part, text: text.to_owned(), test })
    }

    /// Ask Cedar.
    pub(crate) fn held(&self, request: &Request, entities: &Entities) -> Held {
        let response = Authorizer::new().is_authorized(request, &self.test, entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Held::Failed(why(&error.to_string()));
        }
        match response.diagnostics().reason().next() {
            Some(_) => Held::Yes,
            None => Held::No,
        }
    }

    /// Itself, as a policy that permits where it holds.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.test.policies()
    }

    /// Whether it says anything: `principal` alone does not.
    pub(crate) fn says_something(&self) -> bool {
        !matches!(self.text.as_str(), "principal" | "action" | "resource")
    }
}

/// Cedar's own words about what failed, without the name of a policy that nobody wrote.
fn why(error: &str) -> String {
    error.split_once("`: ").map_or(error, |(_, why)| why).to_owned()
}

/// The clauses of a policy's text, and its conditions as they are written.
pub(crate) fn clauses(text: &str) -> Vec<Clause> {
    let text = plain(text);
    let Some((scope, mut rest)) = scope(&text) else { return Vec::new() };
    let parts = [Part::Principal, Part::Action, Part::Resource];
    let mut clauses: Vec<Clause> = parts
        .into_iter()
        .zip(split(scope, ","))
        .filter_map(|(part, text)| Clause::new(part, text))
        .collect();
    while let Some(open) = rest.find('{') {
        let part = if rest.trim_start().starts_with("unless") { Part::Unless } else { Part::When };
        let close = end_of_group(rest, open);
        let body = rest[open + 1..close].trim();
        clauses.extend(pieces(part, body));
        rest = rest.get(close + 1..).unwrap_or_default();
    }
    clauses
}

/// The conditions of a policy's text, on one line; empty where it has none.
pub(crate) fn conditions(text: &str) -> String {
    let text = plain(text);
    let rest = scope(&text).map_or("", |(_, rest)| rest);
    rest.trim().trim_end_matches(';').trim().to_owned()
}

/// The clauses of one condition, in order; the condition as a whole where it is no row of them.
fn pieces(part: Part, body: &str) -> Vec<Clause> {
    let whole = || Clause::new(part, body).into_iter().collect();
    if begins_with_if(body) {
        return whole();
    }
    let either = split(body, "||");
    let pieces = match part {
        Part::Unless => either,
        _ if either.len() > 1 => return whole(),
        _ => split(body, "&&"),
    };
    let clauses: Option<Vec<Clause>> =
        pieces.iter().map(|piece| Clause::new(part, piece)).collect();
    clauses.unwrap_or_else(whole)
}

fn begins_with_if(body: &str) -> bool {
    body.strip_prefix("if").is_some_and(|rest| rest.starts_with([' ', '(']))
}

/// What stands between the parentheses of the scope, and what follows them.
fn scope(text: &str) -> Option<(&str, &str)> {
    let mut rest = text.trim_start();
    while let Some(annotation) = rest.strip_prefix('@') {
        let name = annotation.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        rest = annotation[name..].trim_start();
        if rest.starts_with('(') {
            rest = rest.get(end_of_group(rest, 0) + 1..)?.trim_start();
        }
    }
    let open = rest.find('(')?;
    let close = end_of_group(rest, open);
    Some((rest.get(open + 1..close)?, rest.get(close + 1..)?))
}

/// A text's bytes that are not in strings, each with how deep in brackets it stands; an opening and
/// a closing bracket stand at the depth around them.
pub(crate) fn outside_strings(text: &str) -> impl Iterator<Item = (usize, u8, usize)> + '_ {
    let (mut string, mut escaped, mut depth) = (false, false, 0_usize);
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        if string {
            string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return None;
        }
        match byte {
            b'"' => string = true,
            b'(' | b'[' | b'{' => {
                depth += 1;
                return Some((at, byte, depth - 1));
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        Some((at, byte, depth))
    })
}

/// Where the bracket that opens there closes.
fn end_of_group(text: &str, open: usize) -> usize {
    outside_strings(&text[open..])
        .find(|(at, byte, depth)| *at > 0 && *depth == 0 && matches!(byte, b')' | b']' | b'}'))
        .map_or(text.len(), |(at, ..)| open + at)
}

/// Part a text where a separator stands outside brackets and strings; an empty last part is none.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let cuts: Vec<usize> = outside_strings(text)
        .filter(|(at, _, depth)| {
            *depth == 0 && text.as_bytes()[*at..].starts_with(separator.as_bytes())
        })
        .map(|(at, ..)| at)
        .collect();
    let mut parts = Vec::new();
    let mut start = 0;
    for cut in cuts {
        parts.push(text[start..cut].trim());
        start = cut + separator.len();
    }
    let last = text[start..].trim();
    parts.extend((!last.is_empty()).then_some(last));
    parts
}

/// Without comments, and with one space for any white space outside strings.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut string = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if string => {
                plain.push(letter);
                plain.extend(letters.next());
                continue;
            }
            '"' => string = !string,
            '/' if !string && letters.peek() == Some(&'/') => {
                while letters.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            _ => {}
        }
        if letter.is_whitespace() && !string {
            if !plain.ends_with(' ') {
                plain.push(' ');
            }
        } else {
            plain.push(letter);
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(policy: &str) -> Vec<String> {
        assert!(Policy::parse(None, policy).is_ok(), "{policy}");
        clauses(policy)
            .iter()
            .filter(|clause| clause.says_something())
            .map(|clause| format!("{} {}", clause.part, clause.text))
            .collect()
    }

    #[test]
    fn a_policy_is_its_clauses() {
        for (policy, expected) in [
            ("permit (principal, action, resource);", vec![]),
            (
                "@id(\"a(\") @permit forbid (principal is User in Group::\"a,b\",\n action in [A::Action::\"x\", A::Action::\"y\"], resource,);",
                vec![
                    "principal principal is User in Group::\"a,b\"",
                    "action action in [A::Action::\"x\", A::Action::\"y\"]",
                ],
            ),
            (
                "permit (principal, action, resource) when { context.a && // no && here\n (context.b || context.c) && context.d == \"&& \\\" }\" };",
                vec![
                    "when context.a",
                    "when (context.b || context.c)",
                    "when context.d == \"&& \\\" }\"",
                ],
            ),
            (
                "permit (principal, action, resource) when { context.a && context.b || context.c } unless { context.d && context.e || {x: true}.x };",
                vec![
                    "when context.a && context.b || context.c",
                    "unless context.d && context.e",
                    "unless {x: true}.x",
                ],
            ),
            (
                "permit (principal, action, resource) when { if context.a && context.b then true else context.c && context.d };",
                vec!["when if context.a && context.b then true else context.c && context.d"],
            ),
        ] {
            assert_eq!(texts(policy), expected);
        }
    }

    #[test]
    fn conditions_are_told_as_they_are_written() {
        let policy = "@id(\"x\")\npermit (principal, action, resource)\nwhen { context.a } // why\nunless { context.b };";
        assert_eq!(conditions(policy), "when { context.a } unless { context.b }");
        assert_eq!(conditions("permit (principal, action, resource);"), "");
    }
}
