//! Letters that nobody waits for: the outbox.
//!
//! Whoever asks for one is answered as soon as that is kept, and before anything is looked up, so the
//! answer and its time tell nothing of whom it would go to. What a rule has a person told is kept by
//! the commit that makes it true. A letter lies sealed, and is sent by the process that leads, at
//! least once: a turn is taken before it is sent, so that whoever dies on the way leaves it to the
//! next one. One that is not taken is sent again, less and less often, until what it carries is good
//! no more; then it is dropped, which the audit log tells.

use std::time::Duration;

use futures_util::future::join_all;
use policy::model::name::{AppId, OrgId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use zeroize::Zeroizing;

use crate::{
    app::App,
    asker::{self, Asker},
    clock,
    error::Error,
    forgotten,
    model::{
        event::{Actor, Change, Event, Target},
        letter::Letter,
    },
    problem::chain,
    store::Tx,
};

/// How often it is looked whether something is due, where nobody says so.
const TICK: Duration = Duration::from_secs(2);
/// How many are on their way at once: a mail server that hangs holds up no more.
const BATCH: u32 = 16;
/// How long to go on before looking again who leads.
const ENOUGH: Duration = Duration::from_secs(5);
/// How long to wait after each try that failed, in seconds; the last one again and again.
const WAITS: [u64; 9] = [5, 10, 20, 60, 120, 300, 600, 1800, 3600];

/// What is to be sent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// A link to set a password, to whoever has that name or address, if anybody does.
    Ask { typed: String },
    /// Such a link.
    Link { user: UserId, token: Zeroizing<String>, given: bool },
    /// That a person's password was set by one, to the address of that time.
    Recovered { user: UserId, to: String },
}

impl Errand {
    /// What the audit log calls it.
    fn name(&self) -> &'static str {
        match self {
            Self::Ask { .. } | Self::Link { .. } => "password-link",
            Self::Recovered { .. } => "password-recovered",
        }
    }
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Content {
    errand: Errand,
    /// Whose request it is sent for.
    asker: Asker,
}

/// Says that something is due.
#[derive(Debug, Default)]
pub struct Post(Notify);

impl Post {
    /// Have what was committed sent now, if it is for this process to do so.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

fn label(org: &OrgId, id: &str) -> String {
    format!("letter/{org}/{id}")
}

fn seal(app: &App, (org, id): (&OrgId, &str), content: &Content) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(content).map_err(|error| Error::Fault(Box::new(error)))?;
    Ok(app.master.seal(&label(org, id), &Zeroizing::new(text))?)
}

fn open(app: &App, letter: &Letter) -> Option<Content> {
    let text = app.master.open(&label(&letter.org, &letter.id), &letter.sealed).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Keep a letter for the request that is being answered, in the transaction that it is about; whether
/// there was room for it.
///
/// # Errors
///
/// When the database fails.
pub async fn keep(
    app: &App,
    tx: &mut Tx,
    (org, through): (&OrgId, &AppId),
    (errand, expires_at): (Errand, u64),
) -> Result<bool, Error> {
    let id = clock::random_id()?.to_string();
    let sealed = seal(app, (org, &id), &Content { errand, asker: asker::here() })?;
    let (org, through) = (org.clone(), through.clone());
    let letter = Letter { id, org, app: through, sealed, tries: 0, expires_at };
    Ok(tx.add_letter(&letter, app.clock.now()).await?)
}

/// Send what is due while this process leads, until the order to stop. What waits then is sent by the
/// next one that does.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let mut stopping = stop.clone();
    let patience = Duration::from_secs(app.config.shutdown_timeout_secs);
    loop {
        if app.leads.now() {
            let cut = async {
                // Whoever has the order in hand dropped it: there is nobody to wait for.
                let _ = stopping.wait_for(|stop| *stop).await;
                tokio::time::sleep(patience).await;
            };
            tokio::select! {
                done = deliver(&app) => if let Err(error) = done {
                    tracing::warn!(error = %chain(&error), "letters were not sent; they are later");
                },
                () = cut => break,
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = app.post.0.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
}

async fn deliver(app: &App) -> Result<(), Error> {
    let begun = Instant::now();
    while begun.elapsed() < ENOUGH {
        let due = app.store.due_letters(app.clock.now(), BATCH).await?;
        if due.is_empty() {
            break;
        }
        let done = join_all(due.into_iter().map(|letter| attend(app, letter))).await;
        done.into_iter().collect::<Result<(), Error>>()?;
    }
    Ok(())
}

/// Do what a letter needs next.
async fn attend(app: &App, mut letter: Letter) -> Result<(), Error> {
    let now = app.clock.now();
    if letter.expires_at <= now {
        return drop_it(app, &letter).await;
    }
    let wait = usize::try_from(letter.tries).ok().and_then(|tries| WAITS.get(tries));
    let wait = wait.copied().unwrap_or(WAITS[WAITS.len() - 1]);
    let mut tx = app.store.begin_beside(&letter.org).await?;
    let mine = tx.try_letter(&letter, (now + wait).min(letter.expires_at)).await?;
    app.commit(tx).await?;
    if !mine {
        return Ok(());
    }
    letter.tries += 1;
    let Some(Content { errand, asker }) = open(app, &letter) else {
        tracing::error!(letter.id = letter.id, "a letter does not open; it is looked at again");
        return Ok(());
    };
    let (through, tries) = ((&letter.org, &letter.app), letter.tries);
    let done = asker.scope(async {
        match &errand {
            Errand::Ask { typed } => return look_up(app, &letter, typed).await,
            Errand::Link { user, token, given } => {
                let left = letter.expires_at - now;
                forgotten::send(app, through, user, (token, *given, left)).await
            }
            Errand::Recovered { user, to } => forgotten::tell(app, through, (user, to)).await,
        }?;
        end(app, &letter).await
    });
    // It speaks to a mail server: it is large.
    match Box::pin(done).await {
        Err(Error::NoDelivery) => {
            tracing::info!(letter.id = letter.id, tries, "a letter is sent again in {wait} s");
            Ok(())
        }
        other => other,
    }
}

/// Look who is meant by what somebody typed, and make a letter to them of it; it is due.
async fn look_up(app: &App, letter: &Letter, typed: &str) -> Result<(), Error> {
    let through = (&letter.org, &letter.app);
    let Some((mut tx, errand, expires_at)) = forgotten::look_up(app, through, typed).await? else {
        return end(app, letter).await;
    };
    let content = Content { errand, asker: asker::here() };
    let sealed = seal(app, (&letter.org, &letter.id), &content)?;
    let letter = Letter { sealed, expires_at, ..letter.clone() };
    // Otherwise somebody else does, and nothing of this was.
    if tx.turn_letter(&letter, app.clock.now()).await? {
        app.commit(tx).await?;
    }
    Ok(())
}

async fn end(app: &App, letter: &Letter) -> Result<(), Error> {
    let mut tx = app.store.begin_beside(&letter.org).await?;
    tx.end_letter(&letter.id).await?;
    app.commit(tx).await
}

/// Drop a letter whose time is over.
async fn drop_it(app: &App, letter: &Letter) -> Result<(), Error> {
    let mut tx = app.store.begin_beside(&letter.org).await?;
    if tx.end_letter(&letter.id).await? {
        let content = open(app, letter);
        let name = content.as_ref().map(|content| content.errand.name());
        let target = match content.map(|content| content.errand) {
            Some(Errand::Link { user, .. } | Errand::Recovered { user, .. }) => Target::from(&user),
            Some(Errand::Ask { .. }) | None => Target::from(&letter.app),
        };
        let with = Change::lost(&json!({"letter": name, "tries": letter.tries}));
        app.audit(&mut tx, Actor::System, Event::LetterUnsent, target, with);
        tracing::warn!(letter.id = letter.id, "a letter was never sent; it is dropped");
    }
    app.commit(tx).await
}
