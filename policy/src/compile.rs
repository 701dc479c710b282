//! Text and schema → policies that hold; every complaint has a file, a line and a column.

use std::{borrow::Cow, collections::BTreeMap, ops::Range, str::FromStr, sync::Arc};

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, Schema, Template, ValidationError,
    ValidationMode, Validator,
};
use miette::Diagnostic;

use crate::{
    complaint::{Complaint, Complaints, Lines, Place},
    model::{grant::Grant, manifest::Manifest, name::ProductName},
    schema,
    snapshot::PolicyText,
    template,
    valid::Environments,
};

/// Prefixes of the ids that generated policies have.
const RESERVED: [&str; 2] = ["role/", "everyone/"];

/// A policy that a person wrote.
#[derive(Debug, Clone)]
pub struct Authored {
    pub id: Arc<str>,
    /// Where it begins.
    pub place: Place,
    /// Its bytes in the file, from the first annotation to the semicolon.
    pub span: Range<usize>,
    /// The product beside whose manifest it lies; `None` for all.
    pub product: Option<ProductName>,
    pub policy: Policy,
    /// What is told to whoever it turns away, if its author says so (`@reason`).
    pub reason: Option<Arc<str>>,
    /// The template that it is a link of; the place is then the link's.
    pub template: Option<Arc<Authored>>,
}

/// What texts hold.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// In the order of files and lines; links after all others.
    pub policies: Vec<Authored>,
    /// With a stand-in in their slots.
    pub templates: Vec<Arc<Authored>>,
}

impl Written {
    /// Policies and templates that stand in Cedar files, so without the links.
    pub(crate) fn by_hand(&self) -> impl Iterator<Item = &Authored> {
        let policies = self.policies.iter().filter(|policy| policy.template.is_none());
        policies.chain(self.templates.iter().map(AsRef::as_ref))
    }
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
    let mut complaints = Vec::new();
    let policies = examine(texts, Some(schema), products, &mut complaints).policies;
    Complaints::unless(complaints, policies)
}

/// Every policy that parses, whatever else is wrong with it. Without a schema nothing is validated.
pub(crate) fn examine(
    texts: &[PolicyText],
    schema: Option<&Schema>,
    products: &[Arc<Manifest>],
    complaints: &mut Vec<Complaint>,
) -> Written {
    let validator = schema.map(|schema| Validator::new(schema.clone()));
    let environments = schema.and_then(Environments::of);
    let mut ids = Ids { taken: BTreeMap::new(), products };
    let (mut policies, mut templates) = (Vec::new(), Vec::new());
    let (links, texts): (Vec<&PolicyText>, Vec<&PolicyText>) =
        texts.iter().partition(|text| template::is_links(&text.file));
    for text in texts {
        let Some(set) = parse(text, complaints) else { continue };
        if let Some(validator) = &validator {
            let doubtful = doubtful(&set, environments.as_ref());
            validate(text, doubtful.as_ref().unwrap_or(&set), validator, complaints);
        }
        let (spans, lines) = (spans(&text.text), Lines::of(&text.text));
        for (number, policy, slots) in in_order(&set) {
            let span = spans.get(number).cloned().unwrap_or(0..text.text.len());
            let place = lines.place(&text.file, span.start);
            let id = policy
                .annotation("id")
                .map_or_else(|| format!("{}#{}", text.file, policy.id()).into(), Arc::<str>::from);
            ids.take(&id, &place, complaints);
            check_product(text, &place, &id, &policy, products, complaints);
            let reason = policy.annotation("reason").map(Arc::from);
            let product = text.product.clone();
            let policy = policy.new_id(PolicyId::new(&id));
            let written = Authored { id, place, span, product, policy, reason, template: None };
            match slots {
                Some(slots) => templates.push(template::Written::new(written, slots)),
                None => policies.push(written),
            }
        }
    }
    for text in links {
        let linked = template::linked(text, &templates, &policies, validator.as_ref(), complaints);
        for link in linked {
            ids.take(&link.id, &link.place, complaints);
            check_product(text, &link.place, &link.id, &link.policy, products, complaints);
            policies.push(link);
        }
    }
    let templates = templates.into_iter().map(|template| template.authored).collect();
    Written { policies, templates }
}

/// The ids that are taken, and where.
struct Ids<'a> {
    taken: BTreeMap<Arc<str>, Place>,
    products: &'a [Arc<Manifest>],
}

impl Ids<'_> {
    fn take(&mut self, id: &Arc<str>, place: &Place, complaints: &mut Vec<Complaint>) {
        // A plain store has no generated policies; it may hold them as files.
        if !self.products.is_empty() && RESERVED.iter().any(|prefix| id.starts_with(prefix)) {
            let told = format!("the id `{id}` looks like a generated policy's; choose another");
            complaints.push(place.complain(told).coded("reserved-id"));
        }
        if let Some(other) = self.taken.insert(Arc::clone(id), place.clone()) {
            let told = format!("the id `{id}` stands at {other} already");
            complaints.push(place.complain(told).coded("duplicate-id"));
        }
    }
}

/// Whether a policy's scope can hold for that permission's action.
pub(crate) fn speaks_of(
    policy: &Policy,
    manifest: &Manifest,
    permission: &crate::model::grant::Permission,
) -> bool {
    let kind = format!("{}::Action", schema::namespace(&manifest.product));
    let covers = |uid: &EntityUid| {
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

pub(crate) fn parse(text: &PolicyText, complaints: &mut Vec<Complaint>) -> Option<PolicySet> {
    match PolicySet::from_str(&text.text) {
        Ok(set) => Some(set),
        Err(errors) => {
            for error in errors.iter() {
                complaints.push(diagnosed(text, error).complain(told(error)).coded("syntax"));
            }
            None
        }
    }
}

/// The policies that Cedar's validator has to look at; `None` for all of them.
fn doubtful(set: &PolicySet, environments: Option<&Environments<'_>>) -> Option<PolicySet> {
    let environments = environments.filter(|_| set.num_of_templates() == 0)?;
    let doubtful = set.policies().filter(|policy| !environments.hold(policy));
    PolicySet::from_policies(doubtful.cloned()).ok()
}

fn validate(
    text: &PolicyText,
    set: &PolicySet,
    validator: &Validator,
    complaints: &mut Vec<Complaint>,
) {
    let result = validator.validate(set, ValidationMode::Strict);
    let spans = spans(&text.text);
    for error in result.validation_errors() {
        let mut place = diagnosed(text, error);
        if place.line == 0 {
            // Cedar knows the policy, but no place in it.
            let number = number(error.policy_id());
            let start = number.and_then(|n| spans.get(n)).map_or(0, |span| span.start);
            place = Place::of_byte(&text.file, &text.text, start);
        }
        let complaint = match error {
            ValidationError::EmptySetForbidden(_) => place
                .complain(format!("{}; write out what it holds, or leave it out", told(error)))
                .coded("empty-set"),
            ValidationError::UnrecognizedActionId(_) => {
                place.complain(no_such_action(error, validator.schema())).coded("validation")
            }
            _ => place.complain(told(error)).coded("validation"),
        };
        complaints.push(complaint);
    }
}

/// Cedar proposes any action there is; one of the same namespace is what was meant.
fn no_such_action(error: &ValidationError, schema: &Schema) -> String {
    let text = told(error);
    let Some(named) = text.split('`').nth(1).and_then(|name| name.parse::<EntityUid>().ok()) else {
        return text;
    };
    let (head, cure) = text.split_once("; ").unwrap_or((&text, ""));
    if !cure.is_empty() && !cure.starts_with("did you mean") {
        return text;
    }
    let id = named.id().unescaped();
    let nearest = schema
        .actions()
        .filter(|action| action.type_name() == named.type_name())
        .map(|action| (strsim::osa_distance(id, action.id().unescaped()), action.to_string()))
        .min();
    match nearest {
        Some((distance, action)) if distance <= 3 => format!("{head}; did you mean `{action}`?"),
        _ => format!("{head}; declare it, or mend its spelling"),
    }
}

/// The `n` of `policy<n>`, as Cedar numbers the policies of a text.
pub(crate) fn number(id: &PolicyId) -> Option<usize> {
    let id: &str = id.as_ref();
    id.strip_prefix("policy")?.parse().ok()
}

/// A policy beside one product's manifest speaks of that product alone.
fn check_product(
    text: &PolicyText,
    place: &Place,
    id: &Arc<str>,
    policy: &Policy,
    products: &[Arc<Manifest>],
    complaints: &mut Vec<Complaint>,
) {
    let Some(product) = &text.product else { return };
    let own = schema::namespace(product);
    let kind = format!("{own}::Action");
    let stays = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(uid) => uid.type_name().to_string() == kind,
        ActionConstraint::In(uids) => uids.iter().all(|uid| uid.type_name().to_string() == kind),
    };
    if stays {
        return;
    }
    let stray = products.iter().filter(|manifest| manifest.product != *product).find(|manifest| {
        manifest.permissions().any(|permission| speaks_of(policy, manifest, &permission))
    });
    if let Some(other) = stray {
        let told = format!(
            "policy `{id}` also speaks of product `{}`; write `action in {own}::Action::\"*:*\"`, or move it to the top of the policy folder",
            other.product
        );
        complaints.push(place.complain(told).coded("other-product"));
    }
}

/// Cedar numbers the policies of a text `policy0`, `policy1`, …; their order is the file's. A template
/// comes with a stand-in in its slots.
fn in_order(set: &PolicySet) -> Vec<(usize, Cow<'_, Policy>, Option<&Template>)> {
    let number = |id: &PolicyId| number(id).unwrap_or(usize::MAX);
    let policies = set.policies().map(|policy| (number(policy.id()), Cow::Borrowed(policy), None));
    let templates = set.templates().filter_map(|template| {
        let filled = template::stand_in(template)?;
        Some((number(template.id()), Cow::Owned(filled), Some(template)))
    });
    let mut policies: Vec<_> = policies.chain(templates).collect();
    policies.sort_by_key(|(number, ..)| *number);
    policies
}

/// Where each policy of a text that parses stands.
pub(crate) fn spans(text: &str) -> Vec<Range<usize>> {
    scan(text).0
}

/// Where policies and comments of a text that parses stand. A semicolon ends a policy, and stands
/// nowhere else but in strings and comments.
pub(crate) fn scan(text: &str) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let (mut spans, mut comments) = (Vec::new(), Vec::new());
    let (mut at, mut start) = (0, None);
    while let Some(byte) = bytes.get(at) {
        if bytes[at..].starts_with(b"//") {
            let begin = at;
            at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at);
            comments.push(begin..at);
            continue;
        }
        if start.is_none() && !byte.is_ascii_whitespace() {
            start = Some(at);
        }
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b';' => spans.extend(start.take().map(|start| start..at + 1)),
            _ => {}
        }
        at += 1;
    }
    (spans, comments)
}

/// The closing quote of the string that opens here.
fn end_of_string(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
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
    let label = error.labels().and_then(|mut labels| labels.next());
    let cure = error
        .help()
        .map(|help| help.to_string())
        .or_else(|| label.and_then(|label| label.label().map(str::to_owned)));
    match cure {
        Some(cure) => format!("{text}; {cure}"),
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
    fn a_policy_knows_its_own_text() {
        let text = "// one; two\n@reason(\"a; \\\"b//\")\n@id(\"x\") forbid (principal, action, resource);\n\n  // c\n  permit (principal, action, resource)\n when { 1 == 1 // ;\n };";
        let policies = compile(None, text).unwrap();
        assert_eq!(&policies[0].place.to_string(), "p.cedar:2:1");
        assert!(text[policies[0].span.clone()].ends_with("resource);"));
        assert_eq!(&policies[1].place.to_string(), "p.cedar:6:3");
        assert!(text[policies[1].span.clone()].starts_with("permit"));
        assert!(text[policies[1].span.clone()].ends_with("};"));
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
