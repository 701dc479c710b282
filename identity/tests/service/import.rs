//! What others have, carried over: with its passwords, once, and nothing lost silently.

use std::path::Path;

use identity::operator::{
    export::Export,
    import::{Line, Report},
    registry::Registry,
};
use serde_json::{Value, json};

use super::harness::{PASSWORD, Service, access, catalog, config};

async fn registry(service: &Service) -> Registry {
    let folder = service.folder.path();
    let config = config(folder).await;
    Registry::open(config, folder, catalog(), service.clock.clone()).await.unwrap()
}

fn write(folder: &Path, export: &Value) -> std::path::PathBuf {
    let file = folder.join("init_data.json");
    std::fs::write(&file, serde_json::to_string_pretty(export).unwrap()).unwrap();
    file
}

fn read(export: &Value) -> Export {
    let folder = tempfile::tempdir().unwrap();
    Export::read(&write(folder.path(), export), None).unwrap()
}

async fn import(registry: &Registry, export: &Value) -> Report {
    registry.import(&read(export), false, |_, _| {}).await.unwrap()
}

/// bcrypt of a password, as other libraries write it.
fn bcrypted(password: &str, version: bcrypt::Version) -> String {
    let salt = uuid::Uuid::new_v4().into_bytes();
    bcrypt::hash_with_salt(password, 4, salt).unwrap().format_for_version(version)
}

/// Argon2id without a pepper, with Casdoor's parameters but the memory.
fn argon2(password: &str) -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
    let params = Params::new(4096, 1, 2, Some(32)).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = uuid::Uuid::new_v4().into_bytes();
    let hash: argon2::password_hash::phc::PasswordHash =
        hasher.hash_password_with_salt(password.as_bytes(), &salt).unwrap();
    hash.to_string()
}

fn user(name: &str, with: &Value) -> Value {
    let mut user = json!({
        "owner": "lerian", "name": name, "type": "normal-user", "displayName": name,
        "email": format!("{name}@example.com"), "groups": [],
    });
    for (key, value) in with.as_object().unwrap() {
        user[key] = value.clone();
    }
    user
}

fn export(users: &[Value]) -> Value {
    json!({
        "organizations": [{
            "owner": "admin", "name": "lerian", "displayName": "Lerian", "passwordType": "bcrypt",
        }],
        "users": users,
    })
}

fn told(report: &Report) -> Vec<String> {
    report.left_out.iter().map(ToString::to_string).collect()
}

fn names<'a>(lines: &'a [Line], kind: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line.kind == kind).map(|line| line.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_sign_in_with_the_passwords_they_had_and_the_hash_becomes_ours() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let id = uuid::Uuid::new_v4().to_string();
    let people = [
        user(
            "old-a",
            &json!({
                "id": id, "password": bcrypted(PASSWORD, bcrypt::Version::TwoA),
                "passwordType": "bcrypt", "groups": ["lerian/demo-viewer-group"],
            }),
        ),
        user("old-b", &json!({"password": bcrypted(PASSWORD, bcrypt::Version::TwoB)})),
        user("old-y", &json!({"password": bcrypted(PASSWORD, bcrypt::Version::TwoY)})),
        user("argon", &json!({"password": argon2(PASSWORD), "passwordType": "argon2id"})),
        user("plain", &json!({"password": "Short@12", "isAdmin": true})),
        user("gone", &json!({"password": argon2(PASSWORD), "isForbidden": true})),
    ];
    let report = import(&registry, &export(&people)).await;
    assert_eq!(told(&report), Vec::<String>::new());
    assert_eq!(names(&report.carried_over, "user").len(), 6);
    let mut db = service.database().await;
    let hash = "SELECT substr(password_hash, 1, 3) FROM users WHERE username = ";
    for (name, password) in [
        ("old-a", PASSWORD),
        ("old-b", PASSWORD),
        ("old-y", PASSWORD),
        ("argon", PASSWORD),
        ("plain", "Short@12"),
    ] {
        let before = db.text(&format!("{hash}'{name}'")).await;
        assert_eq!(before, if name == "plain" { "p1$" } else { "f1$" }, "{name}");
        let wrong = json!({"grantType": "password", "username": name, "password": "Wrong-Horse-1"});
        service.token(wrong).await.refused(401, "AUT-1002");
        let tokens = service.sign_in(name, password).await;
        assert_eq!(db.text(&format!("{hash}'{name}'")).await, "p1$", "{name}");
        let me = service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
        if name == "old-a" {
            assert_eq!(me["sub"], id);
        }
        service.sign_in(name, password).await;
    }
    let out = json!({"grantType": "password", "username": "gone", "password": PASSWORD});
    service.token(out).await.refused(401, "AUT-1002");
    // Once more: nothing is new, and nobody's password is what it was.
    let again = import(&registry, &export(&people)).await;
    assert_eq!(told(&again), Vec::<String>::new());
    assert_eq!((again.carried_over.len(), again.there.len()), (0, 7));
    assert_eq!(db.text(&format!("{hash}'old-a'")).await, "p1$");
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_from_elsewhere_is_exchanged_once_however_many_sign_in() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let hash = bcrypted(PASSWORD, bcrypt::Version::TwoA);
    import(&registry, &export(&[user("ana", &json!({"password": hash}))])).await;
    let (one, two) =
        tokio::join!(service.sign_in("ana", PASSWORD), service.sign_in("ana", PASSWORD));
    // Both are signed in, with the same hash: neither's was put over the other's.
    for tokens in [one, two] {
        service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
    }
    let query = "SELECT substr(password_hash, 1, 3) FROM users WHERE username = 'ana'";
    assert_eq!(service.database().await.text(query).await, "p1$");
    service.sign_in("ana", PASSWORD).await;
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_carried_over_is_told_with_its_name_and_the_rest_goes_on() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let hash = bcrypted(PASSWORD, bcrypt::Version::TwoB);
    let dear = hash.replacen("$04$", "$31$", 1);
    let vast = argon2(PASSWORD).replacen("m=4096", "m=4194304", 1);
    let mut export = export(&[
        user("dear", &json!({"password": dear})),
        user("vast", &json!({"password": vast, "passwordType": "argon2id"})),
        user("faulty", &json!({"password": hash.replacen("$2b$", "$2x$", 1)})),
        user("md5", &json!({"password": "5f4dcc3b", "passwordType": "md5-salt"})),
        user("twice", &json!({"password": hash})),
        user("TWICE", &json!({"password": hash, "email": "other@example.com"})),
        user("admin", &json!({"password": hash, "email": "thief@example.com"})),
        user("a b", &json!({"password": hash})),
        user("nomail", &json!({"password": hash, "email": ""})),
        user("strange", &json!({"password": hash, "groups": ["acme/admin-group", "nowhere"]})),
        user("factor", &json!({"password": hash, "totpSecret": "JBSWY3DP", "wechat": "x"})),
    ]);
    export["groups"] = json!([
        {"owner": "lerian", "name": "team", "displayName": "Team", "parentId": "top"},
    ]);
    export["roles"] = json!([
        {"owner": "lerian", "name": "demo-viewer-role", "groups": ["lerian/team"], "users": ["lerian/dear"]},
        {"owner": "lerian", "name": "odd-role", "groups": ["lerian/team"]},
    ]);
    export["applications"] = json!([
        {"owner": "admin", "organization": "lerian", "name": "nightly", "clientId": "nightly-client",
         "clientSecret": "a-secret-that-is-long-enough-for-this",
         "grantTypes": ["client_credentials", "implicit", "authorization_code"],
         "redirectUris": ["http://elsewhere.example/cb"], "expireInHours": 1},
        {"owner": "admin", "organization": "lerian", "name": "bare", "clientId": "bare-client"},
    ]);
    export["providers"] = json!([{"name": "mail", "clientSecret": "sesame"}]);
    export["permissions"] = json!([{"name": "p"}]);
    let report = import(&registry, &export).await;
    let told = told(&report);
    for expected in [
        "person `dear`: the hash of the password has a bcrypt cost of 31",
        "person `vast`: the hash of the password takes 4194304 KiB",
        "person `faulty`: the hash of the password is `$2x$`",
        "person `md5`: a password kept as `md5-salt` cannot be compared here",
        "person `TWICE` has the user name or e-mail address of line",
        "person `admin` is there with another e-mail address",
        "person `a b`:",
        "person `nomail`:",
        "person `strange` is in a group of `acme`",
        "person `strange`: there is no group `nowhere`",
        "person `factor`: second factors are set up anew",
        "`users`: `wechat` (1) is not carried over",
        "group `team` is below `top`",
        "role `demo-viewer-role` is held by people (1)",
        "group `team` holds `odd-role`, which nobody declares here",
        "application `nightly`: there is no grant type `implicit` here",
        "application `nightly`: `http://elsewhere.example/cb`",
        "application `nightly`: `authorization_code` needs an address to go back to",
        "application `bare`: it has no client secret",
        "`providers` (1) is not carried over",
    ] {
        let found = told.iter().find(|text| text.contains(expected));
        let found = found.unwrap_or_else(|| panic!("{expected}\nin {told:#?}"));
        assert!(found.contains("init_data.json:"), "{found}");
    }
    assert_eq!(told.len(), 20, "{told:#?}");
    // No secret is in what is told.
    let text = format!("{told:?} {:?}", report.notes);
    for secret in [hash.as_str(), "sesame", "a-secret-that", "5f4dcc3b", "JBSWY3DP"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // The group holds what is known; who has no usable password has an account and none.
    let admin = service.admin().await;
    let team = service.get("/v1/groups/team", &admin).await.expect(200);
    assert!(team.to_string().contains("demo-viewer-role"), "{team}");
    let body = json!({"grantType": "password", "username": "dear", "password": PASSWORD});
    service.token(body).await.refused(401, "AUT-1002");
    service.sign_in("twice", PASSWORD).await;
    let token = json!({
        "grantType": "client_credentials", "clientId": "nightly-client",
        "clientSecret": "a-secret-that-is-long-enough-for-this",
    });
    service.token(token).await.expect(200);
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_several_makes_each_its_own_and_takes_nothing_of_others() {
    let service = Service::start().await;
    let registry = registry(&service).await;
    let hash = bcrypted(PASSWORD, bcrypt::Version::TwoB);
    let id = uuid::Uuid::new_v4().to_string();
    let both = json!({
        "organizations": [{"name": "lerian"}, {"name": "acme", "displayName": "Acme"}],
        "users": [
            user("ana", &json!({"id": id, "password": hash})),
            user("ana", &json!({"id": id, "owner": "acme", "password": hash})),
            user("root", &json!({"owner": "built-in", "password": hash})),
        ],
        "applications": [{
            "organization": "acme", "name": "thief", "clientId": service.client_id,
            "clientSecret": "another-secret-for-a-client-id-of-others",
        }],
    });
    let dry = registry.import(&read(&both), true, |_, _| {}).await.unwrap();
    assert_eq!(names(&dry.carried_over, "user"), ["ana", "ana"]);
    let acme = "acme".parse().unwrap();
    assert!(registry.organizations().await.unwrap().iter().all(|org| org.id != acme));
    let report = import(&registry, &both).await;
    assert_eq!(report.carried_over, dry.carried_over);
    assert_eq!(report.left_out.len(), dry.left_out.len());
    assert!(told(&report)[0].contains("its client id is another organization's"), "{report:?}");
    assert!(report.notes.iter().any(|note| note.text.contains("`built-in` is not read")));
    let people = registry.users(&acme).await.unwrap();
    assert_eq!(people.len(), 1);
    assert_ne!(people[0].id.as_str(), id, "an id is one person's");
    // One alone: the other is not touched.
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &both);
    let one = Export::read(&file, Some(&"lerian".parse().unwrap())).unwrap();
    assert_eq!(one.organizations.len(), 1);
    let none = Export::read(&file, Some(&"nowhere".parse().unwrap())).unwrap_err().to_string();
    assert!(none.contains("there is no organization `nowhere`"), "{none}");
    registry.close().await;
}

#[test]
fn what_is_no_export_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.json");
    let mut broken = b"{\"users\": [\n{\"name\": \"a".to_vec();
    broken.extend([0xff, 0xfe]);
    broken.extend(b"\"}]}");
    for (bytes, expected) in [
        (broken, "x.json:2:12: it is not UTF-8"),
        (b"[1, 2]".to_vec(), "not a list"),
        (b"{\"users\": [\n}".to_vec(), "x.json:1"),
        (b"{\"users\": [],\n\"users\": []}".to_vec(), "x.json:2"),
        (b"".to_vec(), "x.json"),
        (vec![b'['; 4096], "x.json"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let told = Export::read(&file, None).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}\nwants {expected}");
    }
    std::fs::File::create(&file).unwrap().set_len((64 << 20) + 1).unwrap();
    let told = Export::read(&file, None).unwrap_err().to_string();
    assert!(told.contains("more than 64 MiB"), "{told}");
    let told = Export::read(&folder.path().join("none"), None).unwrap_err().to_string();
    assert!(told.contains("cannot read"), "{told}");
}
