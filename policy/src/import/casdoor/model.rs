//! What a casbin model means, if it is one of those whose meaning can be carried over: subjects with
//! roles, objects and actions compared as they stand, `*` perhaps standing for any, a deny perhaps
//! winning.

use std::collections::BTreeSet;

/// What matters of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    /// `*` as a rule's object stands for any.
    pub any_object: bool,
    /// `*` as a rule's action stands for any.
    pub any_action: bool,
    /// A rule that denies wins. Otherwise it has no effect at all.
    pub denies: bool,
}

/// The model of the original's two enforcers, for rules that come with none. A deny is taken at its
/// word there.
pub(super) const ORIGINAL: Model = Model { any_object: true, any_action: true, denies: true };

/// Casdoor's own, for permissions that name none.
pub(super) const DEFAULT: Model = Model { any_object: false, any_action: false, denies: true };

/// Read a model's text.
///
/// # Errors
///
/// The first thing in it that has no meaning here.
pub(super) fn read(text: &str) -> Result<Model, String> {
    let value = |section: &str, key: &str| {
        value(text, section, key).ok_or(format!("it has no `{key}` in `[{section}]`"))
    };
    let request = squeezed(&value("request_definition", "r")?);
    if request != "sub,obj,act" {
        return Err(format!("its requests are `{request}`, not `sub,obj,act`"));
    }
    let policy = squeezed(&value("policy_definition", "p")?);
    if !matches!(policy.as_str(), "sub,obj,act" | "sub,obj,act,eft") {
        return Err(format!("its rules are `{policy}`, not `sub,obj,act`"));
    }
    if let Ok(roles) = value("role_definition", "g")
        && squeezed(&roles) != "_,_"
    {
        return Err(format!("its roles are `{roles}`, not `_, _`"));
    }
    let denies = effect(&value("policy_effect", "e")?)?;
    let matcher = value("matchers", "m")?;
    let mut model = Model { any_object: false, any_action: false, denies };
    let mut seen = BTreeSet::new();
    for part in parts(&squeezed(&matcher), "&&") {
        let what = match conjunct(part) {
            Some((what, any)) if seen.insert(what) => {
                model.any_object |= what == "obj" && any;
                model.any_action |= what == "act" && any;
                continue;
            }
            _ => part,
        };
        return Err(format!("its matcher has `{what}`, which has no like here"));
    }
    match seen.len() {
        3 => Ok(model),
        _ => Err("its matcher does not look at subject, object and action".to_owned()),
    }
}

fn effect(text: &str) -> Result<bool, String> {
    const ALLOW: &str = "some(where(p.eft==allow))";
    const NO_DENY: &str = "!some(where(p.eft==deny))";
    let text = squeezed(text);
    let parts: BTreeSet<&str> = parts(&text, "&&").into_iter().collect();
    if parts == BTreeSet::from([ALLOW]) {
        Ok(false)
    } else if parts == BTreeSet::from([ALLOW, NO_DENY]) {
        Ok(true)
    } else {
        Err(format!("its effect is `{text}`"))
    }
}

/// `sub`, `obj` or `act`, and whether `*` stands for any there.
fn conjunct(text: &str) -> Option<(&'static str, bool)> {
    let mut what = None;
    let mut any = false;
    let mut equal = false;
    for part in parts(text, "||") {
        let (which, star) = match part {
            "g(r.sub,p.sub)" | "r.sub==p.sub" | "p.sub==r.sub" => ("sub", false),
            "p.sub==\"*\"" | "\"*\"==p.sub" => ("sub", true),
            "r.obj==p.obj" | "p.obj==r.obj" => ("obj", false),
            "p.obj==\"*\"" | "\"*\"==p.obj" => ("obj", true),
            "r.act==p.act" | "p.act==r.act" => ("act", false),
            "p.act==\"*\"" | "\"*\"==p.act" => ("act", true),
            _ => return None,
        };
        if *what.get_or_insert(which) != which {
            return None;
        }
        any |= star;
        equal |= !star;
    }
    // Without `g` nobody holds a role.
    let roles = what != Some("sub") || parts(text, "||").contains(&"g(r.sub,p.sub)");
    what.filter(|_| equal && roles).map(|what| (what, any))
}

fn value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            here = name.trim() == section;
        } else if here
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

/// Without white space, and with one kind of quotes.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).map(|c| if c == '\'' { '"' } else { c }).collect()
}

/// The operands of an operator outside parentheses, each without parentheses around it.
fn parts<'t>(text: &'t str, operator: &str) -> Vec<&'t str> {
    let text = bare(text);
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= from && text[at..].starts_with(operator) => {
                parts.push(bare(&text[from..at]));
                from = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(bare(&text[from..]));
    parts
}

/// Without parentheses that enclose all of it.
fn bare(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) else {
        return text;
    };
    let mut depth = 0_i32;
    for c in inner.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth < 0 {
            return text;
        }
    }
    bare(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(effect: &str, matcher: &str) -> String {
        format!(
            "[request_definition]\nr = sub, obj, act\n\n[policy_definition]\np = sub, obj, act\n\n\
             [role_definition]\ng = _, _\n\n[policy_effect]\ne = {effect}\n\n[matchers]\nm = {matcher}"
        )
    }

    const ALLOW: &str = "some(where (p.eft == allow))";

    #[test]
    fn a_model_whose_meaning_is_known_is_read() {
        let read = |effect: &str, matcher: &str| read(&model(effect, matcher)).unwrap();
        let both = "some(where (p.eft == allow)) && !some(where (p.eft == deny))";
        assert_eq!(
            read(
                ALLOW,
                "g(r.sub, p.sub) && ( r.obj == p.obj || p.obj == '*' ) && (r.act == p.act || p.act == '*')"
            ),
            Model { any_object: true, any_action: true, denies: false }
        );
        assert_eq!(
            read(
                both,
                "(r.act == p.act && (p.obj == r.obj) && ((g(r.sub, p.sub) || p.sub == \"*\")))"
            ),
            Model { any_object: false, any_action: false, denies: true }
        );
    }

    #[test]
    fn a_model_of_another_meaning_is_refused() {
        for (effect, matcher) in [
            (ALLOW, "g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act"),
            (ALLOW, "g(r.sub, p.sub) && r.obj == p.obj"),
            (ALLOW, "r.sub == p.sub && r.obj == p.obj && r.act == p.act"),
            (ALLOW, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act || r.sub == \"root\""),
            (ALLOW, "g(r.sub, p.sub) && r.obj == p.obj && p.act == \"*\""),
            (ALLOW, "g(r.sub, p.sub) && (r.obj == p.obj || p.act == \"*\") && r.act == p.act"),
            (ALLOW, "g(r.sub, p.sub) && r.obj == p.obj && r.obj == p.obj && r.act == p.act"),
            ("!some(where (p.eft == deny))", "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"),
            ("priority(p.eft) || deny", "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"),
        ] {
            assert!(read(&model(effect, matcher)).is_err(), "{effect} {matcher}");
        }
        assert!(read("").is_err());
        let domains = model(ALLOW, "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act");
        assert!(read(&domains.replace("r = sub, obj", "r = sub, dom, obj")).is_err());
    }
}
