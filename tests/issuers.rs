//! Tokens of other people's issuers, taken beside our own or alone.

pub mod provider; // a real one: npm `oidc-provider`

use std::{collections::HashMap, net::SocketAddr};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{
    PATIENCE, Postern,
    alone::{Alone, command},
    client,
    issuer::{INTROSPECT, Issuer, KEYS, Key, METADATA, Reply, encoded, now},
    policies,
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";

pub fn midaz(upstream: &Upstream) -> String {
    format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address)
}

/// An issuer that speaks for one organization, with Keycloak-like groups.
pub fn pinned(issuer: &Issuer, name: &str, more: &str) -> String {
    format!(
        "[[issuer]]\nname = '{name}'\nurl = '{}'\naudiences = ['postern']\norganization = 'acme'\n\
         {more}\n[issuer.groups]\nfrom = ['realm_access.roles']\n\
         map = {{ viewers = 'midaz-viewer-group', editors = ['midaz-editor-group'] }}\n",
        issuer.url
    )
}

pub async fn alone(config: &str) -> Alone {
    let shipped = policies();
    Alone::start(config, &["--policies", shipped.to_str().unwrap()]).await
}

async fn ask(at: SocketAddr, method: Method, token: &str) -> Response {
    client().request(method, format!("http://{at}{PATH}")).bearer_auth(token).send().await.unwrap()
}

pub async fn status(at: SocketAddr, token: &str) -> u16 {
    ask(at, Method::GET, token).await.status().as_u16()
}

/// What the operators' listener says of an issuer.
async fn told(health: SocketAddr, name: &str) -> Value {
    let at = format!("http://{health}/internal/v1/issuers");
    let told: Value = client().get(at).send().await.unwrap().json().await.unwrap();
    let all = told["issuers"].as_array().unwrap();
    all.iter().find(|issuer| issuer["name"] == name).cloned().unwrap_or(Value::Null)
}

/// The same, once it is so.
async fn until(health: SocketAddr, name: &str, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = told(health, name).await;
        if so(&told) {
            return told;
        }
        assert!(std::time::Instant::now() < deadline, "it never came to that: {told}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub async fn is(health: SocketAddr, name: &str, state: &str) -> Value {
    until(health, name, |told| told["state"] == state).await
}

fn with(value: &Value, member: &str, to: Value) -> Value {
    let mut value = value.clone();
    if to.is_null() {
        value.as_object_mut().unwrap().remove(member);
    } else {
        value[member] = to;
    }
    value
}

pub fn viewer(claims: &Value) -> Value {
    with(claims, "realm_access", json!({"roles": ["viewers", "offline_access"]}))
}

#[tokio::test]
async fn groups_of_another_issuer_decide_beside_our_own() {
    let upstream = Upstream::start().await;
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let machine = "[issuer.machine]\nclaim = 'gty'\nis = 'client-credentials'\n\
                   [issuer.roles]\nfrom = ['scopes']\nmap = { write = 'midaz-editor-role' }\n";
    let config = format!("{}{}{machine}", midaz(&upstream), pinned(&issuer, "sso", ""));
    let postern = Postern::with(&config).await;
    is(postern.health, "sso", "ok").await;
    let own = postern.admin().await;
    assert_eq!(status(postern.gateway, &own).await, 200);

    let token = key.token(&viewer(&issuer.claims("ana")));
    let seen = ask(postern.gateway, Method::GET, &token).await;
    assert_eq!(seen.status(), 200);
    let seen: Value = seen.json().await.unwrap();
    let headers = &seen["headers"];
    assert_eq!(headers["x-postern-subject"][0], "sso:ana", "{seen}");
    assert_eq!(headers["x-postern-organization"][0], "acme");
    assert_eq!(headers["x-postern-groups"][0], "midaz-viewer-group", "the others are nobody's");
    assert_eq!(ask(postern.gateway, Method::POST, &token).await.status(), 403);
    let editor = json!({"roles": ["editors"]});
    let editor = key.token(&with(&issuer.claims("eva"), "realm_access", editor));
    assert_eq!(ask(postern.gateway, Method::POST, &editor).await.status(), 200);
    let nobody = key.token(&issuer.claims("nobody"));
    assert_eq!(status(postern.gateway, &nobody).await, 403);

    let claims = with(&issuer.claims("batch@clients"), "gty", json!("client-credentials"));
    let batch = key.token(&with(&viewer(&claims), "scopes", json!(["write"])));
    let seen = ask(postern.gateway, Method::POST, &batch).await;
    assert_eq!(seen.status(), 200);
    let seen: Value = seen.json().await.unwrap();
    assert_eq!(seen["headers"]["x-postern-type"][0], "application", "{seen}");
    assert_eq!(seen["headers"]["x-postern-subject"][0], "sso:batch@clients");

    // Our own management knows nobody of another issuer's.
    let users = postern.request(Method::GET, postern.identity, "/v1/users").bearer_auth(&editor);
    assert_eq!(users.send().await.unwrap().status(), 401);
    let door = postern.door("GET", PATH, &token).await;
    assert_eq!(door.status(), 200);
    let question = json!({"resource": "organizations", "action": "get", "product": "midaz"});
    assert_eq!(postern.authorized(&token, &question).await["authorized"], true);
    let told = told(postern.health, "postern").await;
    assert_eq!(told["state"], "ok", "{told}");
}

#[tokio::test]
async fn what_an_organization_says_of_a_person_of_another_issuer_counts_at_once() {
    let upstream = Upstream::start().await;
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let config = format!("{}{}", midaz(&upstream), pinned(&issuer, "sso", ""));
    let postern = Postern::with(&config.replace("'acme'", "'lerian'")).await;
    is(postern.health, "sso", "ok").await;
    let admin = postern.admin().await;
    let say = async |body: Value| {
        let request = postern.request(Method::PUT, postern.identity, "/v1/guests/sso%3Aana");
        request.bearer_auth(&admin).json(&body).send().await.unwrap().status().as_u16()
    };
    let can = async |token: &str| {
        let reads = status(postern.gateway, token).await;
        (reads, ask(postern.gateway, Method::POST, token).await.status().as_u16())
    };
    let token = key.token(&viewer(&issuer.claims("ana")));
    assert_eq!(can(&token).await, (200, 403));
    // In force before it is answered, for tokens that have been verified long since.
    assert_eq!(say(json!({"groups": ["midaz-editor-group"]})).await, 201);
    assert_eq!(can(&token).await, (200, 200));
    let other = key.token(&issuer.claims("eva"));
    assert_eq!(can(&other).await, (403, 403), "it is said of ana alone");
    assert_eq!(say(json!({"groups": []})).await, 200);
    assert_eq!(can(&token).await, (403, 403), "the token's groups are not asked");
    let blocked = json!({"groups": ["midaz-editor-group"], "blocked": true});
    assert_eq!(say(blocked).await, 200);
    assert_eq!(can(&token).await, (401, 401));
    let door = postern.door("GET", PATH, &token).await;
    assert_eq!(door.status(), 401);
    let request = postern.request(Method::DELETE, postern.identity, "/v1/guests/sso:ana");
    assert_eq!(request.bearer_auth(&admin).send().await.unwrap().status(), 204);
    assert_eq!(can(&token).await, (200, 403), "the token's word counts again");
}

#[tokio::test]
async fn j_a_token_of_another_issuer_must_hold_in_everything() {
    let upstream = Upstream::start().await;
    let (key, stranger) = (Key::new("one"), Key::new("one"));
    let (issuer, other) = (Issuer::start(&[&key]).await, Issuer::start(&[&stranger]).await);
    let config = midaz(&upstream)
        + &pinned(&issuer, "sso", "algorithms = ['ES256', 'EdDSA']")
        + &pinned(&other, "other", "");
    let alone = alone(&config).await;
    is(alone.health, "sso", "ok").await;
    is(alone.health, "other", "ok").await;
    let asked = (issuer.asked(KEYS).len(), other.asked(KEYS).len());
    let claims = viewer(&issuer.claims("ana"));
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"});
    let good = key.token(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let hs256 = with(&header, "alg", json!("HS256"));
    let forged = |secret: &[u8]| {
        let text = format!("{}.{}", encoded(&hs256), encoded(&claims));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
        format!("{text}.{}", B64.encode(signature))
    };
    let claim = |name: &str, to: Value| key.token(&with(&claims, name, to));
    let head = |name: &str, to: Value| key.sign(&with(&header, name, to), &claims);
    let thief = format!("{}/keys", other.url);
    for (what, token) in [
        ("another issuer's key under the right id", stranger.token(&claims)),
        ("another issuer's name", claim("iss", json!(other.url))),
        ("nobody's name", claim("iss", json!("https://nobody.example"))),
        ("the name with a slash", claim("iss", json!(format!("{}/", issuer.url)))),
        ("no name", claim("iss", Value::Null)),
        ("another audience", claim("aud", json!("console"))),
        ("no audience", claim("aud", Value::Null)),
        ("an id token's type", head("typ", json!("JWT"))),
        ("no type", head("typ", Value::Null)),
        ("a log-out token", head("typ", json!("logout+jwt"))),
        ("expired", claim("exp", json!(now() - 60))),
        ("no end", claim("exp", Value::Null)),
        ("an end that is text", claim("exp", json!("9999999999"))),
        ("no beginning", claim("iat", Value::Null)),
        ("not yet", claim("nbf", json!(now() + 60))),
        ("no subject", claim("sub", Value::Null)),
        ("an empty subject", claim("sub", json!(""))),
        ("a subject with a space", claim("sub", json!("a b"))),
        ("none", format!("{}.{}.", encoded(&with(&header, "alg", json!("none"))), parts[1])),
        ("an HMAC with the public key", forged(key.point())),
        ("an HMAC with the published key", forged(key.public().to_string().as_bytes())),
        ("another algorithm's name", head("alg", json!("ES384"))),
        ("an unknown key", head("kid", json!("two"))),
        ("an extension", head("crit", json!(["exp"]))),
        ("a token in a token", head("cty", json!("JWT"))),
        ("half a signature", good[..good.len() - 8].to_owned()),
    ] {
        assert_eq!(status(alone.gateway, &token).await, 401, "{what}");
        assert_eq!(status(alone.gateway, &token).await, 401, "{what}, again");
    }
    // A token that brings its own way to keys is read without it.
    let stolen = stranger.sign(
        &json!({"alg": "ES256", "typ": "at+jwt", "kid": "one", "jku": thief, "x5u": thief,
            "jwk": stranger.public()}),
        &claims,
    );
    assert_eq!(status(alone.gateway, &stolen).await, 401);
    assert_eq!(status(alone.gateway, &good).await, 200);
    assert_eq!(other.asked(KEYS).len(), asked.1, "nothing in a token is an address to call");
}

#[tokio::test]
async fn t_an_issuer_speaks_for_the_organizations_that_it_is_given() {
    let upstream = Upstream::start().await;
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let config = format!(
        "{}[[issuer]]\nname = 'sso'\nurl = '{}'\naudiences = ['postern']\n\
         types = ['JWT']\norganizations = {{ 'Acme Inc' = 'acme', beta = 'beta' }}\n\
         require = {{ typ = 'Bearer' }}\n\
         claims = {{ organization = '/https:~1~1example.com~1org', subject = 'oid' }}\n\
         groups = {{ from = ['groups'], others = 'keep', prefix = 'midaz-' }}\n",
        midaz(&upstream),
        issuer.url
    );
    let alone = alone(&config).await;
    is(alone.health, "sso", "ok").await;
    let claim = "https://example.com/org";
    let header = json!({"alg": "ES256", "kid": "one"});
    let claims = with(&issuer.claims("s"), "typ", json!("Bearer"));
    let claims = with(&claims, "groups", json!(["viewer-group", "no group\n"]));
    let claims = with(&claims, "oid", json!("o-1"));
    for (org, expected) in [
        (json!("Acme Inc"), Some("acme")),
        (json!(["Acme Inc"]), Some("acme")),
        (json!("beta"), Some("beta")),
        (json!("acme"), None),
        (json!("gamma"), None),
        (json!(["beta", "Acme Inc"]), None),
        (json!([]), None),
        (json!({"beta": {}}), None),
        (Value::Null, None),
    ] {
        let token = key.sign(&header, &with(&claims, claim, org.clone()));
        let answer = ask(alone.gateway, Method::GET, &token).await;
        assert_eq!(answer.status(), if expected.is_some() { 200 } else { 401 }, "{org}");
        if let Some(expected) = expected {
            let seen: Value = answer.json().await.unwrap();
            assert_eq!(seen["headers"]["x-postern-organization"][0], expected);
            assert_eq!(seen["headers"]["x-postern-subject"][0], "sso:o-1");
        }
    }
    let claims = with(&claims, claim, json!("beta"));
    // What has the form of an access token and is an id token all the same.
    for (what, claims) in [
        ("no `typ`", with(&claims, "typ", Value::Null)),
        ("an id token", with(&claims, "typ", json!("ID"))),
        ("a nonce", with(&claims, "nonce", json!("n"))),
        ("a log-out", with(&claims, "events", json!({}))),
    ] {
        assert_eq!(status(alone.gateway, &key.sign(&header, &claims)).await, 401, "{what}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_disturbs_nobody_but_its_own() {
    let upstream = Upstream::start().await;
    let (key, other_key) = (Key::new("one"), Key::new("one"));
    let (mut issuer, other) = (Issuer::start(&[&key]).await, Issuer::start(&[&other_key]).await);
    issuer.stop().await;
    let times = "refresh_secs = 1\nearly_refresh_secs = 1\nmax_staleness_secs = 3";
    let config = midaz(&upstream) + &pinned(&issuer, "down", times) + &pinned(&other, "other", "");
    let alone = alone(&config).await;
    is(alone.health, "other", "ok").await;
    let (token, others) =
        (key.token(&viewer(&issuer.claims("ana"))), other_key.token(&viewer(&other.claims("ana"))));
    let refused = ask(alone.gateway, Method::GET, &token).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(status(alone.gateway, &others).await, 200);
    let shown = until(alone.health, "down", |told| !told["lastError"].is_null()).await;
    assert_eq!((&shown["state"], &shown["keys"]), (&json!("unavailable"), &Value::Null));

    issuer.resume().await;
    is(alone.health, "down", "ok").await;
    assert_eq!(status(alone.gateway, &token).await, 200);
    issuer.stop().await;
    // The last good ones stay, for a while, and then they do not, for a remembered token either.
    is(alone.health, "down", "stale").await;
    is(alone.health, "down", "unavailable").await;
    assert_eq!(status(alone.gateway, &token).await, 503);
    assert_eq!(status(alone.gateway, &others).await, 200);
    issuer.resume().await;
    is(alone.health, "down", "ok").await;
    assert_eq!(status(alone.gateway, &token).await, 200);
    let metrics = format!("http://{}/metrics", alone.health);
    let metrics = client().get(metrics).send().await.unwrap().text().await.unwrap();
    for expected in [
        "postern_issuer_keys{issuer=\"down\"} 1",
        "postern_issuer_fetches_total{issuer=\"down\",outcome=\"failed\"}",
        "postern_issuer_fetches_total{issuer=\"other\",outcome=\"ok\"} 1",
    ] {
        assert!(metrics.contains(expected), "{metrics}\nwants {expected}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_issuers_leaves_the_last_good_keys() {
    let upstream = Upstream::start().await;
    let key = Key::new("one");
    let (issuer, elsewhere) = (Issuer::start(&[&key]).await, Issuer::start(&[&key]).await);
    let times = "refresh_secs = 1\nearly_refresh_secs = 1\ntimeout_secs = 1";
    let alone = alone(&(midaz(&upstream) + &pinned(&issuer, "sso", times))).await;
    is(alone.health, "sso", "ok").await;
    let token = key.token(&viewer(&issuer.claims("ana")));
    let named = |issuer: &str, at: &str| Reply::Json(json!({"issuer": issuer, "jwks_uri": at}));
    let small = json!({"keys": [{"kty": "oct", "kid": "one", "k": "AAAA"}]});
    for (path, reply, expected) in [
        (METADATA, Reply::Silent, "does not answer within 1 s"),
        (METADATA, Reply::Huge, "is larger than"),
        (METADATA, Reply::Redirect(elsewhere.url.clone() + METADATA), "leads elsewhere"),
        (METADATA, Reply::Status(500), "answers with 500"),
        (METADATA, named(&elsewhere.url, &elsewhere.url), "it is the metadata of"),
        (METADATA, named(&issuer.url, "http://192.0.2.1/keys"), "is plain http"),
        (METADATA, named(&issuer.url, "file:///etc/passwd"), "is no address"),
        (METADATA, named(&issuer.url, "https://169.254.169.254/"), "is in a private network"),
        (METADATA, named(&issuer.url, "https://localhost/"), "is in a private network"),
        (KEYS, Reply::Json(small), "has no key that can verify"),
        (KEYS, Reply::Json(json!([])), "not a JSON Web Key set"),
    ] {
        issuer.publishes(&[&key]);
        issuer.answers(path, reply.clone());
        let so = |told: &Value| told["lastError"].as_str().is_some_and(|e| e.contains(expected));
        until(alone.health, "sso", so).await;
        assert_eq!(status(alone.gateway, &token).await, 200, "{reply:?}");
    }
    assert_eq!(elsewhere.asked(METADATA).len() + elsewhere.asked(KEYS).len(), 0);
    issuer.publishes(&[&key]);
    is(alone.health, "sso", "ok").await;
}

#[tokio::test]
async fn j_other_keys_are_found_early_and_withdrawn_ones_vouch_for_nobody() {
    let upstream = Upstream::start().await;
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let times = "refresh_secs = 86400\nearly_refresh_secs = 1";
    let alone = alone(&(midaz(&upstream) + &pinned(&issuer, "sso", times))).await;
    is(alone.health, "sso", "ok").await;
    let claims = viewer(&issuer.claims("ana"));
    let (first, second) = (old.token(&claims), new.token(&claims));
    assert_eq!(status(alone.gateway, &first).await, 200);
    assert_eq!(issuer.asked(KEYS).len(), 1);
    issuer.publishes(&[&old, &new]);
    assert_eq!(status(alone.gateway, &second).await, 401, "nobody waits for other keys");
    until(alone.health, "sso", |told| told["keys"]["new"] == "ES256").await;
    assert_eq!(status(alone.gateway, &second).await, 200);
    assert_eq!(status(alone.gateway, &first).await, 200, "both are published");

    // A flood of keys that nobody has asks the issuer once, not once each.
    issuer.publishes(&[&new]);
    let before = issuer.asked(KEYS).len();
    let began = std::time::Instant::now();
    for n in 0..60 {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": format!("k{n}")});
        assert_eq!(status(alone.gateway, &new.sign(&header, &claims)).await, 401);
    }
    issuer.was_asked(KEYS, before + 1).await;
    until(alone.health, "sso", |told| told["keys"]["old"].is_null()).await;
    let asked = issuer.asked(KEYS).len() - before;
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(asked <= most, "{asked} times in {:?}", began.elapsed());
    assert_eq!(status(alone.gateway, &first).await, 401, "its key is withdrawn");
    assert_eq!(status(alone.gateway, &second).await, 200);
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_and_an_answer_that_fails_is_no_yes() {
    let upstream = Upstream::start().await;
    let issuer = Issuer::silent().await;
    let secret = crate::harness::secret();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, &secret).unwrap();
    let asking = format!(
        "jwt = false\nintrospection = {{ url = '{}{INTROSPECT}', client_id = 'pos:tern', \
         client_secret_file = '{}', timeout_secs = 1, ttl_secs = 60, negative_ttl_secs = 1 }}",
        issuer.url,
        file.display()
    );
    let config = format!(
        "[log]\nfilter = 'trace'\n[proxy]\ntrusted_proxies = ['127.0.0.1']\n{}{}",
        midaz(&upstream),
        pinned(&issuer, "sso", &asking)
    );
    let alone = alone(&config).await;
    let active = viewer(&with(
        &with(&issuer.claims("ana"), "active", json!(true)),
        "token_type",
        json!("Bearer"),
    ));
    let opaque = || format!("op_{}", uuid::Uuid::new_v4().simple());
    let good = opaque();
    let tokens: Vec<(&str, Value, u16)> = vec![
        ("a refresh token", with(&active, "token_type", Value::Null), 401),
        ("another kind", with(&active, "token_type", json!("mac")), 401),
        ("text for true", with(&active, "active", json!("true")), 401),
        ("inactive", json!({"active": false}), 401),
        ("another issuer's", with(&active, "iss", json!("https://nobody.example")), 401),
        ("another audience", with(&active, "aud", json!("console")), 401),
        ("no audience", with(&active, "aud", Value::Null), 401),
        ("expired", with(&active, "exp", json!(now() - 60)), 401),
        ("not yet", with(&active, "nbf", json!(now() + 60)), 401),
        ("no subject", with(&active, "sub", Value::Null), 401),
        ("no end", with(&active, "exp", Value::Null), 200),
    ];
    let tokens: Vec<_> = tokens.into_iter().map(|(w, a, s)| (opaque(), w, a, s)).collect();
    let mut known: HashMap<String, Value> =
        tokens.iter().map(|(token, _, answer, _)| (token.clone(), answer.clone())).collect();
    known.insert(good.clone(), active);
    issuer.answers(INTROSPECT, Reply::Tokens(known.clone()));

    // Many at once are one question, and its answer is kept.
    let all = (0..20).map(|_| status(alone.gateway, &good));
    assert_eq!(futures_util::future::join_all(all).await, [200; 20]);
    let asked = issuer.asked(INTROSPECT);
    assert_eq!(asked.len(), 1);
    let basic = asked[0].authorization.clone().unwrap();
    let basic = base64::prelude::BASE64_STANDARD.decode(basic.strip_prefix("Basic ").unwrap());
    let sent = String::from_utf8(basic.unwrap()).unwrap();
    assert!(sent.starts_with("pos%3Atern:"), "an id with a colon is told apart from the secret");
    assert_eq!(asked[0].body, format!("token={good}&token_type_hint=access_token"));
    for (token, what, _, expected) in &tokens {
        assert_eq!(status(alone.gateway, token).await, *expected, "{what}");
    }
    let refused = opaque();
    assert_eq!(status(alone.gateway, &refused).await, 401);
    let count = issuer.asked(INTROSPECT).len();
    // At the doors, too, and what is not opaque is nobody's there.
    let door = |token: &str| {
        let request = client().get(format!("http://{}/forward-auth/nginx/midaz", alone.doors));
        let request = request.header("x-original-method", "GET").header("x-original-uri", PATH);
        request.bearer_auth(token).send()
    };
    assert_eq!(door(&good).await.unwrap().status(), 200);
    assert_eq!(status(alone.gateway, "eyJh.eyJh.eyJh").await, 401);
    assert_eq!(issuer.asked(INTROSPECT).len(), count);

    for (reply, expected) in [
        (Reply::Status(500), "answers with 500"),
        (Reply::Status(401), "answers with 401"),
        (Reply::Silent, "does not answer within"),
        (Reply::Huge, "larger than"),
        (Reply::Redirect(issuer.url.clone()), "leads elsewhere"),
        (Reply::Json(json!([true])), "no JSON"),
    ] {
        issuer.answers(INTROSPECT, reply.clone());
        assert_eq!(status(alone.gateway, &opaque()).await, 503, "{reply:?}");
        assert_eq!(door(&opaque()).await.unwrap().status(), 403, "{reply:?}, at nginx's door");
        assert_eq!(status(alone.gateway, &good).await, 200, "its answer is kept");
        let shown = told(alone.health, "sso").await;
        let error = shown["introspection"]["lastError"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{shown}\nwants {expected}");
    }
    issuer.answers(INTROSPECT, Reply::Tokens(known));
    assert_eq!(status(alone.gateway, &opaque()).await, 401);
    let log = alone.log.text();
    for secret in [&secret, &good, &refused, &tokens[0].0] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
}

#[test]
fn what_would_leave_a_door_open_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = policies();
    let issuer = "[[issuer]]\nname = 'a'\nurl = 'https://a.example'\naudiences = ['postern']\n";
    let org = "organization = 'acme'\n";
    let ask = "[issuer.introspection]\nurl = 'https://a.example/i'\nclient_id = 'p'\n";
    for (config, expected) in [
        (issuer.to_owned(), "it may speak for no organization"),
        (format!("{issuer}{org}organizations = ['b']\n"), "are both set"),
        (format!("{issuer}organizations = ['b']\n"), "say in `claims.organization`"),
        (format!("{issuer}{org}[issuer.claims]\norganization = 'o'\n"), "is pinned"),
        (format!("{issuer}organization = 'No Org'\n"), "is no organization"),
        (issuer.replace("['postern']", "[]") + org, "`audiences` names nobody"),
        (issuer.replace("audiences", "audience") + org, "unknown field `audience`"),
        (issuer.replace("https", "http") + org, "is plain http"),
        (issuer.replace("https://", "https://u:p@") + org, "has a user in it"),
        (issuer.replace("'a'", "'A B'") + org, "`name` is 1 to 32"),
        (issuer.replace("'a'", "'postern'") + org, "which is ours"),
        (format!("{issuer}{org}algorithms = ['HS256']\n"), "`algorithms` has `HS256`"),
        (format!("{issuer}{org}algorithms = ['none']\n"), "`algorithms` has `none`"),
        (format!("{issuer}{org}types = ['JWT']\n"), "an id token might pass"),
        (format!("{issuer}{org}jwks = 'a'\njwks_url = 'https://a'\n"), "are both set"),
        (format!("{issuer}{org}skew_secs = 3600\n"), "must be 0 to 300"),
        (format!("{issuer}{org}[issuer.groups]\nfrom = ['g']\n"), "takes none of those"),
        (format!("{issuer}{org}[issuer.groups]\nmap = {{ a = 'b' }}\n"), "has no `from`"),
        (
            format!("{issuer}{org}[issuer.groups]\nfrom = ['g']\nmap = {{ a = 'b c' }}\n"),
            "`b c` is no group",
        ),
        (format!("{issuer}{org}[issuer.claims]\nsubject = 'a..b'\n"), "is no path to a claim"),
        (format!("{issuer}{org}jwt = false\n"), "leaves no way to verify"),
        (format!("{issuer}{org}{ask}"), "has no `client_secret`"),
        (format!("{issuer}{org}{ask}client_secret = 'x'\nttl_secs = 900\n"), "must be 1 to 300"),
        (format!("{issuer}{org}{ask}client_secret_file = '/nowhere'\n"), "/nowhere"),
        (format!("{issuer}{org}{issuer}{org}"), "two issuers are named `a`"),
        (format!("{issuer}{org}{}{org}", issuer.replace("'a'", "'b'")), "have the same `url`"),
    ] {
        let arguments = ["--policies", shipped.to_str().unwrap(), "--check-config"];
        let output = command(&folder, &config, &arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{config}\n{told}");
        assert!(told.contains(expected), "{told}\nwants {expected}");
        assert!(told.trim_end().lines().count() == 1, "{told}");
    }
    let good = format!("{issuer}{org}");
    let own = ["--policies", shipped.to_str().unwrap(), "--check-config", "--issuer"];
    for (url, expected) in [("https://b.example", 0), ("https://a.example", 1)] {
        let arguments: Vec<&str> = own.iter().copied().chain([url]).collect();
        let output = command(&folder, &good, &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{url}: {output:?}");
    }
}
