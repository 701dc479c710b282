//! The folder of the shadow set, watched: what lies still in it is asked beside what is in force.
//! What does not hold is told, and what was asked before is asked on.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::join;
use policy::{complaint::Complaints, folder};
use proxy::{live::Live, shadow::Shadow};
use tokio::task::{JoinError, spawn_blocking};

use super::{Files, Rest, Scope};

/// How often it is looked whether something else is in force.
const LOOK: Duration = Duration::from_millis(250);

/// Watch it, if there is one, and never end.
pub async fn run(shadow: Option<Arc<Shadow>>, live: Arc<Live>) {
    let ready = live.ready().wait_for(|ready| *ready).await.is_ok();
    if let Some(shadow) = shadow.filter(|_| ready) {
        join(of_folder(&shadow, &live), of_live(&shadow, &live)).await;
    }
    std::future::pending::<()>().await;
}

/// Ask what the folder holds, whenever that is another set.
async fn of_folder(shadow: &Arc<Shadow>, live: &Arc<Live>) {
    let folder = shadow.folder().to_owned();
    let mut rest = Rest::new(&folder, Scope::InForce);
    let mut seen = Files::new();
    loop {
        match look(shadow, live, &folder, &mut rest, &seen).await {
            Ok(files) => seen = files,
            Err(error) => {
                tracing::error!(%error, "looking at the shadow set was broken off");
                rest.wait().await;
            }
        }
    }
}

async fn look(
    shadow: &Arc<Shadow>,
    live: &Arc<Live>,
    folder: &Path,
    rest: &mut Rest,
    seen: &Files,
) -> Result<Files, JoinError> {
    let files = rest.changed(seen).await?;
    let (of, live, at, read) =
        (Arc::clone(shadow), Arc::clone(live), folder.to_owned(), files.clone());
    let adopt = move || {
        let catalog = folder::read(&at)?;
        // What was parsed must be what was seen lying still, and nothing in between.
        if Scope::InForce.gather(&at) != read {
            return Ok(false);
        }
        of.adopt(catalog, &live).map(|()| true)
    };
    match spawn_blocking(adopt).await? {
        Ok(true) => tracing::info!("the shadow set is asked"),
        Ok(false) => return Ok(seen.clone()),
        Err(complaints) => refuse(shadow, &complaints),
    }
    Ok(files)
}

/// Compile it again when something else has come into force.
async fn of_live(shadow: &Arc<Shadow>, live: &Arc<Live>) {
    let mut failed = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(revision) = shadow.behind(live).filter(|behind| failed != Some(*behind)) else {
            continue;
        };
        let (of, on) = (Arc::clone(shadow), Arc::clone(live));
        failed = match spawn_blocking(move || of.follow(&on)).await {
            Ok(Ok(())) => None,
            Ok(Err(complaints)) => {
                refuse(shadow, &complaints);
                Some(revision)
            }
            Err(_) => Some(revision),
        };
    }
}

fn refuse(shadow: &Shadow, complaints: &Complaints) {
    shadow.refused(complaints.to_string());
    for complaint in complaints.iter() {
        tracing::error!("the shadow set is refused: {complaint}");
    }
}
