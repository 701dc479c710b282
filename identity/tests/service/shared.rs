//! Several processes on one database and one Valkey.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use identity::{CacheAddress, Config, MASTER_KEY};
use secrecy::SecretString;
use serde_json::json;

use super::harness::{ADMIN_PASSWORD, Answer, Service, catalog, config};
use crate::cache::Valkey;

async fn sign_in(service: &Service, password: &str) -> Answer {
    let body = json!({"grantType": "password", "username": "admin", "password": password});
    service.token(body).await
}

/// Two processes, with their counters in that Valkey.
async fn two(valkey: &Valkey) -> (Service, Service) {
    let address = CacheAddress::parse(&SecretString::from(valkey.address())).unwrap();
    let cache = Some(address);
    let one = Service::start_with(Config { cache: cache.clone(), ..Config::default() }).await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::copy(one.folder.path().join(MASTER_KEY), folder.path().join(MASTER_KEY)).unwrap();
    let config = Config { cache, ..config(one.folder.path()).await };
    let other = Service::run(folder, one.clock.clone(), config, catalog()).await;
    (one, other)
}

/// Wait until a process says whether it leads.
async fn leads(service: &Service, expected: bool) {
    let told = async {
        loop {
            let ready = service.get("/readyz", "").await.expect(200);
            if ready["leads"] == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it never came to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guess_at_one_process_counts_at_the_other() {
    let valkey = Valkey::start();
    let (one, other) = two(&valkey).await;
    for n in 0..5 {
        let service = if n % 2 == 0 { &one } else { &other };
        sign_in(service, "wrong").await.refused(401, "AUT-1002");
    }
    for service in [&one, &other] {
        sign_in(service, ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    }
    one.clock.advance(2);
    sign_in(&other, ADMIN_PASSWORD).await.expect(200);
    sign_in(&one, ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valkey_that_goes_in_the_middle_of_traffic_is_noticed_by_nobody() {
    let valkey = Valkey::start();
    let (one, other) = two(&valkey).await;
    let valkey = Arc::new(Mutex::new(valkey));
    // Held up before, and throughout.
    for n in 0..5 {
        sign_in(if n % 2 == 0 { &one } else { &other }, "wrong").await.refused(401, "AUT-1002");
    }
    for service in [&one, &other] {
        sign_in(service, ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    }
    let (one, other) = (Arc::new(one), Arc::new(other));
    let done = Arc::new(AtomicBool::new(false));
    let traffic: Vec<_> = [&one, &other]
        .map(|service| {
            let (service, done) = (Arc::clone(service), Arc::clone(&done));
            tokio::spawn(async move {
                let mut asked = 0;
                while !done.load(Ordering::Acquire) {
                    let body = json!({
                        "grantType": "client_credentials",
                        "clientId": service.client_id, "clientSecret": service.client_secret,
                    });
                    service.token(body).await.expect(200);
                    // Right, and within its wait.
                    sign_in(&service, ADMIN_PASSWORD).await.refused(401, "AUT-1002");
                    asked += 1;
                    // More would be too many for the network.
                    if asked == 4 {
                        break;
                    }
                }
                asked
            })
        })
        .into();
    let order = |order: fn(&mut Valkey)| {
        let valkey = Arc::clone(&valkey);
        tokio::task::spawn_blocking(move || order(&mut valkey.lock().unwrap()))
    };
    order(Valkey::stop).await.unwrap();
    sign_in(&one, "wrong").await.refused(401, "AUT-1002");
    order(Valkey::go_on).await.unwrap();
    order(Valkey::kill).await.unwrap();
    sign_in(&other, "wrong").await.refused(401, "AUT-1002");
    done.store(true, Ordering::Release);
    for asked in traffic {
        assert!(asked.await.unwrap() > 0);
    }
    // What each has heard still counts; and who waits gets in without it.
    sign_in(&one, ADMIN_PASSWORD).await.refused(401, "AUT-1002");
    one.clock.advance(61);
    sign_in(&one, ADMIN_PASSWORD).await.expect(200);
    order(Valkey::start_again).await.unwrap();
    sign_in(&other, ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_leads_and_when_it_goes_another_does() {
    let valkey = Valkey::start();
    let (one, other) = two(&valkey).await;
    leads(&one, true).await;
    leads(&other, false).await;
    // What has expired goes, though only one sees to it.
    let mut db = one.database().await;
    let row = "INSERT INTO familiar_networks SELECT 'n'::bytea, org_id, id, 0, 1 FROM users";
    db.run(row).await;
    one.stop().await;
    leads(&other, true).await;
    let gone = async {
        while db.number("SELECT COUNT(*) FROM familiar_networks").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("nobody cleaned up");
}
