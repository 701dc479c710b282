//! What products publish of themselves: taken, decided with at once, superseded; and everything that a
//! hostile one may try.

use std::sync::Arc;

use http::Method;
use identity::Config;
use policy::{
    catalog::Catalog,
    changes::Fact,
    engine::Engine,
    model::{
        caller::{Principal, Subject},
        manifest::Manifest,
        name::{GroupName, OrgId, RoleName},
        query::Facts,
    },
    snapshot::PolicyText,
};
use serde_json::{Value, json};

use super::{
    harness::{ADMIN_PASSWORD, Answer, NOW, PASSWORD, Service, access, catalog, claims},
    tenants::part,
};

/// A product that declares itself and has no manifest in the folder.
const NEW: &str = "plugin-br-bank-transfer";

/// A product of the folder that shares its permissions with another that does.
const SHARED: &str = "\
product: ledger
isolated: false
resources: {accounts: [get, post], notes: [get]}
roles:
  ledger-editor-role: {permissions: {'*': ['*']}}
  ledger-viewer-role: {permissions: {accounts: [get], notes: [get]}}
groups: {ledger-viewer-group: {title: Ledger Viewer, roles: [ledger-viewer-role]}}
applications: [ledger-viewer-role]
";
const OTHER: &str = "\
product: books
isolated: false
resources: {accounts: [get, delete], notes: [get]}
roles: {books-role: {permissions: {'*': ['*']}}}
groups: {books-group: {title: Books, roles: [books-role]}}
";

/// An application of a service, and its token.
async fn machine(service: &Service, admin: &str, name: &str) -> (Value, String) {
    let body = json!({"name": name, "description": "the product itself"});
    let app = service.post("/v1/applications", admin, body).await.expect(201);
    let token = token(service, &app).await;
    (app, token)
}

async fn token(service: &Service, app: &Value) -> String {
    let body = json!({
        "grantType": "client_credentials", "clientId": app["clientId"],
        "clientSecret": app["clientSecret"],
    });
    access(&service.token(body).await.expect(200))
}

async fn declare(service: &Service, token: &str, manifest: &Value) -> Answer {
    let path = format!("/v1/declarations/{}", manifest["service"].as_str().unwrap());
    service.call(Method::PUT, &path, token, manifest.clone()).await
}

fn permission(resource: &str, action: &str, roles: &[&str]) -> Value {
    json!({"resource": resource, "action": action, "effect": "allow", "roles": roles})
}

fn transfers() -> Value {
    json!({
        "service": NEW,
        "version": 1,
        "permissions": [
            permission("transfers", "get", &["viewer", "editor"]),
            permission("transfers", "context:create", &["editor"]),
        ],
        "roles": [
            {"name": "viewer", "granted_to": [{"group": "transfer-viewers"}]},
            {"name": "editor", "granted_to": [{"group": "admin-group"}]},
        ],
        "m2m": {"exposed": true, "needs": ["demo"], "roles": ["viewer"]},
    })
}

/// Everything of a product that somebody may do, at whatever proxy has been told what the follower has.
fn can(service: &Service, product: &str, who: &Subject) -> Vec<String> {
    let engine = Engine::compile(service.snapshot()).unwrap();
    let all = engine.what_can(who, &Facts::default());
    let of = all.iter().filter(|(of, _)| of.as_str() == product);
    of.map(|(_, permission)| permission.to_string()).collect()
}

fn person(org: &str, groups: &[&str]) -> Subject {
    let groups: Arc<[GroupName]> = groups.iter().map(|group| group.parse().unwrap()).collect();
    let principal = Principal::User { org: org.parse().unwrap(), id: "somebody".parse().unwrap() };
    Subject { principal, groups, roles: [].into() }
}

/// An application as its newest token, or the last fact about it, has it.
fn application(app: &Value, roles: &[RoleName]) -> Subject {
    let org: OrgId = "lerian".parse().unwrap();
    let id = app["id"].as_str().unwrap().parse().unwrap();
    Subject {
        principal: Principal::Application { org, id },
        groups: [].into(),
        roles: roles.into(),
    }
}

fn told_of(service: &Service, app: &Value) -> Vec<RoleName> {
    let about = application(app, &[]).principal;
    let facts = service.facts();
    let last = facts.iter().rev().find_map(|fact| match fact {
        Fact::Holds { principal, roles, .. } if *principal == about => Some(roles.clone()),
        _ => None,
    });
    last.unwrap()
}

#[tokio::test]
async fn a_new_product_s_people_and_machines_are_decided_on_right_after_it_has_declared_itself() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (app, token_before) = machine(&service, &admin, NEW).await;
    let viewer = person("lerian", &["transfer-viewers"]);
    assert!(service.snapshot().products.iter().all(|product| product.product.as_str() != NEW));

    let told = declare(&service, &token_before, &transfers()).await.expect(200);
    assert_eq!(
        (&told["changed"], &told["permissions"], &told["roles"]),
        (&json!(true), &json!(2), &json!(2))
    );
    assert_eq!(told["groups"], json!(["admin-group", "transfer-viewers"]));
    assert_eq!(can(&service, NEW, &viewer), ["transfers:get"]);
    let both = ["transfers:context:create", "transfers:get"];
    assert_eq!(can(&service, NEW, &person("lerian", &["admin-group"])), both);
    // The built-in group holds what it held, and other organizations' people hold nothing of it.
    assert_eq!(can(&service, "demo", &person("lerian", &["admin-group"])).len(), 3);
    for group in ["admin-group", "transfer-viewers"] {
        assert!(can(&service, NEW, &person("acme", &[group])).is_empty());
    }
    // The token that it came with is as good as the next one.
    let now = told_of(&service, &app);
    assert_eq!(can(&service, NEW, &application(&app, &now)), ["transfers:get"]);
    let next = claims(&token(&service, &app).await);
    assert_eq!(next["roles"], json!(now));
    assert_eq!(now, ["plugin-br-bank-transfer-viewer".parse::<RoleName>().unwrap()]);

    // Groups and roles are shown, given to people, and not the administrators' to change.
    let group = service.get("/v1/groups/transfer-viewers", &admin).await.expect(200);
    assert_eq!(group["roles"], json!(["plugin-br-bank-transfer-viewer"]));
    let role = service.get("/v1/roles/plugin-br-bank-transfer-editor", &admin).await.expect(200);
    assert_eq!((&role["builtIn"], &role["product"]), (&json!(true), &json!(NEW)));
    let role = "/v1/roles/plugin-br-bank-transfer-editor";
    service.delete(role, &admin).await.refused(409, "IDE-9009");
    service.patch(role, &admin, json!({"permissions": []})).await.refused(409, "IDE-9009");
    service.delete("/v1/groups/transfer-viewers", &admin).await.refused(409, "IDE-9009");
    service.person(&admin, "ana", &["transfer-viewers"]).await;
    let admins = service.get("/v1/groups/admin-group", &admin).await.expect(200);
    assert!(admins["roles"].to_string().contains("plugin-br-bank-transfer-editor"), "{admins}");
    // An administrator holds it now, so may give it.
    let own = json!({"id": "mine", "product": NEW, "name": "M", "permissions": ["transfers:get"]});
    service.post("/v1/roles", &admin, own).await.expect(201);

    // Who holds nothing of it makes no application that would.
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = access(&service.sign_in("hal", PASSWORD).await);
    let body = json!({"name": NEW, "description": "another"});
    service.post("/v1/applications", &helper, body).await.refused(403, "IDE-9002");

    // After a restart it is as it was.
    let service = service.restart().await;
    service.admin().await;
    assert_eq!(can(&service, NEW, &viewer), ["transfers:get"]);
}

#[tokio::test]
async fn the_same_again_changes_nothing_and_another_takes_its_place() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (app, token) = machine(&service, &admin, NEW).await;
    let first = declare(&service, &token, &transfers()).await.expect(200);
    let facts = service.facts();
    let mut again = transfers();
    again["version"] = json!(7);
    again["integrations"] = json!([]);
    let told = declare(&service, &token, &again).await.expect(200);
    assert_eq!((&told["changed"], &told["hash"]), (&json!(false), &first["hash"]));
    assert_eq!(service.facts(), facts, "nobody was told anything");

    // An own group holds a declared role, and so does another application.
    let group = json!({"id": "mine", "name": "Mine", "roles": ["plugin-br-bank-transfer-editor"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    assert_eq!(can(&service, NEW, &person("lerian", &["mine"])).len(), 2);
    let mut less = transfers();
    less["permissions"] = json!([permission("transfers", "list", &["viewer"])]);
    less["roles"] = json!([{"name": "viewer", "granted_to": [{"group": "transfer-readers"}]}]);
    declare(&service, &token, &less).await.expect(200);
    assert_eq!(can(&service, NEW, &person("lerian", &["transfer-readers"])), ["transfers:list"]);
    for group in ["admin-group", "transfer-viewers", "mine"] {
        assert!(can(&service, NEW, &person("lerian", &[group])).is_empty(), "{group}");
    }
    let engine = Engine::compile(service.snapshot()).unwrap();
    assert!(engine.permission(NEW, "transfers", "get").is_none(), "what is gone is gone");
    assert_eq!(
        can(&service, NEW, &application(&app, &told_of(&service, &app))),
        ["transfers:list"]
    );
    // The group that it made and nobody is in is gone; the administrators' own is there.
    service.get("/v1/groups/transfer-viewers", &admin).await.refused(404, "IDE-1006");
    let mine = service.get("/v1/groups/mine", &admin).await.expect(200);
    assert_eq!(mine["roles"], json!([]));
    service.get("/v1/roles/plugin-br-bank-transfer-editor", &admin).await.refused(404, "IDE-9003");
    // Nothing at all: the product is one of no permissions.
    declare(&service, &token, &json!({"service": NEW, "version": 3})).await.expect(200);
    assert!(can(&service, NEW, &person("lerian", &["transfer-readers"])).is_empty());
    assert!(told_of(&service, &app).is_empty());
}

#[tokio::test]
async fn only_the_service_itself_speaks_for_it() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (app, token) = machine(&service, &admin, NEW).await;
    let put = async |path: &str, token: &str, body: Value| {
        service.call(Method::PUT, &format!("/v1/declarations/{path}"), token, body).await
    };
    // A person, whatever they may do; nobody; somebody of another name.
    put(NEW, &admin, transfers()).await.refused(403, "IDE-9042");
    put(NEW, "", transfers()).await.refused(401, "IDE-0009");
    put(NEW, "x.y.z", transfers()).await.refused(401, "IDE-0009");
    put("demo", &token, transfers()).await.refused(403, "IDE-9042");
    let mut other = transfers();
    other["service"] = json!("demo");
    put(NEW, &token, other.clone()).await.refused(403, "IDE-9042");
    put("demo", &token, other).await.refused(403, "IDE-9042");
    put("..%2Fdemo", &token, transfers()).await.refused(403, "IDE-9042");
    // Postern's own product, by an application that may be made of it.
    let (_, ours) = machine(&service, &admin, "plugin-identity").await;
    let grab = json!({
        "service": "plugin-identity", "version": 1,
        "permissions": [permission("users", "delete", &["r"])],
        "roles": [{"name": "r", "granted_to": [{"group": "helper-group"}]}],
    });
    declare(&service, &ours, &grab).await.refused(403, "IDE-9042");
    // One that is gone.
    let id = app["id"].as_str().unwrap();
    service.delete(&format!("/v1/applications/{id}"), &admin).await.expect(204);
    put(NEW, &token, transfers()).await.refused(401, "IDE-0009");
    assert!(service.snapshot().roles.is_empty());
}

#[tokio::test]
async fn a_declaration_that_is_not_right_is_told_everything_and_changes_nothing() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (_, token) = machine(&service, &admin, NEW).await;
    let before = service.snapshot().revision;
    let bad = json!({
        "service": NEW, "version": 0,
        "permissions": [
            {"resource": "", "action": "get", "effect": "allow", "roles": ["x"]},
            {"resource": "a", "action": "get", "effect": "sometimes", "roles": []},
        ],
        "roles": [{"name": "r", "superuser": true}],
        "isAdmin": true,
    });
    let told = declare(&service, &token, &bad).await.refused(422, "IDE-9043");
    let message = told["message"].as_str().unwrap();
    for part in ["Version", "permissions[0]", "permissions[1]", "superuser", "isAdmin", "; "] {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
    let mut denies = transfers();
    denies["permissions"][0]["effect"] = json!("deny");
    declare(&service, &token, &denies).await.refused(422, "IDE-9043");
    // A name that is taken, or that people could take for another.
    let own = json!({
        "id": "Plugin-br-bank-transfer-VIEWER", "product": "demo", "name": "M",
        "permissions": ["parts:get"],
    });
    service.post("/v1/roles", &admin, own).await.expect(201);
    declare(&service, &token, &transfers()).await.refused(422, "IDE-9043");
    service.delete("/v1/roles/Plugin-br-bank-transfer-VIEWER", &admin).await.expect(204);
    for group in ["Admin-Group", "ADMINISTRATOR", "demo viewer-GROUP"] {
        let mut like = transfers();
        like["roles"][0]["granted_to"] = json!([{"group": group}]);
        declare(&service, &token, &like).await.refused(422, "IDE-9043");
    }
    let path = format!("/v1/declarations/{NEW}");
    let headers =
        [("authorization", &*format!("Bearer {token}")), ("content-type", "application/json")];
    let twice = format!("{{\"service\":\"{NEW}\",\"version\":1,\"service\":\"{NEW}\"}}");
    service.send(Method::PUT, &path, &headers, twice).await.refused(400, "IDE-0007");
    service.send(Method::PUT, &path, &headers, "[]").await.refused(400, "IDE-0007");
    let mut large = transfers();
    large["roles"][0]["name"] = json!("x".repeat(70_000));
    declare(&service, &token, &large).await.refused(413, "IDE-0007");
    assert!(service.snapshot().products.iter().all(|product| product.product.as_str() != NEW));
    assert!(service.snapshot().revision >= before);
    // Then it is right.
    declare(&service, &token, &transfers()).await.expect(200);
}

/// A service whose folder has products that share their permissions, and a policy written by hand.
async fn shared(policy: &str) -> Service {
    let products = [("ledger.yaml", SHARED), ("books.yaml", OTHER)]
        .map(|(file, text)| Arc::new(Manifest::parse(file, text).unwrap()));
    let all = catalog().products.into_iter().chain(products).collect();
    let policies =
        vec![PolicyText { file: "hand.cedar".into(), product: None, text: policy.into() }];
    let catalog = Catalog::new(all, policies).unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    Service::run(folder, identity::Clock::standing_at(NOW), Config::default(), catalog).await
}

#[tokio::test]
async fn a_hostile_product_gives_nothing_away_that_is_not_its_own() {
    let service = shared(
        "@id(\"boss\") permit (principal in Role::\"lerian/ledger-boss\", \
         action == Books::Action::\"accounts:delete\", resource);",
    )
    .await;
    let admin = service.admin().await;
    // Nobody here holds what `ledger` holds but who is made so.
    service.person(&admin, "eve", &[]).await;
    let mut db = service.database().await;
    db.run(
        "INSERT INTO memberships (org_id, user_id, group_name) \
            SELECT org_id, id, 'ledger-viewer-group' FROM users WHERE username = 'admin'",
    )
    .await;
    let admin = access(&service.sign_in("admin", ADMIN_PASSWORD).await);
    let (app, token) = machine(&service, &admin, "ledger").await;
    let wanted = |permissions: Value, role: &str| {
        json!({
            "service": "ledger", "version": 1, "permissions": permissions,
            "roles": [{"name": role, "granted_to": [{"group": "ledger-viewer-group"}]}],
        })
    };
    let before = can(&service, "books", &person("lerian", &["ledger-viewer-group"]));
    for (what, manifest) in [
        (
            "a permission of the folder that it does not hold",
            wanted(json!([permission("accounts", "post", &["r"])]), "r"),
        ),
        (
            "one that it holds, and that opens another product",
            wanted(json!([permission("accounts", "delete", &["r"])]), "r"),
        ),
        (
            "a role that a policy written by hand names",
            wanted(json!([permission("new", "get", &["boss"])]), "boss"),
        ),
        (
            "a built-in role's name",
            wanted(json!([permission("new", "get", &["viewer-role"])]), "viewer-role"),
        ),
    ] {
        let answer = declare(&service, &token, &manifest).await;
        assert_eq!(answer.status, 422, "{what}: {}", String::from_utf8_lossy(&answer.bytes));
        answer.refused(422, "IDE-9043");
    }
    let group = person("lerian", &["ledger-viewer-group"]);
    assert_eq!(can(&service, "books", &group), before);
    assert_eq!(can(&service, "ledger", &group), ["accounts:get", "notes:get"]);
    // What is its own it may give: a resource that it is the first to name is nobody else's.
    let mine = wanted(
        json!([permission("fresh", "get", &["r"]), permission("notes", "put", &["r"])]),
        "r",
    );
    declare(&service, &token, &mine).await.expect(200);
    assert_eq!(
        can(&service, "ledger", &group),
        ["accounts:get", "fresh:get", "notes:get", "notes:put"]
    );
    assert_eq!(can(&service, "books", &group), before);
    // `needs` is told and gives nothing.
    let mut needy = mine.clone();
    needy["m2m"] = json!({"exposed": true, "needs": ["books", "plugin-identity"]});
    declare(&service, &token, &needy).await.expect(200);
    let roles = claims(&self::token(&service, &app).await)["roles"].clone();
    assert_eq!(roles, json!(["ledger-viewer-role", "ledger-r"]));
}

#[tokio::test]
async fn one_organization_s_product_is_not_another_s() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let (theirs, _) = machine(&service, &admin, NEW).await;
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let their_token = token(&service, &theirs).await;
    let (_, ours) = machine(&service, &admin, NEW).await;
    declare(&service, &ours, &transfers()).await.expect(200);
    let mut hostile = transfers();
    hostile["permissions"] = json!([permission("transfers", "steal", &["viewer"])]);
    hostile["roles"] = json!([{"name": "viewer", "granted_to": [{"group": "transfer-viewers"}, {"group": "admin-group"}]}]);
    declare(&service, &their_token, &hostile).await.expect(200);
    // Each has its own; the words are common, the rights are not.
    assert_eq!(can(&service, NEW, &person("lerian", &["transfer-viewers"])), ["transfers:get"]);
    assert_eq!(can(&service, NEW, &person("acme", &["transfer-viewers"])), ["transfers:steal"]);
    assert_eq!(can(&service, NEW, &person("acme", &["admin-group"])), ["transfers:steal"]);
    assert_eq!(can(&service, NEW, &person("lerian", &["admin-group"])).len(), 2);
    // Taking theirs back leaves ours.
    declare(&service, &their_token, &json!({"service": NEW, "version": 2})).await.expect(200);
    assert!(can(&service, NEW, &person("acme", &["transfer-viewers", "admin-group"])).is_empty());
    assert_eq!(can(&service, NEW, &person("lerian", &["transfer-viewers"])), ["transfers:get"]);
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    service
        .get("/v1/roles/plugin-br-bank-transfer-editor", &stranger)
        .await
        .refused(404, "IDE-9003");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_that_declare_at_once_the_last_one_stands_whole() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (_, token) = machine(&service, &admin, NEW).await;
    let manifest = |n: usize| {
        let mut manifest = transfers();
        manifest["permissions"] =
            json!([permission(&format!("r{n}"), "get", &["viewer", "editor"])]);
        manifest
    };
    let all = [manifest(0), manifest(1), manifest(2)];
    let put = |n: usize| declare(&service, &token, &all[n]);
    let (one, two, three) = tokio::join!(put(0), put(1), put(2));
    for answer in [one, two, three] {
        assert!(
            matches!(answer.status.as_u16(), 200 | 409),
            "{}",
            String::from_utf8_lossy(&answer.bytes)
        );
    }
    let held = can(&service, NEW, &person("lerian", &["transfer-viewers"]));
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(can(&service, NEW, &person("lerian", &["admin-group"])), held);
}
