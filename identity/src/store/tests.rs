//! What both databases must do, whatever rules stand on them.

#[path = "../../tests/service/postgres.rs"]
#[expect(dead_code, reason = "nobody is killed here")]
mod server;

use std::future::Future;

use policy::{changes::Fact, model::name::SessionId};
use tempfile::TempDir;

use self::server::Server;
use super::*;
use crate::model::{
    app::{NewApplication, Registration},
    session::{Methods, Session},
    user::NewUser,
};

const NOW: u64 = 1_800_000_000;

/// Hold both databases, each empty, to the same behaviour.
async fn both<F: Future<Output = ()>>(suite: impl Fn(Store) -> F) {
    let folder: TempDir = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("postern.db")).unwrap();
    let server = Server::shared().database().await;
    let server = Database::parse(&server.into(), None, CONNECTIONS).unwrap();
    for database in [Database::Embedded, server] {
        let (store, turn) = Store::open(&database, folder.path()).await.unwrap();
        turn.end().await;
        suite(store.clone()).await;
        store.close().await;
    }
}

fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}

fn fact(name: &str) -> Fact {
    let session: SessionId = name.parse().unwrap();
    Fact::SessionEnded { session }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_every_change_in_order_however_writers_overtake_each_other() {
    const WRITERS: u64 = 5;
    const EACH: u64 = 12;
    both(async |store| {
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let org = org(&format!("org{writer}"));
                    for n in 0..EACH {
                        let mut tx = store.begin(&org).await.unwrap();
                        tx.record(&fact(&format!("s{writer}-{n}")), (NOW, 60, 0)).await.unwrap();
                        // Between the number and the commit there is time for others.
                        tokio::time::sleep(Duration::from_millis((n * 7 + writer) % 4)).await;
                        if n % 3 == 2 {
                            drop(tx);
                        } else {
                            tx.commit().await.unwrap();
                        }
                    }
                })
            })
            .collect();
        let all = WRITERS * EACH * 2 / 3;
        let mut told = Sequence(0);
        while told.0 < all {
            let marks = store.marks().await.unwrap();
            let page = store.changes_after(told, NOW, 256).await.unwrap();
            assert!(page.len() as u64 >= marks.sequence.0 - told.0, "{marks:?} {page:?}");
            for change in page {
                // Numbers that were taken back are given again, so there is never a gap.
                assert_eq!(change.sequence.0, told.0 + 1);
                told = change.sequence;
            }
            tokio::task::yield_now().await;
        }
        for writer in writing {
            writer.await.unwrap();
        }
        assert_eq!(store.marks().await.unwrap().sequence.0, all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_an_organization_alone_keeps_everybody_else_waiting() {
    both(async |store| {
        let alone = store.begin(&org("acme")).await.unwrap();
        let wait = |beside: bool| {
            let store = store.clone();
            tokio::spawn(async move {
                let acme = org("acme");
                let tx =
                    if beside { store.begin_beside(&acme).await } else { store.begin(&acme).await };
                tx.unwrap().commit().await.unwrap();
            })
        };
        let waiting = [wait(true), wait(false)];
        // A reader waits for nobody; nor, where there is more than one writer, does another tenant.
        store.read(&org("acme")).await.unwrap().organization().await.unwrap();
        if let Pools::Postgres(_) = store.0 {
            store.begin(&org("other")).await.unwrap().commit().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        alone.commit().await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        if let Pools::Postgres(_) = store.0 {
            let one = store.begin_beside(&org("acme")).await.unwrap();
            let other = store.begin_beside(&org("acme")).await.unwrap();
            other.commit().await.unwrap();
            one.commit().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_for_one_organization_the_others_are_served() {
    both(async |store| {
        // A file has one writer.
        let Pools::Postgres(_) = store.0 else { return };
        let alone = store.begin(&org("acme")).await.unwrap();
        let waiting: Vec<_> = (0..3 * CONNECTIONS)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let acme = org("acme");
                    let tx = if n % 2 == 0 {
                        store.begin(&acme).await
                    } else {
                        store.begin_beside(&acme).await
                    };
                    tx.unwrap().commit().await.unwrap();
                })
            })
            .collect();
        // Until they have come as far as they get.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let others = async {
            for name in ["one", "two", "three"] {
                store.begin(&org(name)).await.unwrap().commit().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE / 2, others).await.expect("they had to wait");
        alone.commit().await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_never_was_and_holds_nothing() {
    both(async |store| {
        for _ in 0..40 {
            let mut tx = store.begin(&org("acme")).await.unwrap();
            tx.record(&fact("s"), (NOW, 60, 0)).await.unwrap();
            tx.move_revision().await.unwrap();
        }
        assert_eq!(store.marks().await.unwrap().sequence, Sequence(0));
        assert_eq!(store.changes_after(Sequence(0), NOW, 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_change_is_kept_as_long_as_the_longest_token_of_any_process() {
    both(async |store| {
        store.longest_token(7200, NOW, 60).await.unwrap();
        let mut tx = store.begin(&org("acme")).await.unwrap();
        // Of a process that was started before, with a shorter lifetime.
        tx.record(&fact("s"), (NOW, 600, 60)).await.unwrap();
        tx.commit().await.unwrap();
        let kept = store.changes_after(Sequence(0), NOW, 9).await.unwrap();
        assert_eq!(kept[0].until, NOW + 7200 + 60);
        while store.purge(NOW + 7259).await.unwrap() {}
        assert_eq!(store.changes_after(Sequence(0), NOW, 9).await.unwrap().len(), 1);
        while store.purge(NOW + 7260).await.unwrap() {}
        assert_eq!(store.changes_after(Sequence(0), NOW, 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn starts_with_different_lifetimes_at_the_same_time_keep_the_longest() {
    both(async |store| {
        let starts: Vec<_> = [600, 7200, 3600, 60]
            .into_iter()
            .map(|lifetime| {
                let store = store.clone();
                tokio::spawn(async move { store.longest_token(lifetime, NOW, 60).await.unwrap() })
            })
            .collect();
        for start in starts {
            start.await.unwrap();
        }
        assert_eq!(store.longest_token(60, NOW, 60).await.unwrap(), 7200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_somebody_goes_on_with_is_ended_after_that() {
    both(async |store| {
        let acme = org("acme");
        let session = signed_in(&store, &acme).await;
        let mut held = store.begin_beside(&acme).await.unwrap();
        held.hold_session(&session, NOW).await.unwrap().unwrap();
        let ending = {
            let (store, acme, session) = (store.clone(), acme.clone(), session.clone());
            tokio::spawn(async move {
                let mut tx = store.begin_beside(&acme).await.unwrap();
                assert!(tx.end_session(&session, NOW).await.unwrap());
                tx.commit().await.unwrap();
            })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!ending.is_finished());
        held.extend_session(&session, NOW + 60, NOW).await.unwrap();
        held.commit().await.unwrap();
        ending.await.unwrap();
        let mut tx = store.begin_beside(&acme).await.unwrap();
        assert_eq!(tx.hold_session(&session, NOW).await.unwrap(), None);
        assert!(!tx.end_session(&session, NOW).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn clean_up_takes_what_has_expired_with_all_that_hangs_on_it_and_passes_over_what_is_held() {
    both(async |store| {
        let acme = org("acme");
        let session = signed_in(&store, &acme).await;
        while store.purge(NOW + 9).await.unwrap() {}
        let mut tx = store.begin_beside(&acme).await.unwrap();
        assert!(tx.hold_session(&session, NOW).await.unwrap().is_some());
        if let Pools::Postgres(_) = store.0 {
            while store.purge(NOW + 10).await.unwrap() {}
        }
        tx.extend_session(&session, NOW + 20, NOW).await.unwrap();
        tx.commit().await.unwrap();
        while store.purge(NOW + 19).await.unwrap() {}
        let held = store.read(&acme).await.unwrap().living_session(&session, NOW).await.unwrap();
        assert!(held.is_some());
        while store.purge(NOW + 20).await.unwrap() {}
        let held = store.read(&acme).await.unwrap().living_session(&session, NOW).await.unwrap();
        assert_eq!(held, None);
    })
    .await;
}

/// An organization with somebody in it who is signed in until `NOW + 10`.
async fn signed_in(store: &Store, org: &OrgId) -> SessionId {
    let session = Session {
        id: "s".parse().unwrap(),
        user: "u".parse().unwrap(),
        app: "a".parse().unwrap(),
        auth_time: NOW,
        methods: Methods::password(),
        remembered: false,
        grant: None,
        browser: None,
    };
    let mut tx = store.begin_first(org).await.unwrap();
    tx.add_organization("Acme", &session.app, NOW).await.unwrap();
    let text = str::to_owned;
    let application = NewApplication {
        id: session.app.clone(),
        name: text("demo"),
        description: text(""),
        client_id: text("c"),
        secret_hash: vec![0],
        secret_sealed: None,
        registration: Registration::default(),
    };
    tx.add_application(&application, NOW).await.unwrap();
    let user = NewUser {
        id: session.user.clone(),
        username: text("ana"),
        email: text("ana@example.com"),
        first_name: text(""),
        last_name: text(""),
        groups: Vec::new(),
        password_hash: text(""),
    };
    tx.add_user(&user, NOW).await.unwrap();
    tx.add_session(&session, NOW + 10).await.unwrap();
    tx.commit().await.unwrap();
    session.id
}
