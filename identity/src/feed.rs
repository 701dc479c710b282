//! What proxies elsewhere are told: snapshots and batches of changes, signed.
//!
//! Signed with a key of its own, Ed25519, that hangs from the master key: every replica has it, a
//! restart does not change it, and it is no token's key, so no reader of tokens learns of another
//! algorithm. Proxies are given its public half and believe nothing else. What is read is the
//! database, never a wake-up.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderMap;
use policy::{
    batch::Batch,
    changes::Sequence,
    engine::Engine,
    model::{
        caller::Principal,
        decision::Revision,
        manifest::{Manifest, RouteSet},
        name::ProductName,
        query::Query,
    },
    signed::{self, BadKey, SignedError, SigningKey},
    snapshot::Snapshot,
};
use thiserror::Error as ThisError;

use crate::{
    app::App,
    bearer,
    error::Error,
    master::MasterKey,
    store::{Marks, StoreError},
};

/// The product whose applications are proxies.
const PRODUCT: &str = "postern-proxy";
const NEED: (&str, &str) = ("feed", "get");
/// How many changes one batch holds.
const PAGE: u32 = 256;
/// How many signed snapshots are kept, each for another choice of products.
const KEPT: usize = 8;

/// A choice of products; `None` for all of them.
pub type Choice = Option<BTreeSet<ProductName>>;

/// Why there was nothing to tell.
#[derive(Debug, ThisError)]
pub enum FeedError {
    #[error("the proxy has seen change {0}, and the newest here is {1}")]
    Ahead(u64, u64),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no signature could be made")]
    Sign(#[from] SignedError),
}

/// The key that signs, and what it has signed.
pub struct Desk {
    key: SigningKey,
    public: String,
    kept: Mutex<Vec<Kept>>,
}

/// A signed snapshot. The newest is asked for by every proxy.
struct Kept {
    revision: Revision,
    choice: Choice,
    text: Arc<str>,
}

impl Desk {
    /// The desk of an installation.
    ///
    /// # Errors
    ///
    /// When the cryptographic library does not take the key.
    pub fn of(master: &MasterKey) -> Result<Self, BadKey> {
        let (key, public) = SigningKey::from_seed(&master.derive("feed-key/1"))?;
        Ok(Self { key, public, kept: Mutex::default() })
    }

    /// The public half, as proxies are given it.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// A snapshot of those products, signed.
    ///
    /// # Errors
    ///
    /// When no signature can be made.
    pub fn snapshot(&self, engine: &Engine, choice: &Choice) -> Result<Arc<str>, SignedError> {
        let revision = engine.revision();
        let is_it = |kept: &&Kept| kept.revision == revision && kept.choice == *choice;
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept().iter().find(is_it) {
            return Ok(Arc::clone(&found.text));
        }
        let snapshot = chosen(engine.snapshot(), choice);
        let text: Arc<str> = signed::write(&snapshot, Some(&self.key))?.into();
        let mut kept = kept();
        kept.retain(|kept| kept.revision >= revision);
        if kept.len() < KEPT {
            kept.push(Kept { revision, choice: choice.clone(), text: Arc::clone(&text) });
        }
        Ok(text)
    }
}

/// The snapshot without the routes of products that were not asked for. All else stays: groups hold
/// roles of several products, roles of one open permissions of another, and a policy may forbid by
/// any of them; so every decision is the same as with the whole.
fn chosen(snapshot: &Snapshot, choice: &Choice) -> Snapshot {
    let mut chosen = snapshot.clone();
    let Some(asked) = choice else { return chosen };
    let mut wanted = asked.clone();
    loop {
        let of_wanted = snapshot.products.iter().filter(|p| wanted.contains(&p.product));
        let sets = of_wanted.flat_map(|product| product.route_sets.values());
        let included = sets.flat_map(|set: &RouteSet| set.include.iter());
        let more: BTreeSet<_> = included.map(|include| include.product.clone()).collect();
        if more.is_subset(&wanted) {
            break;
        }
        wanted.extend(more);
    }
    for product in &mut chosen.products {
        if !wanted.contains(&product.product) {
            let (routes, route_sets) = Default::default();
            *product = Arc::new(Manifest { routes, route_sets, ..Manifest::clone(product) });
        }
    }
    chosen
}

/// Whether whoever sent these headers may read the feed: an application of the installation's own
/// organization that the policy lets do it. The feed tells of every organization, so no other may.
///
/// # Errors
///
/// When it may not.
pub async fn admit(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    let bearer = bearer::authenticate(app, headers).await?;
    let subject = &bearer.caller.subject;
    let (resource, action) = NEED;
    let ours = matches!(&subject.principal, Principal::Application { org, .. } if *org == app.home);
    let engine = app.live.load_full();
    let facts = bearer.facts(app.clock.now());
    let permission = engine.permission(PRODUCT, resource, action);
    let decide = |permission| engine.decide(&Query { subject, permission, facts: &facts });
    if ours && permission.is_some_and(|permission| decide(permission).allowed()) {
        app.own_use.note(&subject.principal, PRODUCT, NEED, app.clock.now());
        return Ok(());
    }
    tracing::info!(principal = %subject.principal, "reading the feed was refused");
    Err(Error::Forbidden { resource, action })
}

/// The next batch after a place, signed, and what it says.
///
/// # Errors
///
/// When that place has not been reached here, or the database or the signature fails.
pub async fn batch(app: &App, after: Sequence) -> Result<(Batch, String), FeedError> {
    // First the engine, then the marks, then the changes: what is told of each is never newer than
    // what follows it.
    let revision = app.live.load().revision();
    let at = app.clock.now();
    let Marks { sequence: newest, .. } = app.store.marks().await?;
    if after > newest {
        return Err(FeedError::Ahead(after.0, newest.0));
    }
    let changes = app.store.changes_after(after, app.clock.certain(), PAGE).await?;
    let full = changes.len() >= PAGE as usize;
    let last = changes.last().map_or(after, |change| change.sequence);
    let through = if full { last } else { last.max(newest) };
    let current = through >= newest;
    let batch = Batch { after, through, at, current, revision, changes };
    let signed = batch.sign(&app.feed.key)?;
    Ok((batch, signed))
}
