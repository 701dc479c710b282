//! Signing in at somebody else's issuer, that lies, fails and renews as it is told.

use futures_util::future::join_all;
use reqwest::{Method, Response, Url};
use serde_json::{Value, json};

use super::{ORIGIN, PATH, SESSION, at, key};
use crate::{
    harness::{
        Postern,
        browser::Browser,
        issuer::{Issuer, KEYS, Key, METADATA, Reply, now},
        policies,
        upstream::Upstream,
    },
    issuers::is,
    startup::refused,
};

const TOKEN: &str = "/token";

struct Foreign {
    _upstream: Upstream,
    postern: Postern,
    issuer: Issuer,
    key: Key,
}

/// What somebody who was sent to the issuer says there.
struct Begun {
    state: String,
    nonce: String,
}

impl Foreign {
    async fn set() -> Self {
        let upstream = Upstream::start().await;
        let signing = Key::new("one");
        let issuer = Issuer::start(&[&signing]).await;
        let url = &issuer.url;
        let metadata = json!({
            "issuer": url, "jwks_uri": format!("{url}{KEYS}"), "token_endpoint": format!("{url}{TOKEN}"),
            "authorization_endpoint": format!("{url}/authorize?tenant=1"),
        });
        issuer.answers(METADATA, Reply::Json(metadata));
        let config = format!(
            "[proxy]\ntrusted_proxies = ['127.0.0.1']\nsign_in.keys = ['{}']\n\
             [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
             [product.sign_in]\norigins = ['{ORIGIN}']\nclient_id = 'web'\nissuer = 'sso'\n\
             client_secret = 'x y'\n\
             [[issuer]]\nname = 'sso'\nurl = '{url}'\naudiences = ['postern']\norganization = 'acme'\n\
             [issuer.groups]\nfrom = ['roles']\nmap = {{ viewers = 'midaz-viewer-group' }}\n",
            key(),
            upstream.address,
        );
        let postern = Postern::with(&config).await;
        is(postern.health, "sso", "ok").await;
        Self { _upstream: upstream, postern, issuer, key: signing }
    }

    fn browser(&self) -> Browser {
        Browser::new(&[(ORIGIN, self.postern.gateway)])
    }

    async fn begin(&self, browser: &mut Browser) -> Begun {
        let sent = browser.visit(&at("/.postern/sign-in")).await;
        let to = Url::parse(sent.headers()["location"].to_str().unwrap()).unwrap();
        assert!(
            to.as_str().starts_with(&format!("{}/authorize?tenant=1&", self.issuer.url)),
            "{to}"
        );
        let said = |name: &str| to.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
        Begun { state: said("state"), nonce: said("nonce") }
    }

    async fn back(&self, browser: &mut Browser, begun: &Begun) -> Response {
        browser.visit(&at(&format!("/.postern/callback?code=c&state={}", begun.state))).await
    }

    fn access(&self, more: &Value) -> Value {
        let mut claims = self.issuer.claims("ana");
        claims["roles"] = json!(["viewers"]);
        merged(claims, more)
    }

    fn id(&self, begun: &Begun, more: &Value) -> Value {
        let claims = json!({
            "iss": self.issuer.url, "sub": "ana", "aud": "web", "iat": now(), "exp": now() + 60,
            "nonce": begun.nonce,
        });
        merged(claims, more)
    }

    /// A good answer, but for what is changed in its tokens and in itself.
    fn answer(&self, begun: &Begun, access: &Value, id: &Value, more: &Value) -> Value {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.key.id});
        let answer = json!({
            "token_type": "bearer", "access_token": self.key.token(&self.access(access)),
            "id_token": self.key.sign(&header, &self.id(begun, id)),
        });
        merged(answer, more)
    }
}

fn merged(mut value: Value, more: &Value) -> Value {
    for (name, member) in more.as_object().unwrap() {
        if member.is_null() {
            value.as_object_mut().unwrap().remove(name);
        } else {
            value[name] = member.clone();
        }
    }
    value
}

#[tokio::test]
async fn j_what_an_issuer_says_of_a_sign_in_has_to_hold() {
    let foreign = Foreign::set().await;
    let none = json!({});
    let stranger = Key::new("one");
    let claims = foreign.access(&none);
    let forged = stranger.token(&claims);
    for (what, access, id, more, expected) in [
        ("all is well", none.clone(), none.clone(), none.clone(), 303),
        (
            "several audiences",
            none.clone(),
            json!({"aud": ["x", "web"], "azp": "web"}),
            none.clone(),
            303,
        ),
        ("another nonce", none.clone(), json!({"nonce": "x".repeat(43)}), none.clone(), 502),
        ("no nonce", none.clone(), json!({"nonce": null}), none.clone(), 502),
        ("another client", none.clone(), json!({"aud": "other"}), none.clone(), 502),
        ("several, and another", none.clone(), json!({"aud": ["web", "x"]}), none.clone(), 502),
        ("another issuer", none.clone(), json!({"iss": "https://evil.example"}), none.clone(), 502),
        ("an old one", none.clone(), json!({"exp": now() - 60}), none.clone(), 502),
        ("no ID token", none.clone(), none.clone(), json!({"id_token": null}), 502),
        ("an ID token of nobody", none.clone(), none.clone(), json!({"id_token": forged}), 502),
        ("another type", none.clone(), none.clone(), json!({"token_type": "DPoP"}), 502),
        ("no access token", none.clone(), none.clone(), json!({"access_token": null}), 502),
        ("a forged one", none.clone(), none.clone(), json!({"access_token": forged}), 502),
        ("one for others", json!({"aud": "others"}), none.clone(), none.clone(), 502),
        ("one that is over", json!({"exp": now() - 60}), none.clone(), none.clone(), 502),
        ("two cookies of it", json!({"pad": "x".repeat(2500)}), none.clone(), none.clone(), 303),
        ("more than two", json!({"pad": "x".repeat(5000)}), none.clone(), none.clone(), 500),
    ] {
        let mut browser = foreign.browser();
        let begun = foreign.begin(&mut browser).await;
        let answer = foreign.answer(&begun, &access, &id, &more);
        foreign.issuer.answers(TOKEN, Reply::Json(answer));
        let back = foreign.back(&mut browser, &begun).await;
        assert_eq!(back.status(), expected, "{what}: {}", foreign.postern.log.text());
        let passed = browser.send(Method::GET, &at(PATH), &[], None).await;
        assert_eq!(passed.status(), if expected == 303 { 200 } else { 401 }, "{what}");
        if expected == 303 {
            let seen: Value = passed.json().await.unwrap();
            assert_eq!(seen["headers"]["x-postern-subject"][0], "sso:ana");
            assert!(seen["headers"].get("cookie").is_none(), "{seen}");
        }
    }
    for (reply, expected) in [
        (Reply::Status(400), 403),
        (Reply::Status(500), 502),
        (Reply::Redirect("/x".to_owned()), 502),
    ] {
        let mut browser = foreign.browser();
        let begun = foreign.begin(&mut browser).await;
        foreign.issuer.answers(TOKEN, reply.clone());
        let back = foreign.back(&mut browser, &begun).await;
        assert_eq!(back.status(), expected, "{reply:?}");
    }
    let asked = foreign.issuer.asked(TOKEN);
    // RFC 6749, section 2.3.1: both halves are form-encoded before they are put together.
    assert!(asked.iter().all(|q| q.authorization.as_deref() == Some("Basic d2ViOnglMjB5")));
    assert!(asked[0].body.contains("grant_type=authorization_code&code=c&"), "{:?}", asked[0]);
    assert!(asked[0].body.contains("code_verifier="), "{:?}", asked[0]);
}

#[tokio::test]
async fn a_session_is_renewed_once_however_many_ask() {
    let foreign = Foreign::set().await;
    let none = json!({});
    let signed_in = async || {
        let mut browser = foreign.browser();
        let begun = foreign.begin(&mut browser).await;
        let refresh = format!("r-{}", uuid::Uuid::new_v4());
        // Over, but for what clocks may disagree by.
        let answer = foreign.answer(
            &begun,
            &json!({"exp": now() - 1}),
            &none,
            &json!({"refresh_token": refresh}),
        );
        foreign.issuer.answers(TOKEN, Reply::Json(answer));
        assert_eq!(foreign.back(&mut browser, &begun).await.status(), 303);
        let asked = foreign.issuer.asked(TOKEN).len();
        let next = json!({
            "token_type": "Bearer", "access_token": foreign.key.token(&foreign.access(&none)),
            "refresh_token": format!("{refresh}-2"),
        });
        foreign.issuer.answers(TOKEN, Reply::Json(next));
        (browser, refresh, asked)
    };
    let (browser, refresh, before) = signed_in().await;
    let all = (0..20).map(|_| {
        let mut browser = browser.clone();
        async move {
            let passed = browser.send(Method::GET, &at(PATH), &[], None).await;
            (passed.status().as_u16(), browser)
        }
    });
    let all = join_all(all).await;
    assert!(all.iter().all(|(status, _)| *status == 200));
    let asked = foreign.issuer.asked(TOKEN);
    assert_eq!(asked.len(), before + 1, "one refresh token, one question");
    assert!(
        asked[before].body.contains(&format!("refresh_token={refresh}")),
        "{:?}",
        asked[before]
    );
    for (_, renewed) in all {
        let old = browser.cookie(ORIGIN, SESSION);
        assert_ne!(renewed.cookie(ORIGIN, SESSION), old, "each is handed the new one");
        let mut renewed = renewed;
        assert_eq!(renewed.send(Method::GET, &at(PATH), &[], None).await.status(), 200);
    }
    assert_eq!(foreign.issuer.asked(TOKEN).len(), before + 1);

    // A page asks by itself, and no other site's does.
    let (mut browser, _, before) = signed_in().await;
    let post = async |browser: &mut Browser, headers: &[(&str, &str)]| {
        let told = browser.send(Method::POST, &at("/.postern/refresh"), headers, None).await;
        (told.status().as_u16(), told.json::<Value>().await.unwrap())
    };
    for headers in [&[][..], &[("origin", "https://evil.example")]] {
        assert_eq!(post(&mut browser, headers).await.0, 403);
    }
    let own = [("origin", ORIGIN)];
    assert_eq!(post(&mut foreign.browser(), &own).await.1["code"], "PST-0026");
    assert_eq!(foreign.issuer.asked(TOKEN).len(), before);
    let (status, told) = post(&mut browser, &own).await;
    assert_eq!(status, 200, "{told}");
    assert!(told["expiresIn"].as_u64().unwrap() > 3500, "{told}");
    assert_eq!(post(&mut browser, &own).await.0, 200);
    assert_eq!(foreign.issuer.asked(TOKEN).len(), before + 1, "too early for another");

    // A page that somebody opens at a door comes by the sign-in, and is back without the issuer's page.
    let (mut browser, _, before) = signed_in().await;
    let sent = browser.visit(&at("/.postern/sign-in")).await;
    assert_eq!(sent.headers()["location"], format!("{ORIGIN}/"));
    assert_eq!(foreign.issuer.asked(TOKEN).len(), before + 1);

    // An issuer that says no ends the session; one that says nothing does not.
    for (reply, expected) in [(Reply::Status(500), 200), (Reply::Status(400), 401)] {
        let (mut browser, ..) = signed_in().await;
        foreign.issuer.answers(TOKEN, reply.clone());
        let (status, told) = post(&mut browser, &own).await;
        assert_eq!(status, expected, "{reply:?}: {told}");
        assert_eq!(browser.cookie(ORIGIN, SESSION).is_some(), expected == 200, "{reply:?}");
    }
    // An issuer without a log-out of its own.
    let (mut browser, ..) = signed_in().await;
    let out = browser.visit(&at("/.postern/sign-out")).await;
    assert_eq!(out.status(), 200);
    assert!(out.text().await.unwrap().contains("signed out"));
    assert_eq!(browser.cookies(ORIGIN), "");
}

#[test]
fn a_sign_in_that_cannot_work_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let product = |name: &str, more: &str| {
        format!(
            "[[product]]\nname = '{name}'\nhosts = ['{name}']\n[product.sign_in]\nclient_id = 'a'\n{more}\n"
        )
    };
    let origins = "origins = ['https://a.example']\n";
    let keys = format!("[proxy.sign_in]\nkeys = ['{}']\n", key());
    for (config, told) in [
        (product("midaz", origins), "it names no key; make one by `openssl rand -hex 32`"),
        (
            format!("[proxy.sign_in]\nkeys = ['0f']\n{}", product("midaz", origins)),
            "64 hexadecimal digits",
        ),
        (
            format!("[proxy.sign_in]\nkeys_file = '/nowhere'\n{}", product("midaz", origins)),
            "`keys_file` (/nowhere)",
        ),
        (format!("{keys}{}", product("midaz", "")), "missing field `origins`"),
        (format!("{keys}{}", product("midaz", "origins = []")), "`origins` names nothing"),
        (format!("{keys}{}", product("midaz", "origins = ['http://a.example']")), "use https"),
        (
            format!("{keys}{}{}", product("midaz", origins), product("tracer", origins)),
            "`sign_in.origins` has `https://a.example`, as that of `midaz` has",
        ),
        (
            format!("{keys}{}", product("midaz", &format!("{origins}issuer = 'sso'"))),
            "no `[[issuer]]` is called so",
        ),
        (
            format!(
                "{keys}{}",
                product(
                    "midaz",
                    &format!("{origins}client_secret = 'a'\nclient_secret_file = 'b'")
                )
            ),
            "are both set; keep one",
        ),
        (
            format!("{keys}{}", product("midaz", &format!("{origins}session_secs = 1"))),
            "300 to 2592000",
        ),
    ] {
        let said = refused(folder.path(), &config, &policies(), &[]);
        assert!(said.contains(told), "{said}");
    }
}
