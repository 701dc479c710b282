//! A plain Cedar store: a schema of its author's own, policies, and entities.
//!
//! What a policy folder is when it has a `schema.cedarschema` and no product. There are no roles and
//! no routes; a question is put in Cedar's own terms.

use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, Request, Schema};
use cedar_policy_core::ast;
use smallvec::SmallVec;

use crate::{
    compile::{self, Authored},
    complaint::{Complaint, Complaints, Place},
    condition::{Answer, Asker, Rule},
    index::{Index, Node},
    model::decision::{Decision, OnError, PolicyError, Revision, Verdict},
    overlay::Overlay,
    snapshot::PolicyText,
};

pub mod access;
pub(crate) mod compare;
mod question;
pub mod search;

use access::Names;
pub use question::{Around, Question, Unasked, Words};

/// The schema's name in a folder.
pub const SCHEMA: &str = "schema.cedarschema";

/// The entities' name in a folder.
pub const ENTITIES: &str = "entities.json";

/// A store as it lies in files.
#[derive(Debug, Clone)]
pub struct Source {
    pub schema: PolicyText,
    pub policies: Vec<PolicyText>,
    pub entities: Option<PolicyText>,
    /// What AuthZEN's names stand for, where that is said.
    pub names: Option<PolicyText>,
}

/// A store whose policies hold.
#[derive(Debug)]
pub struct Store {
    schema: Schema,
    policies: Vec<Authored>,
    entities: Entities,
    /// What AuthZEN's names stand for.
    names: Names,
    /// The policies as they are asked, beside `policies`, and where to find them.
    rules: Vec<Rule>,
    index: Index,
    on_error: OnError,
}

impl Store {
    /// Parse and validate a store.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its files.
    pub fn compile(source: &Source) -> Result<Self, Complaints> {
        let file = |text: &PolicyText| Place::file(Arc::clone(&text.file));
        let schema = Schema::from_cedarschema_str(&source.schema.text)
            .map(|(schema, _warnings)| schema)
            .map_err(|error| {
                compile::diagnosed(&source.schema, &error).complain(compile::told(&error))
            })?;
        let policies = compile::authored(&source.policies, &schema, &[])?;
        let entities = match &source.entities {
            Some(text) => entities(text, &schema)?,
            None => Entities::from_entities([], Some(&schema))
                .map_err(|error| file(&source.schema).complain(compile::told(&error)))?,
        };
        let names = match &source.names {
            Some(text) => Names::read(text, &schema)?,
            None => Names::of(&schema),
        };
        let index = Index::of(policies.iter().map(|written| &written.policy));
        let rules = policies.iter().map(|written| Rule::of(&written.id, &written.policy)).collect();
        let on_error = OnError::default();
        Ok(Self { schema, policies, entities, names, rules, index, on_error })
    }

    /// The same, for answers that treat a policy that cannot be evaluated like that.
    #[must_use]
    pub fn with_errors(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// What a policy that cannot be evaluated does to the answer.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The author's schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The policies, in the order of files and lines.
    pub fn policies(&self) -> &[Authored] {
        &self.policies
    }

    /// The entities of the folder, with the schema's actions among them.
    pub fn entities(&self) -> &Entities {
        &self.entities
    }

    /// Entities that a question tells of, laid over the store's own: for [`Store::decide_over`].
    ///
    /// # Errors
    ///
    /// When they are not as the schema says.
    pub fn overlay(&self, told: impl IntoIterator<Item = Entity>) -> Result<Overlay, String> {
        Overlay::new(told, &self.entities, &self.schema)
    }

    /// Decide. What a policy that cannot be evaluated does is for [`OnError`] to say, as in the
    /// engine.
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_over(request, &Overlay::default())
    }

    /// Decide, by the store's entities and what the question tells of them.
    pub fn decide_over(&self, request: &Request, overlay: &Overlay) -> Decision {
        let answer = self.answer(request, overlay).unwrap_or_else(|what| {
            let policy = PolicyError::REQUEST.into();
            Answer { errors: vec![PolicyError { policy, what }], ..Answer::default() }
        });
        let Answer { permits, forbids, errors } = answer.sorted();
        let mut decision = Decision::deny(Revision::default());
        decision.errors = errors;
        if !forbids.is_empty() {
            decision.policies = forbids;
        } else if !self.on_error.denies(&decision.errors) && !permits.is_empty() {
            decision.policies = permits;
            decision.verdict = Verdict::Allow;
        }
        decision
    }

    /// What the policies say whose scope holds.
    fn answer(&self, request: &Request, overlay: &Overlay) -> Result<Answer, String> {
        let (Some(principal), Some(action), Some(resource)) =
            (request.principal(), request.action(), request.resource())
        else {
            return Err("the question does not say who, what or on what".to_owned());
        };
        let groups = self.entities.ancestors(action).into_iter().flatten();
        let tables = self.index.tables(action, groups);
        let places = self.index.candidates(
            &tables,
            Node { uid: principal, above: || self.above(principal, overlay) },
            Node { uid: resource, above: || self.above(resource, overlay) },
        );
        let candidates: SmallVec<[&Rule; 8]> = places
            .iter()
            .filter_map(|n| self.rules.get(*n as usize))
            .filter(|rule| rule.scope.holds(principal, resource))
            .collect();
        let mut answer = Answer::default();
        candidates
            .iter()
            .filter(|rule| rule.conditions.is_none())
            .for_each(|rule| answer.take(rule));
        let mut conditions =
            candidates.iter().filter_map(|rule| rule.conditions.as_deref()).peekable();
        if conditions.peek().is_some() {
            let around;
            let entities = if overlay.is_empty() {
                self.entities.as_ref()
            } else {
                around = overlay.around(request, conditions, &self.entities)?;
                &around
            };
            let asker = Asker::of(AsRef::<ast::Request>::as_ref(request).clone(), entities);
            candidates.iter().for_each(|rule| answer.ask(rule, &asker));
        }
        Ok(answer)
    }

    /// Everything that an entity is in.
    fn above<'a>(&'a self, uid: &EntityUid, overlay: &'a Overlay) -> SmallVec<[&'a EntityUid; 8]> {
        if overlay.is_empty() {
            return self.entities.ancestors(uid).into_iter().flatten().collect();
        }
        overlay.above(uid, &self.entities).into_iter().collect()
    }
}

/// Read a store's entities.
pub(crate) fn entities(text: &PolicyText, schema: &Schema) -> Result<Entities, Complaint> {
    let tree: serde_json::Value = serde_json::from_str(&text.text).map_err(|error| {
        let (place, told) = Place::of_json(&text.file, &error);
        place.complain(format!("no JSON: {told}")).coded("entities")
    })?;
    Entities::from_json_value(tree, Some(schema)).map_err(|error| {
        Place::file(Arc::clone(&text.file)).complain(with_causes(&error)).coded("entities")
    })
}

/// What Cedar says, and why, on one line.
fn with_causes(error: &dyn miette::Diagnostic) -> String {
    let mut told = compile::told(error);
    let mut cause = error.source();
    while let Some(deeper) = cause {
        told = format!("{told}: {deeper}");
        cause = deeper.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use cedar_policy::Context;

    use super::*;

    fn file(file: &str, text: &str) -> PolicyText {
        PolicyText { file: file.into(), product: None, text: text.into() }
    }

    /// Documents in folders in folders; people in teams in teams.
    fn store(policies: &str) -> Store {
        let schema = "entity Team in [Team]; entity User in [Team] { boss?: User };\n\
             entity Folder in [Folder]; entity Doc in [Folder] { owner: User };\n\
             action all; action read, write in [all]\n\
             appliesTo { principal: [User, Team], resource: [Doc, Folder], context: { n: Long } };";
        let entities = r#"[
            { "uid": { "type": "Team", "id": "all" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Team", "id": "t" }, "attrs": {}, "parents": [{ "type": "Team", "id": "all" }] },
            { "uid": { "type": "User", "id": "ana" }, "attrs": { "boss": { "type": "User", "id": "bo" } }, "parents": [{ "type": "Team", "id": "t" }] },
            { "uid": { "type": "User", "id": "bo" }, "attrs": { "boss": { "type": "User", "id": "cy" } }, "parents": [] },
            { "uid": { "type": "User", "id": "cy" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Folder", "id": "top" }, "attrs": {}, "parents": [] },
            { "uid": { "type": "Folder", "id": "f" }, "attrs": {}, "parents": [{ "type": "Folder", "id": "top" }] },
            { "uid": { "type": "Doc", "id": "d" }, "attrs": { "owner": { "type": "User", "id": "ana" } }, "parents": [{ "type": "Folder", "id": "f" }] }
        ]"#;
        let source = Source {
            schema: file("s", schema),
            policies: vec![file("p.cedar", policies)],
            entities: Some(file("e", entities)),
            names: None,
        };
        Store::compile(&source).unwrap_or_else(|complaints| panic!("{complaints}"))
    }

    fn request(principal: &str, action: &str, resource: &str) -> Request {
        let uid = |text: &str| text.parse().unwrap();
        let context = Context::from_json_value(serde_json::json!({ "n": 1 }), None).unwrap();
        let action = uid(&format!("Action::\"{action}\""));
        Request::new(uid(principal), action, uid(resource), context, None).unwrap()
    }

    fn settled(store: &Store, overlay: &Overlay, request: &Request) -> Vec<String> {
        let decision = store.decide_over(request, overlay);
        assert_eq!(decision.errors, []);
        decision.policies.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_is_found_through_what_principal_and_resource_are_in() {
        let store = store(
            "@id(\"above\") permit (principal in Team::\"all\", action in Action::\"all\", resource in Folder::\"top\");\n\
             @id(\"type\") permit (principal is Team in Team::\"all\", action, resource is Doc in Folder::\"f\");\n\
             @id(\"one\") permit (principal, action == Action::\"write\", resource == Doc::\"d\");\n\
             @id(\"other\") permit (principal in Team::\"x\", action, resource in Folder::\"y\");",
        );
        let none = Overlay::default();
        for (principal, action, resource, expected) in [
            ("User::\"ana\"", "read", "Doc::\"d\"", &["above"][..]),
            ("User::\"ana\"", "write", "Doc::\"d\"", &["above", "one"]),
            ("Team::\"t\"", "read", "Doc::\"d\"", &["above", "type"]),
            ("Team::\"all\"", "read", "Folder::\"top\"", &["above"]),
            ("User::\"bo\"", "read", "Doc::\"d\"", &[]),
            ("User::\"ana\"", "read", "Doc::\"e\"", &[]),
        ] {
            assert_eq!(settled(&store, &none, &request(principal, action, resource)), expected);
        }
    }

    #[test]
    fn what_a_policy_names_keeps_it_from_all_other_questions() {
        let many: Vec<String> = (0..300)
            .map(|n| {
                format!(
                    "permit (principal, action, resource == Doc::\"d{n}\") when {{ context.n == 1 }};\n\
                     permit (principal, action, resource in Folder::\"f{n}\") when {{ context.n == 1 }};\n\
                     permit (principal in Team::\"t{n}\", action, resource) when {{ context.n == 1 }};\n\
                     permit (principal == User::\"u{n}\", action, resource) when {{ context.n == 1 }};\n"
                )
            })
            .collect();
        let store = store(&many.concat());
        let (ana, folder) = ("User::\"u7\"".parse().unwrap(), "Doc::\"d9\"".parse().unwrap());
        let tables = store.index.tables(&"Action::\"read\"".parse().unwrap(), []);
        let none = || -> [EntityUid; 0] { [] };
        let found = store.index.candidates(
            &tables,
            Node { uid: &ana, above: none },
            Node { uid: &folder, above: || ["Folder::\"f3\"".parse::<EntityUid>().unwrap()] },
        );
        assert_eq!(found.as_slice(), [3 * 4 + 1, 7 * 4 + 3, 9 * 4]);
    }

    #[test]
    fn what_a_question_tells_is_laid_over_the_stores_entities() {
        let store = store(
            "@id(\"boss\") permit (principal is User, action, resource is Doc)\n\
             when { resource.owner has boss && resource.owner.boss has boss && resource.owner.boss.boss == principal };\n\
             @id(\"team\") permit (principal in Team::\"all\", action == Action::\"write\", resource);",
        );
        let told = |one: serde_json::Value| Entity::from_json_value(one, None).unwrap();
        let told = |attributes, parents: &[&str]| {
            let parents: Vec<_> =
                parents.iter().map(|id| serde_json::json!({ "type": "Team", "id": id })).collect();
            told(serde_json::json!({
                "uid": { "type": "User", "id": "bo" }, "attrs": attributes, "parents": parents,
            }))
        };
        let none = serde_json::json!({});
        let dee = serde_json::json!({ "boss": { "__entity": { "type": "User", "id": "dee" } } });
        let (cy, dd) = (
            request("User::\"cy\"", "read", "Doc::\"d\""),
            request("User::\"dee\"", "read", "Doc::\"d\""),
        );
        let writes = request("User::\"bo\"", "write", "Doc::\"d\"");
        assert_eq!(settled(&store, &Overlay::default(), &cy), ["boss"]);
        let overlay = store.overlay([told(dee, &[])]).unwrap();
        assert_eq!(settled(&store, &overlay, &cy), [""; 0]);
        assert_eq!(settled(&store, &overlay, &dd), ["boss"]);
        // What is not told stays, and what is told to be in something is in what that is in.
        let overlay = store.overlay([told(none.clone(), &["t"])]).unwrap();
        assert_eq!(settled(&store, &overlay, &cy), ["boss"]);
        assert_eq!(settled(&store, &overlay, &writes), ["team"]);
        assert_eq!(settled(&store, &Overlay::default(), &writes), [""; 0]);
        // And the store is as it was.
        assert_eq!(settled(&store, &Overlay::default(), &cy), ["boss"]);
        for (one, expected) in [
            (vec![told(serde_json::json!({ "boss": 3 }), &[])], "boss"),
            (vec![told(serde_json::json!({ "unknown": 3 }), &[])], "unknown"),
            (vec![told(none.clone(), &[]), told(none, &[])], "told twice"),
        ] {
            let told = store.overlay(one).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_failing_policy_denies_unless_it_is_to_be_passed_over() {
        let store = store(
            "@id(\"all\") permit (principal, action, resource);\n\
             @id(\"fails\") forbid (principal, action, resource is Doc) when { resource.owner in Team::\"x\" };",
        );
        let nowhere = request("User::\"ana\"", "read", "Doc::\"nowhere\"");
        let denied = store.decide(&nowhere);
        assert!(!denied.allowed() && denied.policies.is_empty());
        assert_eq!(&*denied.errors[0].policy, "fails");
        let store = store.with_errors(OnError::Cedar);
        let allowed = store.decide(&nowhere);
        assert!(allowed.allowed());
        assert_eq!(allowed.errors, denied.errors);
    }
}
