//! YAML → cases of a plain store; every complaint has a line.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::{Context, Entities, EntityUid};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::{
    super::reader::{place, yaml},
    Case, Expected,
};
use crate::{
    complaint::{Complaint, Complaints, Place, near},
    model::{decision::Verdict, manifest::Entries},
    store::{Around, Question, Store, Unasked},
};

/// Stands for every entity of the folder in a matrix.
const ALL: &str = "all";

/// Stands for every action that applies.
const ANY: &str = "*";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    principals: Entries<Spanned<String>>,
    #[serde(default)]
    resources: Entries<Spanned<String>>,
    #[serde(default)]
    entities: Vec<Spanned<Value>>,
    #[serde(default)]
    cases: Vec<RawCase>,
    #[serde(default)]
    matrices: Vec<RawMatrix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    principals: Vec<Spanned<String>>,
    resources: Vec<Spanned<String>>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    #[serde(default)]
    context: Entries<Spanned<Value>>,
    #[serde(default)]
    entities: Vec<Spanned<Value>>,
    policies: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    errors: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatrix {
    name: Spanned<String>,
    principals: Vec<Spanned<String>>,
    actions: Vec<Spanned<String>>,
    resources: Vec<Spanned<String>>,
    #[serde(default)]
    context: Entries<Spanned<Value>>,
    #[serde(default)]
    entities: Vec<Spanned<Value>>,
    allow: Entries<Entries<Vec<Spanned<String>>>>,
}

/// Names of a table, and what each stands for; nothing where that does not hold.
type Names = BTreeMap<String, Option<EntityUid>>;

/// What an action's context comes to; nothing where it does not fit, which has been complained of.
type Contexts = BTreeMap<EntityUid, Option<Context>>;

/// Read one table.
pub(super) fn parse(store: &Store, file: &str, text: &str) -> Result<Vec<Case>, Complaints> {
    let file: Arc<str> = file.into();
    let raw: Raw = yaml(&file, text, "table")?;
    let policies = store.policies().iter().map(|policy| policy.id.to_string()).collect();
    Reader {
        store,
        file,
        policies,
        principals: Names::new(),
        resources: Names::new(),
        complaints: Vec::new(),
    }
    .read(&raw)
}

struct Reader<'a> {
    store: &'a Store,
    file: Arc<str>,
    policies: BTreeSet<String>,
    principals: Names,
    resources: Names,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    fn read(mut self, raw: &Raw) -> Result<Vec<Case>, Complaints> {
        self.principals = self.names(&raw.principals);
        self.resources = self.names(&raw.resources);
        let base = match self.store.around(Vec::new()) {
            Ok(base) => Arc::new(base),
            Err(error) => return Err(Place::file(self.file).complain(error.to_string()).into()),
        };
        let mut cases: Vec<Case> = Vec::new();
        for case in &raw.cases {
            let over = self.overlay(&base, &raw.entities, &case.entities);
            cases.extend(over.map(|over| self.case(case, &over)));
        }
        for matrix in &raw.matrices {
            let over = self.overlay(&base, &raw.entities, &matrix.entities);
            cases.extend(over.map(|over| self.matrix(matrix, &over)));
        }
        if cases.is_empty() && self.complaints.is_empty() {
            let told = "the table asks nothing: it needs `cases` or `matrices`";
            self.complaints.push(Place::file(Arc::clone(&self.file)).complain(told).coded("table"));
        }
        Complaints::unless(self.complaints, cases)
    }

    fn names(&mut self, raw: &Entries<Spanned<String>>) -> Names {
        let mut names = Names::new();
        for (name, uid) in &raw.0 {
            let found = self.store.uid(&uid.value);
            names.insert(name.value.clone(), self.told(uid, found));
        }
        names
    }

    fn overlay(
        &mut self,
        base: &Arc<Around>,
        of_table: &[Spanned<Value>],
        of_case: &[Spanned<Value>],
    ) -> Option<Arc<Around>> {
        let Some(last) = of_case.last().or(of_table.last()) else { return Some(Arc::clone(base)) };
        let mut entities = BTreeMap::new();
        for raw in of_table.iter().chain(of_case) {
            let entity = self.store.entity(raw.value.clone());
            let entity = self.told(raw, entity);
            entities.extend(entity.map(|entity| (entity.uid(), raw.value.clone())));
        }
        let laid = self.store.around(entities.into_values().collect());
        self.told(last, laid).map(Arc::new)
    }

    fn case(&mut self, raw: &RawCase, around: &Arc<Around>) -> Case {
        let before = self.complaints.len();
        let principals = self.entities("principal", &raw.principals);
        let resources = self.entities("resource", &raw.resources);
        let policies = raw.policies.as_ref().map(|policies| self.policies(policies));
        let errors = self.policies(&raw.errors);
        let mut contexts = Contexts::new();
        let mut questions = Vec::new();
        for principal in principals.iter().flatten() {
            for resource in resources.iter().flatten() {
                for (action, (expected, at)) in self.expected(raw, principal, resource) {
                    let asked = [principal, &action, resource];
                    let context = self.context(&mut contexts, &action, at, &raw.context);
                    questions.extend(self.request(asked, at, context).map(|request| Expected {
                        place: place(&self.file, at),
                        question: Question { request, around: Arc::clone(around) },
                        verdict: expected,
                        policies: policies.clone(),
                        errors: errors.clone(),
                    }));
                }
            }
        }
        self.known_actions(raw.allow.iter().chain(&raw.deny));
        if !contexts.is_empty() {
            self.strays(&contexts, &raw.context);
        }
        if questions.is_empty() && self.complaints.len() == before {
            let told =
                "the case asks nothing: it needs `principals`, `resources`, and `allow` or `deny`";
            self.complain(&raw.name, told.to_owned());
        }
        Case { name: raw.name.value.clone(), place: place(&self.file, &raw.name), questions }
    }

    fn expected<'r>(
        &mut self,
        raw: &'r RawCase,
        principal: &EntityUid,
        resource: &EntityUid,
    ) -> BTreeMap<EntityUid, (Verdict, &'r Spanned<String>)> {
        let mut expected = BTreeMap::new();
        for (verdict, texts) in [(Verdict::Allow, &raw.allow), (Verdict::Deny, &raw.deny)] {
            for text in texts {
                for action in self.actions(text, principal, resource) {
                    let both = expected.insert(action.clone(), (verdict, text));
                    if both.is_some_and(|(other, _)| other != verdict) {
                        let told = format!("`{action}` stands under `allow` and under `deny`");
                        self.complain(text, told);
                    }
                }
            }
        }
        expected
    }

    fn matrix(&mut self, raw: &RawMatrix, around: &Arc<Around>) -> Case {
        let before = self.complaints.len();
        let (principals, any_principal) =
            self.some_or_all("principal", &raw.principals, &around.entities);
        let (resources, any_resource) =
            self.some_or_all("resource", &raw.resources, &around.entities);
        let mut allowed = self.allowed(raw, &principals, &resources);
        let mut contexts = Contexts::new();
        let mut questions = Vec::new();
        for principal in &principals {
            for resource in &resources {
                let mut asked: BTreeMap<EntityUid, &Spanned<String>> = BTreeMap::new();
                for text in &raw.actions {
                    for action in self.actions(text, principal, resource) {
                        let applies = self.applies(principal, &action, resource);
                        if applies || !(any_principal || any_resource) {
                            asked.entry(action).or_insert(text);
                        }
                    }
                }
                for (action, at) in asked {
                    let key = (principal.clone(), resource.clone(), action.clone());
                    let allow = allowed.remove(&key);
                    let context = self.context(&mut contexts, &action, at, &raw.context);
                    let at = allow.unwrap_or(at);
                    let request = self.request([principal, &action, resource], at, context);
                    questions.extend(request.map(|request| Expected {
                        place: place(&self.file, allow.unwrap_or(&raw.name)),
                        question: Question { request, around: Arc::clone(around) },
                        verdict: if allow.is_some() { Verdict::Allow } else { Verdict::Deny },
                        policies: None,
                        errors: BTreeSet::new(),
                    }));
                }
            }
        }
        for ((.., action), at) in allowed {
            self.complain(at, format!("`{action}` is not under this matrix's `actions`"));
        }
        self.known_actions(raw.actions.iter());
        if !contexts.is_empty() {
            self.strays(&contexts, &raw.context);
        }
        if questions.is_empty() && self.complaints.len() == before {
            let told = "the matrix asks nothing: it needs `principals`, `actions` and `resources`";
            self.complain(&raw.name, told.to_owned());
        }
        Case { name: raw.name.value.clone(), place: place(&self.file, &raw.name), questions }
    }

    fn allowed<'r>(
        &mut self,
        raw: &'r RawMatrix,
        principals: &[EntityUid],
        resources: &[EntityUid],
    ) -> BTreeMap<(EntityUid, EntityUid, EntityUid), &'r Spanned<String>> {
        let mut allowed = BTreeMap::new();
        for (principal, by_resource) in &raw.allow.0 {
            let Some(who) = self.one_of("principal", principal, principals) else { continue };
            for (resource, actions) in &by_resource.0 {
                let Some(what) = self.one_of("resource", resource, resources) else { continue };
                for text in actions {
                    for action in self.actions(text, &who, &what) {
                        allowed.insert((who.clone(), what.clone(), action), text);
                    }
                }
            }
        }
        allowed
    }

    fn one_of(
        &mut self,
        kind: &str,
        text: &Spanned<String>,
        known: &[EntityUid],
    ) -> Option<EntityUid> {
        let uid = self.named(kind, text)?;
        if known.contains(&uid) {
            return Some(uid);
        }
        let told = format!("`{}` is not under this matrix's `{kind}s`", text.value);
        self.complain(text, told);
        None
    }

    /// Each of them, or with `all` whatever entity there is that can be one.
    fn some_or_all(
        &mut self,
        kind: &str,
        texts: &[Spanned<String>],
        entities: &Entities,
    ) -> (Vec<EntityUid>, bool) {
        let names = if kind == "principal" { &self.principals } else { &self.resources };
        if let [one] = texts
            && one.value == ALL
            && !names.contains_key(ALL)
        {
            let schema = self.store.schema();
            let kinds: BTreeSet<_> = if kind == "principal" {
                schema.principals().collect()
            } else {
                schema.resources().collect()
            };
            let uids = entities.iter().map(cedar_policy::Entity::uid);
            let mut all: Vec<EntityUid> =
                uids.filter(|uid| kinds.contains(uid.type_name())).collect();
            all.sort();
            return (all, true);
        }
        (self.entities(kind, texts).into_iter().flatten().collect(), false)
    }

    fn entities(&mut self, kind: &str, texts: &[Spanned<String>]) -> Vec<Option<EntityUid>> {
        texts.iter().map(|text| self.named(kind, text)).collect()
    }

    /// A name of the table, or a uid.
    fn named(&mut self, kind: &str, text: &Spanned<String>) -> Option<EntityUid> {
        let names = if kind == "principal" { &self.principals } else { &self.resources };
        if let Some(uid) = names.get(&text.value) {
            return uid.clone();
        }
        match self.store.uid(&text.value) {
            Ok(uid) => Some(uid),
            Err(Unasked::NoUid(_)) => {
                let near = near(&text.value, names.keys().map(String::as_str));
                let told = format!(
                    "no {kind} `{}` here{near}; name one under `{kind}s`, or write a uid as in `User::\"ana\"`",
                    text.value
                );
                self.complain(text, told);
                None
            }
            Err(error) => self.told(text, Err(error)),
        }
    }

    /// One action; with `*` all that apply to both.
    fn actions(
        &mut self,
        text: &Spanned<String>,
        principal: &EntityUid,
        resource: &EntityUid,
    ) -> Vec<EntityUid> {
        if text.value != ANY {
            let action = self.store.action(&text.value);
            return self.told(text, action).into_iter().collect();
        }
        let (principal, resource) = (principal.type_name(), resource.type_name());
        let schema = self.store.schema();
        schema.actions_for_principal_and_resource(principal, resource).cloned().collect()
    }

    /// Actions are told that nobody knows, whoever asks for them.
    fn known_actions<'r>(&mut self, texts: impl Iterator<Item = &'r Spanned<String>>) {
        for text in texts.filter(|text| text.value != ANY) {
            let action = self.store.action(&text.value);
            self.told(text, action);
        }
    }

    fn applies(&self, principal: &EntityUid, action: &EntityUid, resource: &EntityUid) -> bool {
        let (principal, resource) = (principal.type_name(), resource.type_name());
        let schema = self.store.schema();
        let mut actions = schema.actions_for_principal_and_resource(principal, resource);
        actions.any(|other| other == action)
    }

    /// The context for an action: the members that it has. What does not fit is told at its member.
    fn context(
        &mut self,
        contexts: &mut Contexts,
        action: &EntityUid,
        at: &Spanned<String>,
        raw: &Entries<Spanned<Value>>,
    ) -> Option<Context> {
        if let Some(known) = contexts.get(action) {
            return known.clone();
        }
        let known = self.store.context_members(action);
        let members: Map<String, Value> = (raw.0.iter())
            .filter(|(name, _)| known.contains_key(&name.value))
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect();
        let context = match self.store.context(action, Value::Object(members)) {
            Err(Unasked::Context { action, member: Some(member), what }) => {
                let place = raw.0.iter().find(|(name, _)| name.value == member);
                let at = place.map_or(at, |(name, _)| name);
                self.told(at, Err(Unasked::Context { action, member: Some(member), what }))
            }
            context => self.told(at, context),
        };
        contexts.insert(action.clone(), context.clone());
        context
    }

    /// A member that no action takes would be a circumstance that is not there.
    fn strays(&mut self, asked: &Contexts, raw: &Entries<Spanned<Value>>) {
        let known: BTreeSet<String> = asked
            .keys()
            .flat_map(|action| self.store.context_members(action).into_keys())
            .collect();
        for (name, _) in raw.0.iter().filter(|(name, _)| !known.contains(&name.value)) {
            let near = near(&name.value, known.iter().map(String::as_str));
            let told = format!("no action here has `{}` in its context{near}", name.value);
            self.complain(name, told);
        }
    }

    fn request(
        &mut self,
        asked: [&EntityUid; 3],
        at: &Spanned<String>,
        context: Option<Context>,
    ) -> Option<cedar_policy::Request> {
        let [principal, action, resource] = asked.map(Clone::clone);
        let request = self.store.request(principal, action, resource, context?);
        self.told(at, request)
    }

    fn policies(&mut self, texts: &[Spanned<String>]) -> BTreeSet<String> {
        for text in texts.iter().filter(|text| !self.policies.contains(&text.value)) {
            let near = near(&text.value, self.policies.iter().map(String::as_str));
            let told = format!("no policy `{}`{near}", text.value);
            self.complaints.push(place(&self.file, text).complain(told).coded("table"));
        }
        texts.iter().map(|text| text.value.clone()).collect()
    }

    /// The value, or a complaint of why there is none.
    fn told<T, V>(&mut self, at: &Spanned<T>, found: Result<V, Unasked>) -> Option<V> {
        match found {
            Ok(found) => Some(found),
            Err(error) => {
                self.complain(at, error.to_string());
                None
            }
        }
    }

    fn complain<T>(&mut self, at: &Spanned<T>, text: String) {
        self.complaints.push(place(&self.file, at).complain(text).coded("table"));
    }
}
