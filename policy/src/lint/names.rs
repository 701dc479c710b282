//! Names: policies without one, and names that are taken for each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use unicode_security::{MixedScript, skeleton as skeleton_of};

use super::{Finding, never::CONFUSABLE, place_in, place_of};
use crate::{
    compile::{Authored, Written},
    complaint::Place,
    generate,
    model::manifest::Manifest,
    snapshot::{PolicyText, Snapshot},
};

/// The annotations that Postern reads.
const READ: [&str; 2] = ["id", "reason"];

/// A name shorter than this is near to too many others.
const LONG_ENOUGH: usize = 6;

/// Policies without an id, ids that look alike, annotations that miss their name by a letter.
pub(super) fn policies(written: &Written, texts: &[PolicyText]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in written.by_hand() {
        if policy.policy.annotation("id").is_none_or(str::is_empty) {
            findings.push(without_id(policy));
        }
        for (name, _) in policy.policy.annotations() {
            let meant = READ.into_iter().find(|read| {
                *read != name && (alike(read, name) || strsim::osa_distance(read, name) == 1)
            });
            if let Some(meant) = meant {
                let place = place_in(policy, texts, &format!("@{name}"));
                let told = format!("the annotation `@{name}` is read by nothing");
                findings.push(
                    Finding::warning(&place, "look-alike-annotation", told)
                        .cure(format!("did you mean `@{meant}`?")),
                );
            }
        }
    }
    findings.extend(written.by_hand().flat_map(|policy| disguised(policy, texts)));
    let named = written.by_hand().filter(|policy| policy.policy.annotation("id").is_some());
    let ids = named.map(|policy| (policy.id.to_string(), policy.place.clone())).collect();
    findings.extend(look_alikes("policy id", ids));
    findings
}

/// Text that people read and that is not what it seems. Conditions are Cedar's own to look at.
fn disguised(policy: &Authored, texts: &[PolicyText]) -> Vec<Finding> {
    READ.into_iter()
        .filter_map(|name| Some((name, policy.policy.annotation(name)?)))
        .filter_map(|(name, text)| {
            let what = if text.contains(turns) {
                "has characters that turn the direction of writing"
            } else if name == "id" && !text.is_single_script() {
                "mixes letters of several scripts"
            } else {
                return None;
            };
            let place = place_in(policy, texts, &format!("@{name}"));
            let told = format!("the `@{name}` of policy `{}` {what}", policy.id.escape_debug());
            Some(
                Finding::warning(&place, CONFUSABLE, told)
                    .cure("write it in the letters of one script, without invisible ones"),
            )
        })
        .collect()
}

/// Characters that turn the direction of what follows (UAX #9, explicit formatting).
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_id(policy: &Authored) -> Finding {
    let told = "a policy without an `@id`: decisions and logs can name it by its position only";
    Finding::warning(&policy.place, "missing-id", told.to_owned())
        .cure("write `@id(\"what-it-demands\")` before it")
}

/// Roles and groups that look alike.
pub(super) fn products(products: &[Arc<Manifest>], snapshot: Option<&Snapshot>) -> Vec<Finding> {
    let mut roles = Vec::new();
    let mut groups = Vec::new();
    for manifest in products {
        let place = |known: Option<&Place>| known.cloned().unwrap_or_else(|| place_of(manifest));
        for role in &manifest.roles {
            let at = place(manifest.places.roles.get(&role.name));
            roles.push((role.name.to_string(), at));
        }
        for group in &manifest.groups {
            let at = place(manifest.places.groups.get(&group.name));
            groups.push((group.name.to_string(), at));
        }
    }
    if let Some(snapshot) = snapshot {
        let nowhere = || Place::file(format!("snapshot {}", snapshot.revision));
        let id = generate::role_id;
        let own = snapshot.roles.iter().map(|r| id(r.org.as_ref(), r.name.as_str()));
        roles.extend(own.map(|role| (role, nowhere())));
        let own = snapshot.groups.iter().map(|g| id(g.org.as_ref(), g.name.as_str()));
        groups.extend(own.map(|group| (group, nowhere())));
    }
    let mut findings = look_alikes("role", roles);
    findings.extend(look_alikes("group", groups));
    findings
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.chars().count() < LONG_ENOUGH { 1 } else { 2 };
    known
        .map(|other| {
            (if alike(name, other) { 0 } else { strsim::osa_distance(name, other) }, other)
        })
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, other)| other)
}

/// Whether two names differ only by capitals and by how their words are joined.
fn alike(one: &str, other: &str) -> bool {
    skeleton(one) == skeleton(other)
}

fn skeleton(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// The same for names that look the same (UTS #39).
fn seen(name: &str) -> String {
    skeleton_of(name).collect()
}

/// Names of one kind that are taken for each other.
fn look_alikes(kind: &str, mut names: Vec<(String, Place)>) -> Vec<Finding> {
    names.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let mut findings = Vec::new();
    for (n, m) in near(&names) {
        let ((first, at), (second, place)) = (&names[n], &names[m]);
        let how = if alike(first, second) {
            "only by capitals, `-` or `_`"
        } else if seen(first) == seen(second) {
            "only by letters that look the same"
        } else if one_letter(first, second) {
            "by one letter only"
        } else {
            continue;
        };
        if !apart(first, second) {
            let text = format!("the {kind} `{second}` differs from `{first}` ({at}) {how}");
            findings.push(
                Finding::warning(place, "look-alike", text)
                    .cure("rename one, or make them the same if that was meant"),
            );
        }
    }
    findings
}

/// Whether two names are of different organizations, where nobody meets both.
fn apart(one: &str, other: &str) -> bool {
    let org = |name: &'_ str| name.split_once('/').map(|(org, _)| org.to_owned());
    matches!((org(one), org(other)), (Some(one), Some(other)) if one != other)
}

/// A slip of the pen, not a number: `step-1` and `step-2` are meant to be near.
fn one_letter(one: &str, other: &str) -> bool {
    let letters = |name: &str| name.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    one.chars().count().min(other.chars().count()) >= LONG_ENOUGH
        && letters(one) != letters(other)
        && strsim::osa_distance(one, other) == 1
}

/// Pairs that may be near: two names within one letter become the same when each loses one or none.
/// Transposed letters do too. So it takes no comparison of each with each.
fn near(names: &[(String, Place)]) -> BTreeSet<(usize, usize)> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, (name, _)) in names.iter().enumerate() {
        let mut of = BTreeSet::from([name.clone(), skeleton(name), seen(name)]);
        for (at, letter) in name.char_indices() {
            of.insert(format!("{}{}", &name[..at], &name[at + letter.len_utf8()..]));
        }
        for shape in of {
            shapes.entry(shape).or_default().push(n);
        }
    }
    let mut pairs = BTreeSet::new();
    for list in shapes.values() {
        for (i, n) in list.iter().enumerate() {
            pairs.extend(
                list[i + 1..].iter().filter(|m| names[*n].0 != names[**m].0).map(|m| (*n, *m)),
            );
        }
    }
    pairs
}
