//! Why a request stops. Each door turns it into a status its server understands.

use std::sync::Arc;

use policy::{
    model::{
        caller::Principal,
        decision::{Decision, Revision},
    },
    token::TokenError,
};

use crate::{
    audit::{DecisionId, Several},
    authenticate::Bearer,
    canonical::NotCanonical,
    config::Reasons,
    route::Parameters,
};

/// A request that goes no further.
#[derive(Debug)]
pub struct Refusal {
    pub why: Why,
    pub id: DecisionId,
    pub revision: Revision,
    /// The product that was asked for, where it came to that.
    pub product: Option<String>,
    /// How much of the rest may be told.
    pub reasons: Reasons,
    /// Where a person may sign in, whose browser asked; nothing for programs.
    pub sign_in: Option<String>,
}

impl Refusal {
    /// The reason in a word, for whoever may know it.
    pub fn word(&self) -> Option<&'static str> {
        (self.reasons == Reasons::Full).then(|| self.why.word())
    }

    /// The name of the decision, for whoever may know it.
    pub fn named(&self) -> Option<DecisionId> {
        (self.reasons >= Reasons::Id).then_some(self.id)
    }

    /// One sentence for whoever is turned away.
    pub fn sentence(&self) -> String {
        if self.reasons == Reasons::Full {
            return self.why.sentence();
        }
        let sentence = match self.why.class() {
            Class::BadRequest => "The request is refused.",
            Class::Unauthenticated => "A valid bearer token is needed.",
            Class::Forbidden => "You are not allowed to do this.",
            Class::Unavailable => "No decision can be made at the moment.",
        };
        sentence.to_owned()
    }
}

/// The reasons, from the outside in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The peer may not ask at this door.
    Untrusted,
    /// Somebody known, who may not ask this store.
    NotAsker(Principal),
    /// A header that decides something is missing, repeated, or at odds with another.
    Headers(&'static str),
    /// The request has no canonical form.
    NotCanonical(NotCanonical),
    /// No product is reached by that host, name or prefix.
    NoProduct,
    /// No token, or an `Authorization` header of another scheme.
    NoToken,
    /// A token that does not hold.
    BadToken(TokenError),
    /// A token whose bearer, session or self was revoked.
    Revoked,
    /// A session of a browser, and nothing that says that the product's own pages asked.
    CrossSite,
    /// No route of the product matches.
    NoRoute,
    /// The policies do not allow it.
    Denied(Box<Denial>),
    /// There is nothing to decide with.
    Unavailable,
}

/// What the policies were asked, and what they said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub bearer: Bearer,
    pub parameters: Parameters,
    /// Seconds since the epoch.
    pub now: u64,
    /// What was asked, where that is more than `permission`.
    pub several: Option<Several>,
    pub permission: Arc<str>,
    pub decision: Decision,
    /// What the author of the forbidding policy tells whoever it turns away.
    pub reason: Option<String>,
    /// Whether a policy that could not be evaluated is what denied it.
    pub by_error: bool,
}

/// The four ways in which a refusal concerns its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request itself is at fault.
    BadRequest,
    /// Show who you are.
    Unauthenticated,
    /// You may not.
    Forbidden,
    /// We cannot say.
    Unavailable,
}

impl Why {
    /// How it concerns the sender.
    pub fn class(&self) -> Class {
        match self {
            Self::Headers(_) | Self::NotCanonical(_) => Class::BadRequest,
            Self::NoToken | Self::BadToken(_) | Self::Revoked => Class::Unauthenticated,
            Self::Untrusted
            | Self::NotAsker(_)
            | Self::NoProduct
            | Self::CrossSite
            | Self::NoRoute
            | Self::Denied(_) => Class::Forbidden,
            Self::Unavailable => Class::Unavailable,
        }
    }

    /// One word for logs, metrics and headers.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted-peer",
            Self::NotAsker(_) => "not-asker",
            Self::Headers(_) => "bad-headers",
            Self::NotCanonical(_) => "bad-target",
            Self::NoProduct => "no-product",
            Self::NoToken => "no-token",
            Self::BadToken(TokenError::Expired) => "expired-token",
            Self::BadToken(_) => "bad-token",
            Self::Revoked => "revoked-token",
            Self::CrossSite => "cross-site",
            Self::NoRoute => "no-route",
            Self::Denied(denial) if denial.by_error => "policy-error",
            Self::Denied(denial) if denial.decision.forbidden() => "forbidden",
            Self::Denied(_) => "no-permit",
            Self::Unavailable => "unavailable",
        }
    }

    /// One sentence for whoever is turned away. It tells nothing that they do not know already:
    /// not whether a thing exists, nor what is wrong with a token beyond that it is.
    pub fn sentence(&self) -> String {
        match self {
            Self::Untrusted => "This address may not ask here.".to_owned(),
            Self::NotAsker(_) => "You may not ask here.".to_owned(),
            Self::Headers(what) => format!("The request's headers are at fault: {what}."),
            Self::NotCanonical(what) => format!("The request is refused: {what}."),
            Self::NoToken => "A bearer token is needed.".to_owned(),
            Self::BadToken(TokenError::Expired) => "The token has expired.".to_owned(),
            Self::BadToken(_) | Self::Revoked => "The token is not valid.".to_owned(),
            Self::Denied(denial) => denial
                .reason
                .clone()
                .unwrap_or_else(|| "You are not allowed to do this.".to_owned()),
            Self::CrossSite => "The request does not come from this site's own pages.".to_owned(),
            Self::NoProduct | Self::NoRoute => "You are not allowed to do this.".to_owned(),
            Self::Unavailable => "No decision can be made at the moment.".to_owned(),
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750, section 3), for those it concerns.
    pub fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => Some("Bearer"),
            Self::BadToken(_) | Self::Revoked => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }
}
