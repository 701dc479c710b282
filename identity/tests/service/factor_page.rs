//! The second factor on the page on which somebody signs in: asked for, sent again, and set up.

use serde_json::json;

use super::{
    code::{BACK, Browser, Page, exchange, page, request, sent, web},
    factors::{Enrolled, Phone, challenged, enrolled, show as show_code, step},
    forgotten,
    harness::{Answer, PASSWORD, Service, claims},
    oauth::{App, TOKEN, text},
    providers::{code as code_in, enrol_sent},
};

const PERSON: (&str, &str) = ("ana", PASSWORD);

/// Fill in the second page.
async fn show(browser: &Browser, service: &Service, page: &Page, code: &str, keep: bool) -> Answer {
    let fields = ["request", "csrf", "challenge"].map(|name| (name, page.field(name)));
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("code", code));
    if keep {
        fields.push(("remember", "yes"));
    }
    browser.send(service, "/oauth2/second-factor", &fields).await
}

/// The second page.
async fn asked(browser: &Browser, service: &Service, at: &str) -> Page {
    let first = page(browser.get(service, at).await, 200);
    let second = page(browser.sign_in(service, &first, PERSON).await, 200);
    assert!(second.html.contains("one-time-code") && browser.cookie().is_none(), "{}", second.html);
    second
}

async fn start() -> (Service, App, Enrolled) {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &["demo-viewer-group"]).await;
    (service, app, ana)
}

/// `amr` and `acr` of the tokens that a code gives.
async fn told(service: &Service, app: &App, answer: &Answer) -> serde_json::Value {
    let code = sent(answer, BACK)["code"].clone();
    let tokens = app.ask(service, TOKEN, &exchange(&code)).await.expect(200);
    let (id, access) = (claims(text(&tokens, "id_token")), claims(text(&tokens, "access_token")));
    assert_eq!((&id["amr"], &id["acr"]), (&access["amr"], &access["acr"]));
    json!([id["amr"], id["acr"]])
}

#[tokio::test]
async fn a_person_shows_a_code_on_the_second_page_and_may_be_remembered() {
    let (service, app, ana) = start().await;
    let browser = Browser::default();
    let second = asked(&browser, &service, &request(&app, &[])).await;
    let wrong = page(show(&browser, &service, &second, "000000", false).await, 403);
    assert!(browser.cookie().is_none());
    let code = ana.phone.next(&service);
    let answer = show(&browser, &service, &wrong, &code, true).await;
    let strong = json!([["pwd", "otp", "mfa"], "aal2"]);
    assert_eq!(told(&service, &app, &answer).await, strong);
    // The next application asks for nothing, nor is it told less.
    let answer = browser.get(&service, &request(&app, &[("acr_values", "aal2")])).await;
    assert_eq!(told(&service, &app, &answer).await, strong);

    // The device is remembered, and what it stands in for is not said to have been shown.
    let first = page(browser.get(&service, &request(&app, &[("prompt", "login")])).await, 200);
    let answer = browser.sign_in(&service, &first, PERSON).await;
    assert_eq!(told(&service, &app, &answer).await, json!([["pwd"], "aal1"]));
    // An application that asks for two factors gets them.
    let at = request(&app, &[("acr_values", "aal2")]);
    let first = page(browser.get(&service, &at).await, 200);
    let second = page(browser.sign_in(&service, &first, PERSON).await, 200);
    let answer = show(&browser, &service, &second, &ana.recovery[2], false).await;
    assert_eq!(told(&service, &app, &answer).await, strong);
    let other = Browser::default();
    asked(&other, &service, &request(&app, &[])).await;
}

#[tokio::test]
async fn the_second_page_is_of_one_browser_one_request_and_few_tries() {
    let (service, app, ana) = start().await;
    let browser = Browser::default();
    let second = asked(&browser, &service, &request(&app, &[])).await;
    let code = ana.phone.next(&service);
    let stranger = Browser::default();
    page(show(&stranger, &service, &second, &code, false).await, 400);
    // A form of the first page is none of the second.
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let challenge = second.field("challenge");
    let (asked_for, csrf) = (first.field("request"), first.field("csrf"));
    let fields = [
        ("request", asked_for.as_str()),
        ("csrf", &csrf),
        ("challenge", &challenge),
        ("code", &code),
    ];
    page(browser.send(&service, "/oauth2/second-factor", &fields).await, 400);
    for _ in 0..5 {
        page(show(&browser, &service, &second, "000000", false).await, 403);
    }
    let over = page(show(&browser, &service, &second, &code, false).await, 403);
    assert!(over.html.contains("name=\"password\"") && browser.cookie().is_none(), "{}", over.html);
    let second = page(browser.sign_in(&service, &over, PERSON).await, 200);
    for _ in 0..5 {
        page(show(&browser, &service, &second, "x", false).await, 403);
    }
    let second = page(browser.sign_in(&service, &over, PERSON).await, 200);
    page(show(&browser, &service, &second, &code, false).await, 429);
    assert!(browser.cookie().is_none());
}

#[tokio::test]
async fn a_browser_that_signed_in_without_a_factor_is_asked_once_one_is_needed() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let answer = browser.sign_in(&service, &first, PERSON).await;
    assert_eq!(told(&service, &app, &answer).await, json!([["pwd"], "aal1"]));
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let led = page(browser.sign_in(&service, &first, PERSON).await, 200);
    assert!(led.html.contains("Set up a second factor"), "{}", led.html);
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    let token = service.sign_in("ana", PASSWORD).await;
    super::factors::enrol(&service, &id, token["accessToken"].as_str().unwrap()).await;
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    page(browser.sign_in(&service, &first, PERSON).await, 200);
}

/// Send what was typed on the pages that set a factor up.
async fn type_in(browser: &Browser, service: &Service, page: &Page, typed: (&str, &str)) -> Answer {
    let fields = ["request", "csrf", "challenge", "made"].map(|name| (name, page.field(name)));
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(typed);
    browser.send(service, "/oauth2/set-up", &fields).await
}

/// The texts in `<code>`.
fn codes(page: &Page) -> Vec<String> {
    let each = page.html.split("<code>").skip(1);
    each.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_must_have_a_factor_sets_one_up_on_the_way_to_the_application() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &["demo-viewer-group"]).await;
    service.person(&admin, "bea", &["demo-viewer-group"]).await;
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let scan = page(browser.sign_in(&service, &first, PERSON).await, 200);
    assert!(browser.cookie().is_none() && scan.html.contains("<svg"), "{}", scan.html);
    let phone = Phone::with(&codes(&scan)[0].replace(' ', ""));
    // The token of the page signs nobody in, nor does a code before the recovery codes are kept.
    let challenge = scan.field("challenge");
    let body = json!({"mfaToken": challenge, "mfaType": "app", "passcode": phone.code(&service)});
    step(&service, "verify", body).await.refused(401, "AUT-1003");
    let early = page(type_in(&browser, &service, &scan, ("recovery", "x")).await, 403);
    assert!(early.html.contains("<svg"), "{}", early.html);
    let wrong = page(type_in(&browser, &service, &scan, ("code", "000000")).await, 403);
    assert_eq!(codes(&wrong), codes(&scan), "what was scanned stays good");
    let code = phone.code(&service);
    page(type_in(&Browser::default(), &service, &wrong, ("code", &code)).await, 400);
    let keep = page(type_in(&browser, &service, &wrong, ("code", &code)).await, 200);
    let recovery = codes(&keep);
    assert_eq!(recovery.len(), 10);
    let none = page(type_in(&browser, &service, &keep, ("recovery", "abcdef")).await, 403);
    assert_eq!(codes(&none), recovery);
    assert!(browser.cookie().is_none());

    // Neither the page of one person nor what it carries sets anything up for another.
    let other = Browser::default();
    let first = page(other.get(&service, &request(&app, &[])).await, 200);
    let theirs = page(other.sign_in(&service, &first, ("bea", PASSWORD)).await, 200);
    let mixed = [
        ("request", theirs.field("request")),
        ("csrf", theirs.field("csrf")),
        ("challenge", theirs.field("challenge")),
        ("made", keep.field("made")),
        ("recovery", recovery[0].clone()),
    ];
    let mixed: Vec<_> = mixed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = page(other.send(&service, "/oauth2/set-up", &mixed).await, 403);
    assert!(refused.html.contains("name=\"password\""), "{}", refused.html);

    let answer = type_in(&browser, &service, &none, ("recovery", &recovery[3])).await;
    let strong = json!([["pwd", "otp", "mfa"], "aal2"]);
    assert_eq!(told(&service, &app, &answer).await, strong);
    assert!(browser.cookie().is_some());
    // It is over; the codes are good from now on, and the one that was shown is used up.
    let again = page(type_in(&browser, &service, &none, ("recovery", &recovery[3])).await, 403);
    assert!(again.html.contains("name=\"password\""), "{}", again.html);
    let mfa = challenged(&service, "ana").await;
    show_code(&service, &mfa, &code).await.refused(401, "AUT-1002");
    show_code(&service, &mfa, &phone.next(&service)).await.expect(200);
    let mfa = challenged(&service, "ana").await;
    let body = json!({"mfaToken": mfa, "mfaType": "app", "recoveryCode": recovery[3]});
    step(&service, "verify", body).await.expect(200);
}

#[tokio::test]
async fn a_set_up_ends_in_time_and_after_too_many_wrong_codes() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &["demo-viewer-group"]).await;
    service.patch("/v1/settings", &admin, json!({"mfa": {"required": true}})).await.expect(200);
    let browser = Browser::default();
    let first = page(browser.get(&service, &request(&app, &[])).await, 200);
    let scan = page(browser.sign_in(&service, &first, PERSON).await, 200);
    for _ in 0..5 {
        page(type_in(&browser, &service, &scan, ("code", "000000")).await, 403);
    }
    let over = page(type_in(&browser, &service, &scan, ("code", "000000")).await, 403);
    assert!(over.html.contains("name=\"password\""), "{}", over.html);
    service.clock.advance(3600);
    let scan = page(browser.sign_in(&service, &over, PERSON).await, 200);
    let phone = Phone::with(&codes(&scan)[0].replace(' ', ""));
    service.clock.advance(900);
    let late = type_in(&browser, &service, &scan, ("code", &phone.code(&service))).await;
    assert!(page(late, 403).html.contains("name=\"password\""));
}

#[tokio::test]
async fn a_code_is_sent_again_from_the_page_within_its_bounds() {
    let (service, app, mut sink, admin) = forgotten::start().await;
    let home = service.get("/v1/applications", &admin).await.expect(200);
    let home = home.as_array().unwrap().iter().find(|app| app["name"] == "app-lerian").unwrap();
    let providers = service.get("/v1/providers", &admin).await.expect(200);
    let links = format!("/v1/applications/{}/providers", home["id"].as_str().unwrap());
    service.post(&links, &admin, json!({"providerId": providers[0]["id"]})).await.expect(201);
    let id = service.person(&admin, "ana", &[]).await;
    let token = service.sign_in("ana", PASSWORD).await;
    let token = token["accessToken"].as_str().unwrap();
    enrol_sent(&service, &id, token, json!({"mfaType": "email"}), &mut sink).await;

    let browser = Browser::default();
    let second = asked(&browser, &service, &request(&app, &[])).await;
    let first_code = code_in(&sink.next().await);
    let send = async |page: &Page, kind: &str| {
        let fields = ["request", "csrf", "challenge"].map(|name| (name, page.field(name)));
        let mut fields: Vec<_> = fields.iter().map(|(n, value)| (*n, value.as_str())).collect();
        fields.push(("send", kind));
        browser.send(&service, "/oauth2/second-factor", &fields).await
    };
    assert!(second.html.contains("Send another code"), "{}", second.html);
    let soon = page(send(&second, "email").await, 403);
    assert!(soon.html.contains("No code is sent"), "{}", soon.html);
    service.clock.advance(60);
    let again = page(send(&soon, "email").await, 200);
    assert!(again.html.contains("Another code is on its way"), "{}", again.html);
    let second_code = code_in(&sink.next().await);
    // Nothing is sent by a way that the person does not have.
    let none = page(send(&again, "sms").await, 403);
    assert!(none.html.contains("name=\"password\""), "{}", none.html);
    let show_mailed = async |code: &str| {
        let fields = ["request", "csrf", "challenge", "kind"].map(|name| (name, again.field(name)));
        let mut fields: Vec<_> = fields.iter().map(|(n, value)| (*n, value.as_str())).collect();
        fields.push(("code", code));
        browser.send(&service, "/oauth2/second-factor", &fields).await
    };
    page(show_mailed(&first_code).await, 403);
    let answer = show_mailed(&second_code).await;
    let weak = json!([["pwd", "email", "mfa"], "aal1"]);
    assert_eq!(told(&service, &app, &answer).await, weak);
}
