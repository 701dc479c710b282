//! The page on which people look after their own passkeys, and everybody who would like to be at it in
//! their place.

use std::sync::Arc;

use serde_json::json;

use super::{
    code::{BACK, Browser, Page, page, request, sent, web},
    factors,
    harness::{Answer, PASSWORD, Service},
    oauth::App,
    passkeys::{Authenticator, alone, asking, options},
};

const AT: &str = "/oauth2/passkeys";
const ANA: (&str, &str) = ("ana", PASSWORD);
const BEA: (&str, &str) = ("bea", PASSWORD);

async fn start() -> (Service, App, String) {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &["demo-viewer-group"]).await;
    (service, app, admin)
}

/// A browser in which somebody has just signed in by a password.
async fn signed_in(service: &Service, app: &App, who: (&str, &str)) -> Browser {
    let browser = Browser::default();
    let shown = page(browser.get(service, &request(app, &[])).await, 200);
    sent(&browser.sign_in(service, &shown, who).await, BACK);
    browser
}

async fn shown(browser: &Browser, service: &Service) -> Page {
    page(browser.get(service, AT).await, 200)
}

/// Send what an authenticator has made of what the page asks for.
async fn add(
    browser: &Browser,
    service: &Service,
    (at, name): (&Page, &str),
    key: &mut Authenticator,
) -> Answer {
    let form = asking(at);
    let made = key.make(&options(&form)).to_string();
    let (csrf, state) = (form.field("csrf"), form.field("state"));
    let fields =
        [("csrf", csrf.as_str()), ("state", &state), ("credential", &made), ("name", name)];
    browser.send(service, AT, &fields).await
}

/// Do something with a passkey that is there.
async fn change(
    browser: &Browser,
    service: &Service,
    at: &Page,
    (deed, one, name): (&str, &str, &str),
) -> Answer {
    let csrf = at.field("csrf");
    let fields = [("csrf", csrf.as_str()), ("passkey", one), ("deed", deed), ("name", name)];
    browser.send(service, AT, &fields).await
}

#[tokio::test]
async fn somebody_who_needs_no_factor_adds_names_and_removes_passkeys() {
    let (service, app, admin) = start().await;
    let browser = signed_in(&service, &app, ANA).await;
    let first = shown(&browser, &service).await;
    assert!(first.html.contains("You have none yet"), "{}", first.html);
    let mut key = Authenticator::new();
    let made = page(add(&browser, &service, (&first, "Key <1>"), &mut key).await, 200);
    assert_eq!(made.html.matches("<li><code>").count(), 10, "{}", made.html);
    assert!(made.html.contains("Key &#60;1&#62;"), "{}", made.html);
    // It is a factor now, which the next change asks for.
    assert!(made.html.contains("sign in again with your passkey"), "{}", made.html);
    let again = page(browser.get(&service, AT).await, 403);
    assert!(again.html.contains("Sign in first"), "{}", again.html);

    let (browser, done) = alone(&service, &app, &mut key).await;
    sent(&done, BACK);
    let list = shown(&browser, &service).await;
    assert!(list.html.contains("last used on 2027-01-15"), "{}", list.html);
    let mut other = Authenticator::new();
    sent(&add(&browser, &service, (&list, ""), &mut other).await, AT);
    sent(&alone(&service, &app, &mut other).await.1, BACK);
    let list = shown(&browser, &service).await;
    assert_eq!(list.html.matches("<summary>").count(), 2, "{}", list.html);
    // What is there already is made by no authenticator, and taken from none.
    page(add(&browser, &service, (&list, ""), &mut other).await, 403);

    let one = list.field("passkey");
    let named = change(&browser, &service, &list, ("rename", &one, " Telephone ")).await;
    sent(&named, AT);
    assert!(shown(&browser, &service).await.html.contains("<summary>Telephone</summary>"));
    for none in ["", "  ", "a\nb", &"x".repeat(300)] {
        page(change(&browser, &service, &list, ("rename", &one, none)).await, 403);
    }
    sent(&change(&browser, &service, &list, ("remove", &one, "")).await, AT);
    page(change(&browser, &service, &list, ("remove", &one, "")).await, 403);
    let list = shown(&browser, &service).await;
    let last = list.field("passkey");
    let (gone, kept) = if one == last { panic!("it is there still") } else { (one, last) };
    page(change(&browser, &service, &list, ("rename", &gone, "x")).await, 403);
    // The last one stays where one is asked for.
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    let stays = page(change(&browser, &service, &list, ("remove", &kept, "")).await, 403);
    assert!(stays.html.contains("it stays"), "{}", stays.html);
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    sent(&change(&browser, &service, &list, ("remove", &kept, "")).await, AT);
    assert!(shown(&browser, &service).await.html.contains("You have none yet"));
    signed_in(&service, &app, ANA).await;
    let log = service.get("/v1/audit?limit=50", &admin).await.expect(200).to_string();
    assert_eq!(log.matches("\"second-factor.enabled\"").count(), 2, "{log}");
    assert_eq!(log.matches("\"second-factor.disabled\"").count(), 2, "{log}");
}

#[tokio::test]
async fn nobody_else_changes_them_and_nobody_whose_sign_in_is_not_enough() {
    let (service, app, admin) = start().await;
    service.person(&admin, "bea", &[]).await;
    page(Browser::default().get(&service, AT).await, 403);
    let (ana, bea) = (signed_in(&service, &app, ANA).await, signed_in(&service, &app, BEA).await);
    let (hers, theirs) = (shown(&ana, &service).await, shown(&bea, &service).await);
    let mut key = Authenticator::new();
    // The form of another browser, of another page, from another site, and with something twice.
    page(add(&bea, &service, (&hers, ""), &mut key).await, 400);
    let made = key.make(&options(&asking(&hers))).to_string();
    let (csrf, state) = (hers.field("csrf"), hers.field("state"));
    let of_another_page = page(ana.get(&service, "/oauth2/identities").await, 200);
    assert!(of_another_page.html.contains("href=\"/oauth2/passkeys\""));
    let cookies = ana.cookies();
    let fields = [("csrf", csrf.as_str()), ("state", &state), ("credential", &made)];
    for site in ["cross-site", "same-site", "none"] {
        let headers = [("cookie", cookies.as_str()), ("sec-fetch-site", site)];
        page(service.form(AT, &headers, &fields).await, 400);
    }
    let twice = [fields[0], fields[1], fields[2], fields[2]];
    page(ana.send(&service, AT, &twice).await, 400);
    page(ana.send(&service, AT, &fields[1..]).await, 400);
    page(ana.send(&service, AT, &fields[..1]).await, 400);
    let neither = [fields[0], ("passkey", "x"), ("deed", "steal")];
    page(ana.send(&service, AT, &neither).await, 400);
    // What was made for bea, at another origin, or is nothing.
    let (own, csrf_of_bea) = (asking(&theirs), theirs.field("csrf"));
    let mixed = [("csrf", csrf_of_bea.as_str()), ("state", &state), ("credential", &made)];
    page(bea.send(&service, AT, &mixed).await, 403);
    let mut evil = Authenticator::new();
    evil.origin = "https://evil.example";
    page(add(&bea, &service, (&theirs, ""), &mut evil).await, 403);
    let state_of_bea = own.field("state");
    for nonsense in ["x", "{}", "[]", &"x".repeat(20_000)] {
        let fields =
            [("csrf", csrf_of_bea.as_str()), ("state", &state_of_bea), ("credential", nonsense)];
        page(bea.send(&service, AT, &fields).await, 403);
    }
    // Once it is good.
    page(ana.send(&service, AT, &fields).await, 200);
    page(ana.send(&service, AT, &fields).await, 403);
    let (strong, done) = alone(&service, &app, &mut key).await;
    sent(&done, BACK);
    let list = shown(&strong, &service).await;
    let one = list.field("passkey");
    // Bea knows its name, which is nothing to her.
    for deed in ["rename", "remove"] {
        page(change(&bea, &service, &theirs, (deed, &one, "Mine")).await, 403);
    }
    // By a password alone, nor by a device that stands in for the factor, nothing is changed.
    page(change(&ana, &service, &hers, ("remove", &one, "")).await, 403);
    let kept = shown(&strong, &service).await;
    assert!(kept.html.contains("<summary>Passkey</summary>"), "{}", kept.html);
    // A while ago is not just now.
    service.clock.advance(600);
    shown(&strong, &service).await;
    service.clock.advance(1);
    page(strong.get(&service, AT).await, 403);
    page(change(&strong, &service, &list, ("remove", &one, "")).await, 403);
    page(add(&bea, &service, (&theirs, ""), &mut Authenticator::new()).await, 403);
    // Nor is it somebody who was signed out, or disabled, while the page was open.
    let (strong, done) = alone(&service, &app, &mut key).await;
    sent(&done, BACK);
    let list = shown(&strong, &service).await;
    let admin = service.admin().await;
    let all = service.get("/v1/users", &admin).await.expect(200);
    let ana = all.as_array().unwrap().iter().find(|user| user["username"] == "ana").unwrap();
    let path = format!("/v1/users/{}", ana["id"].as_str().unwrap());
    service.patch(&path, &admin, json!({"disabled": true})).await.expect(200);
    page(change(&strong, &service, &list, ("remove", &one, "")).await, 403);
    service.patch(&path, &admin, json!({"disabled": false})).await.expect(200);
    page(strong.get(&service, AT).await, 403);
    let count = "SELECT COUNT(*) FROM passkeys";
    assert_eq!(service.database().await.number(count).await, 1);
}

#[tokio::test]
async fn a_device_that_stands_in_for_the_factor_changes_no_passkeys() {
    let (service, app, admin) = start().await;
    let bea = factors::enrolled(&service, &admin, "bea", &[]).await;
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let second = page(browser.sign_in(&service, &first, BEA).await, 200);
    let (asked, csrf, challenge) =
        (second.field("request"), second.field("csrf"), second.field("challenge"));
    let code = bea.phone.next(&service);
    let fields = [
        ("request", asked.as_str()),
        ("csrf", &csrf),
        ("challenge", &challenge),
        ("kind", "app"),
        ("code", &code),
        ("remember", "yes"),
    ];
    sent(&browser.send(&service, "/oauth2/second-factor", &fields).await, BACK);
    // With the app's code there is enough.
    shown(&browser, &service).await;
    let again = page(browser.get(&service, &request(&app, &[("prompt", "login")])).await, 200);
    sent(&browser.sign_in(&service, &again, BEA).await, BACK);
    page(browser.get(&service, AT).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_send_one_passkey_at_once_one_is_kept() {
    let (service, app, _) = start().await;
    let browser = Arc::new(signed_in(&service, &app, ANA).await);
    let form = asking(&shown(&browser, &service).await);
    let made = Authenticator::new().make(&options(&form)).to_string();
    let (service, csrf, state) = (Arc::new(service), form.field("csrf"), form.field("state"));
    let sending: Vec<_> = (0..4)
        .map(|_| {
            let (service, browser) = (Arc::clone(&service), Arc::clone(&browser));
            let (csrf, state, made) = (csrf.clone(), state.clone(), made.clone());
            tokio::spawn(async move {
                let fields = [("csrf", csrf.as_str()), ("state", &state), ("credential", &made)];
                browser.send(&service, AT, &fields).await.status.as_u16()
            })
        })
        .collect();
    let mut done = Vec::new();
    for one in sending {
        done.push(one.await.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, [200, 403, 403, 403]);
}

#[tokio::test]
async fn where_there_are_no_passkeys_the_page_says_so() {
    let issuer = "http://127.0.0.1:4000".to_owned();
    let service = Service::start_with(identity::Config { issuer, ..Default::default() }).await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    let browser = signed_in(&service, &app, ANA).await;
    page(browser.get(&service, AT).await, 404);
    let ways = page(browser.get(&service, "/oauth2/identities").await, 200);
    assert!(!ways.html.contains("passkeys"), "{}", ways.html);
}
