//! AuthZEN 1.0's searches over products, and discovery.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    authzen::{EVALUATION, EVALUATIONS, answer, ask, question, viewer},
    harness::{Postern, text},
};

#[tokio::test]
async fn what_a_search_finds_is_allowed_and_what_is_allowed_is_found() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    for groups in
        [vec!["midaz-viewer-group"], vec!["midaz-editor-group", "tracer-viewer-group"], vec![]]
    {
        let person = postern.person(&admin, &format!("p{}", groups.len()), &groups).await;
        let me = json!({"type": "user", "id": person.id});
        let resources = ["accounts", "ledgers", "nothing", "audit-events", "holders"];
        for action in ["get", "delete", "post", "nothing"] {
            let mut allowed = Vec::new();
            let midaz: Value = serde_json::from_str(
                &postern
                    .request(Method::GET, postern.health, "/internal/v1/snapshot")
                    .send()
                    .await
                    .unwrap()
                    .text()
                    .await
                    .unwrap(),
            )
            .unwrap();
            let products = midaz["products"].as_array().unwrap();
            let midaz = products.iter().find(|product| product["product"] == "midaz").unwrap();
            let names: Vec<&String> = midaz["resources"].as_object().unwrap().keys().collect();
            let items: Vec<Value> = names
                .iter()
                .map(|name| json!({"resource": {"type": "midaz", "id": name}}))
                .collect();
            let body = json!({"subject": me, "action": {"name": action}, "evaluations": items});
            let answers = answer(&postern, &person.token, EVALUATIONS, &body).await;
            for (name, answer) in names.iter().zip(answers["evaluations"].as_array().unwrap()) {
                if answer["decision"] == true {
                    allowed.push(json!({"type": "midaz", "id": name}));
                }
            }
            let body = json!({
                "subject": me, "action": {"name": action}, "resource": {"type": "midaz", "id": "passed over"},
            });
            let path = "/access/v1/search/resource";
            let found = answer(&postern, &person.token, path, &body).await;
            assert_eq!(found, json!({ "results": allowed }));
            for resource in resources {
                let body = question("user", &person.id, action, (resource, "*"));
                let decision = answer(&postern, &person.token, EVALUATION, &body).await;
                let expected = if decision["decision"] == true {
                    json!({"results": [{"type": resource, "id": "*"}]})
                } else {
                    json!({"results": []})
                };
                assert_eq!(answer(&postern, &person.token, path, &body).await, expected, "{body}");
                let expected = if decision["decision"] == true {
                    json!({"results": [{"type": "user", "id": person.id}]})
                } else {
                    json!({"results": []})
                };
                let body = json!({
                    "subject": {"type": "user"}, "action": {"name": action},
                    "resource": {"type": resource, "id": "7"},
                });
                let path = "/access/v1/search/subject";
                assert_eq!(answer(&postern, &person.token, path, &body).await, expected, "{body}");
            }
        }
        for resource in [
            ("accounts", "7"),
            ("midaz:ledgers", "7"),
            ("midaz", "accounts"),
            ("tracer", "audit-events"),
        ] {
            let body = json!({"subject": me, "resource": {"type": resource.0, "id": resource.1}});
            let found = answer(&postern, &person.token, "/access/v1/search/action", &body).await;
            let found: Vec<String> =
                found["results"].as_array().unwrap().iter().map(|one| text(one, "name")).collect();
            for action in ["get", "post", "patch", "delete", "read", "nothing"] {
                let body = question("user", &person.id, action, resource);
                let decision = answer(&postern, &person.token, EVALUATION, &body).await;
                let is_found = found.iter().any(|name| name == action);
                assert_eq!(decision["decision"], is_found, "{body} {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_search_is_read_page_by_page_and_its_token_is_for_it_alone() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let ed = postern.person(&admin, "ed", &["midaz-editor-group"]).await;
    let vera = viewer(&postern).await;
    let path = "/access/v1/search/resource";
    let base = json!({
        "subject": {"type": "user", "id": ed.id}, "action": {"name": "get"},
        "resource": {"type": "midaz"}, "context": {"a": 1},
    });
    let whole = answer(&postern, &ed.token, path, &base).await;
    let whole = whole["results"].as_array().unwrap();
    assert!(whole.len() > 5, "{whole:?}");
    let mut pages = Vec::new();
    let mut body = base.clone();
    body["page"] = json!({"limit": 3});
    loop {
        let page = answer(&postern, &ed.token, path, &body).await;
        let results = page["results"].as_array().unwrap();
        assert_eq!(page["page"]["count"], results.len());
        pages.extend(results.clone());
        let token = text(&page["page"], "next_token");
        if token.is_empty() {
            break;
        }
        assert_eq!(results.len(), 3);
        body["page"] = json!({"token": token});
    }
    assert_eq!(pages, *whole);
    let token = body["page"]["token"].clone();
    let altered = format!("{}x", token.as_str().unwrap());
    for (member, value, bearer) in [
        ("page", json!({"token": altered}), &ed),
        ("page", json!({"token": "x"}), &ed),
        ("page", json!({"token": 7}), &ed),
        ("page", json!({"limit": -1}), &ed),
        ("page", json!({"limit": "3"}), &ed),
        ("page", json!({"token": token, "limit": 4}), &ed),
        ("page", json!(7), &ed),
        ("action", json!({"name": "post"}), &ed),
        ("subject", json!({"type": "user", "id": vera.id}), &ed),
        ("resource", json!({"type": "tracer"}), &ed),
        ("context", json!({"a": 2}), &ed),
        ("context", json!(null), &ed),
        ("page", json!({"token": token}), &vera),
    ] {
        let mut changed = body.clone();
        changed[member] = value;
        let (status, told) = ask(&postern, &bearer.token, path, &changed).await;
        assert_eq!((status, told.is_string()), (400, true), "{changed}");
    }
    assert_eq!(ask(&postern, &ed.token, "/access/v1/search/action", &body).await.0, 400);
    let mut none = base.clone();
    none["page"] = json!({"limit": 0});
    let page = answer(&postern, &ed.token, path, &none).await;
    assert!(page["results"] == json!([]) && page["page"]["next_token"] != "", "{page}");
}

#[tokio::test]
async fn a_search_says_what_it_needs() {
    let postern = Postern::with("").await;
    let vera = viewer(&postern).await;
    let (me, kind) = (json!({"type": "user", "id": vera.id}), json!({"type": "user"}));
    let (get, account) = (json!({"name": "get"}), json!({"type": "accounts", "id": "7"}));
    let (accounts, none) = (json!({"type": "accounts"}), json!(null));
    for (sought, subject, action, resource, expected) in [
        ("subject", &kind, &get, &account, 200),
        ("subject", &me, &get, &account, 200),
        ("subject", &none, &get, &account, 400),
        ("subject", &kind, &none, &account, 400),
        ("subject", &kind, &get, &accounts, 400),
        ("resource", &me, &get, &accounts, 200),
        ("resource", &me, &get, &account, 200),
        ("resource", &kind, &get, &accounts, 400),
        ("resource", &me, &none, &accounts, 400),
        ("resource", &me, &get, &none, 400),
        ("action", &me, &none, &account, 200),
        ("action", &me, &json!({"name": 7}), &account, 200),
        ("action", &kind, &none, &account, 400),
        ("action", &me, &none, &accounts, 400),
    ] {
        let body = json!({"subject": subject, "action": action, "resource": resource});
        let path = format!("/access/v1/search/{sought}");
        let (status, told) = ask(&postern, &vera.token, &path, &body).await;
        assert_eq!(status, expected, "{sought} {body} {told}");
    }
    // Nothing is known of these, which is no error.
    for (sought, subject, resource) in [
        ("subject", json!({"type": "robot"}), &account),
        ("resource", json!({"type": "user", "id": "nobody"}), &accounts),
        ("action", me.clone(), &json!({"type": "nothing", "id": "7"})),
    ] {
        let body = json!({"subject": subject, "action": get, "resource": resource});
        let path = format!("/access/v1/search/{sought}");
        assert_eq!(answer(&postern, &vera.token, &path, &body).await, json!({"results": []}));
    }
}

#[tokio::test]
async fn discovery_tells_the_configured_address_whatever_the_host() {
    for (config, base, at) in [
        ("", None, ""),
        ("[authzen]\nurl = 'https://pdp.example.com/'\n", Some("https://pdp.example.com"), ""),
        (
            "[authzen]\nurl = 'https://example.com/gate'\n",
            Some("https://example.com/gate"),
            "/gate",
        ),
    ] {
        let postern = Postern::with(config).await;
        let base = base.map_or_else(|| format!("http://{}", postern.doors), str::to_owned);
        let path = format!("/.well-known/authzen-configuration{at}");
        let request = postern.request(Method::GET, postern.doors, &path);
        let request =
            request.header("host", "evil.example").header("x-forwarded-host", "evil.example");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        let told: Value = response.json().await.unwrap();
        assert_eq!(
            told,
            json!({
                "policy_decision_point": base,
                "access_evaluation_endpoint": format!("{base}/access/v1/evaluation"),
                "access_evaluations_endpoint": format!("{base}/access/v1/evaluations"),
                "search_subject_endpoint": format!("{base}/access/v1/search/subject"),
                "search_resource_endpoint": format!("{base}/access/v1/search/resource"),
                "search_action_endpoint": format!("{base}/access/v1/search/action"),
            })
        );
        for (method, path, expected) in [
            (Method::GET, "/.well-known/authzen-configuration/stores/nothing", 404),
            (Method::GET, "/.well-known/authzen-configurations", 404),
            (Method::POST, "/.well-known/authzen-configuration", 405),
        ] {
            let request = postern.request(method, postern.doors, path);
            assert_eq!(request.send().await.unwrap().status(), expected, "{path}");
        }
    }
}
