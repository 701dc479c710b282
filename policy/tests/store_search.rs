//! `who` and `what` of plain stores against decisions: what is told to hold whatever the context
//! does, over every context there is to try.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use policy::{
    search::May,
    snapshot::PolicyText,
    store::{
        Source, Store,
        search::{Answer, One, Search},
    },
};
use proptest::{prelude::*, sample};
use serde_json::{Value, json};

const SCHEMA: &str = "
entity Team;
entity Color enum [\"red\", \"green\"];
entity User in [Team] { hue: Color, boss?: User, blocked: Bool };
entity Document { owner: User, public: Bool, size: Long };
action read appliesTo { principal: [User], resource: [Document] };
action change;
action write in [change] appliesTo {
  principal: [User], resource: [Document],
  context: { mfa: Bool, added: Long, by?: User, from: { home: Bool } },
};
action paint appliesTo {
  principal: [User, Color], resource: [Document], context: { mfa: Bool, by?: User },
};
";

const ENTITIES: &str = r#"[
  {"uid": {"type": "Team", "id": "t"}, "attrs": {}, "parents": []},
  {"uid": {"type": "User", "id": "a"}, "parents": [{"type": "Team", "id": "t"}],
   "attrs": {"hue": {"type": "Color", "id": "red"}, "blocked": false}},
  {"uid": {"type": "User", "id": "b"}, "parents": [],
   "attrs": {"hue": {"type": "Color", "id": "green"}, "blocked": true, "boss": {"type": "User", "id": "gone"}}},
  {"uid": {"type": "Document", "id": "d"}, "parents": [],
   "attrs": {"owner": {"type": "User", "id": "a"}, "public": true, "size": 9223372036854775807}},
  {"uid": {"type": "Document", "id": "e"}, "parents": [],
   "attrs": {"owner": {"type": "User", "id": "lost"}, "public": false, "size": 0}}
]"#;

const SCOPES: [&str; 7] = [
    "principal, action, resource",
    "principal is User, action, resource",
    "principal == User::\"a\", action, resource",
    "principal in Team::\"t\", action in Action::\"change\", resource",
    "principal is User, action == Action::\"write\", resource == Document::\"d\"",
    "principal, action in [Action::\"write\", Action::\"paint\"], resource",
    "principal == Color::\"red\", action == Action::\"paint\", resource",
];

/// Clauses that any request may be asked for.
const CLAUSES: [&str; 10] = [
    "resource.public",
    "resource.owner == principal",
    "resource.owner.blocked",
    "resource.size + 1 > 0",
    "principal is User && principal.blocked",
    "principal is User && principal has boss && principal.boss.blocked",
    "principal is User && principal.hue == Color::\"red\"",
    "principal in Team::\"t\"",
    "resource == Document::\"new\"",
    "action == Action::\"read\"",
];

/// Clauses of writes; the scope is one that allows nothing else.
const WRITES: [&str; 12] = [
    "context.mfa",
    "!context.mfa",
    "context.mfa || true",
    "context.added > 10",
    "resource.size + context.added > 10",
    "context.added * 4 == 8",
    "context has by && context.by == principal",
    "context has by && context.by.blocked",
    "context has by && context.by in Team::\"t\"",
    "context.from.home",
    "context has from.home",
    "if context.mfa then resource.public else resource.owner == principal",
];

fn policy() -> impl Strategy<Value = String> {
    let effect = sample::select(vec!["permit", "permit", "forbid"]);
    let any = (sample::select(&SCOPES), prop::collection::vec(sample::select(&CLAUSES), 0..3));
    let write = (
        sample::select(&SCOPES[3..5]),
        prop::collection::vec(
            prop_oneof![sample::select(&WRITES), sample::select(&CLAUSES[..9])],
            1..4,
        ),
    );
    let joined = sample::select(vec![" && ", " || "]);
    let word = sample::select(vec!["when", "unless"]);
    (effect, prop_oneof![any, write], joined, word).prop_map(
        |(effect, (scope, clauses), joined, word)| {
            let clauses: Vec<String> = clauses.iter().map(|clause| format!("({clause})")).collect();
            if clauses.is_empty() {
                return format!("{effect} ({scope});");
            }
            format!("{effect} ({scope}) {word} {{ {} }};", clauses.join(joined))
        },
    )
}

fn store(policies: &[String]) -> Option<Store> {
    let text =
        |file: &str, text: &str| PolicyText { file: file.into(), product: None, text: text.into() };
    // What the validator refuses is left out, a policy at a time.
    let of = |policies: &[PolicyText]| {
        Store::compile(&Source {
            schema: text("schema.cedarschema", SCHEMA),
            policies: policies.to_vec(),
            entities: Some(text("entities.json", ENTITIES)),
            names: None,
        })
    };
    let named = policies.iter().enumerate();
    let texts = named.map(|(n, policy)| text("p.cedar", &format!("@id(\"p{n}\") {policy}")));
    let held: Vec<PolicyText> =
        texts.filter(|text| of(std::slice::from_ref(text)).is_ok()).collect();
    (!held.is_empty()).then(|| of(&held).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "a test reads how long it may take")]
fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse::<u32>().ok());
    told.map_or(12, |cases| cases.div_ceil(40))
}

/// Contexts of an action; every one that a clause above can tell from another.
fn contexts(action: &str) -> Vec<Value> {
    let by = [None, Some("a"), Some("gone"), Some("any-0")];
    let mut contexts = Vec::new();
    for mfa in [false, true] {
        for by in by {
            for added in [-9, 2, 100, i64::MAX] {
                for home in [false, true] {
                    let mut context = json!({ "mfa": mfa });
                    if let Some(id) = by {
                        context["by"] = json!({ "type": "User", "id": id });
                    }
                    if action == "write" {
                        context["added"] = added.into();
                        context["from"] = json!({ "home": home });
                    }
                    contexts.push(context);
                }
            }
        }
    }
    if action == "read" { vec![json!({})] } else { contexts }
}

fn uids(one: &One) -> Vec<String> {
    match one {
        One::Known(uid) => vec![uid.to_string()],
        One::Other(uid) => {
            vec![uid.to_string(), format!("{}::\"quite another\"", uid.type_name())]
        }
    }
}

fn agrees(store: &Store, principal: &str, action: &str, resource: &str, told: &Answer) {
    let (who, what) = (store.uid(principal).unwrap(), store.uid(resource).unwrap());
    let asked = store.action(action).unwrap();
    for words in contexts(action) {
        let context = store.context(&asked, words.clone()).unwrap();
        let request = store.request(who.clone(), asked.clone(), what.clone(), context).unwrap();
        let decision = store.decide(&request);
        let why = || {
            let policies = store.policies();
            format!("{principal} {action} {resource} {words}\n{told:?}\n{decision:?}\n{policies:?}")
        };
        match &told.may {
            May::Yes => assert!(decision.allowed(), "{}", why()),
            May::No(_) => assert!(!decision.allowed(), "{}", why()),
            May::Conditional(conditions) => {
                assert!(action != "read", "nothing to depend on: {}", why());
                assert!(!conditions.is_empty());
            }
        }
        for policy in &told.fails {
            assert!(decision.errors.iter().any(|error| error.policy == *policy), "{}", why());
        }
        if let May::No(forbids) = &told.may {
            for policy in forbids {
                assert!(decision.policies.contains(policy), "{}", why());
            }
        }
        // No policy fails unforeseen where the answer is sure.
        let sure = matches!(told.may, May::Yes);
        assert!(!sure || decision.errors.is_empty(), "{}", why());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_holds_whatever_the_context(
        policies in prop::collection::vec(policy(), 1..6),
    ) {
        let Some(store) = store(&policies) else { return Ok(()) };
        let search = Search::new(&store);
        for principal in ["User::\"a\"", "User::\"b\"", "User::\"new\"", "Color::\"red\""] {
            for (action, resource, told) in search.what(principal).unwrap() {
                for resource in uids(&resource) {
                    agrees(&store, principal, action.id().unescaped(), &resource, &told);
                }
            }
        }
        for action in ["read", "write", "paint"] {
            for resource in ["Document::\"d\"", "Document::\"e\"", "Document::\"new\""] {
                for (who, told) in search.who(action, resource).unwrap() {
                    for principal in uids(&who) {
                        agrees(&store, &principal, action, resource, &told);
                    }
                }
            }
        }
    }
}

#[test]
fn everybody_is_told_once_and_a_listed_type_has_no_others() {
    let store = store(&["permit (principal, action, resource);".to_owned()]).unwrap();
    let who = Search::new(&store).who("paint", "Document::\"d\"").unwrap();
    let names: Vec<String> = who.iter().map(|(one, _)| one.to_string()).collect();
    let expected = [
        "Color::\"green\"",
        "Color::\"red\"",
        "User::\"a\"",
        "User::\"b\"",
        "User::\"gone\"",
        "User::\"lost\"",
        "any other User",
    ];
    assert_eq!(names, expected);
    assert!(who.iter().all(|(_, answer)| answer.may == May::Yes));
}

#[test]
fn what_no_context_can_change_is_not_conditional() {
    for (policy, expected) in [
        (
            "permit (principal, action == Action::\"write\", resource) when { context.mfa && resource.public };",
            false,
        ),
        (
            "permit (principal, action == Action::\"write\", resource) unless { context.mfa || !resource.public };",
            false,
        ),
        (
            "permit (principal, action == Action::\"write\", resource) when { context.mfa || !resource.public };",
            true,
        ),
    ] {
        let store = store(&[policy.to_owned()]).unwrap();
        let told = Search::new(&store).who("write", "Document::\"e\"").unwrap();
        for (who, answer) in told {
            // `e` is not public.
            let yes = if expected { May::Yes } else { May::No(Vec::new()) };
            assert_eq!(answer.may, yes, "{who}: {policy}");
        }
    }
}
