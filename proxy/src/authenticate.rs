//! Bearer token → caller, in the light of what has changed since the token was made.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};
use policy::{
    changes::{Changes, Standing},
    engine::Engine,
    held::Held,
    model::{
        caller::{Caller, Subject},
        name::{GroupName, RoleName},
    },
    token::{self, Kind, SKEW, TokenError},
};

use crate::{
    forward::Told,
    issuers::{Digest, Issuers},
    live::{InForce, Remembered},
    refusal::Why,
    usage::Used,
};

/// What a bearer holds, and what of it was used of late.
#[derive(Debug)]
pub struct Holding {
    held: Held,
    used: Used,
    told: OnceLock<Told>,
}

impl Holding {
    /// What was used.
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// What upstreams are told of the bearer, made when it is first asked for.
    pub fn told(&self, make: impl FnOnce() -> Told) -> &[(HeaderName, HeaderValue)] {
        self.told.get_or_init(make)
    }
}

impl Deref for Holding {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl PartialEq for Holding {
    fn eq(&self, other: &Self) -> bool {
        self.held == other.held
    }
}

impl Eq for Holding {}

/// A caller, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub caller: Arc<Caller>,
    /// What the token says, corrected by the changes since.
    pub held: Arc<Holding>,
}

impl Bearer {
    /// Who it is.
    pub fn subject(&self) -> &Subject {
        self.held.subject()
    }

    /// The same caller, with what it holds by other policies. What it uses of that is not noted.
    pub fn held_in(&self, engine: &Engine) -> Self {
        let (held, told) = (engine.held(self.subject()), OnceLock::new());
        let held = Holding { held, used: Used::of(0), told };
        Self { caller: Arc::clone(&self.caller), held: Arc::new(held) }
    }
}

/// Verify the token of an `Authorization` header. `now` is in seconds since the epoch.
///
/// # Errors
///
/// No token, one that does not hold, or one that was revoked.
pub fn bearer(
    in_force: &InForce,
    changes: &Changes,
    authorization: Option<&str>,
    now: u64,
) -> Result<Bearer, Why> {
    let token = authorization.and_then(token::bearer).ok_or(Why::NoToken)?;
    let remembered = verified(in_force, token, now)?;
    let caller = Arc::clone(&remembered.caller);
    let standing = match changes.standing(&caller) {
        // Whoever has an account here is nobody's guest.
        Standing::Unchanged if remembered.vouch.is_some() => in_force.guests.standing(&caller),
        told => told,
    };
    let held = match standing {
        Standing::Unchanged => {
            let Subject { groups, roles, .. } = &caller.subject;
            held(in_force, &remembered, groups, roles)
        }
        Standing::Moved { groups, roles } => held(in_force, &remembered, &groups, &roles),
        Standing::Revoked => return Err(Why::Revoked),
    };
    Ok(Bearer { caller, held })
}

/// What the caller holds with these groups and roles: as it was found before, where nothing that it
/// was found from has changed since.
fn held(
    in_force: &InForce,
    remembered: &Remembered,
    groups: &Arc<[GroupName]>,
    roles: &Arc<[RoleName]>,
) -> Arc<Holding> {
    let same = |held: &Holding| {
        let subject = held.subject();
        in_force.engine.knows(held) && subject.groups == *groups && subject.roles == *roles
    };
    if let Some(held) = remembered.held.load_full().filter(|held| same(held)) {
        return held;
    }
    let principal = remembered.caller.subject.principal.clone();
    let subject = Subject { principal, groups: Arc::clone(groups), roles: Arc::clone(roles) };
    let engine = &in_force.engine;
    // Whoever another issuer vouches for has no account that could be reviewed.
    let watched = if remembered.vouch.is_none() { engine.permission_count() } else { 0 };
    let held = Arc::new(Holding {
        held: engine.held(&subject),
        used: Used::of(watched),
        told: OnceLock::new(),
    });
    remembered.held.store(Some(Arc::clone(&held)));
    held
}

/// The signature is checked once a token; the time at every use.
fn verified(in_force: &InForce, token: &str, now: u64) -> Result<Arc<Remembered>, Why> {
    if token.len() > token::MOST_BYTES {
        return Err(Why::BadToken(TokenError::TooLarge));
    }
    let key = known_by(token);
    let stands = |r: &Arc<Remembered>| r.vouch.as_ref().is_none_or(|vouch| vouch.holds(now));
    if let Some(remembered) = in_force.verified.get(&key).filter(stands) {
        let caller = &remembered.caller;
        let skew = remembered.vouch.as_ref().map_or(SKEW, |vouch| vouch.skew);
        if caller.expires_at.saturating_add(skew) <= now {
            in_force.verified.invalidate(&key);
            return Err(Why::BadToken(TokenError::Expired));
        }
        if caller.not_before > now.saturating_add(skew) {
            return Err(Why::BadToken(TokenError::NotYet));
        }
        in_force.tokens.remembered.inc();
        return Ok(remembered);
    }
    let verified = match in_force.issuers.verify(token, &key, now) {
        Some(verified) => verified.map(|(caller, vouch)| (caller, Some(vouch))),
        None => own(in_force, token, now).map(|caller| (caller, None)).map_err(Why::BadToken),
    };
    let (caller, vouch) = verified.inspect_err(|_| in_force.tokens.refused.inc())?;
    in_force.tokens.verified.inc();
    let remembered = Arc::new(Remembered { caller, held: ArcSwapOption::empty(), vouch });
    in_force.verified.insert(key, Arc::clone(&remembered));
    Ok(remembered)
}

fn own(in_force: &InForce, token: &str, now: u64) -> Result<Arc<Caller>, TokenError> {
    let verifier = in_force.verifier.as_ref().ok_or(TokenError::Issuer)?;
    let claims = verifier.verify(token, Kind::Access, now)?;
    token::caller(&claims).map(Arc::new)
}

fn known_by(token: &str) -> Digest {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// Ask about a token that says nothing by itself, if some issuer is asked about such, so that the
/// answer is at hand when the question is put.
pub async fn ask_ahead(issuers: &Issuers, authorization: Option<&str>, now: u64) {
    if !issuers.ask() {
        return;
    }
    let token = authorization.and_then(token::bearer);
    if let Some(token) = token.filter(|token| token.len() <= token::MOST_BYTES) {
        issuers.ask_ahead(token, &known_by(token), now).await;
    }
}
