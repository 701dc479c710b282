//! Bearer token → caller, in the light of what has changed since the token was made.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use policy::{
    changes::{Changes, Standing},
    model::caller::{Caller, Subject},
    token::{self, Kind, SKEW, TokenError},
};

use crate::{live::InForce, refusal::Why};

/// A caller, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub caller: Arc<Caller>,
    /// What the token says, corrected by the changes since.
    pub subject: Subject,
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
    let caller = verified(in_force, token, now).map_err(Why::BadToken)?;
    let subject = match changes.standing(&caller) {
        Standing::Unchanged => caller.subject.clone(),
        Standing::Moved { groups, roles } => {
            Subject { principal: caller.subject.principal.clone(), groups, roles }
        }
        Standing::Revoked => return Err(Why::Revoked),
    };
    Ok(Bearer { caller, subject })
}

/// The signature is checked once a token; the time at every use.
fn verified(in_force: &InForce, token: &str, now: u64) -> Result<Arc<Caller>, TokenError> {
    if token.len() > token::MOST_BYTES {
        return Err(TokenError::TooLarge);
    }
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    if let Some(caller) = in_force.verified.get(&key) {
        if caller.expires_at.saturating_add(SKEW) <= now {
            in_force.verified.invalidate(&key);
            return Err(TokenError::Expired);
        }
        if caller.not_before > now.saturating_add(SKEW) {
            return Err(TokenError::NotYet);
        }
        return Ok(caller);
    }
    let claims = in_force.verifier.verify(token, Kind::Access, now)?;
    let caller = Arc::new(token::caller(&claims)?);
    in_force.verified.insert(key, Arc::clone(&caller));
    Ok(caller)
}
