//! `POST /v1/authorize`, as every generation of the products' client library sends it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, raw, status, text};

async fn authorized(postern: &Postern, token: &str, question: Value) -> bool {
    let answer = postern.authorized(token, &question).await;
    assert!(answer.get("code").is_none(), "a `code` is read as a failure: {answer}");
    let timestamp = answer["timestamp"].as_str().unwrap();
    time::OffsetDateTime::parse(timestamp, &time::format_description::well_known::Rfc3339).unwrap();
    answer["authorized"].as_bool().unwrap()
}

#[tokio::test]
async fn j_the_subject_of_a_question_must_be_the_bearer() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let editor = postern.person(&admin, "ed", &["midaz-editor-group"]).await;
    for (sub, expected) in [
        (Some(format!("lerian/{}", viewer.id)), true),
        (None, true),
        // The oldest libraries name a role for people too: what counts is what the person holds.
        (Some("lerian/midaz-editor-role".to_owned()), true),
        (Some("admin/midaz-editor-role".to_owned()), true),
        (Some("midaz-role".to_owned()), true),
        (Some("lerian/midaz_role".to_owned()), true),
        (Some(format!("lerian/{}", editor.id)), false),
        (Some(format!("other/{}", viewer.id)), false),
        (Some(format!("admin/{}", viewer.id)), false),
        (Some(viewer.id.clone()), false),
        (Some("lerian/".to_owned()), false),
        (Some("/".to_owned()), false),
        (Some("other/midaz-editor-role".to_owned()), false),
        (Some("lerian/nothing-editor-role".to_owned()), false),
    ] {
        let mut question = json!({"resource": "accounts", "action": "get", "product": "midaz"});
        if let Some(sub) = &sub {
            question["sub"] = json!(sub);
        }
        let got = authorized(&postern, &viewer.token, question.clone()).await;
        assert_eq!(got, expected, "{question}");
        // A name that an editor has grants a viewer nothing.
        question["action"] = json!("delete");
        assert!(!authorized(&postern, &viewer.token, question.clone()).await, "{question}");
    }
}

#[tokio::test]
async fn an_application_may_what_it_was_made_for() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let made = json!({"name": "midaz", "description": "a test's"});
    let made = postern.manage(&admin, Method::POST, "/v1/applications", Some(made), 201).await;
    let id = text(&made, "id");
    let token = postern.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
    for (sub, product, resource, action, expected) in [
        ("admin/midaz-editor-role", None, "accounts", "delete", true),
        ("lerian/midaz-editor-role", None, "accounts", "delete", true),
        ("admin/midaz-editor-role", Some("midaz"), "accounts", "delete", true),
        // Products of one family.
        ("admin/routing-editor-role", None, "account-types", "post", true),
        // Another product's role is only claimed.
        ("admin/plugin-fees-editor-role", None, "packages", "get", false),
        ("admin/plugin-crm-editor-role", None, "holders", "get", false),
        ("admin/plugin-identity-editor-role", None, "users", "get", false),
        // Two products at once.
        ("admin/midaz-editor-role", Some("plugin-crm"), "holders", "get", false),
        ("admin/midaz-editor-role", None, "accounts", "manage", false),
        ("admin/nothing-editor-role", None, "accounts", "get", false),
        (&format!("admin/{id}"), None, "accounts", "get", true),
        (&format!("lerian/{id}"), None, "accounts", "get", true),
        (&format!("admin/{id}x"), None, "accounts", "get", false),
        (&format!("admin/{id}"), None, "packages", "get", false),
    ] {
        let mut question = json!({"sub": sub, "resource": resource, "action": action});
        if let Some(product) = product {
            question["product"] = json!(product);
        }
        assert_eq!(authorized(&postern, &token, question.clone()).await, expected, "{question}");
    }
    let deleted = format!("/v1/applications/{id}");
    postern.manage(&admin, Method::DELETE, &deleted, None, 204).await;
    let request = postern.request(Method::POST, postern.doors, "/v1/authorize");
    let question =
        json!({"sub": "admin/midaz-editor-role", "resource": "accounts", "action": "get"});
    let refused = request.header("authorization", &token).json(&question).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(text(&refused.json().await.unwrap(), "code"), "AUT-0007");
}

#[tokio::test]
async fn products_are_kept_apart_where_they_declare_it() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let tracer = postern.person(&admin, "tracy", &["tracer-viewer-group"]).await;
    let routing = postern.person(&admin, "rob", &["routing-viewer-group"]).await;
    let templates = postern.person(&admin, "tom", &["plugin-smart-templates-viewer-group"]).await;
    let midaz = postern.person(&admin, "mia", &["midaz-viewer-group"]).await;
    for (person, product, resource, action, expected) in [
        (&tracer, Some("tracer"), "audit-events", "get", true),
        (&tracer, Some("flowker"), "audit-events", "read", false),
        (&tracer, None, "audit-events", "get", true),
        (&tracer, None, "audit-events", "read", false),
        (&tracer, Some("midaz"), "accounts", "get", false),
        // One release guards these under another product; the first products share their names.
        (&routing, Some("routing"), "account-types", "get", true),
        (&routing, Some("midaz"), "account-types", "get", true),
        (&templates, Some("reporter"), "reports", "get", true),
        (&templates, None, "reports", "get", true),
        // What a later release added opens nothing elsewhere.
        (&midaz, Some("midaz"), "holders", "get", true),
        (&midaz, Some("plugin-crm"), "holders", "get", false),
        (&midaz, Some("routing"), "account-types", "get", false),
        (&midaz, Some("plugin-identity"), "users", "get", false),
        (&midaz, Some("plugin-identity"), "update-password", "patch", true),
        (&midaz, Some("nothing"), "accounts", "get", false),
        (&midaz, None, "nothing", "get", false),
    ] {
        let mut question = json!({
            "sub": format!("lerian/{}", person.id), "resource": resource, "action": action,
        });
        if let Some(product) = product {
            question["product"] = json!(product);
        }
        let got = authorized(&postern, &person.token, question.clone()).await;
        assert_eq!(got, expected, "{} {question}", person.name);
    }
}

#[tokio::test]
async fn newer_members_are_passed_over_and_a_token_comes_in_any_case() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let question = json!({
        "sub": "lerian/midaz-editor-role", "resource": "accounts", "action": "get",
        "clientIp": "10.0.0.1", "attributes": {"a": "b"}, "filter": [], "pending": ["x"], "new": null,
    });
    for header in [admin.clone(), format!("Bearer {admin}"), format!("bEARER  {admin}")] {
        let answer = postern.authorized(&header, &question).await;
        assert_eq!(answer["authorized"], true);
    }
}

#[tokio::test]
async fn bad_input_is_a_4xx_in_the_apis_own_shape() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let bearer = format!("authorization: {admin}\r\n");
    let json = "content-type: application/json\r\n";
    let post = "POST /v1/authorize HTTP/1.1\r\nhost: a\r\n";
    let with = |head: &str, body: &str| {
        format!(
            "{post}{bearer}{head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let good = r#"{"resource":"accounts","action":"get"}"#;
    let deep = format!("{}{}", r#"{"resource":"#, "[".repeat(60_000));
    let large = format!(r#"{{"resource":"{}"}}"#, "x".repeat(100_000));
    for (request, expected, code) in [
        (with(json, good), 200, None),
        (with("content-type: Application/JSON; charset=utf-8\r\n", good), 200, None),
        (with("content-type: text/plain\r\n", good), 400, Some("AUT-0009")),
        (with("", good), 400, Some("AUT-0009")),
        (with(json, ""), 400, Some("AUT-0009")),
        (with(json, "{"), 400, Some("AUT-0009")),
        (with(json, "[]"), 400, Some("AUT-0009")),
        (with(json, "null"), 400, Some("AUT-0009")),
        (with(json, "{}"), 400, Some("AUT-0001")),
        (with(json, r#"{"resource":"accounts"}"#), 400, Some("AUT-0001")),
        (with(json, r#"{"resource":"accounts","action":7}"#), 400, Some("AUT-0009")),
        (
            with(json, r#"{"resource":"a","resource":"accounts","action":"get"}"#),
            400,
            Some("AUT-0009"),
        ),
        (
            with(json, r#"{"resource":"accounts","action":"get","clientIp":"x"}"#),
            400,
            Some("AUT-0009"),
        ),
        (with(json, "\u{feff}{}"), 400, Some("AUT-0009")),
        (with(json, &deep), 400, Some("AUT-0009")),
        (with(json, &large), 413, Some("AUT-0009")),
        (
            format!("{post}{json}content-length: 38\r\nconnection: close\r\n\r\n{good}"),
            401,
            Some("AUT-0006"),
        ),
        (
            format!(
                "{post}{bearer}{bearer}{json}content-length: 38\r\nconnection: close\r\n\r\n{good}"
            ),
            400,
            Some("AUT-0009"),
        ),
        (
            format!("GET /v1/authorize HTTP/1.1\r\nhost: a\r\n{bearer}connection: close\r\n\r\n"),
            405,
            Some("PST-0005"),
        ),
        (
            format!(
                "{post}{bearer}{json}transfer-encoding: chunked\r\nconnection: close\r\n\r\n26\r\n{good}\r\n0\r\n\r\n"
            ),
            200,
            None,
        ),
        (
            format!(
                "{post}{bearer}x-a: {}\r\n{json}content-length: 38\r\nconnection: close\r\n\r\n{good}",
                "x".repeat(40_000)
            ),
            431,
            Some("AUT-0009"),
        ),
        (
            "GET /v1/nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(),
            404,
            Some("PST-0004"),
        ),
    ] {
        let answer = raw(postern.doors, request.as_bytes()).await;
        let head = &request[request.len().saturating_sub(200)..];
        assert_eq!(status(&answer), expected, "…{head}\n{answer}");
        assert!(answer.to_ascii_lowercase().contains("x-request-id: "), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        assert_eq!(body["code"].as_str(), code, "…{head}\n{answer}");
        assert!(
            code.is_none() || body["title"].is_string() && body["message"].is_string(),
            "{body}"
        );
    }
    // Bytes that are no HTTP at all, and then a question as if nothing had happened.
    for junk in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", &[0xff; 1024]] {
        let answer = raw(postern.doors, junk).await;
        assert!(matches!(status(&answer), 0 | 400), "{answer}");
    }
    assert!(authorized(&postern, &admin, json!({"resource": "accounts", "action": "get"})).await);
}

#[tokio::test]
async fn what_identity_owns_is_answered_at_the_one_address() {
    let postern = Postern::with("").await;
    let signed_in = postern.sign_in("admin@midaz.tech", &postern.password).await;
    for member in ["accessToken", "access_token", "refreshToken", "tokenType", "expiresIn"] {
        assert!(signed_in.get(member).is_some(), "{member}");
    }
    let admin = text(&signed_in, "accessToken");
    for path in ["/v1/userinfo", "/v1/permissions", "/v1/permissions/"] {
        let request =
            postern.request(Method::GET, postern.doors, path).header("authorization", &admin);
        let response = request.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let body: Value = response.json().await.unwrap();
        assert!(body["email"] == "admin@midaz.tech" || body["accounts"][0] == "delete", "{body}");
    }
    for path in ["/.well-known/jwks", "/.well-known/jwks.json", "/internal/idp-jwks-cache"] {
        let keys = postern.request(Method::GET, postern.doors, path).send().await.unwrap();
        assert_eq!(keys.json::<Value>().await.unwrap()["keys"][0]["alg"], "RS256", "{path}");
    }
    // The management API is not there: products know this address, and so does everybody else.
    for path in ["/v1/users", "/v1/applications", "/v1/groups", "/openapi.json"] {
        let response = postern.request(Method::GET, postern.doors, path).bearer_auth(&admin);
        assert_eq!(response.send().await.unwrap().status(), 404, "{path}");
    }
}
