//! What applications prove themselves with: several secrets and keys, rotated, retired, stolen, replayed.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use identity::Config;
use serde_json::{Value, json};

use super::{
    harness::{Answer, NOW, Service, access, claims},
    tenants::part,
};

const ISSUER: &str = "http://localhost:4000";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

struct App {
    id: String,
    client_id: String,
    secret: String,
}

impl App {
    async fn make(service: &Service, admin: &str) -> Self {
        let body = json!({"name": "demo", "description": "a machine"});
        let made = service.post("/v1/applications", admin, body).await.expect(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: text("id"), client_id: text("clientId"), secret: text("clientSecret") }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/applications/{}/credentials{rest}", self.id)
    }

    async fn with(&self, service: &Service, secret: &str) -> Answer {
        let body = json!({
            "grantType": "client_credentials", "clientId": self.client_id, "clientSecret": secret,
        });
        service.token(body).await
    }

    async fn asserted(&self, service: &Service, assertion: &str) -> Answer {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", assertion),
        ];
        service.form("/oauth2/token", &[], &fields).await
    }

    fn claims(&self, jti: &str) -> Value {
        json!({
            "iss": self.client_id, "sub": self.client_id, "aud": ISSUER, "iat": NOW, "exp": NOW + 60,
            "jti": jti,
        })
    }
}

/// A key pair of each kind.
pub enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()))
    }

    pub fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..65]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid})
            }
            Self::Ed(key) => {
                let x = text(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid})
            }
            Self::Rsa(key) => {
                let public = key.public_key();
                let n = text(public.modulus().big_endian_without_leading_zero());
                let e = text(public.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": n, "e": e, "kid": kid})
            }
        }
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    pub fn sign(&self, kid: &str, claims: &Value) -> String {
        self.sign_as(&json!({"alg": self.alg(), "kid": kid, "typ": "JWT"}), claims)
    }

    fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ec(key) => key.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(text.as_bytes()).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut bytes = vec![0; key.public_modulus_len()];
                let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
                key.sign(padding, &random, text.as_bytes(), &mut bytes).unwrap();
                bytes
            }
        };
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_application_has_several_secrets_each_with_an_end_of_its_own() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    assert_eq!(app.secret.len(), 40, "the form that the original's clients know");
    let list = service.get(&app.path(""), &admin).await.expect(200);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!((&list[0]["id"], &list[0]["type"]), (&json!(app.id), &json!("secret")));
    assert!(list[0].get("lastUsedAt").is_none() && list[0].get("secret").is_none(), "{list}");

    let body = json!({"name": "batch", "expiresInSecs": 7200});
    let second = service.post(&app.path(""), &admin, body).await;
    assert_eq!(second.headers["cache-control"], "no-store");
    let second = second.expect(201);
    let secret = text(&second, "secret");
    assert!(secret.starts_with("pst_cs_") && secret.len() >= 7 + 40, "{}", secret.len());
    for secret in [&app.secret, &secret] {
        let token = access(&app.with(&service, secret).await.expect(200));
        assert_eq!(claims(&token)["azp"], app.client_id);
    }
    // Shown once, and told when it was used: to the hour.
    let path = app.path(&format!("/{}", text(&second, "id")));
    let shown = service.get(&path, &admin).await.expect(200);
    assert!(shown.get("secret").is_none(), "{shown}");
    assert_eq!(shown["lastUsedAt"], "2027-01-15T08:00:00Z");
    service.clock.advance(3599);
    app.with(&service, &secret).await.expect(200);
    let shown = service.get(&path, &service.admin().await).await.expect(200);
    assert_eq!(shown["lastUsedAt"], "2027-01-15T08:00:00Z");
    service.clock.advance(1);
    app.with(&service, &secret).await.expect(200);
    let shown = service.get(&path, &service.admin().await).await.expect(200);
    assert_eq!(shown["lastUsedAt"], "2027-01-15T09:00:00Z");
    // Its end has come; the other has none.
    service.clock.advance(3600);
    app.with(&service, &secret).await.refused(401, "AUT-1004");
    app.with(&service, &app.secret).await.expect(200);
    let admin = service.admin().await;
    assert_eq!(service.get(&path, &admin).await.expect(200)["active"], false);
    service.delete(&path, &admin).await.expect(204);
    service.get(&path, &admin).await.refused(404, "IDE-9040");
}

#[tokio::test]
async fn a_rotated_secret_goes_on_for_the_overlap_and_a_retired_one_not_at_all() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let rotate = app.path(&format!("/{}/rotate", app.id));
    let new = service.post(&rotate, &admin, json!({"overlapSecs": 600})).await.expect(201);
    let secret = text(&new, "secret");
    for secret in [&app.secret, &secret] {
        app.with(&service, secret).await.expect(200);
    }
    service.clock.advance(600);
    app.with(&service, &app.secret).await.refused(401, "AUT-1004");
    app.with(&service, &secret).await.expect(200);
    // What has been rotated or has ended is not rotated again.
    service.post(&rotate, &admin, json!({})).await.refused(409, "IDE-9041");
    let retire = app.path(&format!("/{}/retire", text(&new, "id")));
    let retired = service.post(&retire, &admin, Value::Null).await.expect(200);
    assert_eq!(retired["active"], false);
    app.with(&service, &secret).await.refused(401, "AUT-1004");
    // Nor does it come back.
    service.post(&retire, &admin, Value::Null).await.expect(200);
    let again = app.path(&format!("/{}/rotate", text(&new, "id")));
    service.post(&again, &admin, json!({})).await.refused(409, "IDE-9041");
    app.with(&service, &secret).await.refused(401, "AUT-1004");
    // An application without any is not one without a secret.
    app.with(&service, "x").await.refused(401, "AUT-1004");
    let body = json!({"grantType": "client_credentials", "clientId": app.client_id});
    service.token(body).await.refused(400, "AUT-0014");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rotations_at_once_one_is_made() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let rotate = app.path(&format!("/{}/rotate", app.id));
    let one = || service.post(&rotate, &admin, json!({}));
    let (a, b, c) = tokio::join!(one(), one(), one());
    let mut made: Vec<u16> = [&a, &b, &c].map(|answer| answer.status.as_u16()).into();
    made.sort_unstable();
    assert_eq!(made, [201, 409, 409]);
    let list = service.get(&app.path(""), &admin).await.expect(200);
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_secret_is_read_back_where_the_installation_says_so_and_by_whom_it_may() {
    let config = Config { retrievable_secrets: true, ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let made = service.post(&app.path(""), &admin, json!({})).await.expect(201);
    let path = app.path(&format!("/{}", text(&made, "id")));
    let shown = service.get(&path, &admin).await;
    assert_eq!(shown.headers["cache-control"], "no-store");
    assert_eq!(shown.expect(200)["secret"], made["secret"]);
    let list = service.get(&app.path(""), &admin).await.expect(200);
    assert!(!list.to_string().contains("pst_cs_"), "a list has no secrets");
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = access(&service.sign_in("hal", super::harness::PASSWORD).await);
    assert!(service.get(&path, &helper).await.expect(200).get("secret").is_none());
    // The original's list shows the newest that does not end.
    let one = service.get(&format!("/v1/applications/{}", app.id), &admin).await.expect(200);
    assert!([&made["secret"], &json!(app.secret)].contains(&&one["clientSecret"]), "{one}");
}

#[tokio::test]
async fn nobody_becomes_an_application_that_may_do_more_than_they() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    // May make secrets of applications, and holds nothing of `demo`.
    let role = json!({
        "id": "keeper", "product": "plugin-identity", "name": "Keeper",
        "permissions": [
            "applications:get", "application-credentials:post", "application-credentials:delete",
        ],
    });
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "keepers", "name": "Keepers", "roles": ["keeper"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.person(&admin, "kay", &["keepers"]).await;
    let keeper = access(&service.sign_in("kay", super::harness::PASSWORD).await);
    service.post(&app.path(""), &keeper, json!({})).await.refused(403, "IDE-9002");
    let rotate = app.path(&format!("/{}/rotate", app.id));
    service.post(&rotate, &keeper, json!({})).await.refused(403, "IDE-9002");
    // One who may only look makes nothing.
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = access(&service.sign_in("hal", super::harness::PASSWORD).await);
    service.get(&app.path(""), &helper).await.expect(200);
    for path in [app.path(""), rotate, app.path(&format!("/{}/retire", app.id))] {
        service.post(&path, &helper, json!({})).await.refused(403, "IDE-9001");
    }
    let one = app.path(&format!("/{}", app.id));
    service.delete(&one, &helper).await.refused(403, "IDE-9001");
    // Nor does another organization's administrator find any of it.
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let theirs = App::make(&service, &admin).await;
    part(&service, &eve, &theirs.id).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": super::harness::PASSWORD,
        "clientId": theirs.client_id, "clientSecret": theirs.secret,
    });
    let stranger = access(&service.token(grant).await.expect(200));
    service.get(&theirs.path(""), &stranger).await.expect(200);
    service.get(&app.path(""), &stranger).await.refused(404, "IDE-1001");
    service.get(&one, &stranger).await.refused(404, "IDE-1001");
    service.post(&app.path(""), &stranger, json!({})).await.refused(404, "IDE-1001");
    service.delete(&one, &stranger).await.refused(404, "IDE-1001");
    // By way of their own application neither.
    let crossed = theirs.path(&format!("/{}", app.id));
    service.get(&crossed, &stranger).await.refused(404, "IDE-9040");
    service.delete(&crossed, &stranger).await.refused(404, "IDE-9040");
    for action in ["rotate", "retire"] {
        let path = format!("{crossed}/{action}");
        service.post(&path, &stranger, json!({})).await.refused(404, "IDE-9040");
    }
    app.with(&service, &app.secret).await.expect(200);
}

#[tokio::test]
async fn a_credential_that_is_not_right_is_not_made() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let good = Key::ec().jwk("k");
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        json!({"jwk": jwk})
    };
    for (body, code) in [
        (json!({"isAdmin": true}), "IDE-0004"),
        (json!({"secret": "chosen"}), "IDE-0004"),
        (json!({"name": "a\nb"}), "IDE-0007"),
        (json!({"expiresInSecs": 0}), "IDE-0007"),
        (json!({"expiresInSecs": -1}), "IDE-0002"),
        (json!({"expiresInSecs": u64::MAX}), "IDE-0007"),
        (json!({"jwk": "x"}), "IDE-0002"),
        (json!({"jwk": {}}), "IDE-0007"),
        (json!({"jwk": {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}}), "IDE-0007"),
        (with("d", json!("private")), "IDE-0007"),
        (with("jku", json!("https://elsewhere.example/keys")), "IDE-0007"),
        (with("use", json!("enc")), "IDE-0007"),
        (with("kid", json!("a b")), "IDE-0007"),
        (with("kid", json!(7)), "IDE-0007"),
        (with("x", json!("AAAA")), "IDE-0007"),
        (with("alg", json!("HS256")), "IDE-0007"),
        (with("x5c", json!("x".repeat(5000))), "IDE-0007"),
    ] {
        service.post(&app.path(""), &admin, body).await.refused(400, code);
    }
    service.post(&app.path(""), &admin, json!({"jwk": good})).await.expect(201);
    // Two keys that answer to one name.
    let twin = json!({"jwk": Key::ec().jwk("k")});
    service.post(&app.path(""), &admin, twin).await.refused(400, "IDE-0007");
    let rotate = app.path(&format!("/{}/rotate", app.id));
    for (body, code) in [
        (json!({"jwk": Key::ec().jwk("j")}), "IDE-0007"),
        (json!({"overlapSecs": 99_999_999}), "IDE-0007"),
    ] {
        service.post(&rotate, &admin, body).await.refused(400, code);
    }
    // There is room for twenty.
    for _ in 2..20 {
        service.post(&app.path(""), &admin, json!({})).await.expect(201);
    }
    service.post(&app.path(""), &admin, json!({})).await.refused(409, "IDE-9031");
    // A public application proves itself with nothing.
    let body = json!({
        "name": "Page", "description": "p", "public": true, "grantTypes": ["authorization_code"],
        "redirectUris": ["https://app.example/cb"],
    });
    let page = service.post("/v1/applications", &admin, body).await.expect(201);
    let path = format!("/v1/applications/{}/credentials", text(&page, "id"));
    service.post(&path, &admin, json!({})).await.refused(400, "IDE-0007");
    assert_eq!(service.get(&path, &admin).await.expect(200), json!([]));
    for path in ["/v1/applications/x/credentials", &app.path("/x")] {
        service.get(path, &admin).await.refused(400, "IDE-0003");
    }
}

#[tokio::test]
async fn a_client_proves_itself_with_a_key_of_any_kind_at_every_endpoint() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let keys = [Key::ec(), Key::ed(), Key::rsa()];
    for (n, key) in keys.iter().enumerate() {
        let kid = format!("k{n}");
        let made = service.post(&app.path(""), &admin, json!({"jwk": key.jwk(&kid)})).await;
        let made = made.expect(201);
        assert_eq!((&made["type"], &made["jwk"]["kid"]), (&json!("key"), &json!(kid)));
    }
    for (n, key) in keys.iter().enumerate() {
        let kid = format!("k{n}");
        let sign = |jti: &str| key.sign(&kid, &app.claims(&format!("{kid}-{jti}")));
        let token = app.asserted(&service, &sign("1")).await.expect(200);
        let token = text(&token, "access_token");
        assert_eq!(claims(&token)["client_id"], app.client_id);
        let (two, three) = (sign("2"), sign("3"));
        let with = |assertion| {
            [
                ("token", token.as_str()),
                ("client_id", app.client_id.as_str()),
                ("client_assertion_type", ASSERTION),
                ("client_assertion", assertion),
            ]
        };
        let told = service.form("/oauth2/introspect", &[], &with(&two)).await.expect(200);
        assert_eq!(told["active"], true);
        service.form("/oauth2/revoke", &[], &with(&three)).await.expect(200);
    }
    let list = service.get(&app.path(""), &admin).await.expect(200);
    let used =
        list.as_array().unwrap().iter().filter(|one| one.get("lastUsedAt").is_some()).count();
    assert_eq!(used, 3, "{list}");
    // A list of one audience, and the endpoint's own name, are the issuer's, too.
    let mut claims = app.claims("many");
    claims["aud"] = json!([format!("{ISSUER}/oauth2/token")]);
    app.asserted(&service, &keys[0].sign("k0", &claims)).await.expect(200);
    // A key that is retired opens nothing.
    let all = list.as_array().unwrap();
    let id = all.iter().find(|one| one["jwk"]["kid"] == "k0").unwrap()["id"].as_str().unwrap();
    service.post(&app.path(&format!("/{id}/retire")), &admin, Value::Null).await.expect(200);
    let late = keys[0].sign("k0", &app.claims("late"));
    app.asserted(&service, &late).await.refused_as(401, "invalid_client");
    let metadata = service.get("/.well-known/openid-configuration", "").await.expect(200);
    for endpoint in ["token", "revocation", "introspection"] {
        let methods = &metadata[format!("{endpoint}_endpoint_auth_methods_supported")];
        assert!(methods.as_array().unwrap().contains(&json!("private_key_jwt")), "{methods}");
        let algorithms =
            &metadata[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")];
        assert_eq!(*algorithms, json!(["ES256", "RS256", "EdDSA"]));
    }
}

#[tokio::test]
async fn an_assertion_that_is_not_to_be_believed_is_not() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let other = App::make(&service, &admin).await;
    let (key, theirs) = (Key::ec(), Key::ec());
    service.post(&app.path(""), &admin, json!({"jwk": key.jwk("k")})).await.expect(201);
    service.post(&other.path(""), &admin, json!({"jwk": theirs.jwk("k")})).await.expect(201);
    let with = |name: &str, value: Value| {
        let mut claims = app.claims(&format!("{name}{value}"));
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        key.sign("k", &claims)
    };
    let good = app.claims("good");
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let body = part(&good);
    let hmac = {
        let public = key.jwk("k").to_string();
        let header = part(&json!({"alg": "HS256", "kid": "k"}));
        let signed = format!("{header}.{body}");
        let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&mac, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()))
    };
    let signed = key.sign("k", &good);
    let bad = [
        ("expired", with("exp", json!(NOW - 11))),
        ("too long", with("exp", json!(NOW + 3611))),
        ("no exp", with("exp", Value::Null)),
        ("exp as text", with("exp", json!("1900000000"))),
        ("not yet", with("nbf", json!(NOW + 11))),
        ("made tomorrow", with("iat", json!(NOW + 86_400))),
        ("no jti", with("jti", Value::Null)),
        ("empty jti", with("jti", json!(""))),
        ("long jti", with("jti", json!("x".repeat(257)))),
        ("another audience", with("aud", json!("http://localhost:4001"))),
        ("a longer audience", with("aud", json!(format!("{ISSUER}/")))),
        ("two audiences", with("aud", json!([ISSUER, "https://elsewhere.example"]))),
        ("no audience", with("aud", json!([]))),
        ("our access tokens' audience", with("aud", json!("postern"))),
        ("another subject", with("sub", json!(other.client_id))),
        ("another issuer", with("iss", json!(other.client_id))),
        ("an unknown client", with("iss", json!("nobody"))),
        ("another's key", theirs.sign("k", &good)),
        ("an unknown key", key.sign("j", &good)),
        (
            "another kind of token",
            key.sign_as(&json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"}), &good),
        ),
        (
            "a key of its own",
            key.sign_as(&json!({"alg": "ES256", "kid": "x", "jwk": key.jwk("x")}), &good),
        ),
        ("none", format!("{}.{body}.", part(&json!({"alg": "none", "kid": "k"})))),
        ("hmac with the public key", hmac),
        ("an altered claim", signed.replace(&body, &part(&app.claims("other")))),
        ("no token", "x".to_owned()),
        ("nothing but dots", "..".to_owned()),
        ("too large", format!("{}.{}", "a".repeat(9000), signed)),
    ];
    for (what, assertion) in bad {
        let answer = app.asserted(&service, &assertion).await;
        assert_eq!(answer.status, 401, "{what}: {}", String::from_utf8_lossy(&answer.bytes));
        let told = answer.refused_as(401, "invalid_client");
        assert_eq!(told["error_description"], "the client id or secret is wrong", "{what}");
    }
    app.asserted(&service, &signed).await.expect(200);
    app.asserted(&service, &signed).await.refused_as(401, "invalid_client");
    // The same name of an assertion by another client is another assertion.
    let twin = theirs.sign("k", &other.claims("good"));
    other.asserted(&service, &twin).await.expect(200);
    // Remembered until it has run out, whatever is cleaned up, and so never good again.
    service.clock.advance(69);
    app.asserted(&service, &signed).await.refused_as(401, "invalid_client");
    service.clock.advance(1);
    app.asserted(&service, &signed).await.refused_as(401, "invalid_client");
}

#[tokio::test]
async fn a_client_authenticates_in_one_way_at_a_time_and_in_a_whole_one() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let other = App::make(&service, &admin).await;
    let key = Key::ec();
    service.post(&app.path(""), &admin, json!({"jwk": key.jwk("k")})).await.expect(201);
    let assertion = key.sign(
        "k",
        &json!({
            "iss": app.client_id, "sub": app.client_id, "aud": ISSUER, "exp": NOW + 60, "jti": "n",
        }),
    );
    let basic = format!(
        "Basic {}",
        base64::prelude::BASE64_STANDARD.encode(format!("{}:{}", app.client_id, app.secret))
    );
    let grant = ("grant_type", "client_credentials");
    let (kind, one) =
        (("client_assertion_type", ASSERTION), ("client_assertion", assertion.as_str()));
    for (headers, fields) in [
        (vec![("authorization", basic.as_str())], vec![grant, kind, one]),
        (vec![], vec![grant, kind, one, ("client_secret", app.secret.as_str())]),
        (vec![], vec![grant, one]),
        (vec![], vec![grant, kind]),
        (vec![], vec![grant, ("client_assertion_type", "saml"), one]),
    ] {
        service.form("/oauth2/token", &headers, &fields).await.refused_as(400, "invalid_request");
    }
    let another = [grant, kind, one, ("client_id", other.client_id.as_str())];
    service.form("/oauth2/token", &[], &another).await.refused_as(401, "invalid_client");
    app.asserted(&service, &assertion).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_that_comes_many_times_at_once_is_good_once() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let key = Key::ed();
    service.post(&app.path(""), &admin, json!({"jwk": key.jwk("k")})).await.expect(201);
    for round in 0..4 {
        let assertion = key.sign("k", &app.claims(&format!("race-{round}")));
        let ask = || app.asserted(&service, &assertion);
        let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
        let good = [a, b, c, d].iter().filter(|answer| answer.status == 200).count();
        assert_eq!(good, 1);
    }
}

#[tokio::test]
async fn an_application_s_tokens_live_as_it_registered_within_the_installation_s_bounds() {
    let config = Config { longest_access_token_secs: Some(7200), ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    let app = App::make(&service, &admin).await;
    let path = format!("/v1/applications/{}", app.id);
    for (body, code) in [
        (json!({"accessTokenSecs": 7201}), "IDE-0007"),
        (json!({"refreshTokenSecs": 86_401}), "IDE-0007"),
        (json!({"accessTokenSecs": -1}), "IDE-0002"),
        (json!({"accessTokenSecs": "60"}), "IDE-0002"),
    ] {
        service.patch(&path, &admin, body).await.refused(400, code);
    }
    let lifetime = async |expected: u64| {
        let tokens = app.with(&service, &app.secret).await.expect(200);
        let claims = claims(&access(&tokens));
        assert_eq!(tokens["expiresIn"], expected);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), expected);
    };
    lifetime(3600).await;
    let patched = service.patch(&path, &admin, json!({"accessTokenSecs": 7200})).await.expect(200);
    assert_eq!(patched["accessTokenSecs"], 7200);
    lifetime(7200).await;
    // A change is told as long as the longest of them lives.
    service.delete(&path, &admin).await.expect(204);
    let until = service.told.lock().unwrap().changes.last().unwrap().until;
    assert!(until >= NOW + 7200, "{until}");
    // People's tokens, and the sign-in, live as their application's.
    let body = json!({
        "name": "demo", "description": "a machine",
        "grantTypes": ["client_credentials", "password", "refresh_token"],
        "accessTokenSecs": 60, "refreshTokenSecs": 300,
    });
    let short = service.post("/v1/applications", &admin, body).await.expect(201);
    let sign_in = json!({
        "grantType": "password", "username": "admin", "password": super::harness::ADMIN_PASSWORD,
        "clientId": short["clientId"], "clientSecret": short["clientSecret"],
    });
    let tokens = service.token(sign_in).await.expect(200);
    assert_eq!(tokens["expiresIn"], 60);
    service.get("/v1/users", &access(&tokens)).await.expect(200);
    service.clock.advance(71);
    service.get("/v1/users", &access(&tokens)).await.refused(401, "IDE-0009");
    service.clock.advance(230);
    let late = service.refresh(tokens["refreshToken"].as_str().unwrap()).await;
    late.refused(400, "AUT-1005");
    // A bound that is lowered counts at once, and 0 goes back to the installation's.
    let id = text(&short, "id");
    let path = format!("/v1/applications/{id}");
    let admin = service.admin().await;
    service.patch(&path, &admin, json!({"accessTokenSecs": 7000})).await.expect(200);
    let service = service.restart().await;
    let secret = text(&short, "clientSecret");
    let body = json!({
        "grantType": "client_credentials", "clientId": short["clientId"], "clientSecret": secret,
    });
    assert_eq!(service.token(body.clone()).await.expect(200)["expiresIn"], 3600);
    let admin = service.admin().await;
    let reset = service.patch(&path, &admin, json!({"accessTokenSecs": 0})).await.expect(200);
    assert!(reset.get("accessTokenSecs").is_none(), "{reset}");
    assert_eq!(service.token(body).await.expect(200)["expiresIn"], 3600);
}
