//! Templates, and the links that make policies of them.
//!
//! A template is a policy with a slot, `?principal` or `?resource`, in its scope. A file of links
//! beside it, named `links.json` or with a name that ends so, has Cedar's own format:
//!
//! ```json
//! [{ "template_id": "share", "link_id": "share-with-ana", "args": { "?principal": "User::\"ana\"" } }]
//! ```
//!
//! Each link becomes a policy with its slots filled, which shares its conditions with the template:
//! what asks policies knows no slots.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::Path,
    sync::Arc,
};

use cedar_policy::{
    EntityUid, Policy, PolicyId, PolicySet, SlotId, Template, ValidationMode, Validator,
};
use cedar_policy_core::ast;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    clause,
    compile::{self, Authored},
    complaint::{Complaint, Lines, Place},
    snapshot::PolicyText,
    strict,
};

/// The end of the name of a file of links.
pub(crate) const LINKS: &str = "links.json";

const SLOTS: [&str; 2] = ["?principal", "?resource"];

/// Whether a file of that name has links.
pub fn is_links(file: &str) -> bool {
    file.ends_with(LINKS)
}

/// Whether a file of a folder has policies: Cedar, or links.
pub fn is_policy_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cedar")
        || path.file_name().and_then(|name| name.to_str()).is_some_and(is_links)
}

/// A template, and where it stands.
pub(crate) struct Written {
    /// With a stand-in in its slots.
    pub authored: Arc<Authored>,
    template: Template,
}

impl Written {
    pub(crate) fn new(authored: Authored, template: &Template) -> Self {
        let template = template.new_id(PolicyId::new(&authored.id));
        Self { authored: Arc::new(authored), template }
    }
}

/// One link, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    template_id: String,
    link_id: String,
    #[serde(default)]
    args: BTreeMap<String, String>,
}

/// A template as a policy, with its slots filled by a stand-in that is never asked about.
pub(crate) fn stand_in(template: &Template) -> Option<Policy> {
    let nobody: EntityUid = "Nobody::\"\"".parse().ok()?;
    fill(template, template.id(), &|_| Some(nobody.clone()))
}

/// A template with its slots filled.
fn fill(
    template: &Template,
    id: &PolicyId,
    value: &dyn Fn(&str) -> Option<EntityUid>,
) -> Option<Policy> {
    let core: &ast::Template = template.as_ref();
    let value =
        |slot| value(slot).map(|uid| Arc::new(AsRef::<ast::EntityUID>::as_ref(&uid).clone()));
    let mut principal = core.principal_constraint().clone();
    if let Some(value) = value(SLOTS[0]) {
        principal = principal.with_filled_slot(value);
    }
    let mut resource = core.resource_constraint().clone();
    if let Some(value) = value(SLOTS[1]) {
        resource = resource.with_filled_slot(value);
    }
    let body = ast::TemplateBody::new_shared(
        ast::PolicyID::from_string(AsRef::<str>::as_ref(id)),
        core.loc().cloned(),
        Arc::clone(core.annotations_arc()),
        core.effect(),
        principal,
        core.action_constraint().clone(),
        resource,
        core.non_scope_constraints_arc().cloned(),
    );
    ast::Template::try_as_policy(Arc::new(body.into())).ok().map(Policy::from)
}

/// The policies that a file of links makes. Ids are for the caller to hold against others.
pub(crate) fn linked(
    text: &PolicyText,
    templates: &[Written],
    written: &[Authored],
    validator: Option<&Validator>,
    complaints: &mut Vec<Complaint>,
) -> Vec<Authored> {
    let values: Vec<Value> = match strict::from_slice(text.text.as_bytes()) {
        Ok(values) => values,
        Err(error) => {
            let (place, told) = Place::of_json(&text.file, &error);
            complaints.push(place.complain(format!("no list of links: {told}")).coded("links"));
            return Vec::new();
        }
    };
    let lines = Lines::of(&text.text);
    let by_id: HashMap<&str, &Written> =
        templates.iter().map(|template| (&*template.authored.id, template)).collect();
    let mut links = Vec::new();
    for (value, span) in values.into_iter().zip(objects(&text.text)) {
        let place = lines.place(&text.file, span.start);
        let mut complain = |code, told: String| complaints.push(place.complain(told).coded(code));
        let raw: Raw = match serde_json::from_value(value) {
            Ok(raw) => raw,
            Err(error) => {
                let told =
                    format!("no link: {error}; a link has `template_id`, `link_id` and `args`");
                complain("links", told);
                continue;
            }
        };
        let Some(template) = by_id.get(&*raw.template_id) else {
            complain("unknown-template", unknown(&raw, templates, written));
            continue;
        };
        match raw.fill(template) {
            Ok(policy) => links.push(Authored {
                id: raw.link_id.into(),
                place,
                span,
                product: text.product.clone().or_else(|| template.authored.product.clone()),
                policy,
                reason: template.authored.reason.clone(),
                template: Some(Arc::clone(&template.authored)),
            }),
            Err(told) => complain("slots", told),
        }
    }
    if let Some(validator) = validator {
        validate(&links, &by_id, validator, complaints);
    }
    links
}

impl Raw {
    fn fill(&self, template: &Written) -> Result<Policy, String> {
        let (link, of) = (&self.link_id, &self.template_id);
        if link.is_empty() {
            return Err(format!("a link of template `{of}` has no name; give it a `link_id`"));
        }
        let open: Vec<String> = template.template.slots().map(ToString::to_string).collect();
        if let Some(slot) = open.iter().find(|slot| !self.args.contains_key(*slot)) {
            return Err(format!(
                "link `{link}` leaves `{slot}` of template `{of}` open; name an entity for it in `args`"
            ));
        }
        if let Some(slot) = self.args.keys().find(|slot| !open.contains(slot)) {
            return Err(format!(
                "link `{link}` fills `{slot}`, which template `{of}` ({}) does not have; take it out of `args`",
                template.authored.place
            ));
        }
        let mut values: BTreeMap<&str, EntityUid> = BTreeMap::new();
        for (slot, value) in &self.args {
            let uid = value.parse().map_err(|_| {
                format!(
                    "link `{link}` fills `{slot}` with `{value}`, which is no entity; write it as in `User::\\\"ana\\\"`"
                )
            })?;
            values.insert(slot, uid);
        }
        fill(&template.template, &PolicyId::new(link), &|slot| values.get(slot).cloned())
            .ok_or_else(|| format!("link `{link}` does not fill template `{of}`"))
    }
}

/// Hold what fills the slots against the schema.
fn validate(
    links: &[Authored],
    templates: &HashMap<&str, &Written>,
    validator: &Validator,
    complaints: &mut Vec<Complaint>,
) {
    let mut set = PolicySet::new();
    // A number a link, for two may have one name, which is told elsewhere.
    let id = |n: usize| PolicyId::new(format!("policy{n}"));
    let name = |template: &str| PolicyId::new(format!("template {template}"));
    for (n, link) in links.iter().enumerate() {
        let Some(template) = link.template.as_ref().and_then(|of| templates.get(&*of.id)) else {
            continue;
        };
        let template_id = name(&template.authored.id);
        if set.template(&template_id).is_none() {
            // Neither fails: the template has a name of its own, and the slots are filled.
            let _ = set.add_template(template.template.new_id(template_id.clone()));
        }
        let _ = set.link(template_id, id(n), values(&link.policy, &template.template));
    }
    let result = validator.validate(&set, ValidationMode::Strict);
    for error in result.validation_errors() {
        let link = compile::number(error.policy_id()).and_then(|n| links.get(n));
        // The template itself is told where it stands.
        if let Some(link) = link {
            let told = format!("link `{}`: {}", link.id, compile::told(error));
            complaints.push(link.place.complain(told).coded("validation"));
        }
    }
}

/// What fills the slots of a template in a policy made of it.
fn values(policy: &Policy, template: &Template) -> HashMap<SlotId, EntityUid> {
    let value = |slot: &SlotId| Some((slot.clone(), filling(policy, &slot.to_string())?.into()));
    template.slots().filter_map(value).collect()
}

/// The entity that stands in the scope where the template has a slot.
fn filling(policy: &Policy, slot: &str) -> Option<ast::EntityUID> {
    use ast::{
        EntityReference::EUID,
        PrincipalOrResourceConstraint::{Eq, In, IsIn},
    };
    let core: &ast::Policy = policy.as_ref();
    let (principal, resource) = (core.principal_constraint(), core.resource_constraint());
    let constraint = if slot == SLOTS[0] { principal.as_inner() } else { resource.as_inner() };
    match constraint {
        Eq(EUID(uid)) | In(EUID(uid)) | IsIn(_, EUID(uid)) => Some(uid.as_ref().clone()),
        _ => None,
    }
}

fn unknown(raw: &Raw, templates: &[Written], written: &[Authored]) -> String {
    let (link, of) = (&raw.link_id, &raw.template_id);
    if let Some(policy) = written.iter().find(|policy| *policy.id == **of) {
        return format!(
            "link `{link}` names `{of}` ({}), which has no slots; write `?principal` or `?resource` in its scope",
            policy.place
        );
    }
    let near = templates
        .iter()
        .map(|template| (strsim::osa_distance(of, &template.authored.id), &template.authored.id))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, id)) => {
            format!("link `{link}`: there is no template `{of}`; did you mean `{id}`?")
        }
        None => format!(
            "link `{link}`: there is no template `{of}`; give one the annotation `@id(\"{of}\")`"
        ),
    }
}

/// Where the objects of a list stand.
fn objects(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = None;
    for (at, byte, depth) in clause::outside_strings(text) {
        match (byte, depth) {
            (b'{', 1) => start = Some(at),
            (b'}', 1) => spans.extend(start.take().map(|start| start..at + 1)),
            _ => {}
        }
    }
    spans
}

impl Authored {
    /// The source of a policy: that of its template with the slots filled, where it is a link.
    pub fn source(&self, texts: &[PolicyText]) -> String {
        let written = self.template.as_deref().unwrap_or(self);
        let file = texts.iter().find(|text| text.file == written.place.file);
        match file.and_then(|file| file.text.get(written.span.clone())) {
            None => self.policy.to_string(),
            Some(text) if self.template.is_none() => text.to_owned(),
            Some(text) => self.filled(text),
        }
    }

    fn filled(&self, text: &str) -> String {
        let (_, comments) = compile::scan(text);
        let commented = |at: usize| comments.iter().any(|comment| comment.contains(&at));
        let mut filled = String::with_capacity(text.len());
        let mut from = 0;
        for (at, _, _) in clause::outside_strings(text).filter(|(_, byte, _)| *byte == b'?') {
            let slot = SLOTS.into_iter().find(|slot| text[at..].starts_with(slot));
            let Some(slot) = slot.filter(|_| !commented(at)) else { continue };
            let Some(value) = filling(&self.policy, slot) else { continue };
            filled.push_str(&text[from..at]);
            filled.push_str(&value.to_string());
            from = at + slot.len();
        }
        filled.push_str(&text[from..]);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        complaint::Complaints,
        lint,
        store::{Source, Store},
    };

    const SCHEMA: &str = "entity Team; entity User in [Team]; entity Folder in [Folder]; entity Doc in [Folder] { open: Bool };\n\
        action read, write appliesTo { principal: [User], resource: [Doc] };";

    const TEMPLATES: &str = "@id(\"share\") @reason(\"Ask.\")\n\
        permit (principal == ?principal, action == Action::\"read\", resource in ?resource) // ?resource\n\
        when { resource.open };\n\
        @id(\"block\") forbid (principal in ?principal, action, resource);\n\
        @id(\"plain\") permit (principal, action == Action::\"write\", resource);\n";

    fn text(file: &str, text: &str) -> PolicyText {
        PolicyText { file: file.into(), product: None, text: text.into() }
    }

    fn compile(links: &str) -> Result<Store, Complaints> {
        Store::compile(&Source {
            schema: text("s", SCHEMA),
            policies: vec![text("a.links.json", links), text("p.cedar", TEMPLATES)],
            entities: None,
            names: None,
        })
    }

    #[test]
    fn a_link_is_a_policy_with_the_slots_filled() {
        let store = compile(
            r#"[
  { "template_id": "share", "link_id": "share-ana",
    "args": { "?principal": "User::\"a}]\"", "?resource": "Folder::\"f\"" } },
  {"template_id":"block","link_id":"block-team","args":{"?principal":"Team::\"t\""}}
]"#,
        )
        .unwrap();
        let told: Vec<String> = store
            .policies()
            .iter()
            .map(|policy| format!("{} {}", policy.place, policy.id))
            .collect();
        assert_eq!(
            told,
            ["p.cedar:5:1 plain", "a.links.json:2:3 share-ana", "a.links.json:4:3 block-team"]
        );
        let share = &store.policies()[1];
        assert_eq!(share.reason.as_deref(), Some("Ask."));
        let texts = [text("p.cedar", TEMPLATES)];
        assert_eq!(
            share.source(&texts),
            "@id(\"share\") @reason(\"Ask.\")\n\
             permit (principal == User::\"a}]\", action == Action::\"read\", resource in Folder::\"f\") // ?resource\n\
             when { resource.open };"
        );
        assert_eq!(share.policy.id().to_string(), "share-ana");
        assert!(share.policy.is_static());
        assert!(share.policy.to_cedar().unwrap().contains("principal == User::\"a}]\""));
    }

    #[test]
    fn what_is_wrong_with_a_link_is_told_with_its_place() {
        let link = |template: &str, id: &str, args: &str| {
            format!(
                "[\n {{\"template_id\": \"{template}\", \"link_id\": \"{id}\", \"args\": {{{args}}}}}]"
            )
        };
        let ana = r#""?principal": "User::\"ana\"""#;
        for (links, expected) in [
            ("{}".to_owned(), "a.links.json: no list of links: invalid type"),
            ("[\n{]".to_owned(), "a.links.json:2:2: no list of links: "),
            ("[{\"link_id\": \"a\", \"link_id\": \"b\"}]".to_owned(), "a.links.json:1:"),
            (
                "[\n {\"link_id\": \"a\"}]".to_owned(),
                "a.links.json:2:2: no link: missing field `template_id`; a link has",
            ),
            (
                "[\n {\"link_id\": 1, \"template_id\": \"\"}]".to_owned(),
                "a.links.json:2:2: no link: invalid type",
            ),
            (
                link("shore", "x", ana),
                "a.links.json:2:2: link `x`: there is no template `shore`; did you mean `share`?",
            ),
            (
                link("nothing-near", "x", ana),
                "there is no template `nothing-near`; give one the annotation `@id(\"nothing-near\")`",
            ),
            (link("plain", "x", ana), "link `x` names `plain` (p.cedar:5:1), which has no slots"),
            (
                link("share", "x", ana),
                "a.links.json:2:2: link `x` leaves `?resource` of template `share` open",
            ),
            (
                link("block", "x", &format!("{ana}, \"?resource\": \"Doc::\\\"d\\\"\"")),
                "fills `?resource`, which template `block` (p.cedar:4:1) does not have",
            ),
            (
                link("block", "x", r#""?principal": "ana""#),
                "fills `?principal` with `ana`, which is no entity; write it as in `User::",
            ),
            (link("block", "", ana), "a link of template `block` has no name"),
            (
                link("block", "plain", ana),
                "a.links.json:2:2: the id `plain` stands at p.cedar:5:1 already",
            ),
            (link("block", "share", ana), "the id `share` stands at p.cedar:1:1 already"),
            (link("block", "x", r#""?principal": "Usr::\"ana\"""#), "a.links.json:2:2: link `x`: "),
        ] {
            let told = compile(&links).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        let twice = "[{\"template_id\":\"block\",\"link_id\":\"x\",\"args\":{\"?principal\":\"Team::\\\"t\\\"\"}},\n{\"template_id\":\"block\",\"link_id\":\"x\",\"args\":{\"?principal\":\"Team::\\\"u\\\"\"}}]";
        let told = compile(twice).unwrap_err().to_string();
        assert_eq!(told, "a.links.json:2:1: the id `x` stands at a.links.json:1:2 already");
    }

    #[test]
    fn lints_look_at_templates_and_links() {
        let schema = "entity Team; entity User in [Team]; entity Doc;\naction read appliesTo { principal: [User], resource: [Doc] };";
        let link = |template: &str, id: &str| {
            format!(
                "{{\"template_id\": \"{template}\", \"link_id\": \"{id}\", \"args\": {{\"?principal\": \"Team::\\\"t\\\"\"}}}}"
            )
        };
        let open = "@id(\"a\") permit (principal in ?principal, action, resource);";
        for (policies, links, expected) in [
            (open.to_owned(), format!("[{}]", link("a", "x")), &[][..]),
            (open.to_owned(), "[]".to_owned(), &["p.cedar:1:unlinked-template"]),
            (
                "permit (principal in ?principal, action, resource);".to_owned(),
                "[]".to_owned(),
                &["p.cedar:1:missing-id", "p.cedar:1:unlinked-template"],
            ),
            // A link that does not hold may have been its link.
            (open.to_owned(), format!("[{}]", link("b", "x")), &["links.json:1:unknown-template"]),
            (
                format!(
                    "{open}\n@id(\"b\") @Reason(\"r\") forbid (principal in ?principal, action, resource);"
                ),
                format!("[{},\n{}]", link("a", "x"), link("b", "y")),
                &["links.json:1:unreachable-permit", "p.cedar:2:look-alike-annotation"],
            ),
            (
                "@id(\"a\") permit (principal in ?principal, action, resource) when { context.x };"
                    .to_owned(),
                format!("[{}]", link("a", "x")),
                &["p.cedar:1:validation"],
            ),
        ] {
            let source = Source {
                schema: text("s", schema),
                policies: vec![text("links.json", &links), text("p.cedar", &policies)],
                entities: None,
                names: None,
            };
            let told = lint::store(&source);
            let told: Vec<String> = told
                .findings
                .iter()
                .map(|f| format!("{}:{}:{}", f.place.file, f.place.line, f.code))
                .collect();
            assert_eq!(told, expected, "{policies}\n{links}");
        }
    }
}
