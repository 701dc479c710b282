//! `private_key_jwt`: a client that proves itself with a key (RFC 7523, section 3; OpenID Connect Core,
//! section 9).
//!
//! The keys are those registered for the client: nothing is fetched, and what the assertion says of keys
//! is a look-up in them. An assertion is good once, for an hour at the most, and for this issuer.

use aws_lc_rs::digest::{SHA256, digest};
use policy::{
    model::claims::Audience,
    strict,
    token::{self, Keys, MOST_BYTES, SKEW},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{form::Form, refusal::Refusal};
use crate::{
    app::App,
    credentials::{self, ALGORITHMS},
    error::Error,
    model::{
        app::Client,
        credential::{self, Proof, Shown},
    },
};

/// The only type of assertion there is (RFC 7523, section 2.2).
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest that an assertion may still be good for, in seconds: as long as widespread clients make
/// them for. It is kept for so long that it was used.
const LONGEST: u64 = 3600;
/// The longest id of an assertion, in bytes.
const LONGEST_ID: usize = 256;

/// RFC 7523, section 3.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    iat: Option<u64>,
    jti: String,
}

/// The assertion of a request, if there is one.
///
/// # Errors
///
/// When there is half of one, or one of another type.
pub fn of(form: &Form) -> Result<Option<&str>, Refusal> {
    match (form.get("client_assertion_type"), form.get("client_assertion")) {
        (None, None) => Ok(None),
        (Some(TYPE), Some(assertion)) => Ok(Some(assertion)),
        _ => {
            let what = format!("`client_assertion` comes with `client_assertion_type` {TYPE}");
            Err(Refusal::invalid_request(what))
        }
    }
}

/// The client that an assertion is of. It is used up by this.
///
/// # Errors
///
/// When it is not to be believed; why, is not told.
pub async fn client(app: &App, text: &str, said: Option<&str>) -> Result<Client, Error> {
    let refused = |why: &str| {
        tracing::info!(why, "a client's assertion was refused");
        Error::InvalidClient
    };
    if text.len() > MOST_BYTES {
        return Err(refused("it is too large"));
    }
    let id = token::claimed_issuer(text).map_err(|error| refused(&error.to_string()))?;
    let now = app.clock.now();
    let (client, keys) = app.store.client_with(&id, credential::KEY, now).await?;
    let client = client.ok_or_else(|| refused("there is no such client"))?;
    let (payload, key) = opened(text, &keys).map_err(refused)?;
    let claims: Claims =
        strict::from_slice(&payload).map_err(|_| refused("a claim is missing, twice or wrong"))?;
    if claims.iss != id || claims.sub != id || said.is_some_and(|said| said != id) {
        return Err(refused("it speaks of another client"));
    }
    if !is_for(app, &claims.aud) {
        return Err(refused("it is for another audience"));
    }
    let latest = claims.nbf.unwrap_or(0).max(claims.iat.unwrap_or(0));
    let too_long = claims.exp > now.saturating_add(LONGEST + SKEW);
    if claims.exp.saturating_add(SKEW) <= now || latest > now.saturating_add(SKEW) || too_long {
        return Err(refused("it has run out, is not good yet, or is good for too long"));
    }
    if !(1..=LONGEST_ID).contains(&claims.jti.len()) {
        return Err(refused("its `jti` has 1 to 256 bytes"));
    }
    let once = digest(&SHA256, format!("{}/{}", client.id, claims.jti).as_bytes());
    let mut tx = app.store.begin_beside(&client.org).await?;
    if !tx.use_assertion(&client.id, once.as_ref(), claims.exp + SKEW).await? {
        return Err(refused("it was used before"));
    }
    tx.commit().await?;
    credentials::used(app, key).await;
    Ok(client)
}

/// What an assertion says, and the key that it is signed with.
fn opened<'k>(text: &str, keys: &'k [Shown]) -> Result<(Vec<u8>, &'k Shown), &'static str> {
    let jwk = |shown: &Shown| match &shown.proof {
        Proof::Key(jwk) => Some(jwk.clone()),
        Proof::Secret { .. } => None,
    };
    let all: Vec<Value> = keys.iter().filter_map(jwk).collect();
    let none = "the client has no key";
    let set = Keys::read(&json!({"keys": all}), &ALGORITHMS).map_err(|_| none)?;
    let opened = set.open(text).map_err(|_| "no key of the client has signed it")?;
    let typ = opened.typ.as_deref().unwrap_or("JWT");
    if !["JWT", "client-authentication+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)) {
        return Err("it is a token of another kind");
    }
    // Which one it was: the one that opens it alone.
    let fits = |shown: &&Shown| {
        let alone =
            jwk(shown).and_then(|jwk| Keys::read(&json!({"keys": [jwk]}), &ALGORITHMS).ok());
        alone.is_some_and(|key| key.open(text).is_ok())
    };
    Ok((opened.payload, keys.iter().find(fits).ok_or(none)?))
}

/// Whether an assertion is for this issuer, by its name or that of its token endpoint, and for nobody
/// else.
fn is_for(app: &App, audience: &Audience) -> bool {
    let issuer = app.config.issuer.as_str();
    let endpoint = format!("{}/oauth2/token", issuer.trim_end_matches('/'));
    let named = |name: &str| name == issuer || name == endpoint;
    match audience {
        Audience::One(name) => named(name),
        Audience::Many(names) => names.len() == 1 && names.iter().all(|name| named(name)),
    }
}
