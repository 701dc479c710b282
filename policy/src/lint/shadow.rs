//! Policies that decide nothing, for another one has always decided it already.

use std::sync::Arc;

use cedar_policy::Effect;

use super::{
    Finding,
    reach::{self, Reach, Truth, Who},
};
use crate::{
    compile::Authored,
    generate,
    model::{
        grant::{Grant, Role},
        manifest::Manifest,
    },
};

/// Policies within an unconditional one: of the same effect, or permits within a forbid.
pub(super) fn lint(policies: &[&Authored], reaches: &[Reach]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unconditional: Vec<usize> =
        (0..reaches.len()).filter(|n| reaches[*n].condition == Truth::Always).collect();
    for (n, (policy, own)) in policies.iter().zip(reaches).enumerate() {
        if own.actions.is_empty() || own.condition == Truth::Never {
            continue; // it never applies, which is told
        }
        let by = |effect: Effect| {
            unconditional.iter().copied().filter(|other| *other != n).find(|other| {
                let wide = &reaches[*other];
                // Of two that say the same, the later one is too much.
                let twin = *other > n && own.condition == Truth::Always && wide.within(own);
                wide.effect == effect && own.within(wide) && !(twin && own.effect == effect)
            })
        };
        let forbidden = (own.effect == Effect::Permit).then(|| by(Effect::Forbid)).flatten();
        if let Some(other) = forbidden {
            findings.push(unreachable(policy, policies[other]));
        } else if let Some(other) = by(own.effect) {
            findings.push(shadowed(policy, &format!("policy `{}`", policies[other].id)));
        }
    }
    findings
}

fn unreachable(policy: &Authored, by: &Authored) -> Finding {
    let told = format!(
        "policy `{}` permits only what policy `{}` ({}) always forbids",
        policy.id, by.id, by.place
    );
    Finding::warning(&policy.place, "unreachable-permit", told)
        .cure("a forbid wins over every permit: narrow the forbid, or take the permit out")
}

fn shadowed(policy: &Authored, by: &str) -> Finding {
    let told = format!("policy `{}` decides nothing: {by} always decides the same", policy.id);
    Finding::warning(&policy.place, "shadowed-policy", told)
        .cure("take it out, or narrow the other one")
}

/// Permits of what a role, or everyone, is granted already.
pub(super) fn roles(
    policies: &[&Authored],
    reaches: &[Reach],
    products: &[Arc<Manifest>],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (policy, own) in policies.iter().zip(reaches) {
        if own.effect != Effect::Permit || own.actions.is_empty() || own.condition == Truth::Never {
            continue;
        }
        let role = products.iter().flat_map(|m| &m.roles).find(|role| is_of(&own.principal, role));
        if let Some(role) = role
            && grant_all(own, products, |m| (m.product == role.product).then_some(&role.grants))
        {
            findings.push(shadowed(policy, &format!("role `{}`", role.name)));
        } else if own.principal.kind().is_some_and(|kind| kind.to_string() == "User")
            && grant_all(own, products, |m| Some(&m.everyone))
        {
            findings.push(shadowed(policy, "what a manifest grants `everyone`"));
        }
    }
    findings
}

fn is_of(principal: &Who, role: &Role) -> bool {
    let (Who::In(entity) | Who::IsIn(_, entity)) = principal else { return false };
    entity.type_name().to_string() == "Role"
        && entity.id().unescaped() == generate::role_id(role.org.as_ref(), role.name.as_str())
}

fn grant_all<'a>(
    own: &Reach,
    products: &'a [Arc<Manifest>],
    grants: impl Fn(&'a Manifest) -> Option<&'a Vec<Grant>>,
) -> bool {
    own.actions.iter().all(|action| {
        reach::permission(products, action).is_some_and(|(manifest, permission)| {
            grants(manifest)
                .is_some_and(|grants| grants.iter().any(|grant| grant.covers(&permission)))
        })
    })
}
