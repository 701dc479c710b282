//! `App`: the handles that a request may use; cheap to clone.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use policy::{
    catalog::Catalog,
    changes::{Changes, Fact},
    engine::Engine,
    model::name::{OrgId, RoleName},
};

use crate::{
    audit::Tally,
    clock::Clock,
    config::Config,
    defence::Defence,
    egress::Egress,
    error::Error,
    federation::Federation,
    feed::Desk,
    jobs::Leads,
    keys::Ring,
    master::{Hasher, MasterKey},
    mfa::passkey::RelyingParty,
    model::app::{Client, role_of_permissions},
    passwords::Passwords,
    places::Places,
    post::Post,
    publish::{Progress, Proposals},
    store::{Committed, Store, Tx},
    usage::Own,
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
    /// What tokens are signed and verified with here.
    pub ring: ArcSwap<Ring>,
    /// Hashes refresh tokens.
    pub refresh_hasher: Hasher,
    /// Hashes authorization codes.
    pub code_hasher: Hasher,
    /// Hashes the cookies of browsers, and ties forms to them.
    pub cookie_hasher: Hasher,
    pub form_hasher: Hasher,
    /// Hashes what second factors leave behind, each kind under a name of its own.
    pub factor_hasher: Hasher,
    /// Hashes the tokens of links that set a password.
    pub link_hasher: Hasher,
    /// The installation as authenticators of passkeys know it.
    pub passkeys: RelyingParty,
    /// Letters that nobody waits for.
    pub post: Post,
    /// Ties browsers to whom they are known by.
    pub device_hasher: Hasher,
    /// The one way out.
    pub egress: Egress,
    /// Hashes what people bring back from providers that they sign in through.
    pub external_hasher: Hasher,
    /// What those providers say of themselves.
    pub federation: Federation,
    /// Hashes client secrets.
    pub secret_hasher: Hasher,
    /// Seals the ends of the audit log's chains.
    pub audit_hasher: Hasher,
    /// Wrong client secrets that are being counted.
    pub refusals: Tally,
    /// Tokens of applications that are being counted.
    pub issued: Tally,
    /// The organization that a sign-in without a client means.
    pub home: OrgId,
    /// The products and policies of the folder, without what products declare of themselves.
    pub folder: ArcSwap<Catalog>,
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
    /// Where pages of people begin.
    pub places: Places,
    /// What was used of this service itself and is yet to be kept.
    pub own_use: Own,
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

    /// The roles of a client: those it was given, or those of the product it was made for. One that was
    /// given as the organization's own, and whose name a product has taken since, opens nothing; nor does
    /// one that a product has given up.
    pub fn roles_of(&self, client: &Client) -> Vec<RoleName> {
        let Some(given) = &client.given else {
            let mut roles = self.roles_of_application(&client.name);
            let folder = self.folder.load();
            // As with those that were given: a name that the folder has taken since opens nothing.
            let declared = client.declared.iter().filter(|role| folder.role(role).is_none());
            roles.extend(declared.cloned());
            return roles;
        };
        let catalog = self.catalog();
        let same = |(role, own): &&(RoleName, bool)| catalog.role(role).is_none() == *own;
        let mut products: Vec<_> = given.permissions.iter().map(|(product, _)| product).collect();
        products.dedup();
        let made = products.iter().filter_map(|product| role_of_permissions(&client.id, product));
        given.roles.iter().filter(same).map(|(role, _)| role.clone()).chain(made).collect()
    }

    /// How long a client's access tokens live, in seconds: as it registered, within today's bounds.
    pub fn access_secs(&self, client: &Client) -> u64 {
        let own = client.registration.access_token_secs;
        own.unwrap_or(self.config.access_token_secs).min(self.config.longest_access_secs())
    }

    /// The same of its refresh tokens.
    pub fn refresh_secs(&self, client: &Client) -> u64 {
        let own = client.registration.refresh_token_secs;
        own.unwrap_or(self.config.refresh_token_secs).min(self.config.longest_refresh_secs())
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
