//! From what a file declares to what is there.

use std::path::Path;

use identity::operator::{
    apply::{Plan, Told},
    declared::Declared,
    registry::{NewOrganization, NewPerson, Registry},
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::harness::{ADMIN_PASSWORD, Service, access, catalog, claims, config};

const ACME: &str = "\
organizations:
- id: lerian
  roles: [{name: counters, product: demo, title: Counters, permissions: ['things:get']}]
  groups: [{name: count-team, title: Counting, roles: [counters]}]
  users: [{username: ana, email: ana@example.com, first_name: Ana, groups: [count-team]}]
  applications: [{name: nightly, product: demo, description: Counts at night}]
- id: acme
  title: Acme
  users: [{username: ana, email: ana@example.com, groups: [demo-viewer-group]}]
";

async fn registry(service: &Service) -> Registry {
    let folder = service.folder.path();
    let config = config(folder).await;
    Registry::open(config, folder, catalog(), service.clock.clone()).await.unwrap()
}

fn declared(text: &str) -> Declared {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    Declared::read(folder.path()).unwrap()
}

async fn apply(registry: &Registry, text: &str, prune: bool) -> (Plan, Vec<Told>) {
    let declared = declared(text);
    registry.check(&declared).await.unwrap();
    let plan = registry.plan(&declared, prune).await.unwrap();
    let mut secrets = Vec::new();
    registry.carry_out(&declared, &plan, |_, told| secrets.extend(told)).await.unwrap();
    (plan, secrets)
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_made_and_kept_and_nothing_else_is_touched() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "by-hand", &[]).await;
    let registry = registry(&service).await;
    let (plan, secrets) = apply(&registry, ACME, false).await;
    assert_eq!(
        lines(&plan),
        [
            "+ lerian: role counters",
            "+ lerian: group count-team",
            "+ lerian: user ana",
            "+ lerian: application nightly",
            "+ acme: organization Acme",
            "+ acme: user ana",
        ]
    );
    // In force in the service that runs: the password that was told signs in, with the groups declared.
    let password = secrets[0].secret.expose_secret();
    let ana = service.sign_in("ana", password).await;
    service.get("/v1/groups/count-team", &admin).await.expect(200);
    service.get("/v1/userinfo", &access(&ana)).await.expect(200);
    assert!(registry.plan(&declared(ACME), false).await.unwrap().holds(), "it is not idempotent");
    // Drift that somebody made by hand is shown, field by field, and put right.
    let roles = json!({"roles": ["demo-editor-role"]});
    service.patch("/v1/groups/count-team", &admin, roles).await.expect(200);
    let plan = registry.plan(&declared(ACME), false).await.unwrap();
    let drift = "~ lerian: group count-team\n    roles: [demo-editor-role] -> [counters]";
    assert_eq!(lines(&plan), [drift]);
    // What nobody declares any more is told of, and goes with `prune` alone; what was made by hand stays.
    let less = "organizations: [{id: lerian, users: [{username: by-hand, email: x@example.com}]}]";
    let (plan, _) = apply(&registry, less, false).await;
    assert_eq!((plan.steps.len(), plan.stale.len(), plan.foreign.len()), (0, 4, 1));
    let (plan, _) = apply(&registry, less, true).await;
    assert_eq!(
        lines(&plan),
        [
            "- lerian: application nightly",
            "- lerian: user ana",
            "- lerian: group count-team",
            "- lerian: role counters",
        ]
    );
    service.get("/v1/userinfo", &access(&ana)).await.refused(401, "AUT-0007");
    let people = service.get("/v1/users", &admin).await.expect(200).to_string();
    assert!(people.contains("\"by-hand\"") && !people.contains("\"ana\""), "{people}");
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told_before_anything_is_done() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let bad = "\
organizations:
- id: lerian
  roles: [{name: a, product: demo, permissions: ['things:burn', '*:get']}, {name: b, product: none, permissions: []}]
  groups: [{name: c, roles: [nobody]}]
  users: [{username: ana, email: ana@example.com, groups: [nowhere]}]
";
    let told = registry.check(&declared(bad)).await.unwrap_err().to_string();
    for expected in [
        "a.yaml:3:18: `roles.permissions`: `demo` has no permission `things:burn`",
        "no permission `*:get`",
        "there is no product `none`",
        "a.yaml:4:19: `groups.roles`: there is no role `nobody`",
        "a.yaml:5:22: `users.groups`: there is no group `nowhere`",
    ] {
        assert!(told.contains(expected), "{told}\nwants {expected}");
    }
    // The last administrator is not removed by anybody.
    let last = registry.remove_user(registry.home(), "admin").await.unwrap_err().to_string();
    assert!(last.contains("left to administer"), "{last}");
    registry.close().await;
    let nowhere = tempfile::tempdir().unwrap();
    let at: &Path = nowhere.path();
    if let identity::Database::Embedded = config(service.folder.path()).await.database {
        let clock = service.clock.clone();
        let told = Registry::open(config(at).await, at, catalog(), clock).await.unwrap_err();
        assert!(told.to_string().contains("start Postern once"), "{told}");
        assert_eq!(std::fs::read_dir(at).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_is_made_once_with_an_administrator_of_its_own() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let new = NewOrganization {
        id: "acme".parse().unwrap(),
        title: "Acme".to_owned(),
        administrator: Some(NewPerson {
            username: "root".to_owned(),
            email: "root@acme.example".to_owned(),
            first_name: String::new(),
            last_name: String::new(),
            groups: vec!["admin-group".parse().unwrap()],
        }),
    };
    let made = registry.create_organization(new.clone()).await.unwrap();
    let told = registry.create_organization(new).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("already"), "{told}");
    let body = json!({
        "grantType": "password", "username": "root",
        "password": made.password.unwrap().expose_secret(),
        "clientId": made.client_id, "clientSecret": made.client_secret.expose_secret(),
    });
    let token = access(&service.token(body).await.expect(200));
    let people = service.get("/v1/users", &token).await.expect(200).to_string();
    assert!(people.contains("\"root\"") && !people.contains("admin@midaz.tech"), "{people}");
    let ids: Vec<_> =
        registry.organizations().await.unwrap().into_iter().map(|org| org.id.to_string()).collect();
    assert_eq!(ids.len(), 2);
    // A password that nobody knows any more is made anew.
    let home = registry.home().clone();
    let password = registry.reset_password(&home, "admin").await.unwrap();
    let old = json!({"grantType": "password", "username": "admin", "password": ADMIN_PASSWORD});
    service.token(old).await.refused(401, "AUT-1002");
    service.sign_in("admin", password.expose_secret()).await;
    registry.close().await;
}

const MACHINES: &str = "\
organizations:
- id: lerian
  settings:
    mfa: {groups: [count-team]}
    password: {min_length: 14, recovery: null}
  roles: [{name: counters, product: demo, permissions: ['things:get']}]
  groups: [{name: count-team, roles: [counters]}]
  applications:
  - name: nightly
    product: demo
    grants: {roles: [counters], permissions: ['demo/things:get']}
    access_token_secs: 600
    audiences: ['urn:acme:ledger']
  - name: web
    product: Console
    grant_types: [authorization_code, refresh_token]
    redirect_uris: ['https://console.example.com/cb']
    public: true
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_applications_hold_and_what_an_organization_decides_is_declared_too() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let registry = registry(&service).await;
    let (plan, secrets) = apply(&registry, MACHINES, false).await;
    let settings = "~ lerian: settings\n    mfa.groups: [] -> [\"count-team\"]\n    \
                    password.min_length: 12 -> 14";
    assert!(lines(&plan).contains(&settings.to_owned()), "{:?}", lines(&plan));
    // One that keeps no secret has none to be told.
    let [told] = &secrets[..] else { panic!("{secrets:?}") };
    assert_eq!(plan.secrets(), 2);
    assert!(registry.plan(&declared(MACHINES), false).await.unwrap().holds());
    // Members that nobody names are as they were.
    let kept = service.get("/v1/settings", &admin).await.expect(200);
    assert_eq!(
        (&kept["password"]["composition"], &kept["password"]["minLength"]),
        (&json!(true), &json!(14))
    );
    // What it was given is what its token says, for as long as was declared.
    let all = service.get("/v1/applications", &admin).await.expect(200);
    let found = |name: &str, field: &str| {
        let mut all = all.as_array().unwrap().iter();
        let description =
            |app: &&serde_json::Value| app["name"] == name && app["audiences"] != json!([]);
        all.find(description).unwrap()[field].as_str().unwrap().to_owned()
    };
    let (id, client_id) = (found("demo", "id"), found("demo", "clientId"));
    let body = json!({
        "grantType": "client_credentials", "clientId": client_id,
        "clientSecret": told.secret.expose_secret(),
    });
    let answer = service.token(body).await.expect(200);
    let token = claims(&access(&answer));
    assert_eq!(token["roles"], json!(["counters", format!("app:{id}:demo")]));
    assert_eq!(token["exp"].as_u64().unwrap() - token["iat"].as_u64().unwrap(), 600);
    // Drift in each of them is shown and put right, and recorded as the operator's doing; what is not
    // named is not looked at.
    let path = format!("/v1/applications/{id}");
    let grants = json!({"roles": [], "permissions": ["demo/things:post"]});
    service.call(http::Method::PUT, &format!("{path}/grants"), &admin, grants).await.expect(200);
    let by_hand = json!({"accessTokenSecs": 60, "refreshTokenSecs": 90, "audiences": []});
    service.patch(&path, &admin, by_hand).await.expect(200);
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    let (plan, secrets) = apply(&registry, MACHINES, false).await;
    assert!(secrets.is_empty());
    assert_eq!(
        lines(&plan),
        [
            "~ lerian: settings\n    mfa.groups: [] -> [\"count-team\"]",
            "~ lerian: application nightly\n    audiences: [] -> [urn:acme:ledger]\n    \
             access_token_secs: 60 -> 600\n    grants.roles: [] -> [counters]\n    \
             grants.permissions: [demo/things:post] -> [demo/things:get]",
        ]
    );
    assert!(registry.plan(&declared(MACHINES), false).await.unwrap().holds());
    let told = service.facts().into_iter().rev().find_map(|fact| match fact {
        policy::changes::Fact::Holds { roles, .. } if roles.len() == 2 => Some(roles),
        _ => None,
    });
    assert!(told.is_some(), "proxies are not told of it");
    let after = service.get(&path, &admin).await.expect(200);
    assert_eq!(after["refreshTokenSecs"], 90);
    let log = service.get("/v1/audit?limit=100", &admin).await.expect(200).to_string();
    for event in
        ["organization.settings-changed", "application.grants-changed", "application.changed"]
    {
        assert!(log.contains(event), "{event} in {log}");
    }
    // `null` is the way back to what is so by itself.
    let back = MACHINES
        .replace("{roles: [counters], permissions: ['demo/things:get']}", "null")
        .replace("access_token_secs: 600", "access_token_secs: null");
    let (plan, _) = apply(&registry, &back, false).await;
    let [line] = &lines(&plan)[..] else { panic!("{plan:?}") };
    assert!(line.contains("grants.roles: [counters] -> what its product says"), "{line}");
    assert!(line.contains("access_token_secs: 600 -> the installation's"), "{line}");
    let held = service.get(&format!("{path}/grants"), &admin).await.expect(200);
    assert_eq!(held["byDefault"], true);
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_application_or_organization_can_be_is_told_with_its_place() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let mut wrong = Vec::new();
    for (fields, expected) in [
        ("settings: {mfa: {require: true}}", "`settings.mfa.require`: there is no such"),
        ("settings: {mfaa: {}}", "`settings.mfaa` says nothing"),
        ("settings: {mfaa: {x: 1}}", "`settings.mfaa`: there is no such setting"),
        ("settings: {mfaa: null}", "`settings.mfaa`: there is no such setting"),
        ("settings: {password: {minLength: 14}}", "no such setting; `password.min_length`?"),
        ("settings: {password: {min_length: 3}}", "`settings.password.min_length`: 12 to"),
        (
            "settings: {password: {composition: 3}}",
            "`settings.password.composition`: is of the wrong",
        ),
        ("settings: {mfa: {groups: [none]}}", "`settings.mfa.groups`: there is no group"),
        ("applications: [{name: a, product: none}]", "`applications.product`: appl"),
        ("applications: [{name: a, product: demo, secret: x}]", "unknown field `secret`"),
        (
            "applications: [{name: a, product: demo, redirect_uris: ['http://a/b']}]",
            "`applications.redirect_uris`: an address is absolute",
        ),
        (
            "applications: [{name: a, product: demo, access_token_secs: 4000}]",
            "`applications.access_token_secs`: this installation allows at most 3600",
        ),
        (
            "applications: [{name: a, product: demo, grants: {roles: [none]}}]",
            "`applications.grants.roles`: there is no role `none`",
        ),
        (
            "applications: [{name: a, product: demo, grants: {permissions: ['demo/*:get']}}]",
            "`applications.grants.permissions`: `permissions` is not valid: there is no permission",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("organizations:\n- id: lerian\n  {fields}\n");
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let told = match Declared::read(folder.path()) {
            Ok(declared) => registry.check(&declared).await.unwrap_err(),
            Err(told) => told,
        };
        let told = told.to_string();
        if !told.contains("a.yaml:3:") || !told.contains(expected) {
            wrong.push(format!("{told}\nwants {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    registry.close().await;
}
