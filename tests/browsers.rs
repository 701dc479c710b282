//! People with browsers: sent to sign in at the gateway and at real servers' doors, and back.

mod chromium; // a real one
mod foreign; // another issuer
mod fronts; // real servers in front, and every door

use std::net::SocketAddr;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::harness::{
    PATIENCE, Postern, Setup,
    browser::{Browser, ISSUER, PERSON, Page},
    raw, status, text,
    upstream::Upstream,
};

const ORIGIN: &str = "https://ledger.example";
const PATH: &str = "/v1/organizations";
const SESSION: &str = "__Host-postern-session";
/// An application that people sign in through, whose secret is the installation's first.
const CALLBACK: &str = "https://ledger.example/.postern/callback";

fn key() -> String {
    uuid::Uuid::new_v4().simple().to_string().repeat(2)
}

/// An installation in which people sign in to Midaz.
struct Scene {
    upstream: Upstream,
    postern: Postern,
    admin: String,
    app: Value,
    keys: tempfile::NamedTempFile,
}

impl Scene {
    /// With the gateway as what browsers reach, unless `front` says otherwise.
    async fn set() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        let upstream = Upstream::start().await;
        // The application has to be there before the proxy that names it: its id and secret are made
        // by a first start, and named by a second.
        let first = Postern::with("").await;
        let admin = first.admin().await;
        let body = json!({
            "name": "Ledger", "description": "people", "redirectUris": [CALLBACK],
            "grantTypes": ["authorization_code", "refresh_token"],
        });
        let app = first.manage(&admin, Method::POST, "/v1/applications", Some(body), 201).await;
        let (data, password) = (first.data.clone(), first.password.clone());
        let client_secret = first.client_secret.clone();
        drop(first);
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), key()).unwrap();
        let config = format!(
            "[proxy]\ntrusted_proxies = ['127.0.0.1']\nsign_in.keys_file = '{}'\n\
             [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n{more}\n\
             [product.sign_in]\norigins = ['{ORIGIN}', 'https://other.example']\nclient_id = '{}'\n\
             client_secret = '{}'\nscopes = ['openid', 'profile']\n\
             [[product]]\nname = 'tracer'\nhosts = ['tracer.example']\nupstream = 'http://{}'\n\
             [product.sign_in]\norigins = ['https://tracer.example']\nclient_id = 'another'\n",
            keys.path().display(),
            upstream.address,
            text(&app, "clientId"),
            text(&app, "clientSecret"),
            upstream.address,
        );
        let setup = Setup {
            config,
            data: Some(data),
            password: Some(password),
            client_secret: Some(client_secret),
            ..Setup::default()
        };
        let postern = Postern::set_up(setup).await;
        let admin = postern.admin().await;
        Self { upstream, postern, admin, app, keys }
    }

    fn browser(&self, at: SocketAddr) -> Browser {
        Browser::new(&[(ORIGIN, at), (ISSUER, self.postern.doors)])
    }

    /// Somebody who has just signed in, at the product behind that server.
    async fn signed_in(&self, at: SocketAddr, name: &str, password: &str) -> (Browser, Page) {
        let mut browser = self.browser(at);
        let page = browser.open(&format!("{ORIGIN}{PATH}")).await;
        let page = browser.sign_in(&page, name, password).await;
        (browser, page)
    }
}

fn at(path: &str) -> Url {
    Url::parse(&format!("{ORIGIN}{path}")).unwrap()
}

/// The headers that the product saw under a name.
fn seen_as<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let values = seen["headers"][name].as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().map(|value| value.as_str().unwrap()).collect()
}

/// From the first click to the end of the session, whatever server is in front.
async fn somebody_signs_in_comes_back_and_is_somebody_until_they_are_not(
    scene: &Scene,
    front: SocketAddr,
) {
    let Scene { postern, admin, upstream, .. } = scene;
    let viewer = postern.person(admin, "vera", &["midaz-viewer-group"]).await;
    let mut browser = scene.browser(front);
    browser.keep(ORIGIN, "theme", "dark");

    // A program is told, and sent nowhere.
    for headers in [
        &[][..],
        &[("accept", "application/json")],
        &[PERSON[0], ("sec-fetch-mode", "cors")],
        &[PERSON[0], ("x-requested-with", "XMLHttpRequest")],
        &[PERSON[0], ("authorization", "Bearer a.b.c")],
    ] {
        let response = browser.send(Method::GET, &at(PATH), headers, None).await;
        assert_eq!(response.status(), 401, "{headers:?}");
        assert!(!response.headers().contains_key("location"), "{headers:?}");
        let body: Value = response.json().await.unwrap();
        assert!(body["title"].is_string(), "{body}");
    }
    let posted = browser.send(Method::POST, &at(PATH), &PERSON, Some("a=b".to_owned())).await;
    assert_eq!(posted.status(), 401);

    let wanted = format!("{ORIGIN}{PATH}?limit=1&sort=%2F%2Fevil.example");
    let page = browser.open(&wanted).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.url.as_str().starts_with(&format!("{ISSUER}/oauth2/authorize?")), "{page:?}");
    assert_eq!(upstream.seen(), 0);
    let page = browser.sign_in(&page, "vera", &viewer.password).await;
    assert_eq!((page.status, page.url.as_str()), (200, &*wanted), "{page:?}");
    let seen: Value = serde_json::from_str(&page.html).unwrap();
    assert_eq!(seen["target"], format!("{PATH}?limit=1&sort=%2F%2Fevil.example"));
    assert_eq!(seen_as(&seen, "x-postern-subject"), [viewer.id.as_str()]);
    assert_eq!(seen_as(&seen, "cookie"), ["theme=dark"], "the session is no product's business");
    assert!(browser.jar.keys().all(|(_, name)| !name.contains("sign-in")), "{:?}", browser.jar);

    // What the product's own pages ask. Somebody who may not is told so, and not sent round and round.
    let own = ("origin", ORIGIN);
    let denied = browser.send(Method::POST, &at(PATH), &[own], Some("a=b".to_owned())).await;
    assert_eq!(denied.status(), 403);
    let page = browser.open(&format!("{ORIGIN}/v1/nothing")).await;
    assert_eq!((page.status, page.way.len()), (403, 1), "{page:?}");
    drop(browser);

    let (mut browser, page) = scene.signed_in(front, "admin", &postern.password).await;
    assert_eq!(page.status, 200);
    let before = upstream.seen();
    for (headers, expected) in [
        (&[own][..], 200),
        (&[own, ("sec-fetch-site", "same-origin")], 200),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[own, ("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[], 403),
    ] {
        let posted = browser.send(Method::POST, &at(PATH), headers, Some("a=b".to_owned())).await;
        assert_eq!(posted.status(), expected, "{headers:?}");
        if expected == 403 {
            let id = posted.headers()["x-postern-decision-id"].to_str().unwrap();
            assert!(postern.logged(id).await.contains("cross-site"));
        }
    }
    assert_eq!(upstream.seen(), before + 2);
    // A link from anywhere is a link.
    let from = [PERSON[0], ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(browser.send(Method::GET, &at(PATH), &from, None).await.status(), 200);

    // Signed out at identity: at once, and with whatever the cookie still holds.
    let me = postern.request(Method::GET, postern.doors, "/v1/userinfo").bearer_auth(admin);
    let me: Value = me.send().await.unwrap().json().await.unwrap();
    let path = format!("/v1/users/{}/sessions", text(&me, "sub"));
    postern.manage(admin, Method::DELETE, &path, None, 204).await;
    assert!(browser.cookie(ORIGIN, SESSION).is_some());
    let told = browser.send(Method::GET, &at(PATH), &[], None).await;
    assert_eq!(told.status(), 401);
    let page = browser.open(&format!("{ORIGIN}{PATH}")).await;
    assert!(page.url.as_str().starts_with(&format!("{ISSUER}/oauth2/authorize?")), "{page:?}");
    let page = browser.sign_in(&page, "admin", &postern.password).await;
    assert_eq!((page.status, page.url.as_str()), (200, &*format!("{ORIGIN}{PATH}")));

    // Signed out here: the session is gone, in this browser and for whoever kept a copy of it.
    let copy = browser.clone();
    let cross = [PERSON[0], ("sec-fetch-site", "cross-site")];
    let out = browser.send(Method::GET, &at("/.postern/sign-out"), &cross, None).await;
    assert_eq!(out.status(), 403);
    let page = browser.open(&format!("{ORIGIN}/.postern/sign-out")).await;
    assert!(page.url.as_str().starts_with(&format!("{ISSUER}/oauth2/logout?")), "{page:?}");
    assert_eq!(browser.cookies(ORIGIN), "");
    for mut browser in [browser, copy] {
        assert_eq!(browser.send(Method::GET, &at(PATH), &[], None).await.status(), 401);
    }
    let log = postern.log.text();
    assert!(!log.contains("panicked"), "{log}");
    let secret = text(&scene.app, "clientSecret");
    assert!(!log.contains(&secret) && !log.contains("code="), "a secret is in the log");
}

#[tokio::test]
async fn at_the_gateway() {
    let scene = Scene::set().await;
    let front = scene.postern.gateway;
    somebody_signs_in_comes_back_and_is_somebody_until_they_are_not(&scene, front).await;
}

/// The sign-in that a browser has begun: the state, and the cookie that goes with it.
async fn begun(browser: &mut Browser, query: &str) -> (String, String) {
    let response = browser.visit(&at(&format!("/.postern/sign-in{query}"))).await;
    assert_eq!(response.status(), 303);
    let to = Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
    let said: std::collections::HashMap<_, _> = to.query_pairs().into_owned().collect();
    assert_eq!(said["redirect_uri"], CALLBACK);
    assert_eq!((said["code_challenge"].len(), said["nonce"].len()), (43, 43));
    let state = said["state"].clone();
    (format!("__Host-postern-sign-in-{}", &state[..8]), state)
}

#[tokio::test]
async fn w_a_sign_in_leads_to_the_product_and_nowhere_else() {
    let scene = Scene::set().await;
    let gateway = scene.postern.gateway;
    let (mut browser, _) = scene.signed_in(gateway, "admin", &scene.postern.password.clone()).await;
    browser.jar.retain(|(origin, _), _| origin == ISSUER);

    // What an address says of where to go is not believed, in any spelling.
    for to in [
        "",
        "?to=//evil.example",
        "?to=/%5Cevil.example",
        "?to=https:evil.example",
        "?to=https://evil.example/",
        "?to=%2F%2Fevil.example",
        "?to=%252F%252Fevil.example",
        "?to=/v1/organizations",
        "?rd=https://evil.example&to=x",
    ] {
        let page = browser.open(&format!("{ORIGIN}/.postern/sign-in{to}")).await;
        assert_eq!(page.url.as_str(), format!("{ORIGIN}/"), "{to}: {page:?}");
        assert!(browser.cookie(ORIGIN, SESSION).is_some());
        browser.jar.retain(|(origin, _), _| origin == ISSUER);
    }
    // A path that leads elsewhere in some reader is refused before anybody is sent to sign in.
    for path in ["//evil.example", "/\\evil.example", "/%5Cevil.example", "/.//evil.example"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: ledger.example\r\naccept: text/html\r\n\
             connection: close\r\n\r\n"
        );
        let answer = raw(gateway, request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{answer}");
    }
    // Another place's wish does not count here.
    let mut there = Browser::new(&[("https://other.example", gateway)]);
    let away = Url::parse(&format!("https://other.example{PATH}")).unwrap();
    let away = there.visit(&away).await;
    let away = away.headers()["location"].to_str().unwrap().to_owned();
    assert!(away.starts_with("https://other.example/.postern/sign-in?to="), "{away}");
    let (_, sealed) = away.split_once('?').unwrap();
    let page = browser.open(&format!("{ORIGIN}/.postern/sign-in?{sealed}")).await;
    assert_eq!(page.url.as_str(), format!("{ORIGIN}/"), "{page:?}");
}

#[tokio::test]
async fn w_a_sign_in_is_finished_once_by_whoever_began_it() {
    let scene = Scene::set().await;
    let gateway = scene.postern.gateway;
    let (mut browser, _) = scene.signed_in(gateway, "admin", &scene.postern.password.clone()).await;
    browser.jar.retain(|(origin, _), _| origin == ISSUER);

    // To the code, and no further.
    let coded = async |browser: &mut Browser| {
        let (cookie, state) = begun(browser, "").await;
        let kept = browser.cookie(ORIGIN, &cookie).unwrap().to_owned();
        let mut url = at("/.postern/sign-in");
        let mut way = Vec::new();
        while url.path() != "/.postern/callback" {
            let response = browser.visit(&url).await;
            url = url.join(response.headers()["location"].to_str().unwrap()).unwrap();
            way.push(url.clone());
        }
        // The last of two that began is the one that came back.
        let said: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_ne!(said["state"], state);
        ((cookie, state, kept), url)
    };
    let ((earlier, earlier_state, _), back) = coded(&mut browser).await;
    let said: std::collections::HashMap<_, _> = back.query_pairs().into_owned().collect();
    let name = format!("__Host-postern-sign-in-{}", &said["state"][..8]);
    let cookie = browser.cookie(ORIGIN, &name).unwrap().to_owned();
    let with = |pairs: &[(&str, &str)]| {
        let mut url = at("/.postern/callback");
        url.query_pairs_mut().extend_pairs(pairs);
        url
    };
    let (code, state) = (said["code"].as_str(), said["state"].as_str());
    // Nobody else finishes it: no cookie, one of another sign-in, one that was changed.
    let mut stranger = scene.browser(gateway);
    assert_eq!(stranger.visit(&back).await.status(), 400);
    begun(&mut stranger, "").await;
    assert_eq!(stranger.visit(&back).await.status(), 400, "with a cookie of their own");
    let other = browser.cookie(ORIGIN, &earlier).unwrap().to_owned();
    stranger.keep(ORIGIN, &name, &other);
    assert_eq!(stranger.visit(&back).await.status(), 400, "a cookie of another sign-in");
    let mut changed = cookie.clone();
    changed.replace_range(40..41, if &cookie[40..41] == "A" { "B" } else { "A" });
    stranger.keep(ORIGIN, &name, &changed);
    assert_eq!(stranger.visit(&back).await.status(), 400, "a cookie that was changed");
    // The session cookie of somebody is no sign-in that began, and the other way round.
    stranger.jar.clear();
    stranger.keep(ORIGIN, SESSION, &format!("1{cookie}"));
    assert_eq!(stranger.send(Method::GET, &at(PATH), &[], None).await.status(), 401);
    for (url, what) in [
        (with(&[("code", code)]), "no state"),
        (with(&[("code", code), ("state", state), ("state", state)]), "two states"),
        (with(&[("code", code), ("state", "x")]), "a short state"),
        (with(&[("code", code), ("state", &format!("{}x", &state[..42]))]), "half a state"),
        (with(&[("code", code), ("state", &"é".repeat(20))]), "a state that is no text of ours"),
    ] {
        assert_eq!(browser.clone().visit(&url).await.status(), 400, "{what}");
    }
    // Another issuer's answer, and one that stands twice; each uses up its sign-in.
    let (_, mixed) = coded(&mut browser).await;
    let mut lie = mixed.clone();
    lie.set_query(Some(&mixed.query().unwrap().replace("localhost", "evil")));
    assert_eq!(browser.clone().visit(&lie).await.status(), 502);
    assert_eq!(browser.clone().visit(&mixed).await.status(), 400, "it was tried");
    // A code of another sign-in of the same browser: its verifier is another.
    let wrong = with(&[("code", code), ("state", &earlier_state), ("iss", ISSUER)]);
    assert_eq!(browser.clone().visit(&wrong).await.status(), 403);

    // The code was used up by that try, as codes are; another one is finished once.
    let (_, back) = coded(&mut browser).await;
    let stolen = browser.clone();
    let done = browser.visit(&back).await;
    assert_eq!(done.status(), 303);
    assert_eq!(done.headers()["location"], format!("{ORIGIN}/"));
    assert_eq!(browser.send(Method::GET, &at(PATH), &[], None).await.status(), 200);
    for mut thief in [stolen, browser.clone()] {
        assert_eq!(thief.visit(&back).await.status(), 400, "a replay");
    }
    assert_eq!(browser.send(Method::GET, &at(PATH), &[], None).await.status(), 200);

    // An issuer that refuses ends it with a page, and no way round again.
    browser.jar.remove(&(ORIGIN.to_owned(), SESSION.to_owned()));
    let (_, state) = begun(&mut browser, "").await;
    let refused = with(&[("error", "access_denied<script>"), ("state", &state)]);
    let page = browser.open(refused.as_str()).await;
    assert_eq!((page.status, page.way.len()), (403, 1));
    assert!(page.html.contains("PST-0022") && !page.html.contains("script"), "{}", page.html);
}

#[tokio::test]
async fn w_a_session_is_of_one_place_unchanged_and_of_a_key_that_counts() {
    let scene = Scene::set().await;
    let gateway = scene.postern.gateway;
    let (browser, page) = scene.signed_in(gateway, "admin", &scene.postern.password).await;
    assert_eq!(page.status, 200);
    let session = browser.cookie(ORIGIN, SESSION).unwrap().to_owned();
    let ask = async |origin: &str, path: &str, session: &str| {
        let mut browser = Browser::new(&[(origin, gateway)]);
        browser.keep(origin, SESSION, session);
        let url = Url::parse(&format!("{origin}{path}")).unwrap();
        browser.send(Method::GET, &url, &[], None).await.status().as_u16()
    };
    assert_eq!(ask(ORIGIN, PATH, &session).await, 200);
    // Another origin of the product, another product, one that nobody signs in at.
    assert_eq!(ask("https://other.example", PATH, &session).await, 401);
    assert_eq!(ask("https://tracer.example", "/v1/rules", &session).await, 401);
    assert_eq!(ask("https://else.example", PATH, &session).await, 401);
    for n in [0, 1, 20, session.len() / 2, session.len() - 1] {
        let mut changed = session.clone();
        changed.replace_range(n..=n, if &session[n..=n] == "A" { "B" } else { "A" });
        assert_eq!(ask(ORIGIN, PATH, &changed).await, 401, "{n}");
        assert_eq!(ask(ORIGIN, PATH, &session[..n]).await, 401, "{n}");
    }
    // What it holds opens nothing by itself.
    let bare = scene.postern.get(PATH).bearer_auth(&session[1..]);
    assert_eq!(bare.send().await.unwrap().status(), 401);

    // A new key seals, and the old one goes on until it is taken away.
    let (old, new) = (std::fs::read_to_string(scene.keys.path()).unwrap(), key());
    std::fs::write(scene.keys.path(), format!("{new}\n{old}\n")).unwrap();
    scene.postern.logged("the keys of sessions are read again").await;
    assert_eq!(ask(ORIGIN, PATH, &session).await, 200);
    let (newer, _) = scene.signed_in(gateway, "admin", &scene.postern.password).await;
    let newer = newer.cookie(ORIGIN, SESSION).unwrap().to_owned();
    std::fs::write(scene.keys.path(), "no key").unwrap();
    scene.postern.logged("those before stay").await;
    assert_eq!(ask(ORIGIN, PATH, &session).await, 200);
    std::fs::write(scene.keys.path(), format!("{new}\n")).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while ask(ORIGIN, PATH, &session).await != 401 {
        assert!(std::time::Instant::now() < deadline, "the old key still opens");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(ask(ORIGIN, PATH, &newer).await, 200);
}
