//! Which pages a browser lets read what the standard endpoints answer.

use http::Method;
use serde_json::json;

use super::harness::{Answer, Service};

const APP: &str = "https://spa.example";

async fn asked_first(service: &Service, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    service.send(Method::OPTIONS, path, &headers, "").await
}

fn allowed(answer: &Answer) -> Option<&str> {
    // A page with the person's cookies is nobody's.
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    answer.headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap())
}

#[tokio::test]
async fn a_public_client_asks_from_its_own_pages_and_nobody_else_from_any() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = |name: &str, back: &str, public: bool| {
        json!({
            "name": name, "description": "d", "grantTypes": ["authorization_code"],
            "redirectUris": [back, "com.example.spa:/cb"], "public": public,
        })
    };
    let spa = app("Spa", "https://spa.example/cb?x=1", true);
    let spa = service.post("/v1/applications", &admin, spa).await.expect(201);
    let web = app("Web", "https://web.example/cb", false);
    service.post("/v1/applications", &admin, web).await.expect(201);

    for path in [
        "/oauth2/token",
        "/oauth2/userinfo",
        "/oauth2/revoke",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/.well-known/jwks.json",
    ] {
        let told = asked_first(&service, path, APP).await;
        assert_eq!((told.status.as_u16(), allowed(&told)), (204, Some(APP)), "{path}");
        assert_eq!(told.headers["access-control-allow-headers"], "authorization, content-type");
        for foreign in [
            "https://web.example",
            "https://evil.example",
            "https://spa.example.evil.example",
            "https://spa.exampl",
            "https://pa.example",
            "https://spa.example:8443",
            "http://spa.example",
            "https://spa.example/",
            "https://spa.example/cb",
            "https://%.example",
            "https://_pa.example",
            "com.example.spa:",
            "https://",
            "null",
            "*",
            "",
        ] {
            let told = asked_first(&service, path, foreign).await;
            assert_eq!(allowed(&told), None, "{path} {foreign}");
            // What is kept on the way is kept for one origin.
            assert_eq!(told.headers["vary"], "Origin", "{path} {foreign}");
        }
    }
    // A refusal is read, too.
    let fields = [("grant_type", "authorization_code")];
    let told = service.form("/oauth2/token", &[("origin", APP)], &fields).await;
    assert_eq!((told.status.as_u16(), allowed(&told)), (401, Some(APP)));
    for path in
        ["/oauth2/introspect", "/oauth2/authorize", "/oauth2/sign-in", "/v1/users", "/v1/logout"]
    {
        assert_eq!(allowed(&asked_first(&service, path, APP).await), None, "{path}");
    }
    let path = format!("/v1/applications/{}", spa["id"].as_str().unwrap());
    service.delete(&path, &admin).await.expect(204);
    assert_eq!(allowed(&asked_first(&service, "/oauth2/token", APP).await), None);
}
