//! Passkeys: `WebAuthn` credentials of people.

use policy::model::name::UserId;

/// A passkey. The private key is with its authenticator alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    pub id: String,
    pub user: UserId,
    /// What the authenticator calls it.
    pub credential_id: Vec<u8>,
    /// What its owner calls it.
    pub name: String,
    /// The public key and what is known of the authenticator, as JSON.
    pub details: String,
    /// How many signatures the authenticator says that it has made; 0 for one that does not count.
    pub sign_count: u64,
    /// Seconds since the epoch.
    pub created_at: u64,
    pub used_at: Option<u64>,
}

/// What a passkey was shown with, and how it is from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub passkey: String,
    pub details: String,
    /// The number before, and after.
    pub counts: (u64, u64),
}
