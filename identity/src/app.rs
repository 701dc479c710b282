//! `App`: the handles that a request may use; cheap to clone.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use policy::{
    catalog::Catalog,
    changes::{Changes, Fact},
    engine::Engine,
    model::name::{OrgId, RoleName},
    token::Verifier,
};
use serde_json::Value;

use crate::{
    audit::Refusals,
    clock::Clock,
    config::Config,
    defence::Defence,
    egress::Egress,
    error::Error,
    feed::Desk,
    jobs::Leads,
    keys::Signer,
    master::{Hasher, MasterKey},
    passwords::Passwords,
    publish::{Progress, Proposals},
    store::{Committed, Store, Tx},
};

/// How much longer than a token a change is told, for clocks that disagree.
pub const MARGIN: u64 = 60;

/// The service, as a request sees it.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What [`App`] shares.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    pub clock: Clock,
    pub master: MasterKey,
    pub passwords: Passwords,
    /// Counts guesses.
    pub defence: Defence,
    pub signer: Signer,
    pub verifier: Verifier,
    pub jwks: Value,
    /// Hashes refresh tokens.
    pub refresh_hasher: Hasher,
    /// Hashes authorization codes.
    pub code_hasher: Hasher,
    /// Hashes the cookies of browsers, and ties forms to them.
    pub cookie_hasher: Hasher,
    pub form_hasher: Hasher,
    /// Hashes what second factors leave behind, each kind under a name of its own.
    pub factor_hasher: Hasher,
    /// Ties browsers to whom they are known by.
    pub device_hasher: Hasher,
    /// The one way out.
    pub egress: Egress,
    /// Hashes client secrets.
    pub secret_hasher: Hasher,
    /// Seals the ends of the audit log's chains.
    pub audit_hasher: Hasher,
    /// Wrong client secrets that are being counted.
    pub refusals: Refusals,
    /// The organization that a sign-in without a client means.
    pub home: OrgId,
    /// The engine in force here.
    pub live: ArcSwap<Engine>,
    /// What has happened since the oldest living token was made.
    pub changes: Changes,
    pub progress: Progress,
    /// Whether this process does what is to be done once.
    pub leads: Leads,
    /// Products and policies that are to come into force.
    pub proposals: Proposals,
    /// What proxies elsewhere are told, and the key that signs it.
    pub feed: Desk,
    /// The lifetime of the longest access token that may be about, in seconds.
    pub longest_token_secs: u64,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Share the parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The products in force: those of the engine, so that rules and decisions always speak of the
    /// same ones.
    pub fn catalog(&self) -> Catalog {
        let engine = self.live.load();
        let snapshot = engine.snapshot();
        Catalog { products: snapshot.products.clone(), policies: snapshot.policies.clone() }
    }

    /// The roles of an application made for that product.
    pub fn roles_of_application(&self, product: &str) -> Vec<RoleName> {
        self.catalog()
            .product(product)
            .map(|product| product.applications.clone())
            .unwrap_or_default()
    }

    /// Note a fact, to be told as long as any token from before it lives.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn record(&self, tx: &mut Tx, fact: Fact) -> Result<(), Error> {
        let lifetime = (self.clock.now(), self.longest_token_secs, MARGIN);
        Ok(tx.record(&fact, lifetime).await?)
    }

    /// Make it true, and wait until it is in force everywhere, so that whoever is answered after
    /// this and asks again sees it.
    ///
    /// # Errors
    ///
    /// When the database fails; then it is not true.
    pub async fn commit(&self, tx: Tx) -> Result<(), Error> {
        let committed = tx.commit().await?;
        if committed != Committed::default() {
            self.progress.in_force(committed).await;
        }
        Ok(())
    }
}
