//! Bearer token → caller, in the light of what has changed since the token was made.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use policy::{
    changes::{Changes, Standing},
    held::Held,
    model::{
        caller::{Caller, Subject},
        name::{GroupName, RoleName},
    },
    token::{self, Kind, SKEW, TokenError},
};

use crate::{
    live::{InForce, Remembered},
    refusal::Why,
};

/// A caller, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub caller: Arc<Caller>,
    /// What the token says, corrected by the changes since.
    pub held: Arc<Held>,
}

impl Bearer {
    /// Who it is.
    pub fn subject(&self) -> &Subject {
        self.held.subject()
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
    let remembered = verified(in_force, token, now).map_err(Why::BadToken)?;
    let caller = Arc::clone(&remembered.caller);
    let held = match changes.standing(&caller) {
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
) -> Arc<Held> {
    let same = |held: &Held| {
        let subject = held.subject();
        in_force.engine.knows(held) && subject.groups == *groups && subject.roles == *roles
    };
    if let Some(held) = remembered.held.load_full().filter(|held| same(held)) {
        return held;
    }
    let principal = remembered.caller.subject.principal.clone();
    let subject = Subject { principal, groups: Arc::clone(groups), roles: Arc::clone(roles) };
    let held = Arc::new(in_force.engine.held(&subject));
    remembered.held.store(Some(Arc::clone(&held)));
    held
}

/// The signature is checked once a token; the time at every use.
fn verified(in_force: &InForce, token: &str, now: u64) -> Result<Arc<Remembered>, TokenError> {
    if token.len() > token::MOST_BYTES {
        return Err(TokenError::TooLarge);
    }
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    if let Some(remembered) = in_force.verified.get(&key) {
        let caller = &remembered.caller;
        if caller.expires_at.saturating_add(SKEW) <= now {
            in_force.verified.invalidate(&key);
            return Err(TokenError::Expired);
        }
        if caller.not_before > now.saturating_add(SKEW) {
            return Err(TokenError::NotYet);
        }
        return Ok(remembered);
    }
    let claims = in_force.verifier.verify(token, Kind::Access, now)?;
    let caller = Arc::new(token::caller(&claims)?);
    let remembered = Arc::new(Remembered { caller, held: ArcSwapOption::empty() });
    in_force.verified.insert(key, Arc::clone(&remembered));
    Ok(remembered)
}
