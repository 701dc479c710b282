//! One suite for all counters, and what becomes of them when Valkey goes.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::master::MasterKey;

#[path = "../../tests/service/valkey.rs"]
mod server;

const NOW: u64 = 1_800_000_000;

fn hasher() -> Hasher {
    let folder = tempfile::tempdir().unwrap();
    Hasher::new(&MasterKey::load_or_make(&folder.path().join("master.key")).unwrap(), "tests")
}

async fn at(address: &str) -> Cache {
    let address = Address::parse(&SecretString::from(address)).unwrap();
    Cache::open(Some(&address)).await.unwrap()
}

/// Wait until it answers again.
async fn back(cache: &Cache) {
    let Cache::Valkey(valkey) = cache else { panic!("it is none") };
    let back = async {
        while !valkey.is_well() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.expect("it never came back");
}

async fn holds_to_the_suite(cache: &Cache) {
    let hasher = hasher();
    let key = Key::new(&hasher, "a", &["x"]);
    let count = |count, left| Counted { count, left };
    // It starts with the first that is added, and ends a window later, whatever comes meanwhile.
    assert_eq!(cache.count(key, NOW).await, count(0, 0));
    assert_eq!(cache.add(key, -1, (NOW, 60)).await, count(0, 0));
    assert_eq!(cache.add(key, 1, (NOW, 60)).await, count(1, 60));
    assert_eq!(cache.add(key, 3, (NOW + 20, 60)).await, count(4, 40));
    assert_eq!(cache.count(key, NOW + 59).await, count(4, 1));
    assert_eq!(cache.count(key, NOW + 60).await, count(0, 0));
    assert_eq!(cache.add(key, -1, (NOW + 60, 60)).await, count(0, 0));
    assert_eq!(cache.add(key, 1, (NOW + 60, 30)).await, count(1, 30));
    // No further than to nothing.
    assert_eq!(cache.add(key, -5, (NOW + 60, 30)).await, count(0, 30));
    assert_eq!(cache.add(key, 1, (NOW + 61, 30)).await, count(1, 29));
    cache.remove(key).await;
    assert_eq!(cache.count(key, NOW + 61).await, count(0, 0));
    // Names are apart, wherever one ends and the next begins.
    let others = [
        Key::new(&hasher, "a", &["x", ""]),
        Key::new(&hasher, "a", &["", "x"]),
        Key::new(&hasher, "a", &["x\n0\n"]),
        Key::new(&hasher, "b", &["x"]),
        Key::new(&self::hasher(), "a", &["x"]),
    ];
    cache.add(key, 1, (NOW, 60)).await;
    for other in others {
        assert_eq!(cache.add(other, 1, (NOW, 60)).await.count, 1);
    }
    // Of many at once none is lost.
    let key = Key::new(&hasher, "many", &[]);
    let all = (0..100).map(|_| cache.add(key, 1, (NOW, 60)));
    let mut counts: Vec<_> =
        futures_util::future::join_all(all).await.iter().map(|c| c.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn counters_of_this_process_hold_to_the_suite() {
    holds_to_the_suite(&Cache::default()).await;
}

#[tokio::test]
async fn counters_in_valkey_hold_to_the_suite_and_are_one_for_all() {
    let server = server::Valkey::start();
    let (one, other) = (at(&server.address()).await, at(&server.address()).await);
    holds_to_the_suite(&one).await;
    let key = Key::new(&hasher(), "shared", &[]);
    for n in 1..=6 {
        let cache = if n % 2 == 0 { &one } else { &other };
        assert_eq!(cache.add(key, 1, (NOW, 60)).await.count, n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valkey_that_dies_or_hangs_costs_one_wait_and_no_count_and_comes_back_by_itself() {
    let mut server = server::Valkey::start();
    let cache = at(&server.address()).await;
    let key = Key::new(&hasher(), "a", &[]);
    let mut count = 0;
    let add = async |count: &mut u64| {
        *count += 1;
        assert_eq!(cache.add(key, 1, (NOW, 3600)).await.count, *count);
    };
    for fault in ["kill", "stop"] {
        for _ in 0..3 {
            add(&mut count).await;
        }
        if fault == "kill" {
            server.kill();
        } else {
            server.stop();
        }
        let start = Instant::now();
        for _ in 0..200 {
            add(&mut count).await;
        }
        // One wait of 50 ms; two hundred of them would be ten seconds.
        assert!(start.elapsed() < Duration::from_secs(5), "{fault}: {:?}", start.elapsed());
        if fault == "kill" {
            server.start_again();
        } else {
            server.go_on();
        }
        back(&cache).await;
        // What it has forgotten, or never heard of, is still known here.
        add(&mut count).await;
    }
    let other = at(&server.address()).await;
    let fresh = Key::new(&hasher(), "b", &[]);
    cache.add(fresh, 1, (NOW, 60)).await;
    assert_eq!(other.add(fresh, 1, (NOW, 60)).await.count, 2, "it counts for both again");
}

#[tokio::test]
async fn one_that_is_not_there_at_the_start_is_used_once_it_is() {
    let mut server = server::Valkey::start();
    server.kill();
    let cache = at(&server.address()).await;
    let key = Key::new(&hasher(), "a", &[]);
    assert_eq!(cache.add(key, 1, (NOW, 60)).await.count, 1);
    server.start_again();
    back(&cache).await;
    let fresh = Key::new(&hasher(), "b", &[]);
    cache.add(fresh, 1, (NOW, 60)).await;
    assert_eq!(at(&server.address()).await.count(fresh, NOW).await.count, 1);
}

#[tokio::test]
async fn whatever_answers_nonsense_is_not_believed() {
    let answers: [&'static [u8]; 7] = [
        b"+OK\r\n",
        b":1\r\n",
        b"*2\r\n:-5\r\n:9\r\n",
        b"*3\r\n:0\r\n:0\r\n:0\r\n",
        b"$-1\r\n",
        b"\xff\xfe\x00 nonsense",
        b"-ERR no\r\n",
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut heard = [0; 4096];
                    while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {
                        // As to each of the commands that may have come at once.
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let cache = at(&address).await;
        let key = Key::new(&hasher(), "a", &[]);
        for n in 1..=7 {
            assert_eq!(cache.add(key, 1, (NOW, 60)).await.count, n, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_somebody_else_left_under_the_name_of_a_counter_is_none() {
    let server = server::Valkey::start();
    let cache = at(&server.address()).await;
    let key = Key::new(&hasher(), "a", &[]);
    let client = redis::Client::open(server.address()).unwrap();
    let mut beside = client.get_multiplexed_async_connection().await.unwrap();
    let name = format!("postern:{}", hex::encode(key.0));
    for value in ["", "\u{0}", "99"] {
        redis::cmd("SET").arg(&name).arg(value).exec_async(&mut beside).await.unwrap();
        back(&cache).await;
        cache.add(key, 1, (NOW, 60)).await;
    }
    assert_eq!(cache.count(key, NOW).await.count, 3);
}

#[test]
fn an_address_is_of_a_kind_that_is_known_and_is_never_shown() {
    for good in ["redis://localhost", "rediss://:hush@cache.example.com:6380/2", "unix:///run/v"] {
        let address = Address::parse(&SecretString::from(good)).unwrap();
        assert!(!format!("{address:?}").contains("hush"));
    }
    for bad in ["", "localhost:6379", "http://localhost", "redis://", "redis://localhost/x"] {
        assert!(Address::parse(&SecretString::from(bad)).is_err(), "{bad}");
    }
}
