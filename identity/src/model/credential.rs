//! What an application proves itself with: secrets and public keys, several, each with an end of its
//! own.

use policy::model::name::{AppId, OrgId};
use serde_json::Value;
use uuid::Uuid;

/// A credential of an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    pub id: Uuid,
    pub app: AppId,
    /// What its owner calls it.
    pub name: String,
    pub proof: Proof,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// From when on it opens nothing; `None` for one that does not end by itself.
    pub expires_at: Option<u64>,
    /// To the hour.
    pub last_used_at: Option<u64>,
    /// What it was rotated into.
    pub successor: Option<Uuid>,
}

impl Credential {
    /// Whether it opens nothing any more.
    pub fn has_ended(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// What is kept of a credential.
#[derive(Debug, Clone, PartialEq)]
pub enum Proof {
    Secret {
        /// Keyed.
        hash: Vec<u8>,
        /// The secret under the master key, where it may be read back.
        sealed: Option<Vec<u8>>,
    },
    /// A public key (RFC 7517), with a `kid`.
    Key(Value),
}

impl Proof {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Secret { .. } => SECRET,
            Self::Key(_) => KEY,
        }
    }

    /// A key's id.
    pub fn kid(&self) -> Option<&str> {
        match self {
            Self::Secret { .. } => None,
            Self::Key(jwk) => jwk.get("kid").and_then(Value::as_str),
        }
    }
}

/// The kinds of credentials, as they are stored and shown.
pub const SECRET: &str = "secret";
pub const KEY: &str = "key";

/// A credential that a client may show just now.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: Uuid,
    pub org: OrgId,
    pub proof: Proof,
    pub last_used_at: Option<u64>,
}
