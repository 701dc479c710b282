//! Another master key, from a file, the configuration or a command.

use std::{fs, path::Path, sync::Arc};

use identity::{Clock, Config, MASTER_KEY, MasterSource, Operator, operator::pepper, rekey};
use secrecy::SecretString;
use serde_json::json;

use super::{
    ON_POSTGRES,
    code::{Browser, web},
    external::through,
    harness::{ADMIN_PASSWORD, Beside, NOW, PASSWORD, Service, access, catalog, config, open_with},
    issuer::{Issuer, near},
};

fn given(file: &Path) -> MasterSource {
    MasterSource::Given(SecretString::from(fs::read_to_string(file).unwrap().trim()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_key_takes_over_and_the_old_one_opens_nothing() {
    let retrievable = Config { retrievable_secrets: true, ..Config::default() };
    let service = Service::start_with(retrievable.clone()).await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let body = json!({"name": "demo", "description": "x"});
    let made = service.post("/v1/applications", &access(&tokens), body).await.expect(201);
    let path = format!("/v1/applications/{}", made["id"].as_str().unwrap());
    let shown = service.get(&path, &access(&tokens)).await.expect(200);
    let config = Config { database: config(service.folder.path()).await.database, ..retrievable };
    let clock = Clock::standing_at(NOW);
    let keys = tempfile::tempdir().unwrap();
    let new = keys.path().join("new.key");
    let told = rekey::re_encrypt(&config, service.folder.path(), &clock, &new).await;
    let told = told.unwrap_err().to_string();
    assert!(told.contains("is in use"), "{told}");
    let folder = service.stop().await;
    let old = fs::read_to_string(folder.path().join(MASTER_KEY)).unwrap();
    let done = rekey::re_encrypt(&config, folder.path(), &clock, &new).await.unwrap();
    assert!(done.resealed >= 2, "{done:?}");
    assert_eq!(fs::read_to_string(done.before.unwrap()).unwrap(), old);
    let here = fs::read_to_string(folder.path().join(MASTER_KEY)).unwrap();
    assert_eq!(here, fs::read_to_string(&new).unwrap());
    let told = rekey::re_encrypt(&config, folder.path(), &clock, &new).await.unwrap_err();
    assert!(told.to_string().contains("the one that is in use"), "{told}");
    // Tokens, passwords and secrets are what they were.
    let service = Service::run(folder, clock.clone(), config.clone(), catalog()).await;
    assert_eq!(service.get(&path, &access(&tokens)).await.expect(200), shown);
    service.sign_in("admin", ADMIN_PASSWORD).await;
    let folder = service.stop().await;
    let wrong =
        Config { master: MasterSource::Given(SecretString::from(old.trim())), ..config.clone() };
    let told = open_with(folder.path(), &clock, wrong).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("sealed with another key"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_from_elsewhere_is_exchanged_in_two_steps_and_both_work_between_them() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let (one, two) = (elsewhere.path().join("one"), elsewhere.path().join("two"));
    fs::write(&one, "5a".repeat(32)).unwrap();
    let with = async |master| Config { master, ..config(folder.path()).await };
    let clock = Clock::standing_at(NOW);
    let service =
        Service::run(Arc::clone(&folder), clock.clone(), with(given(&one)).await, catalog()).await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    service.stop().await;
    assert!(!folder.path().join(MASTER_KEY).exists());
    let old = with(given(&one)).await;
    let done = rekey::re_encrypt(&old, folder.path(), &clock, &two).await.unwrap();
    assert!(done.before.is_none());
    // Cut short here, it can be begun anew.
    rekey::re_encrypt(&old, folder.path(), &clock, &two).await.unwrap();
    let program = vec!["/bin/cat".to_owned(), two.display().to_string()];
    let timeout = std::time::Duration::from_secs(10);
    let new = with(MasterSource::Command { program, timeout }).await;
    for config in [old.clone(), new.clone()] {
        let folder = Arc::clone(&folder);
        let service = Service::run(folder, clock.clone(), config, catalog()).await;
        service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
        service.stop().await;
    }
    rekey::finish(&new, folder.path(), &clock).await.unwrap();
    let told = Operator::open(old, folder.path(), clock.clone()).await.map(drop).unwrap_err();
    assert!(told.to_string().contains("`master_key.value`"), "{told}");
    let service = Service::run(Arc::clone(&folder), clock, new, catalog()).await;
    service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_an_identity_provider_is_sealed_anew_and_stays_what_it_is() {
    let service = Service::start_with(near()).await;
    let (admin, app, issuer) = (service.admin().await, web(&service).await, Issuer::start().await);
    let provider = issuer.provide(&service, &admin, json!({})).await;
    let config = Config { database: config(service.folder.path()).await.database, ..near() };
    let folder = service.stop().await;
    let sealed = async || {
        let hex = if ON_POSTGRES { "encode(sealed, 'hex')" } else { "hex(sealed)" };
        let query = format!("SELECT {hex} FROM identity_providers");
        Beside::of(folder.path()).await.text(&query).await
    };
    let before = sealed().await;
    let keys = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW);
    let new = keys.path().join("new.key");
    rekey::re_encrypt(&config, folder.path(), &clock, &new).await.unwrap();
    assert_ne!(sealed().await, before);
    let service = Service::run(Arc::clone(&folder), clock, config, catalog()).await;
    let place = (&service, &app);
    through(place, &Browser::default(), (&issuer, &provider), |claims| claims).await.is(403);
    assert_eq!(issuer.knows.lock().unwrap().told[0].0, Issuer::basic());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_pepper_takes_over_as_people_sign_in_and_the_old_one_goes_when_nothing_hangs_on_it()
{
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let (clock, place) = (Clock::standing_at(NOW), service.folder.clone());
    let config = config(place.path()).await;
    let operator =
        async || Operator::open(config.clone(), place.path(), clock.clone()).await.unwrap();
    let counted = async || {
        let operator = operator().await;
        let shown = operator.peppers().await.unwrap();
        operator.close().await;
        shown.iter().map(|p| (p.generation, p.newest, p.passwords)).collect::<Vec<_>>()
    };
    assert_eq!(counted().await, [(1, true, 2)]);
    let told = pepper::rotate(&config, place.path(), &clock).await.unwrap_err().to_string();
    assert!(told.contains("is in use"), "{told}");
    let only = operator().await;
    let told = only.retire_peppers(true).await.unwrap_err().to_string();
    assert!(told.contains("no pepper but"), "{told}");
    only.close().await;
    let folder = service.stop().await;
    assert_eq!(pepper::rotate(&config, place.path(), &clock).await.unwrap(), 2);
    let service = Service::run(folder, clock.clone(), config.clone(), catalog()).await;
    assert_eq!(counted().await, [(1, false, 2), (2, true, 0)]);
    // Who signs in is hashed anew; a wrong password changes nothing.
    let wrong = json!({"grantType": "password", "username": "ana", "password": "Wrong-Horse-1x"});
    service.token(wrong).await.refused(401, "AUT-1002");
    service.sign_in("admin", ADMIN_PASSWORD).await;
    assert_eq!(counted().await, [(1, false, 1), (2, true, 1)]);
    service.sign_in("admin", ADMIN_PASSWORD).await;
    let by = operator().await;
    let told = by.retire_peppers(false).await.unwrap_err().to_string();
    assert!(told.contains("1 passwords still hang on an earlier pepper"), "{told}");
    // With force, whoever has not signed in needs another password, and nobody else does.
    assert_eq!(by.retire_peppers(true).await.unwrap(), 1);
    by.close().await;
    assert_eq!(counted().await, [(2, true, 1)]);
    let right = json!({"grantType": "password", "username": "ana", "password": PASSWORD});
    service.token(right.clone()).await.refused(401, "AUT-1002");
    let admin = service.admin().await;
    let path = format!("/v1/users/{ana}/reset-password");
    service.patch(&path, &admin, json!({"newPassword": "Sturdy-Horse-2"})).await;
    // Another master key takes the peppers over, and another pepper comes after the second.
    let folder = service.stop().await;
    assert_eq!(pepper::rotate(&config, place.path(), &clock).await.unwrap(), 3);
    let keys = tempfile::tempdir().unwrap();
    rekey::re_encrypt(&config, place.path(), &clock, &keys.path().join("new")).await.unwrap();
    let service = Service::run(folder, clock.clone(), config.clone(), catalog()).await;
    service.sign_in("admin", ADMIN_PASSWORD).await;
    let shown = counted().await;
    assert_eq!(shown.last(), Some(&(3, true, 1)), "{shown:?}");
    let log =
        service.get("/v1/audit?limit=100", &service.admin().await).await.expect(200).to_string();
    for event in ["installation.pepper-rotated", "installation.pepper-retired"] {
        assert!(log.contains(event), "{event} in {log}");
    }
}
