//! Questions in AuthZEN's names against plain Cedar: whatever is told beside a question, the answer is
//! that of Cedar's own authorizer over the stored entities with what is told laid over them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{
    collections::BTreeSet,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use cedar_policy::{Authorizer, Decision, PolicySet};
use policy::{
    snapshot::PolicyText,
    store::{
        self, Source, Store,
        access::{Access, Named, Words},
    },
};
use proptest::{prelude::*, sample};
use serde_json::{Map, Value, json};

const SCHEMA: &str = r#"
entity Color enum ["red", "green"];
namespace App {
  entity Team;
  entity User in [Team] { role?: String, age?: Long, boss?: User, hue?: Color };
  entity Doc { status: String, tags?: Set<String>, owner?: User, place?: { room: Long, floor?: Long } };
  entity User2;
  action read, write appliesTo {
    principal: [User, Color], resource: [Doc, User],
    context: { mfa?: Bool, from?: ipaddr, action?: { soft?: Bool, n?: Long }, more?: Set<Long> },
  };
}
"#;

const POLICIES: &str = r#"
@id("team") permit (principal in App::Team::"t", action == App::Action::"read", resource);
@id("role") permit (principal is App::User, action, resource)
  when { principal has role && principal.role == "admin" };
@id("status") forbid (principal, action == App::Action::"write", resource is App::Doc)
  when { resource.status == "archived" };
@id("owner") permit (principal is App::User, action, resource is App::Doc)
  when { resource has owner && resource.owner == principal };
@id("boss") permit (principal is App::User, action, resource is App::Doc)
  when { principal has boss && principal.boss has role && principal.boss.role == "admin" };
@id("age") forbid (principal is App::User, action, resource)
  when { principal has age && principal.age + 1 < 18 };
@id("place") permit (principal, action, resource is App::Doc)
  when { resource has place && resource.place.room == 7 };
@id("hue") permit (principal == Color::"red", action, resource) when { context has mfa && context.mfa };
@id("soft") permit (principal, action, resource)
  when { context has action && context.action has soft && context.action.soft };
@id("from") forbid (principal, action, resource)
  when { context has from && context.from.isInRange(ip("10.0.0.0/8")) };
@id("self") permit (principal, action, resource) when { principal == resource };
"#;

const ENTITIES: &str = r#"[
  {"uid": {"type": "App::Team", "id": "t"}, "attrs": {}, "parents": []},
  {"uid": {"type": "App::User", "id": "ana"}, "attrs": {"age": 40}, "parents": [{"type": "App::Team", "id": "t"}]},
  {"uid": {"type": "App::User", "id": "bo"}, "attrs": {"role": "admin"}, "parents": []},
  {"uid": {"type": "App::Doc", "id": "d"}, "attrs": {"status": "archived"}, "parents": []},
  {"uid": {"type": "App::Doc", "id": "e"}, "attrs": {"status": "active", "owner": {"type": "App::User", "id": "ana"}}, "parents": []}
]"#;

fn store(names: Option<&str>) -> Result<Store, String> {
    let text =
        |file: &str, text: &str| PolicyText { file: file.into(), product: None, text: text.into() };
    Store::compile(&Source {
        schema: text("schema.cedarschema", SCHEMA),
        policies: vec![text("p.cedar", POLICIES)],
        entities: Some(text("entities.json", ENTITIES)),
        names: names.map(|names| text("authzen.yaml", names)),
    })
    .map_err(|complaints| complaints.to_string())
}

fn members(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

/// Values that fit somewhere, and such as fit nowhere.
fn value() -> impl Strategy<Value = Value> {
    sample::select(vec![
        json!("admin"),
        json!("archived"),
        json!("10.1.2.3"),
        json!("here"),
        json!(7),
        json!(i64::MAX),
        json!(1.5),
        json!(true),
        json!(null),
        json!(["a", "b"]),
        json!([1]),
        json!([1, "a"]),
        json!({}),
        json!({"room": 7, "color": "red"}),
        json!({"floor": null, "room": 7}),
        json!({"soft": true, "n": null, "more": {}}),
        json!({"type": "App::User", "id": "bo"}),
        json!({"type": "App::Doc", "id": "d"}),
        json!({"__entity": {"type": "App::User", "id": "ana"}}),
        json!({"__extn": {"fn": "ip", "arg": "10.0.0.1"}}),
        json!({"__expr": "1"}),
    ])
}

/// A value that fits an attribute or member of that name.
fn fitting(name: &str) -> Vec<Value> {
    match name {
        "role" => vec![json!("admin"), json!("none")],
        "age" => vec![json!(7), json!(40)],
        "boss" | "owner" => ["ana", "bo"].map(|id| json!({"type": "App::User", "id": id})).into(),
        "hue" => vec![json!({"type": "Color", "id": "red"})],
        "status" => vec![json!("archived"), json!("active")],
        "tags" => vec![json!(["a", "b"])],
        "place" => vec![json!({"room": 7, "color": "red"}), json!({"room": 1, "floor": null})],
        "mfa" | "soft" => vec![json!(true), json!(false)],
        "from" => vec![json!("10.1.2.3"), json!("11.1.2.3")],
        "action" => vec![json!({"soft": true, "more": {}}), json!({"n": 1})],
        "more" => vec![json!([1, 2])],
        _ => vec![json!(1)],
    }
}

fn object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let member = sample::select(names).prop_flat_map(|name| {
        let value = prop_oneof![9 => sample::select(fitting(name)), 1 => value()];
        value.prop_map(move |value| (name.to_owned(), value))
    });
    prop::collection::vec(member, 0..4).prop_map(|members| members.into_iter().collect())
}

/// Compiled once, for it takes longer than the questions.
static ACCESS: LazyLock<Access> = LazyLock::new(|| Access::new(store(None).unwrap()));
/// How many questions could be put.
static PUT: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    fn answers_are_those_of_plain_cedar(
        (kind, id) in sample::select(vec![("user", "ana"), ("App::User", "bo"), ("USER", "new"), ("color", "red"), ("Color", "blue"), ("robot", "r")]),
        (on, of) in sample::select(vec![("doc", "d"), ("App::Doc", "e"), ("Doc", "new"), ("user", "ana"), ("team", "t")]),
        action in sample::select(vec!["read", "write", "fly"]),
        who in object(&["role", "age", "boss", "hue", "other", "id"]),
        what in object(&["status", "tags", "owner", "place", "other", "role"]),
        how in object(&["soft", "n", "other"]),
        around in object(&["mfa", "from", "action", "more", "time"]),
    ) {
        let access = &*ACCESS;
        let words = Words {
            subject: Named { kind, id, properties: members(&who) },
            action,
            action_properties: members(&how),
            resource: Named { kind: on, id: of, properties: members(&what) },
            context: members(&around),
        };
        let Ok(asked) = access.ask(&words) else { return Ok(()) };
        PUT.fetch_add(1, Ordering::Relaxed);
        let decision = access.decide(&asked);
        // The words of the record say the same.
        let (principal, action, resource) = (asked.principal.to_string(), asked.action.to_string(), asked.resource.to_string());
        let question = access.store().question(store::Words {
            principal: &principal,
            action: &action,
            resource: &resource,
            context: asked.context.clone(),
            entities: asked.entities.clone(),
        }).unwrap();
        prop_assert_eq!(&access.store().put(&question), &decision);
        let policies = access.store().policies().iter().map(|policy| policy.policy.clone());
        let policies = PolicySet::from_policies(policies).unwrap();
        let response =
            Authorizer::new().is_authorized(&question.request, &policies, &question.around.entities);
        let errors = response.diagnostics().errors().count();
        prop_assert_eq!(decision.errors.len(), errors);
        let allowed = response.decision() == Decision::Allow && errors == 0;
        prop_assert_eq!(decision.allowed(), allowed);
        if allowed || decision.forbidden() {
            let reasons: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
            let ours: BTreeSet<String> = decision.policies.iter().map(ToString::to_string).collect();
            prop_assert_eq!(ours, reasons);
        }
    }
}

#[test]
fn an_answer_is_that_of_plain_cedar() {
    answers_are_those_of_plain_cedar();
    let put = PUT.load(Ordering::Relaxed);
    assert!(put > 400, "only {put} questions could be put");
}

#[test]
fn names_stand_for_what_the_folder_says() {
    let names = "subjects: {person: 'App::User'}\nresources: {paper: 'App::Doc', person: 'App::User'}\n\
        actions: {can_read: read, can_see: 'App::Action::\"read\"'}\n\
        properties:\n  App::User: {position: role}\n  App::Doc: {state: status}\n\
        context: {ip: from}\naction_properties: action\n";
    let access = Access::new(store(Some(names)).unwrap());
    let ask = |subject: (&str, &str, Value),
               action: &str,
               resource: (&str, &str, Value),
               context: Value| {
        let words = Words {
            subject: Named { kind: subject.0, id: subject.1, properties: members(&subject.2) },
            action,
            action_properties: None,
            resource: Named { kind: resource.0, id: resource.1, properties: members(&resource.2) },
            context: members(&context),
        };
        access.ask(&words).map(|asked| access.decide(&asked).allowed()).map_err(|e| e.to_string())
    };
    let none = || json!({});
    assert_eq!(
        ask(("person", "ana", none()), "can_read", ("paper", "d", none()), none()),
        Ok(true)
    );
    assert_eq!(
        ask(
            ("person", "new", json!({"position": "admin"})),
            "can_see",
            ("paper", "d", none()),
            none()
        ),
        Ok(true)
    );
    assert_eq!(
        ask(
            ("person", "ana", none()),
            "can_read",
            ("paper", "d", none()),
            json!({"ip": "10.0.0.1"})
        ),
        Ok(false)
    );
    // What is named goes before what has the attribute's name by chance.
    let both = json!({"role": "none", "position": "admin"});
    assert_eq!(ask(("person", "new", both), "can_read", ("paper", "d", none()), none()), Ok(true));
    for (subject, action, resource) in
        [("user", "can_read", "paper"), ("person", "read", "paper"), ("person", "can_read", "doc")]
    {
        let told = ask((subject, "ana", none()), action, (resource, "d", none()), none());
        assert!(told.is_err(), "{subject} {action} {resource}");
    }
    let known: Vec<String> = access.actions(None).map(|name| name.to_string()).collect();
    assert_eq!(known, ["can_read", "can_see"]);
    let known: Vec<String> =
        access.subjects("person", Some("ana")).map(|id| id.to_string()).collect();
    assert_eq!(known, ["bo"]);
    // An enumeration is known whole.
    let plain = Access::new(store(None).unwrap());
    let colors: Vec<String> = plain.subjects("Color", None).map(|id| id.to_string()).collect();
    assert_eq!(colors, ["green", "red"]);
}

#[test]
fn what_the_schema_has_not_is_told_with_its_place() {
    for (names, expected) in [
        ("subjects: {user: User}\n", "authzen.yaml:1:18: the schema has no entity type `User`"),
        (
            "actions: {a: raed}\n",
            "authzen.yaml:1:14: the schema has no action `raed`; did you mean `read`?",
        ),
        (
            "properties:\n  App::User: {a: rol}\n",
            "authzen.yaml:2:18: `App::User` has no attribute `rol`; did you mean `role`?",
        ),
        ("properties: {User: {}}\n", "authzen.yaml:1:14: the schema has no entity type `User`"),
        (
            "context: {a: mfo}\n",
            "authzen.yaml:1:14: no action's context has `mfo`; did you mean `mfa`?",
        ),
        ("action_properties: mfa\n", "authzen.yaml:1:20: `mfa` is no record"),
        ("action: {}\n", "unknown field `action`"),
        ("subjects: [a]\n", "authzen.yaml:1:11: "),
        ("subjects: {a: Color, a: Color}\n", "authzen.yaml:1:"),
    ] {
        let told = store(Some(names)).unwrap_err();
        assert!(told.contains(expected), "{told}\nwants {expected}");
    }
}
