//! Passkeys in a real browser: made on their page, and shown on the sign-in page.

mod chromium;

use chromium::Chromium;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Postern, text, upstream::Upstream};

/// What people are told that the address is; the browser is led to where it really listens.
const HOST: &str = "localhost:4000";
const BACK: &str = "http://localhost:4000/health";
const AT: &str = "http://localhost:4000/oauth2/passkeys";

#[tokio::test]
async fn a_person_makes_a_passkey_and_signs_in_with_it_alone_and_beside_the_password() {
    let postern = Postern::start(Upstream::start().await.address).await;
    let admin = postern.admin().await;
    let body = json!({
        "name": "Ledger", "description": "x", "grantTypes": ["authorization_code"],
        "redirectUris": [BACK],
    });
    let app = postern.manage(&admin, Method::POST, "/v1/applications", Some(body), 201).await;
    let pia = postern.person(&admin, "pia", &["midaz-viewer-group"]).await;
    let ask = format!(
        "http://{HOST}/oauth2/authorize?response_type=code&client_id={}&redirect_uri={BACK}\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
         &prompt=login",
        text(&app, "clientId")
    );
    let doors = postern.doors;
    let walk = tokio::task::spawn_blocking(move || {
        let mut browser = Chromium::start(HOST, doors);
        let signed_in = "location.pathname === '/health' && location.search.includes('code=')";
        let password = |browser: &mut Chromium| {
            browser.open(&ask);
            browser.write("#username", "pia");
            browser.write("#password", &pia.password);
            browser.press("form[action=\"/oauth2/sign-in\"] button");
        };
        browser.open(AT);
        browser.until("document.body.innerText.includes('Sign in first')");
        password(&mut browser);
        browser.until(signed_in);

        browser.open(AT);
        browser.write("#name", "Key of <Pia>");
        browser.press("#passkey button");
        browser.until("document.querySelectorAll('.codes li').length === 10");
        browser.until("document.querySelector('summary').innerText === 'Key of <Pia>'");
        // Alone.
        browser.open(&ask);
        browser.press("#passkey button");
        browser.until(signed_in);
        // One authenticator is set up once.
        browser.open(AT);
        browser.press("#passkey button");
        browser.until("!document.getElementById('passkey-said').hidden");
        browser.press("summary");
        browser.write("details input[name=name]", "Telephone");
        browser.press("details button[value=rename]");
        browser.until("document.querySelector('summary')?.innerText === 'Telephone'");
        // Beside the password it is asked for.
        password(&mut browser);
        browser
            .until("location.pathname === '/oauth2/sign-in' && !!document.querySelector('#code')");
        browser.press("#passkey button");
        browser.until(signed_in);

        browser.open(AT);
        browser.press("summary");
        browser.press("details button[value=remove]");
        browser.until("document.body.innerText.includes('You have none yet')");
        // It is nothing any more: a password is enough again, and the passkey is not.
        password(&mut browser);
        browser.until(signed_in);
        browser.open(&ask);
        browser.press("#passkey button");
        browser.until("!!document.querySelector('#said')");
    });
    walk.await.unwrap();
    assert!(!postern.log.text().contains("panicked"), "{}", postern.log.text());
}
