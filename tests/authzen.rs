//! AuthZEN 1.0, over products' roles.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Person, Postern, raw, status, text};

pub const EVALUATION: &str = "/access/v1/evaluation";
pub const EVALUATIONS: &str = "/access/v1/evaluations";

/// Ask, and have the status and the body.
pub async fn ask(postern: &Postern, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = postern.request(Method::POST, postern.doors, path).bearer_auth(token);
    let response = request.json(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// The answer, of a question that has one.
pub async fn answer(postern: &Postern, token: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = ask(postern, token, path, body).await;
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

pub fn question(subject: &str, id: &str, action: &str, resource: (&str, &str)) -> Value {
    json!({
        "subject": {"type": subject, "id": id}, "action": {"name": action},
        "resource": {"type": resource.0, "id": resource.1},
    })
}

pub async fn viewer(postern: &Postern) -> Person {
    let admin = postern.admin().await;
    postern.person(&admin, "vera", &["midaz-viewer-group"]).await
}

#[tokio::test]
async fn t_a_question_is_about_its_bearer_and_nobody_else() {
    let postern = Postern::with("").await;
    let vera = viewer(&postern).await;
    let admin = postern.admin().await;
    let ed = postern.person(&admin, "ed", &["midaz-editor-group"]).await;
    let accounts = ("midaz:accounts", "7");
    for (kind, id, action, resource, expected) in [
        ("user", vera.id.clone(), "get", accounts, true),
        ("user", format!("lerian/{}", vera.id), "get", accounts, true),
        ("user", vera.id.clone(), "get", ("accounts", "7"), true),
        ("user", vera.id.clone(), "get", ("midaz", "accounts"), true),
        ("user", vera.id.clone(), "delete", accounts, false),
        ("user", vera.id.clone(), "get", ("midaz", "nothing"), false),
        ("user", vera.id.clone(), "get", ("nothing:accounts", "7"), false),
        ("user", vera.id.clone(), "nothing", accounts, false),
        // Somebody else, another organization, another kind, and names that imitate.
        ("user", ed.id.clone(), "get", accounts, false),
        ("user", format!("other/{}", vera.id), "get", accounts, false),
        ("user", format!("admin/{}", vera.id), "get", accounts, false),
        ("application", vera.id.clone(), "get", accounts, false),
        ("User", vera.id.clone(), "get", accounts, false),
        ("user", String::new(), "get", accounts, false),
        ("user", "/".to_owned(), "get", accounts, false),
        ("user", format!("lerian/{}/", vera.id), "get", accounts, false),
    ] {
        let body = question(kind, &id, action, resource);
        let answer = answer(&postern, &vera.token, EVALUATION, &body).await;
        assert_eq!(answer, json!({ "decision": expected }), "{body}");
    }
    // What the body says of anybody's rights or organization changes nothing.
    let mut body = question("user", &vera.id, "delete", accounts);
    let claims = json!({
        "groups": ["midaz-editor-group"], "roles": ["midaz-editor"], "organization": "lerian",
        "access_token": ed.token,
    });
    body["subject"]["properties"] = claims.clone();
    body["context"] = claims;
    assert_eq!(answer(&postern, &vera.token, EVALUATION, &body).await["decision"], false);
    // A record says who asked, and whom it was about.
    let body = question("user", &ed.id, "get", accounts);
    answer(&postern, &vera.token, EVALUATION, &body).await;
    let line = postern.logged(&format!("\"about\":\"user:{}\"", ed.id)).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["verdict"], "deny");
    assert_eq!(line["door"], "authzen");
    assert_eq!(line["principal"], format!("user:lerian/{}", vera.id));
}

#[tokio::test]
async fn an_application_asks_about_whose_token_it_shows_where_that_is_allowed() {
    for allowed in [true, false] {
        let postern = Postern::with(&format!("[authzen]\nsubject_tokens = {allowed}\n")).await;
        let admin = postern.admin().await;
        let vera = viewer(&postern).await;
        let made = json!({"name": "midaz", "description": "a test's"});
        let made = postern.manage(&admin, Method::POST, "/v1/applications", Some(made), 201).await;
        let machine = postern.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
        let id = text(&made, "id");
        let of_itself = question("application", &id, "delete", ("midaz:accounts", "7"));
        assert_eq!(answer(&postern, &machine, EVALUATION, &of_itself).await["decision"], true);
        let sub = question("application", &format!("admin/{id}"), "get", ("accounts", "7"));
        assert_eq!(answer(&postern, &machine, EVALUATION, &sub).await["decision"], true);
        for (id, action, shown, expected) in [
            (&vera.id, "get", &vera.token, true),
            (&vera.id, "delete", &vera.token, false),
            // A token of somebody else, and none that holds.
            (&vera.id, "get", &admin, false),
            (&vera.id, "get", &machine, false),
            (&vera.id, "get", &format!("{}x", vera.token), false),
            (&vera.id, "get", &String::new(), false),
        ] {
            let mut body = question("user", id, action, ("midaz:accounts", "7"));
            body["subject"]["properties"] = json!({ "access_token": shown });
            let got = answer(&postern, &machine, EVALUATION, &body).await;
            assert_eq!(got, json!({ "decision": expected && allowed }), "{allowed} {action}");
            // A person asks about nobody else, whatever they show.
            let got = answer(&postern, &admin, EVALUATION, &body).await;
            assert_eq!(got["decision"], false);
        }
        if allowed {
            let line = postern.logged(&format!("\"asker\":\"application:lerian/{id}\"")).await;
            assert!(line.contains(&format!("user:lerian/{}", vera.id)), "{line}");
            // Whoever was signed out is nobody any more, shown or not.
            let gone = format!("/v1/users/{}", vera.id);
            postern.manage(&admin, Method::DELETE, &gone, None, 204).await;
            let mut body = question("user", &vera.id, "get", ("midaz:accounts", "7"));
            body["subject"]["properties"] = json!({ "access_token": vera.token });
            assert_eq!(answer(&postern, &machine, EVALUATION, &body).await["decision"], false);
        }
        assert!(!postern.log.text().contains(&vera.token), "a token is in the log");
    }
}

/// What a policy reads of a path and of the client's address comes from the question.
#[tokio::test]
async fn a_policy_reads_the_resource_and_the_client_of_a_question() {
    let folder = tempfile::tempdir().unwrap();
    let policies = crate::harness::copied(folder.path());
    let text = "@id(\"closed-account\") @reason(\"This account is closed.\")\n\
        forbid (principal, action in Midaz::Action::\"accounts:*\", resource)\n\
        when { context.path has id && context.path.id == \"7\" };\n\
        @id(\"other-ledger\") forbid (principal, action in Midaz::Action::\"accounts:*\", resource)\n\
        when { context.path has ledger_id && context.path.ledger_id == \"l2\" };\n\
        @id(\"from-outside\") forbid (principal, action in Midaz::Action::\"accounts:*\", resource)\n\
        when { context has client && !context.client.isInRange(ip(\"10.0.0.0/8\")) };\n";
    std::fs::write(policies.join("midaz/extra.cedar"), text).unwrap();
    let setup = crate::harness::Setup { policies: Some(policies), ..Default::default() };
    let postern = Postern::set_up(setup).await;
    let vera = viewer(&postern).await;
    for (id, properties, context, expected) in [
        ("8", json!(null), json!(null), None),
        ("7", json!(null), json!(null), Some("closed-account")),
        ("8", json!({"id": "7"}), json!(null), None),
        ("*", json!(null), json!(null), None),
        (
            "8",
            json!({"ledger_id": "l1", "color": [1, 2.5]}),
            json!({"time": "2025-06-27T18:03-07:00"}),
            None,
        ),
        ("8", json!({"ledger_id": "l2"}), json!(null), Some("other-ledger")),
        ("8", json!(null), json!({"client": "10.1.2.3"}), None),
        ("8", json!(null), json!({"client": "11.1.2.3"}), Some("from-outside")),
        // What is no address is not passed over: a policy forbids by it.
        ("8", json!(null), json!({"client": "here"}), Some("")),
    ] {
        let mut body = question("user", &vera.id, "get", ("midaz:accounts", id));
        body["resource"]["properties"] = properties;
        body["context"] = context;
        body["options"] = json!({"reasons": true});
        let answer = answer(&postern, &vera.token, EVALUATION, &body).await;
        assert_eq!(answer["decision"], expected.is_none(), "{body} {answer}");
        let told = &answer["context"];
        assert!(told["id"].is_string(), "{answer}");
        match expected {
            None => assert!(told["policies"][0].as_str().unwrap().starts_with("role/"), "{answer}"),
            Some("") => assert_eq!(told["reason"], "no-permit"),
            Some(policy) => {
                assert_eq!(told["policies"], json!([policy]));
                assert_eq!(told["reason"], "forbidden");
                if policy == "closed-account" {
                    assert_eq!(told["message"], "This account is closed.");
                }
            }
        }
    }
    // The record holds what was asked, so that it can be asked again.
    let line = postern.logged("\"policies\":\"other-ledger\"").await;
    assert!(line.contains("id=8&ledger_id=l2") && !line.contains("color"), "{line}");
    let log = folder.path().join("decisions.log");
    std::fs::write(&log, postern.log.text()).unwrap();
    let replay = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["policy", "replay", "--json"])
        .arg(&log)
        .arg(folder.path().join("policies"))
        .output()
        .unwrap();
    let replay: Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert_eq!(replay["same"], 8, "{replay}");
    // Policies were not asked about what is no address.
    assert_eq!(replay["unreadable"], 1, "{replay}");
    assert_eq!((&replay["gained"], &replay["lost"]), (&json!(0), &json!(0)), "{replay}");
}

#[tokio::test]
async fn d_a_product_says_how_much_of_why_is_let_out() {
    for (reasons, members) in [
        ("none", vec![]),
        ("id", vec!["id"]),
        ("full", vec!["id", "message", "policies", "reason"]),
    ] {
        let config = format!("[[product]]\nname = 'midaz'\nreasons = '{reasons}'\n");
        let postern = Postern::with(&config).await;
        let vera = viewer(&postern).await;
        let mut body = question("user", &vera.id, "delete", ("midaz:accounts", "7"));
        let plain = answer(&postern, &vera.token, EVALUATION, &body).await;
        assert_eq!(plain, json!({"decision": false}));
        body["options"] = json!({"reasons": true});
        let told = answer(&postern, &vera.token, EVALUATION, &body).await;
        let context = told["context"].as_object().into_iter().flatten();
        let context: std::collections::BTreeSet<&str> = context.map(|(name, _)| &**name).collect();
        assert_eq!(context.into_iter().collect::<Vec<_>>(), members, "{told}");
    }
}

#[tokio::test]
async fn a_batch_follows_its_semantic_and_its_defaults() {
    let postern = Postern::with("").await;
    let vera = viewer(&postern).await;
    let me = json!({"type": "user", "id": vera.id});
    let get = json!({"name": "get"});
    let of = |name: &str| json!({"resource": {"type": "midaz", "id": name}});
    let (yes, no) = (of("accounts"), of("nothing"));
    let decisions = |answer: &Value| -> Vec<bool> {
        assert!(answer.get("decision").is_none(), "{answer}");
        let answers = answer["evaluations"].as_array().unwrap();
        answers.iter().map(|answer| answer["decision"].as_bool().unwrap()).collect()
    };
    for (semantic, items, expected) in [
        (None, vec![&yes, &no, &yes], vec![true, false, true]),
        (Some("execute_all"), vec![&no, &no], vec![false, false]),
        (Some("deny_on_first_deny"), vec![&yes, &no, &yes], vec![true, false]),
        (Some("deny_on_first_deny"), vec![&yes, &yes], vec![true, true]),
        (Some("permit_on_first_permit"), vec![&no, &yes, &no], vec![false, true]),
        (Some("permit_on_first_permit"), vec![&no, &no], vec![false, false]),
    ] {
        let mut body = json!({"subject": me, "action": get, "evaluations": items});
        if let Some(semantic) = semantic {
            body["options"] = json!({"evaluations_semantic": semantic, "another_option": 7});
        }
        let answer = answer(&postern, &vera.token, EVALUATIONS, &body).await;
        assert_eq!(decisions(&answer), expected, "{body}");
    }
    // An item's own goes before the default, as a whole; `{}` takes everything from the top; a
    // default that is no entity hurts nobody who brings one.
    let body = json!({
        "subject": me, "action": get, "resource": {"type": "midaz", "id": "accounts"},
        "evaluations": [{}, {"action": {"name": "delete"}}, {"subject": null},
            {"subject": {"type": "user", "id": "somebody"}}, {"resource": {"type": "midaz"}},
            {"resource": 7}, 7, {"action": {"name": "get", "properties": {}}, "unknown": [1]}],
    });
    let answer_ = answer(&postern, &vera.token, EVALUATIONS, &body).await;
    let expected = [true, false, true, false, false, false, false, true];
    assert_eq!(decisions(&answer_), expected);
    for (n, message) in [
        (4, "`resource.id` is missing"),
        (5, "`resource` must be an object"),
        (6, "it must be an object"),
    ] {
        let error = &answer_["evaluations"][n]["context"]["error"];
        assert_eq!(*error, json!({"status": 400, "message": message}), "{n}");
    }
    let body = json!({
        "subject": me, "action": get, "resource": {}, "context": null, "evaluations": [yes],
    });
    assert_eq!(decisions(&answer(&postern, &vera.token, EVALUATIONS, &body).await), [true]);
    // Without items it is a single evaluation, and must be whole.
    let whole = question("user", &vera.id, "get", ("midaz", "accounts"));
    for evaluations in [None, Some(json!(null)), Some(json!([]))] {
        let mut body = whole.clone();
        if let Some(evaluations) = evaluations {
            body["evaluations"] = evaluations;
        }
        let got = answer(&postern, &vera.token, EVALUATIONS, &body).await;
        assert_eq!(got, json!({"decision": true}));
        body["resource"] = json!({});
        assert_eq!(ask(&postern, &vera.token, EVALUATIONS, &body).await.0, 400);
    }
}

#[tokio::test]
async fn bad_input_is_a_400_with_its_message_and_a_denial_never_is() {
    let postern = Postern::with("[authzen]\nmax_evaluations = 3\n").await;
    let vera = viewer(&postern).await;
    let good = question("user", &vera.id, "get", ("midaz", "accounts")).to_string();
    let entity = r#"{"type":"user","id":"a"}"#;
    let of = |subject: &str, action: &str, resource: &str, more: &str| {
        format!(r#"{{"subject":{subject},"action":{action},"resource":{resource}{more}}}"#)
    };
    let whole = |more: &str| of(entity, r#"{"name":"get"}"#, entity, more);
    let json_type = "content-type: application/json\r\n";
    let deep = format!(r#"{{"subject":{}"#, "[".repeat(60_000));
    let large = whole(&format!(r#","context":{{"a":"{}"}}"#, "x".repeat(70_000)));
    let four = whole(r#","evaluations":[{},{},{},{}]"#);
    let name = r#"{"name":"get"}"#;
    for (path, head, body, expected) in [
        (EVALUATION, json_type, good.clone(), 200),
        (EVALUATION, json_type, whole(""), 200),
        (EVALUATION, "content-type: Application/JSON; charset=utf-8\r\n", good.clone(), 200),
        ("/access/v1/evaluation/", json_type, good.clone(), 200),
        (EVALUATION, json_type, whole(r#","unknown":{"a":[1.5,null]}"#), 200),
        (EVALUATION, json_type, whole(r#","context":{"time":"2025-06-27T18:03-07:00"}"#), 200),
        (EVALUATION, "", good.clone(), 400),
        (EVALUATION, "content-type: text/plain\r\n", good.clone(), 400),
        (EVALUATION, json_type, String::new(), 400),
        (EVALUATION, json_type, "{".to_owned(), 400),
        (EVALUATION, json_type, "[]".to_owned(), 400),
        (EVALUATION, json_type, "null".to_owned(), 400),
        (EVALUATION, json_type, "{}".to_owned(), 400),
        (EVALUATION, json_type, format!("\u{feff}{good}"), 400),
        (EVALUATION, json_type, format!("{good}{good}"), 400),
        (EVALUATION, json_type, of(r#""ana""#, name, entity, ""), 400),
        (EVALUATION, json_type, of(entity, r#""get""#, entity, ""), 400),
        (EVALUATION, json_type, of(entity, r#"{"name":7}"#, entity, ""), 400),
        (EVALUATION, json_type, of(entity, "{}", entity, ""), 400),
        (EVALUATION, json_type, of(r#"{"type":"user"}"#, name, entity, ""), 400),
        (EVALUATION, json_type, of(r#"{"id":"a"}"#, name, entity, ""), 400),
        (EVALUATION, json_type, of(entity, name, r#"{"type":"user"}"#, ""), 400),
        (EVALUATION, json_type, of(entity, name, r#"{"id":"a","type":null}"#, ""), 400),
        (EVALUATION, json_type, of(r#"{"type":"user","id":7}"#, name, entity, ""), 400),
        (
            EVALUATION,
            json_type,
            of(r#"{"type":"user","id":"a","properties":[]}"#, name, entity, ""),
            400,
        ),
        (EVALUATION, json_type, whole(r#","context":"none""#), 400),
        (EVALUATION, json_type, whole(r#","options":[]"#), 400),
        // A member that stands twice has two readings, at any depth.
        (EVALUATION, json_type, whole(&format!(r#","subject":{entity}"#)), 400),
        (
            EVALUATION,
            json_type,
            of(r#"{"type":"user","id":"a","\u0069d":"b"}"#, name, entity, ""),
            400,
        ),
        (EVALUATION, json_type, whole(r#","context":{"a":{"b":1,"b":2}}"#), 400),
        (EVALUATION, json_type, whole(r#","context":{"a":"\ud800"}"#), 400),
        (EVALUATION, json_type, deep, 400),
        (EVALUATION, json_type, large, 400),
        (EVALUATIONS, json_type, whole(r#","evaluations":{}"#), 400),
        (EVALUATIONS, json_type, whole(r#","evaluations":[{},{},{}]"#), 200),
        (EVALUATIONS, json_type, four, 400),
        (
            EVALUATIONS,
            json_type,
            whole(r#","evaluations":[{}],"options":{"evaluations_semantic":"any"}"#),
            400,
        ),
        (
            EVALUATIONS,
            json_type,
            whole(r#","evaluations":[{}],"options":{"evaluations_semantic":7}"#),
            400,
        ),
        (EVALUATIONS, json_type, whole(r#","evaluations":[{}],"options":7"#), 400),
        ("/access/v1/nothing", json_type, good.clone(), 404),
        ("/stores/nothing/access/v1/evaluation", json_type, good.clone(), 403),
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nx-request-id: a b \"c\"\r\n{head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            vera.token,
            body.len()
        );
        let got = raw(postern.doors, request.as_bytes()).await;
        let shown: String = body.chars().take(200).collect();
        assert_eq!(status(&got), expected, "{path} {head}{shown}\n{got}");
        if expected == 404 {
            continue;
        }
        // The sender's name for the request comes back as it was sent, on errors too.
        assert!(got.contains("x-request-id: a b \"c\"\r\n"), "{got}");
        assert!(got.contains("content-type: application/json\r\n"), "{got}");
        let answer: Value = serde_json::from_str(got.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(answer.is_string(), expected != 200, "{got}");
    }
    let get = format!("GET {EVALUATION} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let got = raw(postern.doors, get.as_bytes()).await;
    assert!(status(&got) == 405 && got.contains("allow: POST\r\n"), "{got}");
}

#[tokio::test]
async fn a_sender_who_is_not_known_gets_a_401_whatever_it_asks() {
    let postern = Postern::with("").await;
    let vera = viewer(&postern).await;
    let good = question("user", &vera.id, "get", ("midaz", "accounts"));
    for path in
        [EVALUATION, EVALUATIONS, "/access/v1/search/subject", "/stores/any/access/v1/evaluation"]
    {
        for (authorization, expected, challenge) in [
            (None, 401, Some("Bearer")),
            (Some("Basic YTpi".to_owned()), 401, Some("Bearer")),
            (Some("Bearer x".to_owned()), 401, Some("Bearer error=\"invalid_token\"")),
            (Some(format!("Bearer {}x", vera.token)), 401, Some("Bearer error=\"invalid_token\"")),
        ] {
            for body in [good.to_string(), "{".to_owned()] {
                let mut request = postern.request(Method::POST, postern.doors, path).body(body);
                request = request.header("content-type", "application/json");
                request = request.header("x-request-id", "bfe9eb29");
                if let Some(authorization) = &authorization {
                    request = request.header("authorization", authorization);
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), expected, "{path} {authorization:?}");
                let headers = response.headers();
                let told = headers.get("www-authenticate").and_then(|value| value.to_str().ok());
                assert_eq!(told, challenge);
                assert_eq!(headers["x-request-id"], "bfe9eb29");
                assert!(response.json::<Value>().await.unwrap().is_string());
            }
        }
    }
    // Revoked is as unknown.
    let admin = postern.admin().await;
    postern.manage(&admin, Method::DELETE, &format!("/v1/users/{}", vera.id), None, 204).await;
    assert_eq!(ask(&postern, &vera.token, EVALUATION, &good).await.0, 401);
}
