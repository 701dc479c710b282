//! First starts, later starts, and starts that must not succeed.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use identity::{Bootstrap, Clock, Identity, Secrets};
use policy::snapshot::PolicyText;
use secrecy::ExposeSecret;
use serde_json::json;

use super::harness::{
    ADMIN_PASSWORD, Beside, NOW, PASSWORD, Service, access, bootstrap, catalog, config, open,
    password_of,
};

/// Why a start fails; it must.
pub async fn complaint(folder: &Path) -> String {
    open(folder, &Clock::standing_at(NOW)).await.map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn a_restart_finds_everything_as_it_was() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let gone = service.person(&admin, "eve", &[]).await;
    service.delete(&format!("/v1/users/{gone}"), &admin).await.expect(204);
    let keys = service.get("/.well-known/jwks", "").await.expect(200);
    let group = json!({"id": "readers", "name": "Readers", "roles": ["demo-viewer-role"]});
    service.post("/v1/groups", &admin, group).await.expect(201);

    let service = service.restart().await;
    assert_eq!(service.get("/.well-known/jwks", "").await.expect(200), keys);
    service.get(&format!("/v1/users/{id}"), &admin).await.expect(200);
    service.sign_in("ana", PASSWORD).await;
    // Whoever follows now has missed what happened before, and is told again.
    assert_eq!(service.facts().len(), 1);
    assert_eq!(service.snapshot().groups.len(), 1);
    // And before the policy, with which a proxy begins to admit: nobody gets in in between.
    assert_eq!(service.told.lock().unwrap().before_policy, Some(1));
}

#[tokio::test]
async fn a_first_start_makes_secrets_that_nobody_gave() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW);
    let (identity, first) = Identity::open(
        config(folder.path()).await,
        folder.path(),
        catalog(),
        bootstrap(),
        Secrets::default(),
        clock.clone(),
    )
    .await
    .unwrap();
    let first = first.unwrap();
    assert!(!first.password_was_given && !first.secret_was_given);
    assert!(password_of(&first).len() >= 20 && first.client_id.len() == 20);
    assert_eq!(first.client_secret.expose_secret().len(), 40);
    let shown = format!("{first:?} {identity:?}");
    assert!(!shown.contains(password_of(&first)), "{shown}");
    drop(identity);
    assert!(open(folder.path(), &clock).await.unwrap().1.is_none());
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_starts_at_the_same_time_one_makes_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let path = folder.path().to_owned();
            tokio::spawn(async move { open(&path, &Clock::standing_at(NOW)).await.unwrap().1 })
        })
        .collect();
    let mut firsts = 0;
    for start in starts {
        firsts += usize::from(start.await.unwrap().is_some());
    }
    assert_eq!(firsts, 1);
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let told = complaint(&file.join("data")).await;
    assert!(told.contains("a-file/data cannot be written"), "{told}");
}

#[tokio::test]
async fn a_master_key_that_is_wrong_open_or_missing_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path(), folder.path().join("master.key"));
    open(path, &Clock::standing_at(NOW)).await.unwrap();
    let right = fs::read(&key).unwrap();

    fs::write(&key, "ab".repeat(32)).unwrap();
    let told = complaint(path).await;
    assert!(told.contains("master.key does not fit"), "{told}");
    fs::write(&key, "short").unwrap();
    assert!(complaint(path).await.contains("64 hexadecimal digits"));
    fs::remove_file(&key).unwrap();
    assert!(complaint(path).await.contains("master.key is missing"));
    assert!(!key.exists(), "no new key takes the old one's place");
    fs::write(&key, &right).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint(path).await.contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open(path, &Clock::standing_at(NOW)).await.unwrap().1.is_none());
}

#[tokio::test]
async fn a_policy_that_does_not_compile_stops_a_first_start_before_it_makes_anything() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW);
    let mut bad = catalog();
    bad.policies.push(PolicyText {
        file: "bad.cedar".into(),
        product: None,
        text: "@id(\"x\") permit (principal, action, resource) when { nonsense };".into(),
    });
    let opened = Identity::open(
        config(folder.path()).await,
        folder.path(),
        bad,
        bootstrap(),
        Secrets::default(),
        clock.clone(),
    );
    let told = opened.await.map(drop).unwrap_err().to_string();
    assert!(told.contains("bad.cedar"), "{told}");
    assert!(
        open(folder.path(), &clock).await.unwrap().1.is_some(),
        "the first start is still to come"
    );
}

#[tokio::test]
async fn a_newer_database_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &Clock::standing_at(NOW)).await.unwrap();
    let mut db = Beside::of(folder.path()).await;
    db.run("UPDATE _sqlx_migrations SET version = version + 9998").await;
    let told = complaint(folder.path()).await;
    assert!(told.contains("newer version"), "{told}");
}

#[tokio::test]
async fn a_bootstrap_that_names_a_group_of_no_product_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let text = "\
organization: {id: lerian}
administrator: {username: admin, email: a@b.c, groups: [no-group]}
application: {name: app}
";
    let bootstrap = Bootstrap::parse("policies/bootstrap.yaml", text).unwrap();
    let opened = Identity::open(
        config(&data).await,
        &data,
        catalog(),
        bootstrap,
        Secrets::default(),
        Clock::standing_at(NOW),
    );
    let told = opened.await.map(drop).unwrap_err().to_string();
    assert!(told.contains("policies/bootstrap.yaml:2:") && told.contains("`no-group`"), "{told}");
    assert!(!data.exists());
}

#[tokio::test]
async fn expired_changes_are_not_told_again() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "eve", &[]).await;
    service.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
    service.clock.advance(3600 + 61);
    let service = service.restart().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
    assert_eq!(service.facts(), []);
}

#[tokio::test]
async fn a_feed_that_nobody_follows_is_noticed_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, _) = open(folder.path(), &Clock::standing_at(NOW)).await.unwrap();
    let (publisher, mut subscription) = policy::feed::channel();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(identity.serve(listener, publisher, stopped));
    // The first message is lost on the way; it comes again.
    drop(subscription.next().await.unwrap());
    subscription.next().await.unwrap().done();
    stop.send_replace(true);
    serving.await.unwrap().unwrap();
}
