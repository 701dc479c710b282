//! What products publish, what applications are given, what is ended and what a review takes away: in
//! force at the doors when it is answered, and at proxies elsewhere as soon as they hear of it.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Postern, client,
    doors::{DOORS, Question},
    feed::{Follower, Identity, until},
    text,
};

const PRODUCTS: &str = "[[product]]\nname = 'midaz'\nhosts = ['midaz.example']\n\
                        [[product]]\nname = 'fetcher'\nhosts = ['fetcher.example']\n";
const ORGANIZATIONS: &str = "/v1/organizations";

/// What every door answers.
async fn everywhere(
    postern: &Postern,
    token: &str,
    (method, product, target): (&str, &str, &str),
) -> u16 {
    let mut said = Vec::new();
    for door in DOORS {
        let host = format!("{product}.example");
        let (host, product) = (host.as_str(), Some(product));
        let question = Question { method, target, product, host, token: Some(token) };
        said.push(door.ask(postern, &question).await.status);
    }
    assert!(said.iter().all(|status| *status == said[0]), "{said:?}");
    said[0]
}

/// Make an application: its id and its token.
async fn machine(postern: &Postern, admin: &str, name: &str) -> (String, String) {
    let body = json!({"name": name, "description": "x"});
    let made = postern.manage(admin, Method::POST, "/v1/applications", Some(body), 201).await;
    let token = postern.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
    (text(&made, "id"), token)
}

/// A token of an application whose tokens were just ended: in that second there is none, for it could
/// not be told from those.
async fn again(at: SocketAddr, (id, secret): (&str, &str)) -> String {
    let body = json!({"grantType": "client_credentials", "clientId": id, "clientSecret": secret});
    let ask = async || {
        let at = format!("http://{at}/v1/login/oauth/access_token");
        client().post(at).json(&body).send().await.unwrap()
    };
    until("it signs in again", || async { ask().await.status() == 200 }).await;
    text(&ask().await.json().await.unwrap(), "accessToken")
}

/// A declaration in which one role holds these actions of one resource, and a group holds the role.
fn declared(service: &str, resource: &str, actions: &[&str], group: &str) -> Value {
    let permissions = actions.iter().map(|action| {
        json!({"resource": resource, "action": action, "effect": "allow", "roles": ["watcher"]})
    });
    json!({
        "service": service, "version": 1, "permissions": permissions.collect::<Vec<_>>(),
        "roles": [{"name": "watcher", "granted_to": [{"group": group}]}],
        "m2m": {"exposed": false},
    })
}

#[tokio::test]
async fn what_a_product_publishes_at_its_start_is_decided_at_every_door() {
    let postern = Postern::with(PRODUCTS).await;
    let admin = postern.admin().await;
    let (_, fetcher) = machine(&postern, &admin, "fetcher").await;
    let ana = postern.person(&admin, "ana", &[]).await;
    let list = ("GET", "fetcher", "/v1/management/connections");
    let make = ("POST", "fetcher", "/v1/management/connections");
    let publish = async |token: &str, body: &Value, status: u16| {
        let path = format!("/v1/declarations/{}", text(body, "service"));
        postern.manage(token, Method::PUT, &path, Some(body.clone()), status).await
    };
    let watchers = declared("fetcher", "connections", &["get"], "fetch-watchers");
    // Nobody else publishes it.
    publish(&admin, &watchers, 403).await;
    assert_eq!(publish(&fetcher, &watchers, 200).await["changed"], true);
    let path = format!("/v1/users/{}", ana.id);
    let into = json!({"groups": ["fetch-watchers"]});
    postern.manage(&admin, Method::PATCH, &path, Some(into), 200).await;
    assert_eq!(everywhere(&postern, &ana.token, list).await, 200);
    assert_eq!(everywhere(&postern, &ana.token, make).await, 403);
    // The next start says the same; the one after that of a new version.
    assert_eq!(publish(&fetcher, &watchers, 200).await["changed"], false);
    let more = declared("fetcher", "connections", &["post"], "fetch-watchers");
    assert_eq!(publish(&fetcher, &more, 200).await["changed"], true);
    assert_eq!(everywhere(&postern, &ana.token, list).await, 403);
    assert_eq!(everywhere(&postern, &ana.token, make).await, 200);
    // A product that nobody has written a manifest for, asked about as its library asks.
    let (_, pix) = machine(&postern, &admin, "plugin-br-bank-transfer").await;
    let question =
        json!({"resource": "transfers", "action": "get", "product": "plugin-br-bank-transfer"});
    assert_eq!(postern.authorized(&ana.token, &question).await["authorized"], false);
    let body = declared("plugin-br-bank-transfer", "transfers", &["get"], "fetch-watchers");
    publish(&pix, &body, 200).await;
    assert_eq!(postern.authorized(&ana.token, &question).await["authorized"], true);
    let post =
        json!({"resource": "transfers", "action": "post", "product": "plugin-br-bank-transfer"});
    assert_eq!(postern.authorized(&ana.token, &post).await["authorized"], false);
    // What it is the last to say goes with it.
    let none =
        json!({"service": "plugin-br-bank-transfer", "version": 1, "permissions": [], "roles": []});
    publish(&pix, &none, 200).await;
    assert_eq!(postern.authorized(&ana.token, &question).await["authorized"], false);
}

#[tokio::test]
async fn what_an_application_is_given_and_loses_counts_at_the_next_request_at_every_door() {
    let postern = Postern::with(PRODUCTS).await;
    let admin = postern.admin().await;
    // It has nothing of Midaz by what it is.
    let (id, token) = machine(&postern, &admin, "fetcher").await;
    let (list, make) = (("GET", "midaz", ORGANIZATIONS), ("POST", "midaz", ORGANIZATIONS));
    let own = ("GET", "fetcher", "/v1/management/connections");
    let path = format!("/v1/applications/{id}/grants");
    let is = async |expected: [u16; 3], why: &str| {
        let mut said = Vec::new();
        for what in [own, list, make] {
            said.push(everywhere(&postern, &token, what).await);
        }
        assert_eq!(said, expected, "{why}");
    };
    let give = async |roles: Value, permissions: Value| {
        let body = json!({"roles": roles, "permissions": permissions});
        postern.manage(&admin, Method::PUT, &path, Some(body), 200).await;
    };
    is([200, 403, 403], "by what it is").await;
    give(json!(["midaz-viewer-role"]), json!([])).await;
    is([403, 200, 403], "a role").await;
    give(json!(["midaz-viewer-role"]), json!(["midaz/organizations:post"])).await;
    is([403, 200, 200], "a role and a permission").await;
    give(json!([]), json!(["midaz/organizations:post"])).await;
    is([403, 403, 200], "a permission").await;
    give(json!([]), json!([])).await;
    is([403, 403, 403], "nothing").await;
    postern.manage(&admin, Method::DELETE, &path, None, 200).await;
    is([200, 403, 403], "by what it is again").await;
}

#[tokio::test]
async fn tokens_of_an_application_that_are_ended_open_no_door() {
    let postern = Postern::with(PRODUCTS).await;
    let admin = postern.admin().await;
    let body = json!({"name": "midaz", "description": "x"});
    let made = postern.manage(&admin, Method::POST, "/v1/applications", Some(body), 201).await;
    let (id, name) = (text(&made, "id"), text(&made, "clientId"));
    let secret = text(&made, "clientSecret");
    let list = ("GET", "midaz", ORGANIZATIONS);
    let of_app = format!("/v1/applications/{id}");
    let (_, bystander) = machine(&postern, &admin, "midaz").await;

    let token = postern.machine(&name, &secret).await;
    assert_eq!(everywhere(&postern, &token, list).await, 200);
    let all = format!("{of_app}/sessions");
    postern.manage(&admin, Method::DELETE, &all, None, 204).await;
    assert_eq!(everywhere(&postern, &token, list).await, 401);
    // It signs in again at once, and by another secret.
    let next = again(postern.doors, (&name, &secret)).await;
    assert_eq!(everywhere(&postern, &next, list).await, 200);
    let at = format!("{of_app}/credentials");
    let other = postern.manage(&admin, Method::POST, &at, Some(json!({"name": "b"})), 201).await;
    let by_other = postern.machine(&name, &text(&other, "secret")).await;
    // Its tokens live out, unless they are ended with it.
    let retire = format!("{at}/{}/retire", text(&other, "id"));
    postern.manage(&admin, Method::POST, &retire, None, 200).await;
    assert_eq!(everywhere(&postern, &by_other, list).await, 200);
    let retire = format!("{at}/{id}/retire?endTokens=true");
    postern.manage(&admin, Method::POST, &retire, None, 200).await;
    for token in [&next, &by_other, &token] {
        assert_eq!(everywhere(&postern, token, list).await, 401);
    }
    assert_eq!(everywhere(&postern, &bystander, list).await, 200);
}

#[tokio::test]
async fn what_a_reviewer_takes_away_opens_no_door_any_more() {
    let postern = Postern::with(PRODUCTS).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["midaz-editor-group"]).await;
    let bob = postern.person(&admin, "bob", &[]).await;
    let (_, app) = machine(&postern, &admin, "midaz").await;
    let make = ("POST", "midaz", ORGANIZATIONS);
    let body = json!({
        "name": "Ledger", "product": "midaz", "reviewers": [bob.id], "undecided": "keep",
    });
    let made = postern.manage(&admin, Method::POST, "/v1/reviews", Some(body), 201).await;
    let at = format!("/v1/assigned-reviews/{}/items", text(&made, "id"));
    let all = postern.manage(&bob.token, Method::GET, &format!("{at}?limit=100"), None, 200).await;
    for (name, token) in [("ana", &ana.token), ("midaz", &app)] {
        let held = all["items"].as_array().unwrap().iter().filter(|one| one["name"] == name);
        let numbers: Vec<_> = held.map(|one| one["number"].as_u64().unwrap()).collect();
        assert!(!numbers.is_empty(), "{all:#}");
        assert_eq!(everywhere(&postern, token, make).await, 200, "{name}");
        for (decision, status) in [("keep", 200), ("revoke", 403)] {
            for number in &numbers {
                let one = format!("{at}/{number}");
                let body = Some(json!({"decision": decision}));
                // Neither whoever made it decides, nor whom it is about.
                for token in [&admin, &ana.token] {
                    postern.manage(token, Method::PUT, &one, body.clone(), 404).await;
                }
                postern.manage(&bob.token, Method::PUT, &one, body, 200).await;
            }
            assert_eq!(everywhere(&postern, token, make).await, status, "{name}: {decision}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_elsewhere_feels_it_too() {
    let identity = Identity::start().await;
    let proxy = Follower::start(&identity.followed()).await;
    let admin = identity.admin().await;
    let made = identity.application(&admin, "fetcher").await;
    let (id, name, secret) =
        (text(&made, "id"), text(&made, "clientId"), text(&made, "clientSecret"));
    let token = identity.machine(&name, &secret).await;
    let is = async |token: &str, status: u16, why: &str| {
        until(why, || async { proxy.ask(token).await.0 == status }).await;
    };
    is(&token, 403, "it has nothing of Midaz").await;
    let grants = format!("/v1/applications/{id}/grants");
    let role = json!({"roles": ["midaz-viewer-role"], "permissions": []});
    let permission = json!({"roles": [], "permissions": ["midaz/organizations:get"]});
    for body in [role, permission] {
        identity.manage(&admin, Method::PUT, &grants, Some(body), 200).await;
        is(&token, 200, "it is given").await;
        let none = json!({"roles": [], "permissions": []});
        identity.manage(&admin, Method::PUT, &grants, Some(none), 200).await;
        is(&token, 403, "it is taken").await;
    }
    let body = json!({"roles": ["midaz-viewer-role"], "permissions": []});
    identity.manage(&admin, Method::PUT, &grants, Some(body), 200).await;
    is(&token, 200, "it is given again").await;
    let path = format!("/v1/applications/{id}/sessions");
    identity.manage(&admin, Method::DELETE, &path, None, 204).await;
    is(&token, 401, "its tokens are ended").await;
    let token = again(identity.address, (&name, &secret)).await;
    is(&token, 200, "it signs in again").await;
    let path = format!("/v1/applications/{id}/credentials/{id}/retire?endTokens=true");
    identity.manage(&admin, Method::POST, &path, None, 200).await;
    is(&token, 401, "they are ended with its secret").await;

    // A product publishes what it is, and a review takes it away again.
    let crm = identity.application(&admin, "midaz").await;
    let publisher = identity.machine(&text(&crm, "clientId"), &text(&crm, "clientSecret")).await;
    let (ana, password) = identity.person(&admin, "ana", &[]).await;
    let (bob, his) = identity.person(&admin, "bob", &[]).await;
    let hers = identity.sign_in(identity.address, "ana", &password).await;
    is(&hers, 403, "ana has nothing").await;
    let body = declared("midaz", "organizations", &["get"], "ledger-watchers");
    identity.manage(&publisher, Method::PUT, "/v1/declarations/midaz", Some(body), 200).await;
    let path = format!("/v1/users/{ana}");
    let into = Some(json!({"groups": ["ledger-watchers"]}));
    identity.manage(&admin, Method::PATCH, &path, into, 200).await;
    is(&hers, 200, "she watches").await;
    let body = json!({"name": "Watchers", "groups": ["ledger-watchers"], "reviewers": [bob]});
    let made = identity.manage(&admin, Method::POST, "/v1/reviews", Some(body), 201).await;
    let bob = identity.sign_in(identity.address, "bob", &his).await;
    let at = format!("/v1/assigned-reviews/{}/items", text(&made, "id"));
    let all = identity.manage(&bob, Method::GET, &at, None, 200).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all}");
    let one = format!("{at}/{}", all["items"][0]["number"]);
    let body = Some(json!({"decision": "revoke"}));
    identity.manage(&bob, Method::PUT, &one, body, 200).await;
    is(&hers, 403, "she watches no more").await;
}
