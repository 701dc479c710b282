//! Policies that can never apply, policies that are looked at for every question, and text that is
//! not what it seems.

use std::{collections::BTreeSet, sync::Arc};

use cedar_policy::{
    ActionConstraint, EntityUid, PolicyId, PolicySet, Schema, ValidationMode, ValidationWarning,
    Validator,
};
use serde_json::Value;

use super::{
    Finding, names, place_in,
    reach::{self, Reach, Truth, Who},
    text_of,
};
use crate::{
    compile::{self, Authored, Written},
    generate,
    model::manifest::Manifest,
    schema,
    snapshot::{PolicyText, Snapshot},
};

/// The policies that are looked at.
pub(super) struct Looked<'a> {
    pub policies: &'a [&'a Authored],
    pub reaches: &'a [Reach],
    pub schema: &'a Schema,
}

/// What there is to be named.
pub(super) struct Known<'a> {
    pub products: &'a [Arc<Manifest>],
    /// Where roles and groups of organizations' own are known.
    pub snapshot: Option<&'a Snapshot>,
}

pub(super) fn lint(
    looked: &Looked<'_>,
    texts: &[PolicyText],
    known: Option<&Known<'_>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cedar = warnings(looked.policies, looked.schema, texts);
    for ((policy, reach), cedar) in looked.policies.iter().zip(looked.reaches).zip(cedar) {
        let mut never = scope(policy, reach, looked.schema, texts, known);
        if never.is_empty() && reach.condition == Truth::Never {
            never.push(never_true(policy));
        }
        // Cedar sees the same, and says less about it.
        let told = !never.is_empty();
        findings.extend(never);
        findings.extend(cedar.into_iter().filter(|finding| !told || finding.code == CONFUSABLE));
        if let Some(known) = known {
            findings.extend(known.in_conditions(policy, texts));
        }
        findings.extend(costs(policy, reach));
    }
    findings
}

/// Templates that nothing is made of.
pub(super) fn unlinked(written: &Written) -> Vec<Finding> {
    let linked: BTreeSet<&str> =
        written.policies.iter().filter_map(|policy| Some(&*policy.template.as_ref()?.id)).collect();
    let idle = written.templates.iter().filter(|template| !linked.contains(&*template.id));
    idle.map(|template| {
        let told = format!("template `{}` decides nothing: no link fills its slots", template.id);
        Finding::warning(&template.place, "unlinked-template", told)
            .cure("link it in a `links.json` beside it, or name the principal or resource")
    })
    .collect()
}

/// What in the scope keeps a policy from ever applying.
fn scope(
    policy: &Authored,
    reach: &Reach,
    schema: &Schema,
    texts: &[PolicyText],
    known: Option<&Known<'_>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let resource = reach::resource(&policy.policy);
    if let Some(known) = known {
        let named = [reach.principal.entity(), resource.entity()];
        findings.extend(named.into_iter().flatten().filter_map(|e| known.lint(policy, texts, e)));
    }
    match policy.policy.action_constraint() {
        ActionConstraint::Eq(action) if !reach::can_be_asked(schema, &action) => {
            let told = format!(
                "policy `{}` can never apply: `{action}` is a group of actions, and no request asks for the group itself",
                policy.id
            );
            let place = place_in(policy, texts, &action.to_string());
            findings.push(
                Finding::warning(&place, "equals-action-group", told)
                    .cure(format!("write `action in {action}`")),
            );
        }
        _ => {}
    }
    if findings.is_empty() && reach.actions.is_empty() {
        let told = format!(
            "policy `{}` can never apply: no action in its scope is one on such a resource",
            policy.id
        );
        findings.push(
            Finding::warning(&policy.place, "nothing-in-scope", told)
                .cure("let action and resource speak of the same thing"),
        );
    }
    findings
}

fn never_true(policy: &Authored) -> Finding {
    let told = format!("policy `{}` can never apply: its conditions never hold", policy.id);
    Finding::warning(&policy.place, "never-true", told).cure("mend the condition, or take it out")
}

/// A scope that is open on all sides is looked at for every question there is.
fn costs(policy: &Authored, reach: &Reach) -> Option<Finding> {
    let open = reach.principal == Who::Any
        && reach::resource(&policy.policy) == Who::Any
        && policy.policy.action_constraint() == ActionConstraint::Any;
    let told = format!(
        "policy `{}` names no principal, action or resource, so it is evaluated for every question",
        policy.id
    );
    open.then(|| {
        Finding::info(&policy.place, "cost-floor", told)
            .cure("narrow its scope if it is not meant for everything")
    })
}

/// Text that is not what it seems.
pub(super) const CONFUSABLE: &str = "confusable-text";

/// What Cedar's own validator finds odd, for each policy.
fn warnings(policies: &[&Authored], schema: &Schema, texts: &[PolicyText]) -> Vec<Vec<Finding>> {
    let mut found: Vec<Vec<Finding>> = policies.iter().map(|_| Vec::new()).collect();
    let id = |n: usize| PolicyId::new(format!("policy{n}"));
    let numbered = policies.iter().enumerate().map(|(n, p)| p.policy.new_id(id(n)));
    let Ok(set) = PolicySet::from_policies(numbered) else { return found };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    for warning in result.validation_warnings() {
        let of: &str = warning.policy_id().as_ref();
        let Some(n) = of.strip_prefix("policy").and_then(|n| n.parse::<usize>().ok()) else {
            continue;
        };
        if let (Some(policy), Some(found)) = (policies.get(n), found.get_mut(n)) {
            found.push(cedar_warning(policy, warning, texts));
        }
    }
    for found in &mut found {
        // Where no action applies, that the policy is impossible is said already.
        if found.iter().any(|finding| finding.code == "no-applicable-action") {
            found.retain(|finding| finding.code != "impossible-policy");
        }
    }
    found
}

fn cedar_warning(policy: &Authored, warning: &ValidationWarning, texts: &[PolicyText]) -> Finding {
    let told = |text: &str| format!("policy `{}` can never apply: {text}", policy.id);
    match warning {
        ValidationWarning::ImpossiblePolicy(_) => Finding::warning(
            &policy.place,
            "impossible-policy",
            told("by the schema, its scope and conditions are false for every question"),
        )
        .cure("look for a comparison of things that cannot be the same"),
        ValidationWarning::InvalidActionApplication(_) => Finding::warning(
            &policy.place,
            "no-applicable-action",
            told("by the schema, no action in its scope goes with such a principal and resource"),
        )
        .cure("look at what the actions apply to"),
        other => {
            let place = text_of(policy, texts)
                .map(|text| compile::diagnosed(text, other))
                .filter(|place| place.line > 0)
                .unwrap_or_else(|| policy.place.clone());
            let text = compile::told(other);
            Finding::warning(&place, CONFUSABLE, text)
                .cure("write it in the letters of one script, without invisible ones")
        }
    }
}

impl Known<'_> {
    /// Entities that conditions name.
    fn in_conditions(&self, policy: &Authored, texts: &[PolicyText]) -> Vec<Finding> {
        let tree = policy.policy.to_json().unwrap_or_default();
        let mut named = Vec::new();
        literals(tree.get("conditions").unwrap_or(&Value::Null), &mut named);
        named.iter().filter_map(|entity| self.lint(policy, texts, entity)).collect()
    }

    /// An entity that is not there.
    fn lint(&self, policy: &Authored, texts: &[PolicyText], entity: &EntityUid) -> Option<Finding> {
        let (code, told, cure) = self.missing(entity)?;
        let place = place_in(policy, texts, &entity.to_string());
        Some(Finding::warning(&place, code, told).cure(cure))
    }

    fn missing(&self, entity: &EntityUid) -> Option<(&'static str, String, String)> {
        let kind = entity.type_name().to_string();
        let id = entity.id().unescaped();
        match kind.as_str() {
            "Role" => self.role(id),
            "Group" => self.group(id),
            "User" | "Application" if !id.contains('/') => Some((
                "unknown-principal",
                format!("nobody is `{kind}::\"{id}\"`: an id carries its organization"),
                format!("write `{kind}::\"<organization>/{id}\"`"),
            )),
            "Organization" if id.contains('/') => Some((
                "unknown-organization",
                format!("no organization is called `{id}`"),
                "write its short name alone".to_owned(),
            )),
            _ => self.resource(&kind, id),
        }
    }

    fn role(&self, id: &str) -> Option<(&'static str, String, String)> {
        let built_in: Vec<String> = self
            .products
            .iter()
            .flat_map(|m| &m.roles)
            .map(|role| generate::role_id(role.org.as_ref(), role.name.as_str()))
            .collect();
        let own: Vec<String> = self
            .snapshot
            .into_iter()
            .flat_map(|snapshot| &snapshot.roles)
            .map(|role| generate::role_id(role.org.as_ref(), role.name.as_str()))
            .collect();
        if built_in.iter().chain(&own).any(|known| known == id)
            // An organization's own role; a folder does not know those.
            || id.contains('/') && self.snapshot.is_none()
        {
            return None;
        }
        let cure = names::nearest(id, built_in.iter().chain(&own).map(String::as_str))
            .map_or("declare it in a manifest".to_owned(), |near| {
                format!("did you mean `{near}`?")
            });
        Some(("unknown-role", format!("there is no role `{id}`"), cure))
    }

    fn group(&self, id: &str) -> Option<(&'static str, String, String)> {
        let built_in = || self.products.iter().flat_map(|m| &m.groups).map(|g| g.name.as_str());
        let Some((org, name)) = id.split_once('/') else {
            let near = names::nearest(id, built_in()).unwrap_or(id);
            return Some((
                "unknown-group",
                format!("there is no group `{id}`: a group's id carries its organization"),
                format!("write `Group::\"<organization>/{near}\"`"),
            ));
        };
        let snapshot = self.snapshot?;
        let own = || {
            let of = |group: &&crate::model::grant::Group| {
                group.org.as_ref().is_none_or(|owner| owner.as_str() == org)
            };
            snapshot.groups.iter().filter(of).map(|group| group.name.as_str())
        };
        if built_in().chain(own()).any(|known| known == name) {
            return None;
        }
        let cure = names::nearest(name, built_in().chain(own())).map_or_else(
            || "make it, or take the policy out".to_owned(),
            |near| format!("did you mean `{org}/{near}`?"),
        );
        Some(("unknown-group", format!("organization `{org}` has no group `{name}`"), cure))
    }

    fn resource(&self, kind: &str, id: &str) -> Option<(&'static str, String, String)> {
        let namespace = kind.strip_suffix("::Resource")?;
        let manifest = self.products.iter().find(|m| schema::namespace(&m.product) == namespace)?;
        let known = || manifest.resources.keys().map(AsRef::as_ref);
        if known().any(|name: &str| name == id) {
            return None;
        }
        let cure = names::nearest(id, known()).map_or_else(
            || "declare it in the manifest".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let told = format!("product `{}` has no resource `{id}`", manifest.product);
        Some(("unknown-resource", told, cure))
    }
}

/// The entities that a tree names.
fn literals(tree: &Value, found: &mut Vec<EntityUid>) {
    match tree {
        Value::Object(fields) => {
            if let Some(entity) = fields.get("__entity") {
                found.extend(EntityUid::from_json(entity.clone()).ok());
            }
            fields.values().for_each(|value| literals(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| literals(item, found)),
        _ => {}
    }
}
