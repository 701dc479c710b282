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
    catalog::Catalog,
    compile::{self, Authored},
    complaint::{Complaint, Place},
    folder::{self, Survey},
    model::manifest::Manifest,
    schema,
    snapshot::{PolicyText, Snapshot},
    store,
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
            let mut findings: Vec<Finding> = complaints.into_iter().map(Finding::from).collect();
            if let Err(complaints) = Catalog::new(products.clone(), policies.clone()) {
                findings.extend(complaints.into_vec().into_iter().map(Finding::from));
            }
            // With a manifest missing, what speaks of its product would be told as wrong.
            let whole = findings.is_empty();
            let subject = Subject { products, policies, snapshot: None };
            subject.report(findings, whole)
        }
        Survey::Store { schema, policies, entities, complaints } => {
            let findings = complaints.into_iter().map(Finding::from).collect();
            of_store(schema, policies, entities, findings)
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
    let (products, policies) = (snapshot.products.clone(), snapshot.policies.clone());
    let findings: Vec<Finding> = match Catalog::new(products, policies) {
        Ok(_) => Vec::new(),
        Err(complaints) => complaints.into_vec().into_iter().map(Finding::from).collect(),
    };
    let whole = findings.is_empty();
    subject.report(findings, whole)
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
        let schema = if whole { self.schema(&mut findings) } else { None };
        let mut complaints = Vec::new();
        let products = if schema.is_some() { self.products.as_slice() } else { &[] };
        let written = compile::examine(&self.policies, schema.as_ref(), products, &mut complaints);
        findings.extend(names::policies(&written, &self.policies));
        findings.extend(names::products(&self.products, self.snapshot));
        if let Some(schema) = &schema {
            let sound = sound(&written, &self.policies, &complaints);
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

    fn schema(&self, findings: &mut Vec<Finding>) -> Option<Schema> {
        schema::build(&self.products)
            .inspect_err(|error| {
                let told = format!("the schema of the products does not hold: {error}");
                let place = Place::file("product.yaml");
                findings.push(Finding::new(&place, Severity::Error, "schema", told));
            })
            .ok()
    }
}

/// Look at a plain store.
pub fn store(source: &store::Source) -> Report {
    let store::Source { schema, policies, entities } = source.clone();
    of_store(Some(schema), policies, entities, Vec::new())
}

fn of_store(
    text: Option<PolicyText>,
    policies: Vec<PolicyText>,
    entities: Option<PolicyText>,
    mut findings: Vec<Finding>,
) -> Report {
    let schema = text.as_ref().and_then(|text| plain_schema(text, &mut findings));
    let mut complaints = Vec::new();
    let written = compile::examine(&policies, schema.as_ref(), &[], &mut complaints);
    findings.extend(names::policies(&written, &policies));
    if let Some(schema) = &schema {
        if let Some(text) = &entities {
            findings.extend(store::entities(text, schema).err().map(Finding::from));
        }
        let sound = sound(&written, &policies, &complaints);
        let reaches = reach::all(&sound, schema, None);
        let looked = never::Looked { policies: &sound, reaches: &reaches, schema };
        findings.extend(never::lint(&looked, &policies, None));
        findings.extend(shadow::lint(&sound, &reaches));
    }
    findings.extend(complaints.into_iter().map(Finding::from));
    Report::new(findings, policies.into_iter().chain(text).chain(entities).collect())
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
    let within = |policy: &Authored| {
        let end = text_of(policy, texts)
            .map(|text| Place::of_byte(&text.file, &text.text, policy.span.end));
        broken.iter().any(|place| {
            place.line == 0 && place.file == policy.place.file
                || **place >= policy.place && end.as_ref().is_some_and(|end| *place <= end)
        })
    };
    written.iter().filter(|policy| !within(policy)).collect()
}

fn text_of<'a>(policy: &Authored, texts: &'a [PolicyText]) -> Option<&'a PolicyText> {
    texts.iter().find(|text| text.file == policy.place.file)
}

/// Where a piece of text stands in a policy, or where the policy begins.
fn place_in(policy: &Authored, texts: &[PolicyText], piece: &str) -> Place {
    let find = |text: &PolicyText| {
        let at = text.text.get(policy.span.clone())?.find(piece)?;
        Some(Place::of_byte(&text.file, &text.text, policy.span.start + at))
    };
    text_of(policy, texts).and_then(find).unwrap_or_else(|| policy.place.clone())
}
