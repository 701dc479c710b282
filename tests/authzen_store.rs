//! AuthZEN 1.0, over plain Cedar stores: the rules of the specification's certification in
//! `examples/records`, and those of `examples/documents` without a word about names.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    authzen::{answer, ask},
    harness::{Postern, Setup, alone::command, secret, text},
};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    path.display().to_string()
}

fn config(askers: &str) -> String {
    let store = |name: &str| {
        format!("[[store]]\nname = '{name}'\nfolder = '{}'\naskers = {askers}\n", example(name))
    };
    store("records") + &store("documents")
}

fn with(base: &Value, changes: &[(&str, Value)]) -> Value {
    let mut body = base.clone();
    for (pointer, value) in changes {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[member] = value.clone();
    }
    body
}

fn question(subject: &str, action: &str, resource: &str) -> Value {
    json!({
        "subject": {"type": "user", "id": subject}, "action": {"name": action},
        "resource": {"type": "record", "id": resource},
    })
}

#[tokio::test]
async fn the_certifications_rules_hold() {
    let postern = Postern::with(&config("['lerian']")).await;
    let admin = postern.admin().await;
    let at = |path: &str| format!("/stores/records/access/v1/{path}");
    let status = || ("/resource/properties", json!({"status": "archived"}));
    let role = || ("/subject/properties", json!({"role": "admin"}));
    let soft = |soft: bool| ("/action/properties", json!({ "soft": soft }));
    for (subject, action, resource, changes, expected) in [
        ("alice", "read", "record-1", vec![], true),
        ("alice", "write", "record-1", vec![], true),
        ("bob", "read", "record-1", vec![], true),
        ("bob", "write", "record-1", vec![], false),
        ("alice", "write", "record-1", vec![status()], false),
        ("alice", "write", "record-1", vec![status(), role()], true),
        // Under the name that `authzen.yaml` gives it.
        (
            "alice",
            "write",
            "record-1",
            vec![status(), ("/subject/properties", json!({"position": "admin"}))],
            true,
        ),
        ("alice", "delete", "record-1", vec![soft(true)], true),
        ("alice", "delete", "record-1", vec![soft(false)], false),
        ("alice", "delete", "record-1", vec![], false),
        // What is stored is not lost by what is told beside it.
        (
            "bob",
            "write",
            "record-2",
            vec![("/subject/properties", json!({"department": "Sales", "role": null}))],
            true,
        ),
        (
            "alice",
            "read",
            "record-1",
            vec![
                ("/subject/properties", json!({"role": "manager"})),
                ("/resource/properties", json!({"owner": "bob"})),
            ],
            true,
        ),
        (
            "alice",
            "read",
            "record-1",
            vec![("/context", json!({"time": "2025-06-27T18:03-07:00", "a": {"b": [1.5]}}))],
            true,
        ),
        // Nobody and nothing that the schema has.
        ("carol", "read", "record-1", vec![], false),
        ("alice", "read", "record-9", vec![], true),
        ("alice", "write", "record-9", vec![], false),
        ("alice", "fly", "record-1", vec![], false),
        ("alice", "read", "record-1", vec![("/subject/type", json!("robot"))], false),
        ("alice", "read", "record-1", vec![("/resource/type", json!("user"))], false),
        // The section lists `user` alone.
        ("alice", "read", "record-1", vec![("/subject/type", json!("User"))], false),
        // What does not fit its place is no question, so it is denied.
        ("alice", "read", "record-1", vec![("/subject/properties", json!({"role": 7}))], false),
        (
            "alice",
            "read",
            "record-1",
            vec![("/resource/properties", json!({"status": 1.5}))],
            false,
        ),
    ] {
        let body = with(&question(subject, action, resource), &changes);
        let got = answer(&postern, &admin, &at("evaluation"), &body).await;
        assert_eq!(got, json!({ "decision": expected }), "{body}");
    }
}

#[tokio::test]
async fn the_certifications_searches_hold() {
    let postern = Postern::with(&config("['lerian']")).await;
    let admin = postern.admin().await;
    let at = |path: &str| format!("/stores/records/access/v1/{path}");
    let of = |subject: Value, action: Value, resource: Value| json!({"subject": subject, "action": action, "resource": resource});
    let (user, record) = (json!({"type": "user"}), json!({"type": "record"}));
    let one = |kind: &str, id: &str| json!({"type": kind, "id": id});
    let (read, write) = (json!({"name": "read"}), json!({"name": "write"}));
    let archived =
        with(&one("record", "record-2"), &[("/properties", json!({"status": "archived"}))]);
    let boss = with(&one("user", "bob"), &[("/properties", json!({"role": "admin"}))]);
    let (alice, first) = (one("user", "alice"), one("record", "record-1"));
    for (path, body, expected) in [
        (
            "search/subject",
            of(user.clone(), read.clone(), first.clone()),
            json!([alice, one("user", "bob")]),
        ),
        (
            "search/resource",
            of(alice.clone(), read, record.clone()),
            json!([first, one("record", "record-2")]),
        ),
        (
            "search/action",
            of(alice.clone(), json!(null), first),
            json!([{"name": "read"}, {"name": "write"}]),
        ),
        ("search/subject", of(user, write.clone(), archived.clone()), json!([one("user", "bob")])),
        (
            "search/resource",
            of(boss.clone(), write.clone(), record),
            json!([one("record", "record-2")]),
        ),
        (
            "search/action",
            of(boss, json!(null), archived.clone()),
            json!([{"name": "read"}, {"name": "write"}]),
        ),
        (
            "search/action",
            with(
                &of(alice, json!({"name": 7}), archived),
                &[("/action/properties", json!({"soft": true}))],
            ),
            json!([{"name": "read"}]),
        ),
        (
            "search/subject",
            of(json!({"type": "robot"}), write, one("record", "record-1")),
            json!([]),
        ),
    ] {
        let got = answer(&postern, &admin, &at(path), &body).await;
        assert_eq!(got, json!({ "results": expected }), "{path} {body}");
    }
}

#[tokio::test]
async fn an_answer_has_these_very_bytes() {
    let postern = Postern::with(&config("['lerian']")).await;
    let admin = postern.admin().await;
    let at = |path: &str| format!("/stores/records/access/v1/{path}");
    let one = |kind: &str, id: &str| json!({"type": kind, "id": id});
    // For whoever compares texts.
    let body = question("alice", "read", "record-1");
    let path = at("evaluation");
    let request = postern.request(Method::POST, postern.doors, &path).bearer_auth(&admin);
    let response = request.json(&body).send().await.unwrap();
    assert!(response.headers().contains_key("x-postern-decision-id"));
    assert_eq!(response.text().await.unwrap(), r#"{"decision":true}"#);
    let body = json!({
        "subject": {"type": "user"}, "action": {"name": "write"}, "resource": one("record", "record-1"),
    });
    let path = at("search/subject");
    let request = postern.request(Method::POST, postern.doors, &path).bearer_auth(&admin);
    let told = request.json(&body).send().await.unwrap().text().await.unwrap();
    assert_eq!(told, r#"{"results":[{"type":"user","id":"alice"}]}"#);
    // A batch, and discovery.
    let body = json!({
        "subject": one("user", "bob"), "options": {"evaluations_semantic": "permit_on_first_permit"},
        "resource": one("record", "record-1"),
        "evaluations": [{"action": {"name": "write"}}, {"action": {"name": "read"}}, {}],
    });
    let got = answer(&postern, &admin, &at("evaluations"), &body).await;
    assert_eq!(got, json!({"evaluations": [{"decision": false}, {"decision": true}]}));
    let path = "/.well-known/authzen-configuration/stores/records";
    let told = postern.request(Method::GET, postern.doors, path).send().await.unwrap();
    let told: Value = told.json().await.unwrap();
    let base = format!("http://{}/stores/records", postern.doors);
    assert_eq!(told["policy_decision_point"], base);
    assert_eq!(told["search_action_endpoint"], format!("{base}/access/v1/search/action"));
}

#[tokio::test]
async fn t_a_store_is_asked_by_whom_its_configuration_names() {
    for (askers, expected) in [
        ("[]", [false, false]),
        ("['*']", [true, true]),
        ("['lerian']", [true, true]),
        ("['other', 'user:lerian/nobody']", [false, false]),
        ("['application:lerian/$']", [false, true]),
    ] {
        let data = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let (password, client_secret) = (secret(), uuid::Uuid::new_v4().simple().to_string());
        let setup = || Setup {
            data: Some(std::sync::Arc::clone(&data)),
            password: Some(password.clone()),
            client_secret: Some(client_secret.clone()),
            ..Setup::default()
        };
        // An application's id is made by identity, so it is made first.
        let (id, client, known) = {
            let postern = Postern::set_up(setup()).await;
            let admin = postern.admin().await;
            let made = json!({"name": "midaz", "description": "a test's"});
            let made =
                postern.manage(&admin, Method::POST, "/v1/applications", Some(made), 201).await;
            (text(&made, "id"), text(&made, "clientId"), text(&made, "clientSecret"))
        };
        let config = config(&askers.replace('$', &id));
        let postern = Postern::set_up(Setup { config, ..setup() }).await;
        let tokens = [postern.admin().await, postern.machine(&client, &known).await];
        let body = question("alice", "read", "record-1");
        for (token, expected) in tokens.iter().zip(expected) {
            for path in ["evaluation", "evaluations", "search/subject"] {
                let path = format!("/stores/records/access/v1/{path}");
                let (status, told) = ask(&postern, token, &path, &body).await;
                assert_eq!(status, if expected { 200 } else { 403 }, "{askers} {told}");
                assert_eq!(told.is_string(), !expected);
            }
            // One that is not there is as one that may not be asked.
            let path = "/stores/nothing/access/v1/evaluation";
            assert_eq!(ask(&postern, token, path, &body).await.0, 403);
        }
        let line = postern.logged("\"not-asker\"").await;
        assert!(line.contains("\"principal\":\"user:lerian/"), "{line}");
    }
}

/// Everything that there is to ask of the documents, by evaluation and by search.
#[tokio::test]
async fn d_a_search_finds_what_evaluations_allow_and_nothing_else() {
    let postern = Postern::with(&config("['*']")).await;
    let admin = postern.admin().await;
    let at = |path: &str| format!("/stores/documents/access/v1/{path}");
    let users = ["ana", "bo", "eve", "nobody"];
    let documents = ["plan", "trains", "nothing"];
    let actions = ["read", "write", "share", "change", "fly"];
    // Types in any case, for the schema has but one of that name.
    let who = |id: &str| json!({"type": "user", "id": id});
    let what = |id: &str| json!({"type": "Document", "id": id});
    for (properties, context) in [
        (json!(null), json!(null)),
        (json!(null), json!({"mfa": true, "added": 5, "client": "10.1.2.3", "time": 7})),
        (json!({"public": true}), json!({"mfa": true, "added": 5, "client": "11.1.2.3"})),
        (json!({"size": 1024, "color": "red"}), json!({"mfa": true, "added": 1})),
        (json!({"owner": {"type": "User", "id": "ana"}}), json!({"mfa": false, "added": 1})),
        (json!({"size": "large"}), json!({"mfa": true, "added": 1})),
        (json!(null), json!({"mfa": "yes", "added": i64::MAX})),
    ] {
        let ask = |body: Value| {
            with(
                &body,
                &[("/resource/properties", properties.clone()), ("/context", context.clone())],
            )
        };
        let mut allowed = std::collections::BTreeSet::new();
        for user in users {
            for action in actions {
                let items: Vec<Value> = documents.iter().map(|id| {
                    json!({"resource": with(&what(id), &[("/properties", properties.clone())])})
                }).collect();
                let body = json!({
                    "subject": who(user), "action": {"name": action}, "context": context, "evaluations": items,
                });
                let got = answer(&postern, &admin, &at("evaluations"), &body).await;
                let answers = got["evaluations"].as_array().unwrap();
                for (id, answer) in documents.iter().zip(answers) {
                    if answer["decision"] == true {
                        allowed.insert((user, action, *id));
                    }
                }
            }
        }
        // Those nobody has heard of are not sought.
        let known = |ids: &[&str], id: &str| ids.contains(&id) && id != "nobody" && id != "nothing";
        for action in actions {
            let name = json!({"name": action});
            for id in documents {
                let body =
                    ask(json!({"subject": {"type": "user"}, "action": name, "resource": what(id)}));
                let got = answer(&postern, &admin, &at("search/subject"), &body).await;
                let expected: Vec<Value> = users
                    .iter()
                    .filter(|user| known(&users, user) && allowed.contains(&(**user, action, id)))
                    .map(|user| who(user))
                    .collect();
                assert_eq!(got, json!({ "results": expected }), "{body}");
            }
            for user in users {
                let body = ask(
                    json!({"subject": who(user), "action": name, "resource": {"type": "Document"}}),
                );
                let got = answer(&postern, &admin, &at("search/resource"), &body).await;
                let expected: Vec<Value> = documents
                    .iter()
                    .filter(|id| known(&documents, id) && allowed.contains(&(user, action, **id)))
                    .map(|id| what(id))
                    .collect();
                assert_eq!(got, json!({ "results": expected }), "{body}");
            }
        }
        for user in users {
            for id in documents {
                let body = ask(json!({"subject": who(user), "resource": what(id)}));
                let got = answer(&postern, &admin, &at("search/action"), &body).await;
                let mut expected: Vec<&str> = actions
                    .iter()
                    .copied()
                    .filter(|action| allowed.contains(&(user, *action, id)))
                    .collect();
                expected.sort_unstable();
                let expected: Vec<Value> =
                    expected.iter().map(|name| json!({ "name": name })).collect();
                assert_eq!(got, json!({ "results": expected }), "{body}");
            }
        }
    }
}

#[tokio::test]
async fn a_store_says_why_and_its_record_what_it_was_asked() {
    let postern = Postern::with(&config("['*']")).await;
    let admin = postern.admin().await;
    let at = "/stores/documents/access/v1/evaluation";
    let body = json!({
        "subject": {"type": "User", "id": "eve", "properties": {"password": "hunter2"}},
        "action": {"name": "write"},
        "resource": {"type": "Document", "id": "trains", "properties": {"size": 900}},
        "context": {"mfa": true, "added": 200, "secret": "hunter2"}, "options": {"reasons": true},
    });
    let told = answer(&postern, &admin, at, &body).await;
    let context = &told["context"];
    assert_eq!(told["decision"], false);
    assert_eq!(context["reason"], "forbidden");
    assert_eq!(context["policies"], json!(["suspended-do-nothing", "too-large"]));
    let sentences = ["Your account is suspended.", "A document has a megabyte at most."];
    assert!(sentences.contains(&context["message"].as_str().unwrap()), "{told}");
    let line = postern.logged(context["id"].as_str().unwrap()).await;
    // Only what the schema has a place for is kept.
    assert!(!line.contains("hunter2"), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    for (member, expected) in [
        ("verdict", "deny"),
        ("door", "authzen"),
        ("store", "documents"),
        ("principal", "User::\"eve\""),
        ("action", "Action::\"write\""),
        ("resource", "Document::\"trains\""),
        ("context", "{\"mfa\":true,\"added\":200}"),
        ("policies", "suspended-do-nothing too-large"),
        (
            "entities",
            "[{\"uid\":{\"type\":\"Document\",\"id\":\"trains\"},\"attrs\":{\"size\":900}}]",
        ),
    ] {
        assert_eq!(line[member], expected, "{line}");
    }
    assert!(line["asker"].as_str().unwrap().starts_with("user:lerian/"), "{line}");
    for (changes, word, message) in [
        (vec![("/context", json!({"mfa": true}))], "no-question", "added"),
        (vec![("/subject/type", json!("Robot"))], "no-question", "no entity type `Robot`"),
        (vec![("/action/name", json!("fly"))], "no-question", "no action `fly`"),
        (
            vec![("/subject/id", json!("bo")), ("/context/added", json!(i64::MAX))],
            "policy-error",
            "not allowed",
        ),
        (
            vec![
                ("/subject/id", json!("nobody")),
                ("/subject/properties", json!({"suspended": false})),
                ("/context/added", json!(1)),
            ],
            "no-permit",
            "not allowed",
        ),
    ] {
        let body = with(&body, &changes);
        let told = answer(&postern, &admin, at, &body).await;
        assert_eq!(told["context"]["reason"], word, "{body} {told}");
        assert!(told["context"]["message"].as_str().unwrap().contains(message), "{told}");
        postern.logged(told["context"]["id"].as_str().unwrap()).await;
    }
    // And it can be asked again.
    let log = postern.data.path().join("decisions.log");
    fs::write(&log, postern.log.text()).unwrap();
    let replay = |folder: &str| -> Value {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["policy", "replay", "--json"]).arg(&log).arg(folder);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    };
    let told = replay(&example("documents"));
    assert_eq!((&told["asked"], &told["same"]), (&json!(3), &json!(3)), "{told}");
    let told = replay(&example("records"));
    assert_eq!((&told["asked"], &told["unreadable"]), (&json!(0), &json!(3)), "{told}");
    let metrics = postern.request(Method::GET, postern.health, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for expected in [
        "postern_decisions_total{door=\"authzen\",product=\"store/documents\",reason=\"forbidden\",verdict=\"deny\"} 1",
        "postern_policy_errors_total{policy=\"store/documents/too-large\"} 1",
    ] {
        assert!(metrics.contains(expected), "{expected}\n{metrics}");
    }
}

#[tokio::test]
async fn a_changed_store_is_in_force_if_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["schema.cedarschema", "records.cedar", "entities.json", "authzen.yaml"] {
        fs::copy(Path::new(&example("records")).join(name), folder.path().join(name)).unwrap();
    }
    let at = folder.path().display();
    let config = format!("[[store]]\nname = 'records'\nfolder = '{at}'\naskers = ['*']\n");
    let postern = Postern::with(&config).await;
    let admin = postern.admin().await;
    let decides = async |action: &str| {
        let body = question("alice", action, "record-1");
        let path = "/stores/records/access/v1/evaluation";
        answer(&postern, &admin, path, &body).await["decision"].as_bool().unwrap()
    };
    assert!(decides("read").await);
    let write = |name: &str, text: &str| {
        let new = folder.path().join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, folder.path().join(name)).unwrap();
    };
    write("more.cedar", "forbid (nobody);\n");
    let told = postern.logged("the changed store `records` is refused").await;
    assert!(told.contains("more.cedar:1:9"), "{told}");
    assert!(decides("read").await);
    write("more.cedar", "@id(\"closed\") forbid (principal, action, resource);\n");
    postern.logged("the changed store `records` is in force").await;
    assert!(!decides("read").await);
    // Names and entities count as policies do.
    fs::remove_file(folder.path().join("more.cedar")).unwrap();
    write("authzen.yaml", "actions: {look: read}\n");
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !decides("look").await {
        assert!(std::time::Instant::now() < deadline, "{}", postern.log.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!decides("read").await);
}

#[test]
fn a_store_that_does_not_hold_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for name in ["schema.cedarschema", "records.cedar", "entities.json"] {
        fs::copy(Path::new(&example("records")).join(name), broken.join(name)).unwrap();
    }
    fs::write(broken.join("authzen.yaml"), "subjects: {user: Usr}\n").unwrap();
    let shipped = crate::harness::policies();
    let shipped = shipped.to_str().unwrap();
    let arguments = ["--policies", shipped, "--issuer", "http://localhost:4000"];
    let store = |name: &str, at: &str| {
        format!("[[store]]\nname = '{name}'\nfolder = '{at}'\naskers = []\n")
    };
    for (config, expected) in [
        (
            store("a", broken.to_str().unwrap()),
            "authzen.yaml:1:18: the schema has no entity type `Usr`; did you mean `User`?"
                .to_owned(),
        ),
        (store("a", "nowhere"), "nowhere: cannot read the policy folder".to_owned()),
        (store("a", shipped), "the folder holds products, and no plain Cedar store".to_owned()),
        (
            store("a", &example("records")) + &store("a", &example("documents")),
            "two stores are named `a`".to_owned(),
        ),
        (store("a/b", &example("records")), "`a/b` is no store's name".to_owned()),
        (
            format!("[[store]]\nname = 'a'\nfolder = '{}'\n", example("records")),
            "missing field `askers`".to_owned(),
        ),
        (
            "[authzen]\nurl = 'http://pdp.example.com'\n".to_owned(),
            "it begins with `https://`".to_owned(),
        ),
        (
            "[authzen]\npage_size = 0\n".to_owned(),
            "`authzen.page_size` is 0, and must be 1 to 100000".to_owned(),
        ),
    ] {
        let output = command(&folder, &config, &arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&expected), "{told}\nwants {expected}");
    }
}
