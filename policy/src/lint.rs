//! What is wrong with policies, and what is likely wrong though it holds.
//!
//! Everything is told in one go: complaints of reading, parsing and validating, and beside them what
//! an author would want to know of policies that hold: one that decides nothing, one that can never
//! apply, names that are taken for each other. What is said here is true, never a guess: where
//! something is known to identity alone (an organization's own roles, in a folder), nothing is said.

use std::{collections::BTreeSet, fmt, fs, path::Path, sync::Arc};

use cedar_policy::{Schema, SchemaWarning};
use serde::Serialize;

use crate::{
    catalog::{self, Catalog},
    compile::{self, Authored, Written},
    complaint::{Complaint, Place},
    folder::{self, Survey},
    model::manifest::Manifest,
    schema,
    snapshot::{PolicyText, Snapshot},
    store::{self, access::Names},
    template,
};

mod names;
mod never;
mod reach;
mod rights;
mod shadow;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policies do not hold.
    Error,
    /// They hold, and say something that their author cannot have meant.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub place: Place,
    pub severity: Severity,
    /// What kind of thing it is, in a word that does not change: for programs.
    pub code: &'static str,
    pub text: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Finding {
    fn new(place: &Place, severity: Severity, code: &'static str, text: String) -> Self {
        Self { place: place.clone(), severity, code, text, cure: None }
    }

    fn warning(place: &Place, code: &'static str, text: String) -> Self {
        Self::new(place, Severity::Warning, code, text)
    }

    fn info(place: &Place, code: &'static str, text: String) -> Self {
        Self::new(place, Severity::Info, code, text)
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl From<Complaint> for Finding {
    fn from(complaint: Complaint) -> Self {
        let (text, cure) = match complaint.text.rsplit_once("; ") {
            Some((text, cure)) => (text.to_owned(), Some(cure.to_owned())),
            None => (complaint.text, None),
        };
        let severity = Severity::Error;
        Self { place: complaint.place, severity, code: complaint.code, text, cure }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}] {}", self.place, self.severity, self.text)?;
        match &self.cure {
            Some(cure) => write!(f, "; {cure}"),
            None => Ok(()),
        }
    }
}

/// Everything there is to tell of some policies, in the order of files and lines.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// The texts that findings point into, as far as they are known.
    pub texts: Vec<PolicyText>,
}

impl Report {
    fn new(mut findings: Vec<Finding>, texts: Vec<PolicyText>) -> Self {
        findings.sort();
        findings.dedup();
        Self { findings, texts }
    }

    /// Whether anything is as bad as that, or worse.
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity <= severity)
    }

    /// A finding for people: its line, and the line it speaks of.
    pub fn draw(&self, finding: &Finding) -> String {
        let text = self.texts.iter().find(|text| text.file == finding.place.file);
        match text.and_then(|text| finding.place.snippet(&text.text, finding.code)) {
            Some(snippet) => format!("{finding}\n{snippet}"),
            None => finding.to_string(),
        }
    }
}

/// Look at a policy folder of either kind.
pub fn folder(folder: &Path) -> Report {
    let mut report = of_folder(folder);
    let known: BTreeSet<Arc<str>> = report.texts.iter().map(|text| text.file.clone()).collect();
    let files: BTreeSet<Arc<str>> = report.findings.iter().map(|f| f.place.file.clone()).collect();
    for file in files.difference(&known) {
        // A manifest is kept as what it means; for its lines the file is read again.
        if let Ok(text) = fs::read_to_string(&**file) {
            let file = Arc::clone(file);
            report.texts.push(PolicyText { file, product: None, text: text.into() });
        }
    }
    report
}

fn of_folder(folder: &Path) -> Report {
    match folder::survey(folder) {
        Survey::Products { products, policies, complaints } => {
            // With a manifest missing, what speaks of its product would be told as wrong.
            let whole = complaints.is_empty();
            let findings = complaints.into_iter().map(Finding::from).collect();
            Subject { products, policies, snapshot: None }.report(findings, whole)
        }
        Survey::Store { schema, policies, entities, names, complaints } => {
            let findings = complaints.into_iter().map(Finding::from).collect();
            of_store(schema, policies, (entities, names), findings)
        }
    }
}

/// Look at a snapshot. It is the whole of an installation: what it does not name is not there.
pub fn snapshot(snapshot: &Snapshot) -> Report {
    let subject = Subject {
        products: snapshot.products.clone(),
        policies: snapshot.policies.clone(),
        snapshot: Some(snapshot),
    };
    subject.report(Vec::new(), true)
}

/// What is looked at, where there are products.
struct Subject<'a> {
    products: Vec<Arc<Manifest>>,
    policies: Vec<PolicyText>,
    /// Where roles and groups of organizations' own are known.
    snapshot: Option<&'a Snapshot>,
}

impl Subject<'_> {
    fn report(self, mut findings: Vec<Finding>, whole: bool) -> Report {
        let clash = self.check_catalog(&mut findings);
        let schema = if whole && !clash { self.schema(&mut findings) } else { None };
        let mut complaints = Vec::new();
        let products = if schema.is_some() { self.products.as_slice() } else { &[] };
        let written = compile::examine(&self.policies, schema.as_ref(), products, &mut complaints);
        findings.extend(names::policies(&written, &self.policies));
        findings.extend(names::products(&self.products, self.snapshot));
        findings.extend(unlinked(&written, &complaints));
        if let Some(schema) = &schema {
            let sound = sound(&written.policies, &self.policies, &complaints);
            let reaches = reach::all(&sound, schema, Some(&self.products));
            let known = never::Known { products: &self.products, snapshot: self.snapshot };
            let looked = never::Looked { policies: &sound, reaches: &reaches, schema };
            findings.extend(never::lint(&looked, &self.policies, Some(&known)));
            findings.extend(shadow::lint(&sound, &reaches));
            findings.extend(shadow::roles(&sound, &reaches, &self.products));
            findings.extend(rights::lint(&sound, &reaches, &self.products, self.snapshot));
        }
        findings.extend(complaints.into_iter().map(Finding::from));
        Report::new(findings, self.policies)
    }

    /// Hold the manifests against each other; whether two of them want the same namespace.
    fn check_catalog(&self, findings: &mut Vec<Finding>) -> bool {
        let catalog = Catalog::new(self.products.clone(), self.policies.clone());
        let Err(complaints) = catalog else { return false };
        let mut complaints = complaints.into_vec();
        for complaint in complaints.iter_mut().filter(|c| c.place.file.is_empty()) {
            complaint.place = Place::file(self.name());
        }
        let clash = complaints.iter().any(|complaint| complaint.code == catalog::NAMESPACE);
        findings.extend(complaints.into_iter().map(Finding::from));
        clash
    }

    /// What is looked at, where no file is known.
    fn name(&self) -> String {
        self.snapshot.map_or("the policy folder".to_owned(), |s| format!("snapshot {}", s.revision))
    }

    fn schema(&self, findings: &mut Vec<Finding>) -> Option<Schema> {
        schema::build(&self.products)
            .inspect_err(|error| {
                let told = format!("the schema of the products does not hold: {error}");
                let place = Place::file(self.name());
                findings.push(Finding::new(&place, Severity::Error, "schema", told));
            })
            .ok()
    }
}

/// Look at a plain store.
pub fn store(source: &store::Source) -> Report {
    let store::Source { schema, policies, entities, names } = source.clone();
    of_store(Some(schema), policies, (entities, names), Vec::new())
}

fn of_store(
    text: Option<PolicyText>,
    policies: Vec<PolicyText>,
    (entities, names): (Option<PolicyText>, Option<PolicyText>),
    mut findings: Vec<Finding>,
) -> Report {
    let schema = text.as_ref().and_then(|text| plain_schema(text, &mut findings));
    let mut complaints = Vec::new();
    let written = compile::examine(&policies, schema.as_ref(), &[], &mut complaints);
    findings.extend(names::policies(&written, &policies));
    findings.extend(unlinked(&written, &complaints));
    if let Some(schema) = &schema {
        if let Some(text) = &entities {
            findings.extend(store::entities(text, schema).err().map(Finding::from));
        }
        if let Some(Err(complaints)) = names.as_ref().map(|text| Names::read(text, schema)) {
            findings.extend(complaints.into_vec().into_iter().map(Finding::from));
        }
        let sound = sound(&written.policies, &policies, &complaints);
        let reaches = reach::all(&sound, schema, None);
        let looked = never::Looked { policies: &sound, reaches: &reaches, schema };
        findings.extend(never::lint(&looked, &policies, None));
        findings.extend(shadow::lint(&sound, &reaches));
    }
    findings.extend(complaints.into_iter().map(Finding::from));
    Report::new(findings, policies.into_iter().chain(text).chain(entities).chain(names).collect())
}

fn plain_schema(text: &PolicyText, findings: &mut Vec<Finding>) -> Option<Schema> {
    match Schema::from_cedarschema_str(&text.text) {
        Ok((schema, warnings)) => {
            findings.extend(warnings.map(|warning| schema_warning(text, &warning)));
            Some(schema)
        }
        Err(error) => {
            let place = compile::diagnosed(text, &error);
            let complaint = place.complain(compile::told(&error)).coded("schema");
            findings.push(complaint.into());
            None
        }
    }
}

fn schema_warning(text: &PolicyText, warning: &SchemaWarning) -> Finding {
    let place = compile::diagnosed(text, warning);
    Finding::warning(&place, "schema-shadowing", compile::told(warning))
}

/// Templates without links, where every file of links was read.
fn unlinked(written: &Written, complaints: &[Complaint]) -> Vec<Finding> {
    let whole = complaints.iter().all(|complaint| !template::is_links(&complaint.place.file));
    if whole { never::unlinked(written) } else { Vec::new() }
}

/// The policies that validate: what is said of the others would be said of what they do not mean.
fn sound<'a>(
    written: &'a [Authored],
    texts: &[PolicyText],
    complaints: &[Complaint],
) -> Vec<&'a Authored> {
    let broken: BTreeSet<&Place> = complaints
        .iter()
        .filter(|complaint| matches!(complaint.code, "validation" | "empty-set"))
        .map(|complaint| &complaint.place)
        .collect();
    if broken.is_empty() {
        return written.iter().collect();
    }
    let within = |policy: &Authored| {
        let end = text_of(policy, texts)
            .map(|text| Place::of_byte(&text.file, &text.text, policy.span.end));
        broken.iter().any(|place| {
            place.line == 0 && place.file == policy.place.file
                || **place >= policy.place && end.as_ref().is_some_and(|end| *place <= end)
        })
    };
    let broken =
        |policy: &Authored| within(policy) || policy.template.as_deref().is_some_and(within);
    written.iter().filter(|policy| !broken(policy)).collect()
}

fn text_of<'a>(policy: &Authored, texts: &'a [PolicyText]) -> Option<&'a PolicyText> {
    texts.iter().find(|text| text.file == policy.place.file)
}

/// Where a manifest is read from; one of a snapshot has no file.
fn place_of(manifest: &Manifest) -> Place {
    if manifest.place.file.is_empty() {
        return Place::file(format!("product {}", manifest.product));
    }
    manifest.place.clone()
}

/// Where a piece of text stands in a policy, or where the policy begins.
fn place_in(policy: &Authored, texts: &[PolicyText], piece: &str) -> Place {
    let find = |text: &PolicyText| {
        let at = text.text.get(policy.span.clone())?.find(piece)?;
        Some(Place::of_byte(&text.file, &text.text, policy.span.start + at))
    };
    text_of(policy, texts).and_then(find).unwrap_or_else(|| policy.place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = "\
product: demo
resources:
  things: [get, put, purge]
  others: [get]
roles:
  demo-editor-role: {permissions: {things: [get, put], others: [get]}}
  demo-viewer-role: {permissions: {things: [get]}}
groups: {demo-editors: {roles: [demo-editor-role]}}
";

    fn text(file: &str, text: &str) -> PolicyText {
        PolicyText { file: file.into(), product: None, text: text.into() }
    }

    /// The codes of what is told of policies beside the product, without what is told of it alone.
    fn codes(policies: &str) -> Vec<String> {
        let manifest = Arc::new(Manifest::parse("m", PRODUCT).unwrap());
        let policies = vec![text("p.cedar", policies)];
        let subject = Subject { products: vec![manifest], policies, snapshot: None };
        let report = subject.report(Vec::new(), true);
        let told = |f: &Finding| {
            (&*f.place.file == "p.cedar").then(|| format!("{}:{}", f.place.line, f.code))
        };
        report.findings.iter().filter_map(told).collect()
    }

    fn store_codes(schema: &str, policies: &str) -> Vec<String> {
        let source = store::Source {
            schema: text("s", schema),
            policies: vec![text("p.cedar", policies)],
            entities: None,
            names: None,
        };
        store(&source).findings.iter().map(|f| format!("{}:{}", f.place.line, f.code)).collect()
    }

    #[test]
    fn what_is_as_it_should_be_is_not_told() {
        for policy in [
            "@id(\"x\") @reason(\"y\") forbid (principal is User, action, resource) unless { context.mfa };",
            "@id(\"x\") permit (principal in Role::\"demo-viewer-role\", action == Demo::Action::\"things:put\", resource);",
            "@id(\"x\") permit (principal in Role::\"demo-viewer-role\", action in [Demo::Action::\"things:get\", Demo::Action::\"things:put\"], resource);",
            "@id(\"x\") forbid (principal in Role::\"demo-viewer-role\", action in Demo::Action::\"things:*\", resource);",
            // An organization's own, which a folder cannot know.
            "@id(\"x\") forbid (principal in Role::\"acme/theirs\", action in Demo::Action::\"*:get\", resource);",
            "@id(\"x\") forbid (principal in Group::\"acme/theirs\", action in Demo::Action::\"*:get\", resource);",
            "@id(\"x\") forbid (principal, action in Demo::Action::\"*:*\", resource == Demo::Resource::\"others\");",
            // Narrower than the other, but the other has a condition.
            "@id(\"x1\") forbid (principal is User, action in Demo::Action::\"*:*\", resource) unless { context.mfa };\n@id(\"x2\") forbid (principal is User, action in Demo::Action::\"things:*\", resource) unless { context.mfa };",
            // They meet, and neither is within the other.
            "@id(\"x1\") forbid (principal is User, action in Demo::Action::\"*:*\", resource);\n@id(\"x2\") forbid (principal in Role::\"demo-viewer-role\", action in Demo::Action::\"things:*\", resource);",
            // A series is meant to be near.
            "@id(\"step-one-1\") forbid (principal is User, action == Demo::Action::\"things:get\", resource);\n@id(\"step-one-2\") forbid (principal is User, action == Demo::Action::\"things:put\", resource);",
        ] {
            assert_eq!(codes(policy), [""; 0], "{policy}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let get = "action == Demo::Action::\"things:get\"";
        let all = "action in Demo::Action::\"*:*\"";
        for (policies, expected) in [
            (format!("forbid (principal is User, {get}, resource);"), &["1:missing-id"][..]),
            ("@id(\"x\") forbid (principal, action, resource) unless { context.mfa };".into(), &["1:cost-floor"]),
            (format!("@id(\"x\") @Reason(\"y\") forbid (principal is User, {get}, resource);"), &["1:look-alike-annotation"]),
            (
                format!("@id(\"a\") forbid (principal is User, {get}, resource) when {{ context.mfa }};\n@id(\"b\") forbid (principal is User, {all}, resource);"),
                &["1:shadowed-policy"],
            ),
            (
                format!("@id(\"a\") forbid (principal == User::\"acme/ana\", {get}, resource);\n@id(\"b\") forbid (principal in Organization::\"acme\", {all}, resource);"),
                &["1:shadowed-policy"],
            ),
            (
                format!("@id(\"a\") forbid (principal is User, {get}, resource);\n@id(\"b\") forbid (principal is User, {get}, resource);"),
                &["2:shadowed-policy"],
            ),
            (
                format!("@id(\"a\") permit (principal is User, {get}, resource);\n@id(\"b\") forbid (principal, {all}, resource) unless {{ 1 == 2 }};"),
                &["1:unreachable-permit"],
            ),
            (
                format!("@id(\"a\") permit (principal is User in Role::\"demo-viewer-role\", {get}, resource);"),
                &["1:shadowed-policy"],
            ),
            (
                "@id(\"a\") permit (principal is User, action == Demo::Action::\"things:purge\", resource);".into(),
                &["1:permit-beyond-roles"],
            ),
            ("@id(\"a\") forbid (principal is User, action == Demo::Action::\"things:*\", resource);".into(), &["1:equals-action-group"]),
            (format!("@id(\"a\") forbid (principal is User, {get}, resource == Demo::Resource::\"others\");"), &["1:nothing-in-scope"]),
            (format!("@id(\"a\") forbid (principal is User, {get}, resource == Demo::Resource::\"thing\");"), &["1:unknown-resource"]),
            (format!("@id(\"a\") forbid (principal in Role::\"demo-viewr-role\", {get}, resource);"), &["1:unknown-role"]),
            (format!("@id(\"a\") forbid (principal in Group::\"demo-editors\", {get}, resource);"), &["1:unknown-group"]),
            (format!("@id(\"a\") forbid (principal == User::\"ana\", {get}, resource);"), &["1:unknown-principal"]),
            (format!("@id(\"a\") forbid (principal == Role::\"demo-viewer-role\", {get}, resource);"), &["1:no-applicable-action"]),
            (format!("@id(\"a\") forbid (principal is User, {get}, resource) when {{ context.mfa && 1 > 2 }};"), &["1:never-true"]),
            (format!("@id(\"a\") forbid (principal is User, {get}, resource) when {{ principal in User::\"acme/a\" && principal is Application }};"), &["1:impossible-policy"]),
            (format!("@id(\"a\") forbid (principal is User, {get}, resource)\nwhen {{ context.organization == \"аcme\" }};"), &["2:confusable-text"]),
            (
                format!("@id(\"no-purging\") forbid (principal is User, {get}, resource);\n@id(\"no_purging\") forbid (principal is Application, {get}, resource);"),
                &["2:look-alike"],
            ),
            (format!("@id(\"аdmin-2\") forbid (principal is User, {get}, resource);"), &["1:confusable-text"]),
            (format!("@id(\"a\") @reason(\"no\u{202e}on\") forbid (principal is User, {get}, resource);"), &["1:confusable-text"]),
            (
                format!("@id(\"ореn\") forbid (principal is User, {get}, resource);\n@id(\"open\") forbid (principal is Application, {get}, resource);"),
                &["1:confusable-text", "2:look-alike"],
            ),
            // One file tells all of it, whatever else is wrong.
            (
                format!("@id(\"a\") forbid (principal is User, {get}, resource)\nwhen {{ context.nothing }};\nforbid (principal is User, action in [], resource);"),
                &["2:validation", "3:empty-set", "3:missing-id"],
            ),
        ] {
            assert_eq!(codes(&policies), expected, "{policies}");
        }
    }

    #[test]
    fn a_plain_store_is_looked_at_too() {
        let schema = "entity Team; entity User in [Team]; entity Doc;\naction all; action read, write in [all] appliesTo { principal: [User], resource: [Doc] };";
        for (policies, expected) in [
            (
                "@id(\"a\") permit (principal, action in [Action::\"read\"], resource) when { principal in Team::\"t\" };",
                &[][..],
            ),
            (
                "@id(\"a\") permit (principal, action == Action::\"all\", resource);",
                &["1:equals-action-group"],
            ),
            (
                "@id(\"a\") permit (principal, action in Action::\"all\", resource);\n@id(\"b\") permit (principal in Team::\"t\", action == Action::\"read\", resource);",
                &["2:shadowed-policy"],
            ),
            (
                "@id(\"a\") permit (principal is Doc, action in Action::\"all\", resource);",
                &["1:no-applicable-action"],
            ),
            (
                "permit (principal, action == Action::\"raed\", resource);",
                &["1:missing-id", "1:validation"],
            ),
        ] {
            assert_eq!(store_codes(schema, policies), expected, "{policies}");
        }
        let told = store_codes("entity User", "permit (principal, action, resource)\n@");
        assert!(told.iter().any(|code| code.ends_with(":schema")), "{told:?}");
        assert!(told.iter().any(|code| code.ends_with(":syntax")), "{told:?}");
    }

    #[test]
    fn a_snapshot_knows_organizations_own_roles_and_groups() {
        let manifest = Arc::new(Manifest::parse("m", PRODUCT).unwrap());
        let policies = "@id(\"a\") forbid (principal in Role::\"acme/theirs\", action in Demo::Action::\"*:get\", resource);\n\
             @id(\"b\") forbid (principal in Role::\"acme/others\", action in Demo::Action::\"*:get\", resource);\n\
             @id(\"c\") forbid (principal in Group::\"acme/demo-editors\", action in Demo::Action::\"*:get\", resource);\n\
             @id(\"d\") forbid (principal in Group::\"acme/demo-editor\", action in Demo::Action::\"*:get\", resource);";
        let role = crate::model::grant::Role {
            name: "theirs".parse().unwrap(),
            org: Some("acme".parse().unwrap()),
            product: "demo".parse().unwrap(),
            title: String::new(),
            grants: vec!["things:purge".parse().unwrap()],
        };
        let report = snapshot(&Snapshot {
            revision: crate::model::decision::Revision(3),
            products: vec![manifest],
            roles: vec![role],
            groups: Vec::new(),
            policies: vec![text("p.cedar", policies)],
            issuer: None,
            guests: Vec::new(),
        });
        let told: Vec<String> =
            report.findings.iter().map(|f| format!("{}:{}", f.place.line, f.code)).collect();
        assert_eq!(told, ["2:unknown-role", "4:unknown-group"]);
    }

    /// Policies that overlap in many ways.
    fn policies() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
        use proptest::{collection::vec, prelude::Strategy, sample::select};
        let effect = select(vec!["permit", "forbid"]);
        let principal = select(vec![
            "principal",
            "principal is User",
            "principal is Application",
            "principal == User::\"acme/ana\"",
            "principal in Group::\"acme/demo-editors\"",
            "principal in Organization::\"acme\"",
            "principal is User in Organization::\"acme\"",
            "principal in Role::\"demo-editor-role\"",
            "principal is User in Role::\"demo-viewer-role\"",
            "principal == User::\"ana\"",
            "principal in Role::\"demo-role\"",
        ]);
        let action = select(vec![
            "action",
            "action == Demo::Action::\"things:get\"",
            "action == Demo::Action::\"things:*\"",
            "action in Demo::Action::\"things:*\"",
            "action in Demo::Action::\"*:get\"",
            "action in [Demo::Action::\"things:get\", Demo::Action::\"others:get\"]",
            "action in Demo::Action::\"*:*\"",
        ]);
        let resource = select(vec![
            "resource",
            "resource is Demo::Resource",
            "resource == Demo::Resource::\"things\"",
            "resource in Demo::Resource::\"others\"",
            "resource == Demo::Resource::\"thing\"",
        ]);
        let condition = select(vec![
            "",
            "",
            "when { context.mfa }",
            "unless { context.mfa }",
            "unless { false && context.mfa }",
            "when { true || context.mfa }",
            "when { context.mfa && 1 > 2 }",
            "when { 1 < 2 } unless { 1 > 2 }",
        ]);
        vec((effect, principal, action, resource, condition), 1..5).prop_map(|policies| {
            let told = |(n, (effect, principal, action, resource, condition)): (usize, _)| {
                format!("@id(\"p{n}\") {effect} ({principal}, {action}, {resource}) {condition};")
            };
            policies.into_iter().enumerate().map(told).collect()
        })
    }

    /// Every answer there is, for a few subjects and either way to sign in.
    fn answers(policies: &[String]) -> Vec<bool> {
        use crate::{
            engine::Engine,
            model::{
                caller::{Authentication, Principal, Subject},
                decision::Revision,
                query::{Facts, Query},
            },
        };
        let manifest = Manifest::parse("m", PRODUCT).unwrap();
        let permissions: Vec<_> = manifest.permissions().collect();
        let engine = Engine::compile(Arc::new(Snapshot {
            revision: Revision(1),
            products: vec![Arc::new(manifest)],
            roles: Vec::new(),
            groups: Vec::new(),
            policies: vec![text("p.cedar", &policies.join("\n"))],
            issuer: None,
            guests: Vec::new(),
        }))
        .unwrap();
        let org = |name: &str| name.parse().unwrap();
        let people = [("acme", "ana", true), ("acme", "bo", false), ("other", "ana", true)];
        let mut subjects: Vec<Subject> = people
            .into_iter()
            .map(|(of, id, grouped)| Subject {
                principal: Principal::User { org: org(of), id: id.parse().unwrap() },
                groups: if grouped { vec!["demo-editors".parse().unwrap()] } else { vec![] }.into(),
                roles: Vec::new().into(),
            })
            .collect();
        subjects.push(Subject {
            principal: Principal::Application { org: org("acme"), id: "robot".parse().unwrap() },
            groups: Vec::new().into(),
            roles: vec!["demo-editor-role".parse().unwrap()].into(),
        });
        let mut answers = Vec::new();
        for subject in &subjects {
            for amr in [vec![], vec!["mfa".to_owned()]] {
                let authentication = Authentication { amr, ..Authentication::default() };
                let facts = Facts { authentication: Some(&authentication), ..Facts::default() };
                for permission in &permissions {
                    let id = engine
                        .permission(
                            "demo",
                            permission.resource.as_str(),
                            permission.action.as_str(),
                        )
                        .unwrap();
                    let query = Query { subject, permission: id, facts: &facts };
                    answers.push(engine.decide(&query).allowed());
                }
            }
        }
        answers
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        /// What is told to decide nothing, or never to apply, can be taken out.
        #[test]
        fn a_policy_that_is_told_to_decide_nothing_decides_nothing(all in policies()) {
            let idle = [
                "shadowed-policy", "unreachable-permit", "equals-action-group", "nothing-in-scope",
                "unknown-resource", "unknown-role", "unknown-principal", "never-true",
                "impossible-policy", "no-applicable-action",
            ];
            let told: Vec<usize> = codes(&all.join("\n"))
                .iter()
                .filter_map(|told| told.split_once(':'))
                .filter(|(_, code)| idle.contains(code))
                .map(|(line, _)| line.parse::<usize>().unwrap() - 1)
                .collect();
            let kept: Vec<String> = all
                .iter()
                .enumerate()
                .filter(|(n, _)| !told.contains(n))
                .map(|(_, policy)| policy.clone())
                .collect();
            proptest::prop_assert_eq!(answers(&all), answers(&kept));
        }
    }
}
