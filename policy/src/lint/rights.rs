//! Rights that nobody is granted, and policies that open them.

use std::sync::Arc;

use cedar_policy::Effect;

use super::{
    Finding, place_of,
    reach::{self, Reach, Truth},
};
use crate::{
    compile::Authored,
    model::{
        grant::{Permission, Role},
        manifest::Manifest,
    },
    snapshot::Snapshot,
};

/// Permits beyond every role, and declared permissions that nothing grants.
pub(super) fn lint(
    policies: &[&Authored],
    reaches: &[Reach],
    products: &[Arc<Manifest>],
    snapshot: Option<&Snapshot>,
) -> Vec<Finding> {
    let own = snapshot.map(|snapshot| snapshot.roles.as_slice()).unwrap_or_default();
    let held =
        |manifest: &Manifest, permission: &Permission| granted(products, own, manifest, permission);
    let mut findings: Vec<Finding> = policies
        .iter()
        .zip(reaches)
        .filter(|(_, reach)| reach.effect == Effect::Permit && reach.condition != Truth::Never)
        .filter_map(|(policy, reach)| beyond(policy, reach, products, &held))
        .collect();
    for manifest in products {
        let free = manifest.permissions().filter(|permission| {
            !held(manifest, permission) && !permitted(reaches, products, manifest, permission)
        });
        findings.extend(free.map(|permission| ungranted(manifest, &permission)));
    }
    findings
}

/// Whether some role or `everyone` has that permission, also by way of another product.
fn granted(
    products: &[Arc<Manifest>],
    own: &[Role],
    manifest: &Manifest,
    permission: &Permission,
) -> bool {
    let opens = |role: &Role| {
        let from = products.iter().find(|m| m.product == role.product);
        role.grants.iter().any(|grant| grant.covers(permission))
            && from.is_some_and(|from| {
                from.product == manifest.product
                    || !from.isolated
                        && !manifest.isolated
                        && from.declares(permission)
                        && !from.keeps.contains(&permission.resource)
            })
    };
    manifest.everyone.iter().any(|grant| grant.covers(permission))
        || products.iter().flat_map(|m| &m.roles).chain(own).any(opens)
}

fn permitted(
    reaches: &[Reach],
    products: &[Arc<Manifest>],
    manifest: &Manifest,
    permission: &Permission,
) -> bool {
    reaches.iter().filter(|reach| reach.effect == Effect::Permit).any(|reach| {
        reach
            .actions
            .iter()
            .filter_map(|action| reach::permission(products, action))
            .any(|(of, held)| of.product == manifest.product && held == *permission)
    })
}

fn beyond(
    policy: &Authored,
    reach: &Reach,
    products: &[Arc<Manifest>],
    held: &impl Fn(&Manifest, &Permission) -> bool,
) -> Option<Finding> {
    let free: Vec<String> = reach
        .actions
        .iter()
        .filter_map(|action| reach::permission(products, action))
        .filter(|(manifest, permission)| !held(manifest, permission))
        .map(|(manifest, permission)| format!("`{}::{permission}`", manifest.product))
        .collect();
    let told = match free.as_slice() {
        [] => return None,
        [one] => format!("policy `{}` opens {one}, which no role grants", policy.id),
        [one, rest @ ..] => format!(
            "policy `{}` opens {one} and {} more that no role grants",
            policy.id,
            rest.len()
        ),
    };
    let cure = "by roles alone nobody could hold it; grant it to a role if that was meant";
    Some(Finding::info(&policy.place, "permit-beyond-roles", told).cure(cure))
}

fn ungranted(manifest: &Manifest, permission: &Permission) -> Finding {
    let place =
        manifest.places.permissions.get(permission).cloned().unwrap_or_else(|| place_of(manifest));
    let told = format!("permission `{permission}` is granted by no role and opened by no policy");
    Finding::info(&place, "ungranted-permission", told)
        .cure("grant it to a role, or take it out if nothing asks for it")
}
