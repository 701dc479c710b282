//! Text and schema → policies that hold; every complaint has a file, a line and a column.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use cedar_policy::{
    ActionConstraint, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;

use crate::{
    complaint::{Complaint, Complaints, Place},
    model::{grant::Grant, manifest::Manifest, name::ProductName},
    schema,
    snapshot::PolicyText,
};

/// Prefixes of the ids that generated policies have.
const RESERVED: [&str; 2] = ["role/", "everyone/"];

/// A policy that a person wrote.
#[derive(Debug, Clone)]
pub struct Authored {
    pub id: Arc<str>,
    /// Where it begins.
    pub place: Place,
    /// The product beside whose manifest it lies; `None` for all.
    pub product: Option<ProductName>,
    pub policy: Policy,
    /// What is told to whoever it turns away, if its author says so (`@reason`).
    pub reason: Option<Arc<str>>,
}

/// Parse and validate every file.
///
/// # Errors
///
/// Everything that is wrong with any of them.
pub(crate) fn authored(
    texts: &[PolicyText],
    schema: &Schema,
    products: &[Arc<Manifest>],
) -> Result<Vec<Authored>, Complaints> {
    let validator = Validator::new(schema.clone());
    let mut complaints = Vec::new();
    let mut ids: BTreeMap<Arc<str>, Place> = BTreeMap::new();
    let mut policies = Vec::new();
    for text in texts {
        let Some(set) = parse(text, &mut complaints) else { continue };
        validate(text, &set, &validator, &mut complaints);
        for policy in in_order(&set) {
            let id = policy
                .annotation("id")
                .map_or_else(|| format!("{}#{}", text.file, policy.id()).into(), Arc::<str>::from);
            let place = place_of_id(text, &id);
            // A plain store has no generated policies; it may hold them as files.
            if !products.is_empty() && RESERVED.iter().any(|prefix| id.starts_with(prefix)) {
                complaints.push(place.complain(format!(
                    "the id `{id}` looks like a generated policy's; choose another"
                )));
            }
            if let Some(other) = ids.insert(Arc::clone(&id), place.clone()) {
                complaints.push(place.complain(format!("the id `{id}` stands at {other} already")));
            }
            check_product(text, &id, policy, products, &mut complaints);
            let reason = policy.annotation("reason").map(Arc::from);
            let product = text.product.clone();
            let policy = policy.new_id(PolicyId::new(&id));
            policies.push(Authored { id, place, product, policy, reason });
        }
    }
    Complaints::unless(complaints, policies)
}

/// Whether a policy's scope can hold for that permission's action.
pub(crate) fn speaks_of(
    policy: &Policy,
    manifest: &Manifest,
    permission: &crate::model::grant::Permission,
) -> bool {
    let kind = format!("{}::Action", schema::namespace(&manifest.product));
    let covers = |uid: &cedar_policy::EntityUid| {
        uid.type_name().to_string() == kind
            && uid.id().unescaped().parse::<Grant>().is_ok_and(|grant| grant.covers(permission))
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        // `==` names one action; an action group is in itself but equals no permission.
        ActionConstraint::Eq(uid) => {
            uid.type_name().to_string() == kind && uid.id().unescaped() == permission.to_string()
        }
        ActionConstraint::In(uids) => uids.iter().any(covers),
    }
}

fn parse(text: &PolicyText, complaints: &mut Vec<Complaint>) -> Option<PolicySet> {
    match PolicySet::from_str(&text.text) {
        Ok(set) => {
            if set.num_of_templates() > 0 {
                complaints.push(Place::file(Arc::clone(&text.file)).complain(
                    "a template (`?principal`, `?resource`) is linked to nothing; name the principal or resource",
                ));
            }
            Some(set)
        }
        Err(errors) => {
            for error in errors.iter() {
                complaints.push(diagnosed(text, error).complain(told(error)));
            }
            None
        }
    }
}

fn validate(
    text: &PolicyText,
    set: &PolicySet,
    validator: &Validator,
    complaints: &mut Vec<Complaint>,
) {
    let result = validator.validate(set, ValidationMode::Strict);
    for error in result.validation_errors() {
        complaints.push(diagnosed(text, error).complain(told(error)));
    }
}

/// A policy beside one product's manifest speaks of that product alone.
fn check_product(
    text: &PolicyText,
    id: &Arc<str>,
    policy: &Policy,
    products: &[Arc<Manifest>],
    complaints: &mut Vec<Complaint>,
) {
    let Some(product) = &text.product else { return };
    let stray = products.iter().filter(|manifest| manifest.product != *product).find(|manifest| {
        manifest.permissions().any(|permission| speaks_of(policy, manifest, &permission))
    });
    if let Some(other) = stray {
        let own = schema::namespace(product);
        complaints.push(place_of_id(text, id).complain(format!(
            "policy `{id}` also speaks of product `{}`; write `action in {own}::Action::\"*:*\"`, or move it to the top of the policy folder",
            other.product
        )));
    }
}

/// Cedar numbers the policies of a text `policy0`, `policy1`, …; their order is the file's.
fn in_order(set: &PolicySet) -> Vec<&Policy> {
    let number = |policy: &Policy| {
        let id: &str = policy.id().as_ref();
        id.strip_prefix("policy").and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX)
    };
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy));
    policies
}

fn place_of_id(text: &PolicyText, id: &str) -> Place {
    match text.text.find(&format!("@id(\"{id}\")")) {
        Some(byte) => Place::of_byte(&text.file, &text.text, byte),
        None => Place::file(Arc::clone(&text.file)),
    }
}

pub(crate) fn diagnosed(text: &PolicyText, error: &dyn Diagnostic) -> Place {
    let label = error.labels().and_then(|mut labels| labels.next());
    match label {
        Some(label) => Place::of_byte(&text.file, &text.text, label.offset()),
        None => Place::file(Arc::clone(&text.file)),
    }
}

pub(crate) fn told(error: &dyn Diagnostic) -> String {
    // Cedar numbers the policies of a file; the place says it better.
    let text = error.to_string();
    let text = match text.split_once("`, ") {
        Some((head, rest)) if head.starts_with("for policy `policy") => rest.to_owned(),
        _ => text,
    };
    match error.help() {
        Some(help) => format!("{text}; {help}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCTS: [&str; 2] = [
        "product: a\nresources: {things: [get, put]}\n",
        "product: b\nresources: {things: [get]}\n",
    ];

    fn compile(product: Option<&str>, text: &str) -> Result<Vec<Authored>, Complaints> {
        let products: Vec<Arc<Manifest>> =
            PRODUCTS.iter().map(|text| Arc::new(Manifest::parse("m", text).unwrap())).collect();
        let schema = schema::build(&products).unwrap();
        let product = product.map(|name| name.parse().unwrap());
        let texts = [PolicyText { file: "p.cedar".into(), product, text: text.into() }];
        authored(&texts, &schema, &products)
    }

    #[test]
    fn a_policy_has_its_own_id_and_reason() {
        let text = "@id(\"one\") @reason(\"No.\") forbid (principal, action, resource);\n\
                    permit (principal, action == A::Action::\"things:get\", resource);";
        let policies = compile(None, text).unwrap();
        assert_eq!(&*policies[0].id, "one");
        assert_eq!(policies[0].reason.as_deref(), Some("No."));
        assert_eq!(&*policies[1].id, "p.cedar#policy1");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (product, text, expected) in [
            (None, "permit (principal,\n  action\n  resource);", "p.cedar:3:3: "),
            (
                None,
                "permit (principal, action == A::Action::\"things:gte\", resource);",
                "p.cedar:1:30: ",
            ),
            (None, "permit (principal, action, resource)\nwhen { context.nothing };", "p.cedar:2:"),
            (
                None,
                "permit (principal, action, resource)\nwhen { context.path.nothing == \"\" };",
                "p.cedar:2:",
            ),
            (None, "permit (principal == ?principal, action, resource);", "a template"),
            (
                None,
                "@id(\"everyone/a\") permit (principal, action, resource);",
                "looks like a generated policy's",
            ),
            (
                None,
                "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") permit (principal, action, resource);",
                "the id `x` stands at p.cedar:1:1 already",
            ),
            (
                Some("a"),
                "@id(\"x\") permit (principal, action, resource);",
                "also speaks of product `b`; write `action in A::Action::\"*:*\"`",
            ),
            (
                Some("a"),
                "@id(\"x\") permit (principal, action in B::Action::\"*:get\", resource);",
                "also speaks of product `b`",
            ),
        ] {
            let told = compile(product, text).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
            assert!(told.lines().all(|line| line.starts_with("p.cedar")), "{told}");
        }
        assert!(
            compile(Some("a"), "permit (principal, action in A::Action::\"*:*\", resource);")
                .is_ok()
        );
    }
}
