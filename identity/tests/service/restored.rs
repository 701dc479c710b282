//! A PostgreSQL database whose tables were put back by its own tools.

use identity::{Clock, backup};

use super::harness::{ADMIN_PASSWORD, NOW, Service, access, catalog, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_out_before_counts_for_nothing() {
    let service = Service::start().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let revision = service.snapshot().revision;
    let config = config(service.folder.path()).await;
    let clock = Clock::standing_at(NOW + 60);
    let file = service.folder.path().join("x.db");
    let told = backup::back_up(&config, service.folder.path(), &service.clock, (&file, false))
        .await
        .unwrap_err();
    assert!(told.to_string().contains("pg_dump"), "{told}");
    let told = backup::restore(&config, service.folder.path(), &clock, &file).await.unwrap_err();
    assert!(told.to_string().contains("pg_dump"), "{told}");
    let told = backup::renew_server(&config, service.folder.path(), &clock).await.unwrap_err();
    assert!(told.to_string().contains("stop it everywhere"), "{told}");
    let folder = service.stop().await;
    let restored = backup::renew_server(&config, folder.path(), &clock).await.unwrap();
    assert!(restored.before.is_none() && restored.revision > revision.0);
    let service = Service::run(folder, clock, config, catalog()).await;
    service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    service.sign_in("admin", ADMIN_PASSWORD).await;
    assert!(service.snapshot().revision > revision);
}
