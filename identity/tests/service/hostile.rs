//! What nobody should send is answered in the shape of all refusals, and never by a 5xx.

use http::Method;
use identity::Config;
use serde_json::json;

use super::harness::Service;

#[tokio::test]
async fn no_body_is_bad_enough_for_a_5xx() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let bearer = format!("bearer {admin}");
    let json = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let deep = format!("{{\"a\":{}", "[".repeat(20_000));
    let id = "00000000-0000-4000-8000-000000000000";
    let paths = [
        (Method::POST, "/v1/login/oauth/access_token".to_owned()),
        (Method::POST, "/v1/login/oauth/refresh_token".to_owned()),
        (Method::POST, "/v1/logout".to_owned()),
        (Method::POST, "/v1/users".to_owned()),
        (Method::PATCH, format!("/v1/users/{id}")),
        (Method::PATCH, format!("/v1/users/{id}/update-password")),
        (Method::PATCH, format!("/v1/users/{id}/reset-password")),
        (Method::POST, "/v1/groups".to_owned()),
        (Method::POST, "/v1/roles".to_owned()),
        (Method::POST, "/v1/applications".to_owned()),
    ];
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "1e999",
        "{\"a\":1,\"a\":2}",
        "\u{0}",
        "{\"grantType\":[]}",
        "{\"groups\":{}}",
        "{\"groups\":[1]}",
        "{\"name\":{\"a\":null}}",
        deep.as_str(),
    ] {
        for (method, path) in &paths {
            let answer = service.send(method.clone(), path, &json, body.to_owned()).await;
            assert!(answer.status.is_client_error(), "{path} {body:.40}: {}", answer.status);
            let told = answer.json();
            assert!(told["code"].is_string() && told["title"].is_string(), "{path}: {told}");
        }
    }
    let bytes = [0xff_u8, 0xfe, b'{'];
    let answer = service.send(Method::POST, "/v1/users", &json, bytes.to_vec()).await;
    answer.refused(400, "IDE-0007");
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_as_such() {
    let config = Config { max_body_bytes: 1024, ..Config::default() };
    let service = Service::start_with(config).await;
    let body = json!({"grantType": "x".repeat(2000)});
    service.token(body).await.refused(413, "AUT-0009");
}

#[tokio::test]
async fn unknown_paths_methods_and_ids_have_the_shape_of_their_surface() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.get("/v1/nothing", &admin).await.refused(404, "IDE-9013");
    service.get("/", &admin).await.refused(404, "IDE-9013");
    service.get("/v1/login/nothing", &admin).await.refused(404, "AUT-9002");
    service.get("/v1/logout", &admin).await.refused(405, "AUT-9003");
    let head = service.call(Method::HEAD, "/v1/users", &admin, serde_json::Value::Null).await;
    assert_eq!(head.status, 200);
    service.get("/.well-known/openid-configuration", "").await.expect(200);
    service.delete("/v1/users", &admin).await.refused(405, "IDE-9014");
    for path in
        ["/v1/users/x", "/v1/users/%ff", "/v1/applications/..", "/v1/groups/%20", "/v1/roles/a%2Fb"]
    {
        service.get(path, &admin).await.refused(400, "IDE-0003");
    }
    service.send(Method::GET, "/v1/users", &[], "").await.refused(401, "IDE-0008");
    let bad = service.get("/v1/users", "abc").await;
    assert!(bad.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    bad.refused(401, "IDE-0009");
    let id = [("x-request-id", "my-number.7")];
    let answer = service.send(Method::GET, "/health", &id, "").await;
    assert_eq!(answer.headers["x-request-id"], "my-number.7");
    assert_eq!(answer.bytes.as_ref(), b"healthy");
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(service.get("/readyz", "").await.expect(200)["status"], "healthy");
    assert!(service.get("/version", "").await.expect(200)["version"].is_string());
}
