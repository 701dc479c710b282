//! The folders of plain Cedar stores, watched: what is changed in one is in force as a whole once it
//! lies still and holds. What does not hold is told, and what was in force stays.

use std::{path::Path, sync::Arc};

use futures_util::future::join_all;
use proxy::doors::authzen::Stores;
use tokio::task::JoinError;

use super::{Files, Rest, Scope};

/// Watch all of them, and never end.
pub async fn run(stores: Arc<Stores>) {
    join_all(stores.folders().map(|(name, folder)| follow(&stores, name, folder))).await;
    // Where there is none.
    std::future::pending::<()>().await;
}

async fn follow(stores: &Arc<Stores>, name: &str, folder: &Path) {
    let mut rest = Rest::new(folder, Scope::Store);
    // What lies there is read once more, for it may have changed since the start.
    let mut seen = Files::new();
    loop {
        match look(stores, name, folder, &mut rest, &seen).await {
            Ok(files) => seen = files,
            Err(error) => {
                tracing::error!(%error, "looking at the store `{name}` was broken off");
                rest.wait().await;
            }
        }
    }
}

/// Wait for another set of files than was seen, and deal with it.
async fn look(
    stores: &Arc<Stores>,
    name: &str,
    folder: &Path,
    rest: &mut Rest,
    seen: &Files,
) -> Result<Files, JoinError> {
    let files = rest.changed(seen).await?;
    let (stores, of, read, at) =
        (Arc::clone(stores), name.to_owned(), files.clone(), folder.to_owned());
    // What was parsed must be what was seen lying still, and nothing in between.
    let reread = move || stores.reread(&of, || Scope::Store.gather(&at) == read);
    match tokio::task::spawn_blocking(reread).await? {
        Ok(true) if seen.is_empty() => {}
        Ok(true) => tracing::info!(store = name, "the changed store `{name}` is in force"),
        Ok(false) => return Ok(seen.clone()),
        Err(complaints) => {
            for complaint in complaints.iter() {
                tracing::error!(
                    store = name,
                    "the changed store `{name}` is refused, and what was in force still is: {complaint}"
                );
            }
        }
    }
    Ok(files)
}
