//! Copies of a SQLite file: made while it is served, and put back.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use identity::{Clock, Config, backup};
use policy::changes::Fact;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use super::harness::{ADMIN_PASSWORD, NOW, PASSWORD, Service, access, open};

async fn back_up(folder: &Path, file: &Path) -> Result<(), backup::BackupError> {
    backup::back_up(&Config::default(), folder, &Clock::standing_at(NOW), (file, false)).await
}

async fn restore(folder: &Path, file: &Path) -> Result<backup::Restored, backup::BackupError> {
    backup::restore(&Config::default(), folder, &Clock::standing_at(NOW + 60), file).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // What SQLite and its holders keep beside a file while it is open.
        .filter(|name| !["-wal", "-shm", "-held"].iter().any(|rest| name.ends_with(rest)))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_back_is_the_past_and_nothing_that_was_given_out_comes_to_life_with_it() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-editor-group"]).await;
    let tokens = service.sign_in("ana", PASSWORD).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("monday.db");
    back_up(service.folder.path(), &file).await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let told = back_up(service.folder.path(), &file).await.unwrap_err().to_string();
    assert!(told.contains("is there already"), "{told}");
    assert_eq!(names(elsewhere.path()), ["monday.db"]);
    // Since then: less for ana, and bob.
    let path = format!("/v1/users/{ana}");
    service.patch(&path, &admin, json!({"groups": ["demo-viewer-group"]})).await.expect(200);
    service.person(&admin, "bob", &[]).await;
    let known = service.told.lock().unwrap().changes.last().unwrap().sequence;
    let revision = service.snapshot().revision;
    let told = restore(service.folder.path(), &file).await.unwrap_err().to_string();
    assert!(told.contains("is in use; stop Postern"), "{told}");

    let folder = service.stop().await;
    let restored = restore(folder.path(), &file).await.unwrap();
    let before = restored.before.unwrap();
    assert!(before.exists() && restored.revision > revision.0);
    let clock = Clock::standing_at(NOW + 60);
    let service = Service::run(folder, clock, Config::default(), super::harness::catalog()).await;
    service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    let admin = access(&service.sign_in("admin", ADMIN_PASSWORD).await);
    let people = service.get("/v1/users", &admin).await.expect(200).to_string();
    assert!(people.contains("\"ana\"") && !people.contains("\"bob\""), "{people}");
    // A proxy that went on knows that ana has less. It is told what she has again, as news.
    assert!(service.snapshot().revision > revision);
    let told = service.told.lock().unwrap().changes.clone();
    let [change] = &told[..] else { panic!("{told:?}") };
    let Fact::Holds { groups, .. } = &change.fact else { panic!("{change:?}") };
    assert!(change.sequence > known && groups[0].as_str() == "demo-editor-group", "{change:?}");
    // The way back from the way back.
    let folder = service.stop().await;
    restore(folder.path(), &before).await.unwrap();
    open(folder.path(), &Clock::standing_at(NOW)).await.unwrap();
}

/// A copy of a backup, and what is done to it.
async fn spoilt(backup: &Path, name: &str, statement: &'static str) -> PathBuf {
    let file = backup.with_file_name(name);
    fs::copy(backup, &file).unwrap();
    let mut conn =
        SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_put_back_changes_nothing() {
    let service = Service::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let good = elsewhere.path().join("good.db");
    back_up(service.folder.path(), &good).await.unwrap();
    let folder = service.stop().await;
    let there = names(folder.path());
    let text = elsewhere.path().join("text.db");
    fs::write(&text, "not a database, though it is longer than nothing".repeat(99)).unwrap();
    let half = elsewhere.path().join("half.db");
    let whole = fs::read(&good).unwrap();
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let newer = "INSERT INTO _sqlx_migrations VALUES (9999, 'x', '2026-01-01', 1, x'00', 1)";
    let newer = spoilt(&good, "newer.db", newer).await;
    let empty = elsewhere.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    let in_two = elsewhere.path().join("two.db");
    fs::copy(&good, &in_two).unwrap();
    fs::write(elsewhere.path().join("two.db-wal"), "x").unwrap();
    for (file, expected) in [
        (text, "is damaged, or no backup"),
        (half, "is damaged, or no backup"),
        (newer, "newer version"),
        (empty, "holds no installation"),
        (in_two, "while it was in use"),
        (elsewhere.path().join("none.db"), "cannot be read"),
        (elsewhere.path().to_owned(), "cannot be"),
    ] {
        let told = restore(folder.path(), &file).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{told}\nwants {expected}");
        assert_eq!(names(folder.path()), there, "{told}");
    }
    // Sealed with another key than the one that is there.
    let key = folder.path().join(identity::MASTER_KEY);
    let right = fs::read(&key).unwrap();
    fs::write(&key, "5a".repeat(32)).unwrap();
    let told = restore(folder.path(), &good).await.unwrap_err().to_string();
    assert!(told.contains("sealed with another key"), "{told}");
    fs::write(&key, right).unwrap();
    let (_, first) = open(folder.path(), &Clock::standing_at(NOW)).await.unwrap();
    assert!(first.is_none());
    // With the database gone, and its key there, a backup takes its place.
    let lost = tempfile::tempdir().unwrap();
    fs::copy(&key, lost.path().join(identity::MASTER_KEY)).unwrap();
    let restored = restore(lost.path(), &good).await.unwrap();
    assert!(restored.before.is_none());
    let (_, first) = open(lost.path(), &Clock::standing_at(NOW)).await.unwrap();
    assert!(first.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_cannot_be_written_leaves_nothing() {
    let service = Service::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    for file in ["/dev/full/x.db", "none/x.db"] {
        let file = elsewhere.path().join(file);
        let told = back_up(service.folder.path(), &file).await.unwrap_err().to_string();
        assert!(told.contains("cannot be written"), "{told}");
    }
    let nowhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("x.db");
    let told = back_up(nowhere.path(), &file).await.unwrap_err().to_string();
    assert!(told.contains("start Postern once"), "{told}");
    assert!(names(elsewhere.path()).is_empty() && names(nowhere.path()).is_empty());
}
