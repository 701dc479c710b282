//! A person signs in through somebody else's provider (npm `oidc-provider`), by the one address that
//! browsers know.

use std::collections::BTreeMap;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::{
    harness::{Postern, client, text},
    issuers::provider::Provider,
};

const BACK: &str = "https://app.example/cb";
/// What clients are told that the address is.
const ISSUER: &str = "http://localhost:4000";
/// Those of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Where a browser comes to rest.
enum Rest {
    /// Back at the application, with these parameters.
    Back(BTreeMap<String, String>),
    /// At a page.
    Page(String),
}

struct Scene {
    postern: Postern,
    provider: Provider,
    /// The id of the provider here.
    id: String,
    app: Value,
}

impl Scene {
    async fn set() -> Self {
        let mut provider = tokio::task::spawn_blocking(Provider::start).await.unwrap();
        let postern = Postern::with("[identity]\noutbound_networks = ['127.0.0.0/8']\n").await;
        let admin = postern.admin().await;
        let body = json!({
            "name": "Company", "issuer": provider.url, "clientId": provider.id,
            "clientSecret": provider.secret, "createUsers": true,
            "claims": {"groups": "roles"}, "groupMap": {"staff": "midaz-viewer-group"},
        });
        let path = "/v1/identity-providers";
        let made = postern.manage(&admin, Method::POST, path, Some(body), 201).await;
        provider.order(&format!("redirect {}", text(&made, "redirectUri")));
        let body = json!({
            "name": "Ledger", "description": "x", "grantTypes": ["authorization_code"],
            "redirectUris": [BACK],
        });
        let path = "/v1/applications";
        let app = postern.manage(&admin, Method::POST, path, Some(body), 201).await;
        Self { postern, provider, id: text(&made, "id"), app }
    }

    /// Follow a browser from the button of the sign-in page.
    async fn through(&self, name: &str) -> Rest {
        let mut start = Url::parse(&format!("{ISSUER}/oauth2/sign-in/{}", self.id)).unwrap();
        start.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &text(&self.app, "clientId")),
            ("redirect_uri", BACK),
            ("scope", "openid profile"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let (mut at, mut form) = (start, None::<String>);
        let mut cookies: BTreeMap<(bool, String), String> = BTreeMap::new();
        loop {
            let ours = at.as_str().starts_with(ISSUER);
            let to = at.as_str().replace(ISSUER, &format!("http://{}", self.postern.doors));
            let method = if form.is_some() { Method::POST } else { Method::GET };
            let jar = cookies.iter().filter(|((of, _), _)| *of == ours);
            let jar: Vec<_> = jar.map(|((_, name), value)| format!("{name}={value}")).collect();
            let request = client().request(method, &to).header("cookie", jar.join("; "));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let answer = request.body(form.take().unwrap_or_default()).send().await.unwrap();
            for cookie in answer.headers().get_all("set-cookie") {
                let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                cookies.insert((ours, name.to_owned()), value.to_owned());
            }
            if let Some(to) = answer.headers().get("location") {
                at = at.join(to.to_str().unwrap()).unwrap();
                if at.as_str().starts_with(BACK) {
                    return Rest::Back(at.query_pairs().into_owned().collect());
                }
                continue;
            }
            let page = answer.text().await.unwrap();
            if ours {
                return Rest::Page(page);
            }
            form = Some(if page.contains("name=\"login\"") {
                format!("prompt=login&login={name}&password=any")
            } else {
                assert!(page.contains("value=\"consent\""), "{at}: {page}");
                "prompt=consent".to_owned()
            });
        }
    }

    /// The claims of the ID token that somebody gets in the end.
    async fn said(&self, rest: Rest) -> Value {
        let Rest::Back(back) = rest else { panic!("at a page") };
        let form = [
            ("grant_type", "authorization_code"),
            ("code", back.get("code").unwrap_or_else(|| panic!("{back:?}"))),
            ("redirect_uri", "https%3A%2F%2Fapp.example%2Fcb"),
            ("code_verifier", VERIFIER),
        ]
        .map(|(name, value)| format!("{name}={value}"));
        let request = self.postern.request(Method::POST, self.postern.doors, "/oauth2/token");
        let (id, secret) = (text(&self.app, "clientId"), text(&self.app, "clientSecret"));
        let request = request.basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let given: Value = request.body(form.join("&")).send().await.unwrap().json().await.unwrap();
        let payload = text(&given, "id_token").split('.').nth(1).unwrap().to_owned();
        let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload);
        serde_json::from_slice(&payload.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_person_of_a_real_provider_signs_in_whatever_key_it_has_and_never_by_a_lie() {
    let mut scene = Scene::set().await;
    let first = scene.said(scene.through("ana").await).await;
    assert_eq!(
        (&first["amr"], &first["groups"]),
        (&json!(["fed"]), &json!(["midaz-viewer-group"]))
    );
    scene.provider.order("rotate");
    let again = scene.said(scene.through("ana").await).await;
    assert_eq!(again["sub"], first["sub"]);
    let other = scene.said(scene.through("bob").await).await;
    assert_ne!(other["sub"], first["sub"]);
    for lie in ["iss https://evil.example", "aud another-client"] {
        scene.provider.order(&format!("lie {lie}"));
        let Rest::Page(page) = scene.through("ana").await else { panic!("{lie} is believed") };
        assert!(page.contains("did not confirm who you are"), "{lie}: {page}");
    }
    scene.postern.logged("the token is from another issuer").await;
    scene.postern.logged("the token is for another audience").await;
    scene.provider.order("truth");
    scene.said(scene.through("ana").await).await;
}
