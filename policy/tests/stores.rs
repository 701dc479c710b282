//! A plain store against plain Cedar: equal in decision, in policies and in errors.
//!
//! Schemas, entities, policies, links and questions are random; policies are made by type, so most
//! validate, and those that do not are left out. Each question is put to the store and, with every
//! policy and Cedar's own links, to `Authorizer::is_authorized`. `PROPTEST_CASES` sets how many
//! stores there are, three cases to a store; each is asked 160 questions. What fails is kept in
//! `stores.regressions` beside this file, and tried first from then on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "worlds/plain.rs"]
mod plain;
#[path = "worlds/tape.rs"]
mod tape;
#[path = "worlds/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    AuthorizationError, Authorizer, Decision as CedarDecision, Entities, Entity, Policy, PolicyId,
    PolicySet, Response, Schema, SlotId, Template, ValidationMode, Validator,
};
use plain::{Question, World};
use policy::{
    model::decision::{Decision, OnError},
    overlay::Overlay,
    snapshot::PolicyText,
    store::{Source, Store},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};
use serde_json::Value;
use tape::Tape;
use words::Written;

/// How many questions a store is asked.
const QUESTIONS: usize = 160;

/// What came of it all: that the questions ask something is a test of its own.
#[derive(Debug, Default)]
struct Tally {
    written: usize,
    kept: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn note(&mut self, what: &'static str, so: bool) {
        *self.counts.entry(what).or_default() += usize::from(so);
    }
}

/// A store, and what plain Cedar is asked with.
struct Compiled {
    world: World,
    schema: Schema,
    policies: PolicySet,
    store: Store,
}

/// A question that plain Cedar has answered.
struct Answered {
    question: Question,
    overlay: Option<Overlay>,
    theirs: Response,
}

fn add(set: &mut PolicySet, written: &Written) {
    let id = PolicyId::new(&written.id);
    if written.links.is_empty() {
        let policy = Policy::parse(Some(id), &written.text);
        set.add(policy.unwrap_or_else(|e| panic!("{e:?}\n{}", written.text))).unwrap();
        return;
    }
    let template = Template::parse(Some(id.clone()), &written.text);
    set.add_template(template.unwrap_or_else(|e| panic!("{e:?}\n{}", written.text))).unwrap();
    for (link, args) in &written.links {
        let slot = |name: &str| match name {
            "?principal" => SlotId::principal(),
            _ => SlotId::resource(),
        };
        let args = args.iter().map(|(name, uid)| (slot(name), uid.parse().unwrap())).collect();
        set.link(id.clone(), PolicyId::new(link), args).unwrap();
    }
}

/// Keep those that validate strictly.
fn keep_valid(schema: &Schema, set: &mut PolicySet, written: &mut Vec<Written>) {
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    let wrong: BTreeSet<PolicyId> =
        result.validation_errors().map(|error| error.policy_id().clone()).collect();
    written.retain(|written| {
        let id = PolicyId::new(&written.id);
        let links = || written.links.iter().map(|(id, _)| PolicyId::new(id));
        if !wrong.contains(&id) && links().all(|id| !wrong.contains(&id)) {
            return true;
        }
        links().for_each(|id| drop(set.unlink(id).unwrap()));
        if written.links.is_empty() {
            set.remove_static(id).unwrap();
        } else {
            set.remove_template(id).unwrap();
        }
        false
    });
}

fn compiled(tape: &mut Tape<'_>, tally: &mut Tally) -> Compiled {
    let world = World::new(tape);
    let text = world.schema();
    let (schema, _) =
        Schema::from_cedarschema_str(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let count = 5 + tape.below(9);
    let mut written: Vec<Written> = (0..count).map(|n| words::policy(&world, tape, n)).collect();
    let mut policies = PolicySet::new();
    for written in &written {
        add(&mut policies, written);
    }
    keep_valid(&schema, &mut policies, &mut written);
    tally.written += count;
    tally.kept += written.len();
    let file = |file: &str, text: String| PolicyText {
        file: file.into(),
        product: None,
        text: text.into(),
    };
    let cedar: Vec<&str> = written.iter().map(|written| &*written.text).collect();
    let links: Value = written.iter().flat_map(Written::links).collect();
    let source = Source {
        schema: file("schema.cedarschema", text),
        policies: vec![file("p.cedar", cedar.join("\n\n")), file("links.json", links.to_string())],
        entities: Some(file("entities.json", Value::from(world.things.clone()).to_string())),
        names: None,
    };
    let store = Store::compile(&source).unwrap_or_else(|e| panic!("{e}\n{source:#?}"));
    Compiled { world, schema, policies, store }
}

impl Compiled {
    /// Ask plain Cedar. `None` where what is told of entities is refused, as it must be by both.
    fn answered(
        &self,
        question: Question,
        tally: &mut Tally,
    ) -> Result<Option<Answered>, TestCaseError> {
        let ask = |entities: &Entities| {
            Authorizer::new().is_authorized(&question.request, &self.policies, entities)
        };
        if question.told.is_empty() {
            let theirs = ask(self.store.entities());
            return Ok(Some(Answered { question, overlay: None, theirs }));
        }
        let told =
            question.told.iter().map(|one| Entity::from_json_value(one.clone(), None).unwrap());
        let overlay = self.store.overlay(told);
        let whole = Value::from(merge(self.world.things.clone(), &question.told));
        let whole = Entities::from_json_value(whole, Some(&self.schema));
        tally.note("entities told", true);
        tally.note("entities refused", whole.is_err());
        match (overlay, whole) {
            (Ok(overlay), Ok(whole)) => {
                let theirs = ask(&whole);
                Ok(Some(Answered { question, overlay: Some(overlay), theirs }))
            }
            (Err(_), Err(_)) => Ok(None),
            (ours, theirs) => Err(TestCaseError::fail(format!("{ours:?}, but {theirs:?}"))),
        }
    }
}

fn ours(store: &Store, Answered { question, overlay, .. }: &Answered) -> Decision {
    match overlay {
        Some(overlay) => store.decide_over(&question.request, overlay),
        None => store.decide(&question.request),
    }
}

/// Hold both answers against Cedar's.
fn same(theirs: &Response, lenient: &Decision, strict: &Decision) -> Result<(), TestCaseError> {
    let ids = |ids: &mut dyn Iterator<Item = String>| ids.collect::<BTreeSet<_>>();
    let errors: BTreeMap<String, String> = theirs
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(e)| {
            (e.policy_id().to_string(), e.to_string())
        })
        .collect();
    for ours in [lenient, strict] {
        let ours: BTreeMap<String, String> =
            ours.errors.iter().map(|e| (e.policy.to_string(), e.what.clone())).collect();
        prop_assert_eq!(&ours, &errors);
    }
    // Told to pass over what fails, it is Cedar to the letter.
    let reasons = ids(&mut theirs.diagnostics().reason().map(ToString::to_string));
    let allowed = theirs.decision() == CedarDecision::Allow;
    prop_assert_eq!(lenient.allowed(), allowed);
    prop_assert_eq!(ids(&mut lenient.policies.iter().map(ToString::to_string)), reasons.clone());
    // Else what fails denies.
    prop_assert_eq!(strict.allowed(), allowed && errors.is_empty());
    let expected = if allowed && !errors.is_empty() { BTreeSet::new() } else { reasons };
    prop_assert_eq!(ids(&mut strict.policies.iter().map(ToString::to_string)), expected);
    Ok(())
}

/// What a question tells, laid over the store's entities by hand.
fn merge(mut things: Vec<Value>, told: &[Value]) -> Vec<Value> {
    for one in told {
        let Some(own) = things.iter_mut().find(|thing| thing["uid"] == one["uid"]) else {
            things.push(one.clone());
            continue;
        };
        for part in ["attrs", "tags"] {
            let more = one[part].as_object().unwrap().clone();
            own[part].as_object_mut().unwrap().extend(more);
        }
        let more = one["parents"].as_array().unwrap().clone();
        own["parents"].as_array_mut().unwrap().extend(more);
    }
    things
}

/// For a store, and for the questions.
fn numbers() -> impl Strategy<Value = (Vec<u16>, Vec<u16>)> {
    let numbers = |size| proptest::collection::vec(any::<u16>(), size);
    (numbers(500..2_000), numbers(3_000..3_200))
}

fn run((store, questions): &(Vec<u16>, Vec<u16>), tally: &mut Tally) -> Result<(), TestCaseError> {
    let compiled = compiled(&mut Tape::of(store), tally);
    let mut tape = Tape::of(questions);
    let mut answered = Vec::new();
    for _ in 0..QUESTIONS {
        answered.extend(compiled.answered(compiled.world.question(&mut tape), tally)?);
    }
    let lenient = compiled.store.with_errors(OnError::Cedar);
    let passed_over: Vec<Decision> = answered.iter().map(|one| ours(&lenient, one)).collect();
    let strict = lenient.with_errors(OnError::Deny);
    for (one, lenient) in answered.iter().zip(&passed_over) {
        let strict = ours(&strict, one);
        tally.note("allowed", lenient.allowed());
        tally.note("forbidden", lenient.forbidden());
        tally.note("not permitted", !lenient.allowed() && !lenient.forbidden());
        tally.note("failed", !lenient.errors.is_empty());
        tally.note("allowed but for a failure", lenient.allowed() && !strict.allowed());
        same(&one.theirs, lenient, &strict)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test reads how long it may take")]
fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse::<u32>().ok());
    told.map_or(128, |cases| cases.div_ceil(3))
}

fn config() -> ProptestConfig {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores.regressions");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(kept)) as _);
    ProptestConfig { cases: cases(), failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_store_is_cedar(numbers in numbers()) {
        run(&numbers, &mut Tally::default())?;
    }
}

#[test]
fn the_questions_come_to_everything() {
    const STORES: usize = 30;
    let mut runner = TestRunner::deterministic();
    let mut tally = Tally::default();
    for _ in 0..STORES {
        let numbers = numbers().new_tree(&mut runner).unwrap().current();
        run(&numbers, &mut tally).unwrap();
    }
    assert!(tally.kept * 100 > tally.written * 60, "{tally:?}");
    for (what, count) in &tally.counts {
        assert!(*count > 10, "{what}: {count} of {}", STORES * QUESTIONS);
    }
}
