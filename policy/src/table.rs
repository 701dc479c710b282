//! Decision tables: what the policies must answer, in YAML beside them.
//!
//! `read` turns `tests/*.yaml` into questions about one engine's permissions, and complains of every
//! name that the engine does not know; `run` asks them. A case names principals and what each may
//! and may not do; a matrix says of whole groups what they may do, and that they may do nothing else.
//! A policy that cannot be evaluated fails the case that met it, whatever the case expected: a deny
//! for want of an answer is not the deny its author meant. [`store`] does the same for plain Cedar
//! stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    complaint::{Complaint, Complaints, Place},
    engine::Engine,
    folder::{MANIFEST, entries},
    model::{
        caller::{Authentication, Subject},
        decision::{Decision, Verdict},
        query::{Facts, PermissionId, Query},
    },
};

mod coverage;
mod junit;
mod moved;
mod questions;
mod reader;
#[cfg(test)]
mod schema;
pub mod store;

pub use coverage::Coverage;
pub use junit::junit;
pub use moved::{Moved, moved};
pub(crate) use reader::{NOON, place, yaml};

/// The folder of decision tables, in a policy folder and in each product's.
pub const TESTS: &str = "tests";

/// Questions that belong together, each with the answer that is expected.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub place: Place,
    questions: Vec<Question>,
}

impl Case {
    /// Let places name their files by another path.
    pub fn rename(&mut self, from: &str, to: &str) {
        let places = self.questions.iter_mut().map(|question| &mut question.place);
        for place in places.chain([&mut self.place]) {
            place.file = place.file.replace(from, to).into();
        }
    }
}

/// One question with its answer.
#[derive(Debug)]
struct Question {
    place: Place,
    asker: Arc<Asker>,
    permission: PermissionId,
    expected: Verdict,
    /// The policies that must have settled it, where the case says.
    policies: Option<BTreeSet<String>>,
    given: Arc<Given>,
}

/// A principal of a table.
#[derive(Debug)]
struct Asker {
    subject: Subject,
    authentication: Authentication,
}

/// The circumstances of a case.
#[derive(Debug, Default)]
struct Given {
    client: Option<IpAddr>,
    now: u64,
    parameters: Vec<(String, String)>,
}

/// What came of one case.
#[derive(Debug)]
pub struct Ran {
    pub name: String,
    pub place: Place,
    pub asked: usize,
    pub failures: Vec<Failure>,
}

/// An answer that is not the expected one.
#[derive(Debug)]
pub struct Failure {
    pub place: Place,
    pub principal: String,
    /// `midaz::accounts:get`.
    pub permission: Arc<str>,
    pub expected: Verdict,
    /// The policies that had to settle it, where the case says.
    pub expected_policies: Option<BTreeSet<String>>,
    /// The policies that had to fail, where the case says so.
    pub expected_errors: BTreeSet<String>,
    pub decision: Decision,
}

/// What came of all of them.
#[derive(Debug)]
pub struct Report {
    pub cases: Vec<Ran>,
    /// Of each hand-written policy, in the order of files and lines.
    pub coverage: Vec<Coverage>,
}

impl Report {
    /// The cases that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Ran> {
        self.cases.iter().filter(|ran| !ran.failures.is_empty())
    }

    /// How many questions were asked.
    pub fn asked(&self) -> usize {
        self.cases.iter().map(|ran| ran.asked).sum()
    }

    /// The hand-written policies that no case reached.
    pub fn unreached(&self) -> impl Iterator<Item = &Coverage> {
        self.coverage.iter().filter(|policy| !policy.reached())
    }
}

/// The tables of a policy folder: those at the top, then each product's, in the order of names.
///
/// # Errors
///
/// A folder that cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Complaints> {
    let mut tables = Vec::new();
    let mut complaints = Vec::new();
    let mut look = |folder: &Path, keep: &dyn Fn(&Path) -> bool| match entries(folder) {
        Ok(paths) => paths.into_iter().filter(|path| keep(path)).collect(),
        Err(error) => {
            let place = Place::file(folder.display().to_string());
            let told = format!("cannot read the folder: {error}");
            complaints.push(place.complain(told).coded("unreadable"));
            Vec::new()
        }
    };
    let mut homes = vec![folder.to_owned()];
    homes.extend(look(folder, &|path| path.join(MANIFEST).is_file()));
    for tests in homes.iter().map(|home| home.join(TESTS)).filter(|tests| tests.is_dir()) {
        tables.extend(look(&tests, &is_table));
    }
    Complaints::unless(complaints, tables)
}

/// Whether it is a decision table, by its name: any YAML, where tables lie.
pub fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Read tables, each with the path that complaints name.
///
/// # Errors
///
/// Everything in any of them that is no table, or speaks of what the engine does not know.
pub fn read(engine: &Engine, files: &[PathBuf]) -> Result<Vec<Case>, Complaints> {
    let known = reader::Known::of(engine);
    each(files, |name, text| reader::parse(&known, name, text))
}

/// The cases of every file, or everything that is wrong with any of them.
fn each<C>(
    files: &[PathBuf],
    parse: impl Fn(&str, &str) -> Result<Vec<C>, Complaints>,
) -> Result<Vec<C>, Complaints> {
    let mut cases = Vec::new();
    let mut complaints: Vec<Complaint> = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let table = fs::read_to_string(path)
            .map_err(|error| {
                let told = format!("cannot read the file: {error}");
                Place::file(name.as_str()).complain(told).coded("unreadable").into()
            })
            .and_then(|text| parse(&name, &text));
        match table {
            Ok(table) => cases.extend(table),
            Err(told) => complaints.extend(told.into_vec()),
        }
    }
    Complaints::unless(complaints, cases)
}

/// Ask every question of every case.
///
/// # Errors
///
/// A hand-written policy whose coverage cannot be told, or a question Cedar does not take.
pub fn run(engine: &Engine, cases: &[Case]) -> Result<Report, Complaint> {
    let mut coverage = coverage::Watch::of(engine.written())?;
    let mut ran = Vec::new();
    for case in cases {
        let mut failures = Vec::new();
        for question in &case.questions {
            failures.extend(question.ask(engine, &mut coverage)?);
        }
        let (name, place) = (case.name.clone(), case.place.clone());
        ran.push(Ran { name, place, asked: case.questions.len(), failures });
    }
    Ok(Report { cases: ran, coverage: coverage.done() })
}

impl Question {
    /// What an engine decides that may be another than the one whose table this is; `None` where it
    /// knows no such permission.
    fn of(&self, home: &Engine, engine: &Engine) -> Option<Decision> {
        let (product, permission) = home.name(self.permission)?;
        let (resource, action) = (permission.resource.as_str(), permission.action.as_str());
        let permission = engine.permission(product.as_str(), resource, action)?;
        Some(self.put(|query| engine.decide(&Query { permission, ..*query })))
    }

    fn ask(
        &self,
        engine: &Engine,
        coverage: &mut coverage::Watch,
    ) -> Result<Option<Failure>, Complaint> {
        let decision = self.put(|query| {
            coverage.see(engine, query).map_err(|error| self.place.complain(error))?;
            Ok::<_, Complaint>(engine.decide(query))
        })?;
        Ok((!self.holds(&decision)).then(|| Failure {
            place: self.place.clone(),
            principal: self.asker.subject.principal.to_string(),
            permission: engine.label(self.permission),
            expected: self.expected,
            expected_policies: self.policies.clone(),
            expected_errors: BTreeSet::new(),
            decision,
        }))
    }

    fn put<T>(&self, ask: impl FnOnce(&Query<'_>) -> T) -> T {
        let given = &self.given;
        let parameters: Vec<(&str, &str)> =
            given.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let facts = Facts {
            client: given.client,
            now: given.now,
            authentication: Some(&self.asker.authentication),
            parameters: &parameters,
        };
        let subject = &self.asker.subject;
        ask(&Query { subject, permission: self.permission, facts: &facts })
    }

    fn holds(&self, decision: &Decision) -> bool {
        decision.errors.is_empty()
            && decision.verdict == self.expected
            && self.policies.as_ref().is_none_or(|expected| settled_by(decision, expected))
    }
}

fn settled_by(decision: &Decision, expected: &BTreeSet<String>) -> bool {
    expected.iter().map(String::as_str).eq(decision.policies.iter().map(AsRef::as_ref))
}

/// The cases of each file, in order.
fn by_file(cases: &[Ran]) -> BTreeMap<&str, Vec<&Ran>> {
    let mut files: BTreeMap<&str, Vec<&Ran>> = BTreeMap::new();
    for ran in cases {
        files.entry(&ran.place.file).or_default().push(ran);
    }
    files
}

/// The word for a verdict, as tables say it.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{decision::Revision, manifest::Manifest},
        snapshot::{PolicyText, Snapshot},
    };

    const PRODUCT: &str = "\
product: demo
resources: {things: [get, put]}
roles: {reader-role: {permissions: {things: [get]}}, writer-role: {permissions: {things: ['*']}}}
groups: {readers: {roles: [reader-role]}, writers: {roles: [writer-role]}}
";

    fn engine(policies: &str) -> Engine {
        Engine::compile(Arc::new(Snapshot {
            revision: Revision(1),
            products: vec![Arc::new(Manifest::parse("demo", PRODUCT).unwrap())],
            roles: Vec::new(),
            groups: Vec::new(),
            policies: vec![PolicyText {
                file: "base.cedar".into(),
                product: None,
                text: policies.into(),
            }],
            issuer: None,
            guests: Vec::new(),
        }))
        .unwrap()
    }

    fn table(engine: &Engine, text: &str) -> Result<Report, Complaints> {
        let cases = reader::parse(&reader::Known::of(engine), "t.yaml", text)?;
        Ok(run(engine, &cases).unwrap())
    }

    #[test]
    fn a_matrix_is_exact() {
        let engine = engine("");
        let matrix = |readers: &str| {
            let text = format!(
                "matrices: [{{name: m, groups: [all], permissions: ['demo::*:*'], \
                 allow: {{readers: [{readers}], writers: ['demo::*:*']}}}}]"
            );
            table(&engine, &text).unwrap()
        };
        let report = matrix("'demo::things:get'");
        assert_eq!((report.asked(), report.failed().count()), (4, 0));
        // Too much and too little are both told.
        assert_eq!(matrix("").failed().count(), 1);
        assert_eq!(matrix("'demo::things:*'").failed().count(), 1);
    }

    #[test]
    fn a_policy_that_fails_fails_its_case_whatever_was_expected() {
        let engine = engine(
            "@id(\"far\") forbid (principal, action, resource) \
             when { context.now.offset(duration(\"9223372036854775807ms\")) < context.now };",
        );
        let text = "principals: {ana: {user: acme/ana, groups: [readers]}}\n\
                    cases: [{name: c, principals: [ana], deny: ['demo::things:put']}]";
        let report = table(&engine, text).unwrap();
        assert_eq!(report.failed().count(), 1, "{report:?}");
        assert!(report.coverage[0].failed && report.coverage[0].reached());
    }

    #[test]
    fn coverage_sees_behind_a_forbid() {
        let engine = engine(
            "@id(\"never\") forbid (principal, action, resource);\n\
             @id(\"mfa\") permit (principal is User, action, resource) when { context.mfa };\n\
             @id(\"machines\") permit (principal is Application, action, resource);",
        );
        let text = "principals: {ana: {user: acme/ana, amr: [mfa]}, bea: {user: acme/bea}}\n\
                    cases: [{name: c, principals: [ana, bea], deny: ['demo::*:*'], policies: [never]}]";
        let report = table(&engine, text).unwrap();
        assert_eq!(report.failed().count(), 0);
        let seen: Vec<_> = report.coverage.iter().map(|p| (p.held, p.not_held)).collect();
        assert_eq!(seen, [(true, false), (true, true), (false, false)]);
        let unreached: Vec<_> = report.unreached().map(|p| &*p.policy).collect();
        assert_eq!(unreached, ["machines"]);
        assert!(report.coverage.iter().all(|policy| !policy.half()));
    }
}
