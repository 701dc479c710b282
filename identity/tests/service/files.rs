//! What only a database in a file can be: damaged, or open to others.

use std::{fs, os::unix::fs::PermissionsExt};

use identity::Clock;

use super::{
    harness::{NOW, Service, open},
    start::complaint,
};

#[tokio::test]
async fn a_file_that_is_no_database_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("postern.db"),
        "not a database, and long enough to be looked at\n".repeat(40),
    )
    .unwrap();
    let told = complaint(&data).await;
    assert!(told.contains("postern.db is damaged or no database"), "{told}");
    assert!(!data.join("master.key").exists(), "a failed start leaves nothing behind");
}

#[tokio::test]
async fn a_database_with_a_damaged_page_stops_the_start() {
    let folder = Service::start().await.stop().await;
    let file = folder.path().join("postern.db");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let told = complaint(folder.path()).await;
    assert!(told.contains("postern.db is damaged"), "{told}");
}

#[tokio::test]
async fn a_database_that_others_could_read_is_theirs_no_more() {
    let folder = Service::start().await.stop().await;
    let file = folder.path().join("postern.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    open(folder.path(), &Clock::standing_at(NOW)).await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
