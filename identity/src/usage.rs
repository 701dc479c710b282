//! The rule of use: who was last let through by which permission, as proxies report it, and as this
//! service sees it itself.
//!
//! A proxy is believed as it is with everything it asks, which is that it is one. What it names must be
//! there: a principal of that organization, a permission of a product in force. Times are kept to the
//! hour, and the latest counts: a report that comes twice changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use policy::{
    model::{
        caller::Principal,
        grant::Permission,
        name::{OrgId, ProductName},
    },
    usage::{Report, Taken, Use},
};

use crate::{
    app::App,
    error::Error,
    holdings::{IDENTITY, Power},
    store::StoreError,
};

/// Times are kept to this many seconds.
const GRAIN: u64 = 3600;
/// How far a proxy's clock may be ahead, in seconds.
const SKEW: u64 = 60;
/// How old the time may become until which a product is known to be watched, in seconds.
const COARSE: u64 = 600;
/// How many uses of this service itself wait to be kept.
const MOST_OWN: usize = 16 * 1024;

/// The way in for reports of a proxy in this process.
#[derive(Clone)]
pub struct Usage(App);

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Usage").finish()
    }
}

impl Usage {
    /// That of a service.
    pub(crate) fn of(app: &App) -> Self {
        Self(app.clone())
    }

    /// Keep what a report tells.
    ///
    /// # Errors
    ///
    /// When the database fails; then it is to be sent again.
    pub async fn take(&self, report: &Report) -> Result<Taken, StoreError> {
        take(&self.0, report).await
    }
}

/// What each has used, and when last.
type ByPrincipal<'a> = BTreeMap<&'a Principal, Vec<(Power, u64)>>;

/// Keep what a report tells, as far as there is such a thing.
///
/// # Errors
///
/// When the database fails. Some of it may be kept then.
pub async fn take(app: &App, report: &Report) -> Result<Taken, StoreError> {
    let now = app.clock.now();
    let engine = app.live.load_full();
    let mut taken = Taken::default();
    let mut orgs: BTreeMap<&OrgId, ByPrincipal<'_>> = BTreeMap::new();
    for Use { principal, product, permission, at } in &report.uses {
        let Permission { resource, action } = permission;
        let known = engine.permission(product.as_str(), resource.as_ref(), action.as_ref());
        if known.is_none() || *at > now.saturating_add(SKEW) {
            taken.dropped += 1;
            continue;
        }
        let at = (*at).min(now);
        let used = ((product.clone(), permission.clone()), at - at % GRAIN);
        orgs.entry(principal.org()).or_default().entry(principal).or_default().push(used);
    }
    for (org, principals) in orgs {
        let mut news = Vec::new();
        let mut tx = app.store.read(org).await?;
        for (principal, uses) in principals {
            let number = u64::try_from(uses.len()).unwrap_or(u64::MAX);
            if !tx.has(principal).await? {
                taken.dropped += number;
                continue;
            }
            let before = tx.uses_of(principal).await?;
            let is_news = |(power, at): &(Power, u64)| before.get(power).is_none_or(|b| b < at);
            news.extend(uses.into_iter().filter(is_news).map(|used| (principal, used)));
            taken.taken += number;
        }
        drop(tx);
        // Mostly there is nothing new within the hour, and nobody waits for a writer.
        if !news.is_empty() {
            let mut tx = app.store.begin_beside(org).await?;
            for (principal, (power, at)) in news {
                tx.note_permission_use(principal, &power, at).await?;
            }
            tx.commit().await?;
        }
    }
    watch(app, report, now).await?;
    Ok(taken)
}

/// Note which products are watched: those that the proxy decides for, and those it has decided for.
async fn watch(app: &App, report: &Report, now: u64) -> Result<(), StoreError> {
    let engine = app.live.load_full();
    let used = report.uses.iter().map(|used| &used.product);
    let mut products: Vec<ProductName> = report.products.iter().chain(used).cloned().collect();
    products.sort();
    products.dedup();
    let watched = app.store.watched().await?;
    products.retain(|product| {
        engine.product(product.as_str()).is_some()
            && watched.get(product).is_none_or(|w| w.until.saturating_add(COARSE) <= now)
    });
    if products.is_empty() { Ok(()) } else { app.store.watch(&products, now).await }
}

/// What is used of this service itself, about which no proxy decides.
#[derive(Debug, Default)]
pub struct Own(Mutex<HashMap<OwnKey, u64>>);

/// Who, of which product, which resource and action.
type OwnKey = (Principal, &'static str, (&'static str, &'static str));

impl Own {
    /// Somebody was let through. What there is no room for is not kept.
    pub fn note(
        &self,
        principal: &Principal,
        product: &'static str,
        need: (&'static str, &'static str),
        now: u64,
    ) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (principal.clone(), product, need);
        if uses.len() < MOST_OWN || uses.contains_key(&key) {
            let last = uses.entry(key).or_default();
            *last = now.max(*last);
        }
    }
}

/// Keep what was used of this service itself.
///
/// # Errors
///
/// When the database fails; then it is kept the next time.
pub async fn keep_own(app: &App) -> Result<(), Error> {
    let own = || app.own_use.0.lock().unwrap_or_else(PoisonError::into_inner);
    let uses = std::mem::take(&mut *own());
    let of = |((principal, product, (resource, action)), at): (&OwnKey, &u64)| {
        let permission =
            Permission { resource: resource.parse().ok()?, action: action.parse().ok()? };
        Some(Use {
            principal: principal.clone(),
            product: product.parse().ok()?,
            permission,
            at: *at,
        })
    };
    let products = [IDENTITY].iter().filter_map(|product| product.parse().ok()).collect();
    let all: Vec<Use> = uses.iter().filter_map(of).collect();
    let report = Report { products, uses: all };
    if let Err(error) = take(app, &report).await {
        for ((principal, product, need), at) in uses {
            app.own_use.note(&principal, product, need, at);
        }
        return Err(error.into());
    }
    Ok(())
}

/// Forget what was used longer ago than is kept.
///
/// # Errors
///
/// When the database fails.
pub async fn forget(app: &App) -> Result<(), Error> {
    if let Some(days) = app.config.usage_retention_days {
        app.store.forget_uses(app.clock.now().saturating_sub(days * 86_400)).await?;
    }
    Ok(())
}
