//! Cedar text in its one layout.
//!
//! Cedar's own formatter lays out each policy, with the comments that belong to it. What stands apart
//! between blank lines stays as its author wrote it: the head of a file, a policy that is commented
//! out, a file that is nothing but comments. No comment is ever lost; a text of which the formatter
//! would lose one is told and left alone.

use std::ops::Range;

use cedar_policy_formatter::{Config, policies_str_to_pretty};

use crate::{
    compile,
    complaint::{Complaints, Place},
    snapshot::PolicyText,
};

/// The text, laid out.
///
/// # Errors
///
/// When it does not parse, or the formatter does not keep what it says.
pub fn format(text: &PolicyText) -> Result<String, Complaints> {
    let mut complaints = Vec::new();
    if compile::parse(text, &mut complaints).is_none() {
        Complaints::unless(complaints, ())?;
    }
    let (policies, _) = compile::scan(&text.text);
    let mut blocks = Vec::new();
    let mut from = 0;
    for policy in &policies {
        let (apart, own) = part(&text.text[from..policy.start]);
        blocks.push(tidy(apart));
        let to = end_of_line(&text.text, policy.end);
        let start = policy.start - own.len();
        let laid_out = lay_out(&text.text[start..to])
            .map_err(|error| complaint(text, policy, &format!("cannot be formatted: {error}")))?;
        blocks.push(laid_out);
        from = to;
    }
    blocks.push(tidy(&text.text[from..]));
    blocks.retain(|block| !block.is_empty());
    let mut formatted = blocks.join("\n\n");
    if !formatted.is_empty() {
        formatted.push('\n');
    }
    match lost(comments(&text.text), comments(&formatted)) {
        None => Ok(formatted),
        Some(comment) => {
            let told = format!(
                "formatting would lose the comment `{comment}`; move it to a line of its own, above the policy"
            );
            Err(Place::file(text.file.clone()).complain(told).coded("format").into())
        }
    }
}

/// A comment that is not in both.
fn lost<'a>(mut before: Vec<&'a str>, mut after: Vec<&'a str>) -> Option<&'a str> {
    before.sort_unstable();
    after.sort_unstable();
    let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
    before.get(same).or(after.get(same)).copied()
}

fn lay_out(policy: &str) -> miette::Result<String> {
    policies_str_to_pretty(policy, &Config::default()).map(|text| text.trim().to_owned())
}

fn complaint(text: &PolicyText, policy: &Range<usize>, told: &str) -> Complaints {
    let place = Place::of_byte(&text.file, &text.text, policy.start);
    let told = told.lines().next().unwrap_or_default();
    place.complain(format!("the policy {told}; it is left as it is")).coded("format").into()
}

/// What stands before a policy: what a blank line parts from it, and what belongs to it.
fn part(before: &str) -> (&str, &str) {
    let mut own = before.len();
    // The last line may be the policy's own, indented.
    let lines = before.split_inclusive('\n').rev().skip(usize::from(!before.ends_with('\n')));
    let mut at = before.rfind('\n').map_or(0, |end| end + 1);
    for line in lines {
        if line.trim().is_empty() {
            break;
        }
        at -= line.len();
        own = at;
    }
    before.split_at(own.min(before.len()))
}

/// Lines as they are, without what nobody sees.
fn tidy(block: &str) -> String {
    let lines: Vec<&str> = block.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// A comment behind the semicolon belongs to the policy.
fn end_of_line(text: &str, from: usize) -> usize {
    let line = text[from..].lines().next().unwrap_or_default();
    if line.trim_start().starts_with("//") { from + line.len() } else { from }
}

fn comments(text: &str) -> Vec<&str> {
    let (_, comments) = compile::scan(text);
    comments.into_iter().map(|comment| text[comment].trim_end()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> Result<String, Complaints> {
        format(&PolicyText { file: "p.cedar".into(), product: None, text: text.into() })
    }

    #[test]
    fn a_policy_is_laid_out_and_its_comments_are_kept() {
        let text = "// The head.\r\n\r\n//   @id(\"off\")\n//   forbid (principal, action, resource);\n\n// About it.\n@id(\"x\") forbid(principal,action, // who\n resource) unless{context.mfa};// behind\npermit(principal,action,resource);\n   // last  \n\n\n";
        let once = formatted(text).unwrap();
        assert_eq!(
            once,
            "// The head.\n\n//   @id(\"off\")\n//   forbid (principal, action, resource);\n\n// About it.\n@id(\"x\")\nforbid (principal, action, // who\n  resource)\nunless { context.mfa }; // behind\n\npermit (principal, action, resource);\n\n   // last\n"
        );
        assert_eq!(formatted(&once).unwrap(), once);
    }

    #[test]
    fn what_is_no_policy_stays() {
        for text in ["", "// nothing yet\n", "// a\n\n//     b;\n\n\n// c\n"] {
            assert_eq!(formatted(text).unwrap(), text);
        }
    }

    #[test]
    fn what_does_not_parse_is_told() {
        let told = formatted("permit (principal\n  action, resource);").unwrap_err().to_string();
        assert!(told.starts_with("p.cedar:2:3: "), "{told}");
    }

    proptest::proptest! {
        /// Formatting twice is formatting once, and the policies stay what they are.
        #[test]
        fn formatting_is_settled_at_once(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "permit (principal, action, resource);",
                    "@id(\"a;//b\") forbid (principal,action,resource) when { context.a == \"x // y;\" && !context.b };",
                    "  permit (principal in G::\"g\", action in [A::Action::\"1\", Action::\"2\"], resource is R in R::\"r\") unless { if context.a then context.b else false };",
                    "// a comment\n", "\n", "\n\n", "    // more\n", " ", "// before ;\n",
                ]), 0..12)
        ) {
            let text = parts.concat();
            let once = formatted(&text).unwrap();
            proptest::prop_assert_eq!(formatted(&once).unwrap(), once.clone());
            let count = |text: &str| compile::scan(text).0.len();
            proptest::prop_assert_eq!(count(&once), count(&text));
        }
    }
}
