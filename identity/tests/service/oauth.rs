//! OAuth 2.1 as it is written: clients, tokens, what they stand for, and how they end.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use policy::{
    changes::Fact,
    token::{Kind, Verifier},
};
use serde_json::{Value, json};

use super::{
    harness::{ADMIN_PASSWORD, Answer, NOW, PASSWORD, Service, claims},
    tenants::part,
};

pub const TOKEN: &str = "/oauth2/token";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";
const API: &str = "https://ledger.example.com/api";

/// A client and its secret.
pub struct App {
    pub row: String,
    pub id: String,
    pub secret: String,
}

impl App {
    /// Register one.
    pub async fn register(service: &Service, body: Value) -> Self {
        let admin = service.admin().await;
        let made = service.post("/v1/applications", &admin, body).await.expect(201);
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Self { row: text("id"), id: text("clientId"), secret: text("clientSecret") }
    }

    /// `Authorization` by `client_secret_basic`.
    pub fn basic(&self) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", self.id, self.secret)))
    }

    /// Send a form, authenticated in the header.
    pub async fn ask(&self, service: &Service, path: &str, fields: &[(&str, &str)]) -> Answer {
        service.form(path, &[("authorization", &self.basic())], fields).await
    }

    /// What the introspection says of a token.
    pub async fn active(&self, service: &Service, token: &str) -> Value {
        self.ask(service, INTROSPECT, &[("token", token)]).await.expect(200)
    }
}

async fn machine(service: &Service) -> App {
    let body = json!({"name": "demo", "description": "a machine", "audiences": [API]});
    App::register(service, body).await
}

/// An application that may ask for passwords, which is off unless it is said.
async fn trusted(service: &Service) -> App {
    let body = json!({
        "name": "demo", "description": "first party",
        "grantTypes": ["password", "refresh_token"], "audiences": [API],
    });
    App::register(service, body).await
}

async fn sign_in(service: &Service, app: &App, scope: &str) -> Value {
    let fields = [
        ("grant_type", "password"),
        ("username", "admin"),
        ("password", ADMIN_PASSWORD),
        ("scope", scope),
    ];
    app.ask(service, TOKEN, &fields).await.expect(200)
}

/// A member that is a text.
#[track_caller]
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test]
async fn a_machine_gets_a_token_of_rfc_9068_by_either_way_to_authenticate() {
    let service = Service::start().await;
    let app = machine(&service).await;
    let grant = [("grant_type", "client_credentials")];
    let basic = app.ask(&service, TOKEN, &grant).await;
    assert_eq!(basic.headers["cache-control"], "no-store");
    assert_eq!(basic.headers["pragma"], "no-cache");
    let post = [grant[0], ("client_id", &app.id), ("client_secret", &app.secret)];
    let post = service.form(TOKEN, &[], &post).await;
    for answer in [basic, post] {
        let tokens = answer.expect(200);
        assert_eq!(tokens["token_type"], "Bearer");
        assert_eq!(tokens["expires_in"], 3600);
        assert_eq!(tokens.as_object().unwrap().len(), 3, "{tokens}");
        let token = text(&tokens, "access_token");
        let head = token.split('.').next().unwrap();
        let head: Value =
            serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(head).unwrap())
                .unwrap();
        assert_eq!((head["typ"].as_str(), head["alg"].as_str()), (Some("at+jwt"), Some("RS256")));
        let said = claims(token);
        for required in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
            assert!(said.get(required).is_some(), "{required} in {said}");
        }
        assert_eq!(said["client_id"], app.id);
        assert_eq!(said["aud"], json!(["postern"]));
        assert_eq!(said["roles"], json!(["demo-editor-role"]));
        // It opens what the same application's token of the Auth API opens.
        let held = service.get("/v1/permissions", token).await.expect(200);
        assert_eq!(held, json!({"parts": ["get"], "things": ["get", "post"]}));
    }
}

#[tokio::test]
async fn a_token_for_a_resource_names_it_and_opens_nothing_else() {
    let service = Service::start().await;
    let app = machine(&service).await;
    let issuer = "http://localhost:4000";
    let ask = async |resources: &[&str]| {
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(resources.iter().map(|resource| ("resource", *resource)));
        app.ask(&service, TOKEN, &fields).await
    };
    for (resources, audiences) in [
        (&[API][..], json!([API])),
        (&[issuer], json!(["postern"])),
        (&[API, issuer], json!([API, "postern"])),
        (&[API, API], json!([API])),
    ] {
        let tokens = ask(resources).await.expect(200);
        let token = text(&tokens, "access_token");
        assert_eq!(claims(token)["aud"], audiences);
        let opens = service.get("/v1/permissions", token).await.status == 200;
        assert_eq!(opens, resources.contains(&issuer), "{resources:?}");
        assert_eq!(app.active(&service, token).await["active"], true);
    }
    for other in
        ["https://other.example.com", "postern", "not a uri", "https://ledger.example.com/api/"]
    {
        ask(&[other]).await.refused_as(400, "invalid_target");
        ask(&[API, other]).await.refused_as(400, "invalid_target");
    }
}

#[tokio::test]
async fn a_request_that_is_not_right_is_refused_in_the_words_of_rfc_6749() {
    let service = Service::start().await;
    let app = machine(&service).await;
    let grant = ("grant_type", "client_credentials");
    let (id, secret) = (("client_id", app.id.as_str()), ("client_secret", app.secret.as_str()));
    let basic = app.basic();
    let wrong = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:x", app.id)));
    let nobody = format!("Basic {}", BASE64_STANDARD.encode("nobody:x"));
    let none: &[(&str, &str)] = &[];
    let auth = [("authorization", basic.as_str())];
    for (headers, fields, status, error) in [
        (&auth[..], &[][..], 400, "invalid_request"),
        (&auth, &[("grant_type", "")], 400, "invalid_request"),
        (&auth, &[("grant_type", "implicit")], 400, "unsupported_grant_type"),
        (
            &auth,
            &[("grant_type", "password"), ("username", "admin"), ("password", "x")],
            400,
            "unauthorized_client",
        ),
        (&auth, &[("grant_type", "password")], 400, "invalid_request"),
        (&auth, &[("grant_type", "refresh_token")], 400, "invalid_request"),
        (
            &auth,
            &[("grant_type", "refresh_token"), ("refresh_token", "x")],
            400,
            "unauthorized_client",
        ),
        (&auth, &[("grant_type", "authorization_code"), ("code", "x")], 400, "invalid_request"),
        (&auth, &[grant, ("scope", "admin")], 400, "invalid_scope"),
        // Who asks is told once.
        (&auth, &[grant, secret], 400, "invalid_request"),
        (&auth, &[grant, ("client_id", "other")], 400, "invalid_request"),
        (&[auth[0], auth[0]], &[grant], 400, "invalid_request"),
        // Nothing stands twice, not even the same, and not even what nobody knows.
        (&auth, &[grant, grant], 400, "invalid_request"),
        (&auth, &[grant, ("x", "1"), ("x", "1")], 400, "invalid_request"),
        (none, &[grant, id, secret, id], 400, "invalid_request"),
        // Nobody, or somebody else.
        (none, &[grant], 401, "invalid_client"),
        (none, &[grant, id], 401, "invalid_client"),
        (none, &[grant, secret], 401, "invalid_client"),
        (none, &[grant, id, ("client_secret", "x")], 401, "invalid_client"),
        (none, &[grant, ("client_id", "nobody"), ("client_secret", "x")], 401, "invalid_client"),
        (none, &[grant, ("client_id", "a\0b"), ("client_secret", "x")], 401, "invalid_client"),
        (&[("authorization", wrong.as_str())], &[grant], 401, "invalid_client"),
        (&[("authorization", nobody.as_str())], &[grant], 401, "invalid_client"),
        (&[("authorization", "Bearer x")], &[grant, id, secret], 401, "invalid_client"),
        (&[("authorization", "Basic !")], &[grant], 401, "invalid_client"),
    ] {
        let answer = service.form(TOKEN, headers, fields).await;
        if status == 401 {
            assert_eq!(answer.headers["www-authenticate"], "Basic realm=\"postern\"", "{fields:?}");
        }
        let told = answer.refused_as(status, error);
        assert!(!told.to_string().contains(&app.secret), "{told}");
    }
    // Who is unknown is told what somebody with a wrong secret is told.
    let told = async |id: &str| {
        let fields = [grant, ("client_id", id), ("client_secret", "x")];
        service.form(TOKEN, &[], &fields).await.bytes
    };
    assert_eq!(told(&app.id).await, told("nobody").await);
    // What nobody knows is passed over, and the same client twice over is one.
    service.form(TOKEN, &auth, &[grant, id, ("x", "1")]).await.expect(200);

    let json = [("content-type", "application/json"), auth[0]];
    let body = json!({"grant_type": "client_credentials"}).to_string();
    service.send(Method::POST, TOKEN, &json, body).await.refused_as(400, "invalid_request");
    let large = "x".repeat(70_000);
    let large = service.form(TOKEN, &auth, &[grant, ("x", &large)]).await;
    large.refused_as(413, "invalid_request");
    service.send(Method::GET, TOKEN, &auth, "").await.refused_as(405, "invalid_request");
    service.send(Method::GET, "/oauth2/nothing", &[], "").await.refused_as(404, "invalid_request");
}

#[tokio::test]
async fn the_password_grant_is_off_unless_the_application_lists_it_and_its_scope_never_widens() {
    let service = Service::start().await;
    let app = trusted(&service).await;
    let tokens = sign_in(&service, &app, "openid email admin").await;
    assert_eq!(tokens["scope"], "openid email");
    assert_eq!(claims(text(&tokens, "access_token"))["scope"], "openid email");
    let id = claims(text(&tokens, "id_token"));
    assert_eq!(id["aud"], json!([app.id]));
    assert_eq!((id["amr"].clone(), id["acr"].clone()), (json!(["pwd"]), json!("aal1")));
    assert_eq!(id["auth_time"], NOW);
    assert!(id["at_hash"].is_string(), "{id}");
    assert!(id.get("name").is_none() && id.get("groups").is_none(), "{id}");

    let refresh = async |token: &str, more: &[(&str, &str)]| {
        let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        fields.extend(more);
        app.ask(&service, TOKEN, &fields).await
    };
    let first = text(&tokens, "refresh_token");
    for more in [("scope", "openid profile"), ("scope", "openid email profile")] {
        refresh(first, &[more]).await.refused_as(400, "invalid_scope");
    }
    refresh(first, &[("resource", API)]).await.refused_as(400, "invalid_target");
    let narrowed = refresh(first, &[("scope", "email")]).await.expect(200);
    assert_eq!(narrowed["scope"], "email");
    assert!(narrowed.get("id_token").is_none());
    // What was granted stays granted (RFC 6749, section 6).
    let whole = refresh(text(&narrowed, "refresh_token"), &[]).await.expect(200);
    assert_eq!(whole["scope"], "openid email");
    // Without `openid` nobody is told who it is.
    let plain = sign_in(&service, &app, "").await;
    assert!(plain.get("id_token").is_none() && plain.get("scope").is_none(), "{plain}");
    let info = service.get("/oauth2/userinfo", text(&plain, "access_token")).await;
    assert!(info.headers["www-authenticate"].to_str().unwrap().contains("insufficient_scope"));
    info.refused_as(403, "insufficient_scope");

    let wrong =
        |username| [("grant_type", "password"), ("username", username), ("password", "wrong")];
    let known = app.ask(&service, TOKEN, &wrong("admin")).await;
    let unknown = app.ask(&service, TOKEN, &wrong("nobody")).await;
    assert_eq!(known.bytes, unknown.bytes);
    known.refused_as(400, "invalid_grant");
}

#[tokio::test]
async fn what_was_granted_in_these_words_cannot_be_had_in_the_others() {
    let service = Service::start().await;
    let app = trusted(&service).await;
    let other = machine(&service).await;
    let tokens = sign_in(&service, &app, "openid").await;
    let token = text(&tokens, "refresh_token");
    // The Auth API asks for no client and knows no scope.
    service.refresh(token).await.refused(400, "AUT-1005");
    let admin = service.admin().await;
    let both = json!({"grantTypes": ["client_credentials", "refresh_token"]});
    let path = format!("/v1/applications/{}", other.row);
    service.patch(&path, &admin, both).await.expect(200);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    other.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_grant");
    // Neither used it up.
    app.ask(&service, TOKEN, &fields).await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_its_sign_in() {
    let service = Service::start().await;
    let app = trusted(&service).await;
    let tokens = sign_in(&service, &app, "openid").await;
    let refresh = async |token: &str| {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
        app.ask(&service, TOKEN, &fields).await
    };
    let first = text(&tokens, "refresh_token");
    let second = refresh(first).await.expect(200);
    let third = refresh(text(&second, "refresh_token")).await.expect(200);
    assert_eq!(app.active(&service, text(&third, "access_token")).await["active"], true);
    refresh(first).await.refused_as(400, "invalid_grant");
    refresh(text(&third, "refresh_token")).await.refused_as(400, "invalid_grant");
    for token in ["access_token", "refresh_token"] {
        assert_eq!(app.active(&service, text(&third, token)).await, json!({"active": false}));
    }
    assert!(matches!(service.facts()[..], [Fact::SessionEnded { .. }]), "{:?}", service.facts());
}

#[tokio::test]
async fn an_application_learns_what_a_token_of_its_organization_stands_for_now() {
    let service = Service::start().await;
    let (app, reader) = (trusted(&service).await, machine(&service).await);
    let tokens = sign_in(&service, &app, "openid profile").await;
    let token = text(&tokens, "access_token");
    let told = reader.active(&service, token).await;
    for (name, value) in [
        ("active", json!(true)),
        ("client_id", json!(app.id)),
        ("username", json!("admin")),
        ("scope", json!("openid profile")),
        ("token_type", json!("Bearer")),
        ("exp", json!(NOW + 3600)),
        ("organization", json!("lerian")),
        ("groups", json!(["admin-group"])),
    ] {
        assert_eq!(told[name], value, "{name} in {told}");
    }
    // A refresh token is told to its own client, and an ID token to nobody.
    let inactive = json!({"active": false});
    let refresh = text(&tokens, "refresh_token");
    assert_eq!(app.active(&service, refresh).await["active"], true);
    assert_eq!(reader.active(&service, refresh).await, inactive);
    assert_eq!(app.active(&service, text(&tokens, "id_token")).await, inactive);
    for nothing in ["x", "a.b.c", "\0"] {
        assert_eq!(app.active(&service, nothing).await, inactive);
    }
    // It asks as somebody.
    let fields = [("token", token)];
    service.form(INTROSPECT, &[], &fields).await.refused_as(401, "invalid_client");
    let bearer = format!("Bearer {token}");
    let bearer = [("authorization", bearer.as_str())];
    service.form(INTROSPECT, &bearer, &fields).await.refused_as(401, "invalid_client");
    app.ask(&service, INTROSPECT, &[]).await.refused_as(400, "invalid_request");
    // To the second of its end.
    service.clock.advance(3599);
    assert_eq!(reader.active(&service, token).await["active"], true);
    service.clock.advance(1);
    assert_eq!(reader.active(&service, token).await, inactive);
}

#[tokio::test]
async fn a_token_of_another_organization_is_none() {
    let service = Service::start().await;
    let app = trusted(&service).await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let theirs = trusted(&service).await;
    part(&service, &eve, &theirs.row).await;
    let fields = [
        ("grant_type", "password"),
        ("username", "eve"),
        ("password", PASSWORD),
        ("scope", "openid"),
    ];
    let tokens = theirs.ask(&service, TOKEN, &fields).await.expect(200);
    let told = service.facts();
    for name in ["access_token", "refresh_token"] {
        let token = text(&tokens, name);
        assert_eq!(app.active(&service, token).await, json!({"active": false}), "{name}");
        app.ask(&service, REVOKE, &[("token", token)]).await.expect(200);
        assert_eq!(theirs.active(&service, token).await["active"], true, "{name}");
    }
    assert_eq!(service.facts(), told);
    let fields =
        [("grant_type", "refresh_token"), ("refresh_token", text(&tokens, "refresh_token"))];
    app.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_grant");
    theirs.ask(&service, TOKEN, &fields).await.expect(200);
}

#[tokio::test]
async fn a_client_gives_up_its_own_tokens_and_no_others() {
    let service = Service::start().await;
    let (app, other) = (trusted(&service).await, machine(&service).await);
    let tokens = sign_in(&service, &app, "openid").await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let revoke = async |by: &App, token: &str| by.ask(&service, REVOKE, &[("token", token)]).await;

    revoke(&other, access).await.refused_as(400, "unauthorized_client");
    revoke(&other, refresh).await.expect(200);
    assert_eq!(app.active(&service, refresh).await["active"], true);
    service.form(REVOKE, &[], &[("token", access)]).await.refused_as(401, "invalid_client");
    assert_eq!(service.facts(), []);

    // An access token goes alone.
    revoke(&app, access).await.expect(200);
    revoke(&app, access).await.expect(200);
    assert!(matches!(service.facts()[..], [Fact::TokenRevoked { .. }]), "{:?}", service.facts());
    service.get("/oauth2/userinfo", access).await.refused_as(401, "invalid_token");
    assert_eq!(app.active(&service, access).await, json!({"active": false}));
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let next = app.ask(&service, TOKEN, &fields).await.expect(200);
    // A refresh token, even one that was used, takes everything with it.
    revoke(&app, refresh).await.expect(200);
    for name in ["access_token", "refresh_token"] {
        assert_eq!(app.active(&service, text(&next, name)).await, json!({"active": false}));
    }
    let fields = [("grant_type", "refresh_token"), ("refresh_token", text(&next, "refresh_token"))];
    app.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_grant");
    for nothing in ["x", refresh] {
        revoke(&app, nothing).await.expect(200);
    }
    // A machine's token, too.
    let grant = [("grant_type", "client_credentials")];
    let token = other.ask(&service, TOKEN, &grant).await.expect(200);
    revoke(&other, text(&token, "access_token")).await.expect(200);
    service.get("/v1/permissions", text(&token, "access_token")).await.refused(401, "AUT-0007");
}

#[tokio::test]
async fn the_user_info_tells_what_the_scope_says() {
    let service = Service::start().await;
    let app = trusted(&service).await;
    for (scope, names) in [
        ("openid", &["sub"][..]),
        ("openid email", &["email", "email_verified", "sub"]),
        ("openid profile", &["given_name", "groups", "name", "preferred_username", "sub"]),
    ] {
        let tokens = sign_in(&service, &app, scope).await;
        let token = text(&tokens, "access_token");
        let told = service.get("/oauth2/userinfo", token).await.expect(200);
        let mut members: Vec<_> = told.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, names, "{scope}");
        assert_eq!(told["sub"], claims(text(&tokens, "id_token"))["sub"]);
        let posted = service.post("/oauth2/userinfo", token, Value::Null).await.expect(200);
        assert_eq!(posted, told);
        for other in ["id_token", "refresh_token"] {
            let answer = service.get("/oauth2/userinfo", text(&tokens, other)).await;
            answer.refused_as(401, "invalid_token");
        }
    }
    let none = service.send(Method::GET, "/oauth2/userinfo", &[], "").await;
    assert_eq!(none.headers["www-authenticate"], "Bearer realm=\"postern\"");
    none.refused_as(401, "invalid_request");
    let machine = machine(&service).await;
    let token = machine.ask(&service, TOKEN, &[("grant_type", "client_credentials")]).await;
    let token = token.expect(200);
    let info = service.get("/oauth2/userinfo", text(&token, "access_token")).await;
    info.refused_as(403, "insufficient_scope");
}

#[tokio::test]
async fn the_metadata_says_what_is_there() {
    let service = Service::start().await;
    let told = service.get("/.well-known/openid-configuration", "").await.expect(200);
    let same = service.get("/.well-known/oauth-authorization-server", "").await.expect(200);
    assert_eq!(told, same);
    let issuer = text(&told, "issuer");
    for (name, value) in told.as_object().unwrap() {
        let Some(url) = value.as_str().filter(|_| name != "issuer") else { continue };
        let path = url.strip_prefix(issuer).unwrap_or_else(|| panic!("{name} is elsewhere: {url}"));
        let there = service.send(Method::GET, path, &[], "").await.status;
        assert_ne!(there, 404, "{name}");
    }
    let keys = service.get("/.well-known/jwks.json", "").await.expect(200);
    let app = machine(&service).await;
    let tokens =
        app.ask(&service, TOKEN, &[("grant_type", "client_credentials")]).await.expect(200);
    let verifier = Verifier::new(issuer, "postern", &keys).unwrap();
    verifier.verify(text(&tokens, "access_token"), Kind::Access, NOW).unwrap();
}

#[tokio::test]
async fn an_application_is_registered_only_for_what_can_be_done_safely() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let with = |more: Value| {
        let mut body = json!({"name": "demo", "description": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for bad in [
        json!({"grantTypes": []}),
        json!({"grantTypes": ["implicit"]}),
        json!({"grantTypes": ["authorization_code"]}),
        json!({"grantTypes": ["authorization_code"], "redirectUris": ["http://evil.example/"]}),
        json!({"grantTypes": ["authorization_code"], "redirectUris": ["https://a/#b"]}),
        json!({"redirectUris": ["javascript:alert(1)"]}),
        json!({"postLogoutRedirectUris": ["//a/"]}),
        json!({"audiences": ["postern"]}),
        json!({"public": true}),
        json!({"public": true, "grantTypes": ["password"]}),
        json!({"redirectUris": vec!["https://a/"; 21]}),
    ] {
        let told = service.post("/v1/applications", &admin, with(bad.clone())).await;
        let told = told.refused(400, "IDE-0007");
        assert_eq!(told["fields"].as_object().unwrap().len(), 1, "{bad} {told}");
    }
    for wrong in [json!({"public": "yes"}), json!({"redirectUris": "https://a/"})] {
        service.post("/v1/applications", &admin, with(wrong)).await.refused(400, "IDE-0002");
    }
    let web = json!({
        "name": "Grafana", "description": "x", "public": true,
        "grantTypes": ["refresh_token", "authorization_code"],
        "redirectUris": ["https://grafana.example.com/login/generic_oauth"],
    });
    let made = service.post("/v1/applications", &admin, web.clone()).await.expect(201);
    assert!(made.get("clientSecret").is_none());
    assert_eq!(made["grantTypes"], json!(["authorization_code", "refresh_token"]));
    let path = format!("/v1/applications/{}", made["id"].as_str().unwrap());
    // It has no secret to come with.
    service.patch(&path, &admin, json!({"public": false})).await.refused(400, "IDE-0007");
    // What one is called lets it do nothing for itself.
    let mut own = web;
    own["public"] = false.into();
    let own = service.post("/v1/applications", &admin, own).await.expect(201);
    assert_eq!(own["clientSecret"].as_str().unwrap().len(), 40);
    let own = format!("/v1/applications/{}", own["id"].as_str().unwrap());
    let machine = json!({"grantTypes": ["client_credentials"]});
    service.patch(&own, &admin, machine).await.refused(400, "IDE-0012");
    service.patch(&path, &admin, json!({"redirectUris": []})).await.refused(400, "IDE-0007");
    let moved = json!({"redirectUris": ["https://g.example.com/cb"]});
    let changed = service.patch(&path, &admin, moved).await.expect(200);
    assert_eq!(changed["redirectUris"], json!(["https://g.example.com/cb"]));
    assert_eq!((&changed["description"], &changed["public"]), (&json!("x"), &json!(true)));
    assert_eq!(service.get(&path, &admin).await.expect(200), changed);
    service.patch(&path, &admin, json!({})).await.refused(400, "IDE-0001");

    // Whoever may not give a machine its roles may not turn it into one, either.
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = service.sign_in("hal", PASSWORD).await;
    let helper = text(&helper, "accessToken");
    let sign_in = with(json!({
        "grantTypes": ["authorization_code", "client_credentials"],
        "redirectUris": ["https://a/"],
    }));
    service.post("/v1/applications", helper, sign_in).await.refused(403, "IDE-9002");
}
