//! Devices that are remembered: for thirty days their token stands in for the second factor at the
//! next password sign-in. What such a sign-in gives does not say that two factors were shown.
//!
//! How the original recognises a device is unknown; this is a design of our own.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::UserId;

use crate::{app::App, clock, error::Error, store::Tx};

/// How long a device is remembered, in seconds.
pub const LIFETIME: u64 = 2_592_000;

/// Remember a device by the token that is returned.
///
/// # Errors
///
/// When the database fails.
pub async fn remember(app: &App, tx: &mut Tx, user: &UserId) -> Result<String, Error> {
    let token = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
    let id = clock::random_id()?.to_string();
    let now = app.clock.now();
    tx.add_device(&id, (user, &hash(app, &token)), now, now + LIFETIME).await?;
    Ok(token)
}

/// Whether a token is that of a person's device.
///
/// # Errors
///
/// When the database fails.
pub async fn is_known(app: &App, tx: &mut Tx, user: &UserId, token: &str) -> Result<bool, Error> {
    Ok(tx.has_device(user, &hash(app, token), app.clock.now()).await?)
}

fn hash(app: &App, token: &str) -> Vec<u8> {
    app.factor_hasher.hash(&format!("device/{token}"))
}
