//! Rules of what applications prove themselves with: several secrets and public keys, each with an end,
//! rotated with an overlap.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::{
    model::name::AppId,
    token::{Algorithm, Keys},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    admin::{Admin, CREDENTIALS},
    app::App,
    app_grants, clock,
    error::Error,
    master::Purpose,
    model::{
        credential::{Credential, Proof, Shown},
        event::{Change, Event},
    },
    problem::chain,
    signed_in,
    store::Tx,
    words,
};

/// What the secrets made here begin with, so that one that has leaked is known for what it is.
pub const PREFIX: &str = "pst_cs_";
/// The most credentials of one application that have not ended.
const MOST: u64 = 20;
/// How often a use is noted at the most, in seconds.
const COARSE: u64 = 3600;
/// The longest that a secret goes on after its rotation, in seconds: 30 days.
const LONGEST_OVERLAP: u64 = 30 * 86_400;
/// The overlap where none is said.
const OVERLAP: u64 = 86_400;
/// The longest that a credential lives which has an end, in seconds: 10 years.
const LONGEST: u64 = 10 * 365 * 86_400;
/// The largest public key, in bytes of JSON.
const LARGEST_KEY: usize = 4096;

/// How assertions are signed (RFC 7523, section 5).
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];
/// The same, by name.
pub const ALGORITHM_NAMES: [&str; 3] = ["ES256", "RS256", "EdDSA"];

/// A credential, and its secret where it may be shown.
pub type Told = (Credential, Option<SecretString>);

/// A credential that is to be made.
#[derive(Debug, Default)]
pub struct Asked {
    pub name: String,
    /// A public key; without one it is a secret.
    pub jwk: Option<Map<String, Value>>,
    /// How long it lives, in seconds; without one it does not end by itself.
    pub expires_in: Option<u64>,
}

/// The credentials of an application, without their secrets.
pub async fn list(app: &App, by: &Admin, id: &AppId) -> Result<Vec<Credential>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
    Ok(tx.credentials_of(id).await?)
}

/// A credential; its secret, too, where the installation allows that and the caller may.
pub async fn get(app: &App, by: &Admin, id: &AppId, credential: &Uuid) -> Result<Told, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let found = find(&mut tx, id, credential).await?;
    drop(tx);
    let may = app.config.retrievable_secrets && by.may(app, CREDENTIALS, "get");
    let Proof::Secret { sealed: Some(sealed), .. } = &found.proof else { return Ok((found, None)) };
    let open = app.master.open(id.as_str(), sealed).ok().filter(|_| may);
    let secret = open.map(|open| SecretString::from(String::from_utf8_lossy(&open).into_owned()));
    if secret.is_some() {
        // Recorded before anything is shown.
        let mut tx = app.store.begin_beside(by.org()).await?;
        app.audit(&mut tx, by, Event::SecretRead, id, Change::made(&told(&found)));
        app.commit(tx).await?;
        tracing::info!(by = %by.principal(), app.id = %id, credential.id = %credential, "showed a client secret");
    }
    Ok((found, secret))
}

/// Make a credential. Whoever has it may do what the application may: no more than the caller.
pub async fn create(app: &App, by: &Admin, id: &AppId, asked: Asked) -> Result<Told, Error> {
    let (mut credential, secret) = made(app, id, asked)?;
    let mut tx = begin(app, by, id).await?;
    let held = tx.credentials_of(id).await?;
    fits(app, &mut credential, &held)?;
    tx.add_credential(&credential).await?;
    app.audit(&mut tx, by, Event::CredentialCreated, id, Change::made(&told(&credential)));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %id, credential.id = %credential.id, "made a credential");
    Ok((credential, secret))
}

/// Put another credential of its kind in the place of one, which goes on for `overlap` seconds. One that
/// had an end gets a successor that lives as long, unless something else is asked.
pub async fn rotate(
    app: &App,
    by: &Admin,
    id: &AppId,
    old: &Uuid,
    overlap: Option<u64>,
    mut asked: Asked,
) -> Result<Told, Error> {
    let overlap = overlap.unwrap_or(OVERLAP);
    if overlap > LONGEST_OVERLAP {
        return Err(Error::rule("overlapSecs", format!("it is at most {LONGEST_OVERLAP}")));
    }
    let now = app.clock.now();
    let mut tx = begin(app, by, id).await?;
    let held = tx.credentials_of(id).await?;
    let old = held.iter().find(|held| held.id == *old).ok_or(Error::NoSuchCredential)?;
    let replaced = old.successor.is_some_and(|next| held.iter().any(|held| held.id == next));
    if old.has_ended(now) || replaced {
        return Err(Error::CredentialEnded);
    }
    match (&old.proof, &asked.jwk) {
        (Proof::Key(_), None) => {
            return Err(Error::rule("jwk", "the key that takes the place is needed"));
        }
        (Proof::Secret { .. }, Some(_)) => {
            return Err(Error::rule("jwk", "a secret is rotated into a secret"));
        }
        _ => {}
    }
    if asked.name.is_empty() {
        asked.name.clone_from(&old.name);
    }
    asked.expires_in = asked.expires_in.or(old.expires_at.map(|end| end - old.created_at));
    let (mut new, secret) = made(app, id, asked)?;
    fits(app, &mut new, &held)?;
    tx.add_credential(&new).await?;
    let end = old.expires_at.unwrap_or(u64::MAX).min(now + overlap);
    tx.end_credential(&old.id, end, Some(&new.id)).await?;
    let change = Change::between(&told(old), &told(&new));
    app.audit(&mut tx, by, Event::CredentialRotated, id, change);
    app.commit(tx).await?;
    tracing::info!(
        by = %by.principal(), app.id = %id, credential.id = %old.id, successor.id = %new.id,
        "rotated a credential"
    );
    Ok((new, secret))
}

/// Let a credential open nothing from now on. Tokens that were given for it live out, unless every token
/// that the application has for itself is to end with it.
pub async fn retire(
    app: &App,
    by: &Admin,
    id: &AppId,
    credential: &Uuid,
    end_tokens: bool,
) -> Result<Credential, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let mut found = find(&mut tx, id, credential).await?;
    let now = app.clock.now();
    let retires = !found.has_ended(now);
    if end_tokens {
        signed_in::end_tokens(app, by, &mut tx, &reach, id).await?;
    }
    if retires {
        let was = told(&found);
        found.expires_at = Some(now);
        tx.end_credential(credential, now, found.successor.as_ref()).await?;
        let change = Change::between(&was, &told(&found));
        app.audit(&mut tx, by, Event::CredentialRetired, id, change);
        tracing::info!(by = %by.principal(), app.id = %id, credential.id = %credential, "retired a credential");
    }
    if retires || end_tokens {
        app.commit(tx).await?;
    }
    Ok(found)
}

/// Remove a credential.
pub async fn remove(app: &App, by: &Admin, id: &AppId, credential: &Uuid) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let found = find(&mut tx, id, credential).await?;
    tx.remove_credential(credential).await?;
    app.audit(&mut tx, by, Event::CredentialRemoved, id, Change::lost(&told(&found)));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %id, credential.id = %credential, "removed a credential");
    Ok(())
}

/// Note that a credential was used: to the hour, so that signing in does not mean writing.
pub async fn used(app: &App, shown: &Shown) {
    let now = app.clock.now();
    let before = now.saturating_sub(COARSE);
    if shown.last_used_at.is_some_and(|last| last > before) {
        return;
    }
    let noted = async {
        let mut tx = app.store.begin_beside(&shown.org).await?;
        tx.note_use(&shown.id, now, before).await?;
        tx.commit().await
    };
    if let Err(error) = noted.await {
        tracing::warn!(error = %chain(&error), credential.id = %shown.id, "a use was not noted");
    }
}

/// Start to give somebody a way to be an application: the caller must hold what it holds.
async fn begin(app: &App, by: &Admin, id: &AppId) -> Result<Tx, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let application = tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
    if application.registration.public {
        let rule =
            "the application is public: it can keep no secret, and proves itself with nothing";
        return Err(Error::rule("public", rule));
    }
    let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
    app_grants::within(app, &mut tx, &reach, &client).await?;
    Ok(tx)
}

/// A credential as it is recorded.
fn told(credential: &Credential) -> Value {
    json!({
        "id": credential.id,
        "name": credential.name,
        "type": credential.proof.kind(),
        "expiresAt": credential.expires_at,
    })
}

async fn find(tx: &mut Tx, id: &AppId, credential: &Uuid) -> Result<Credential, Error> {
    tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
    let held = tx.credentials_of(id).await?;
    held.into_iter().find(|held| held.id == *credential).ok_or(Error::NoSuchCredential)
}

/// Check that there is room beside those that are held, and give a key a name of its own.
fn fits(app: &App, new: &mut Credential, held: &[Credential]) -> Result<(), Error> {
    let now = app.clock.now();
    let living: Vec<_> = held.iter().filter(|held| !held.has_ended(now)).collect();
    if u64::try_from(living.len()).unwrap_or(u64::MAX) >= MOST {
        return Err(Error::Full { what: "credentials of the application", most: MOST });
    }
    let kid = new.proof.kid().map(str::to_owned);
    if kid.is_some() && living.iter().any(|held| held.proof.kid() == kid.as_deref()) {
        return Err(Error::rule("jwk", "another key of the application has that `kid`"));
    }
    Ok(())
}

fn made(app: &App, id: &AppId, asked: Asked) -> Result<(Credential, Option<SecretString>), Error> {
    words::line(&asked.name).map_err(|rule| Error::rule("name", rule))?;
    if asked.expires_in.is_some_and(|secs| !(1..=LONGEST).contains(&secs)) {
        return Err(Error::rule("expiresInSecs", format!("it is 1 to {LONGEST}")));
    }
    let own = clock::random_id()?;
    let (proof, secret) = if let Some(jwk) = asked.jwk {
        (Proof::Key(public_key(jwk, &own)?), None)
    } else {
        let secret = format!("{PREFIX}{}", hex::encode(clock::random::<24>()?));
        let vault = app.config.retrievable_secrets.then_some(&app.master);
        let sealed = vault
            .map(|vault| vault.seal_for(Purpose::ClientSecrets, id.as_str(), secret.as_bytes()))
            .transpose()?;
        let secret = SecretString::from(secret);
        let hash = app.secret_hasher.hash(secret.expose_secret());
        (Proof::Secret { hash, sealed }, Some(secret))
    };
    let now = app.clock.now();
    let credential = Credential {
        id: own,
        app: id.clone(),
        name: asked.name,
        proof,
        created_at: now,
        expires_at: asked.expires_in.map(|secs| now + secs),
        last_used_at: None,
        successor: None,
    };
    Ok((credential, secret))
}

/// A public key (RFC 7517) that assertions can be verified with. One that does not say its `kid` gets the
/// credential's id.
fn public_key(mut jwk: Map<String, Value>, id: &Uuid) -> Result<Value, Error> {
    let rule = |rule: &str| Error::rule("jwk", rule);
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| jwk.contains_key(*part)) {
        let told = "it holds a private or shared key, which must be taken for known now; make another, \
                    and send its public half alone";
        return Err(rule(told));
    }
    // Where to fetch a key is nobody's to say.
    if let Some(link) = ["x5u", "jku"].iter().find(|link| jwk.contains_key(**link)) {
        return Err(rule(&format!("`{link}` is not followed; leave it out")));
    }
    jwk.entry("kid").or_insert_with(|| json!(id.to_string()));
    let good =
        |kid: &str| (1..=128).contains(&kid.len()) && kid.bytes().all(|b| b.is_ascii_graphic());
    if !jwk["kid"].as_str().is_some_and(good) {
        return Err(rule("`kid` is 1 to 128 visible ASCII characters"));
    }
    // Both curves have coordinates of 32 bytes; nothing below looks at them before a signature comes.
    let curved = jwk.get("kty").is_some_and(|kind| kind == "EC" || kind == "OKP");
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|x| x.len() == 32);
    let good = |name: &str| jwk.get(name).is_none_or(|x| x.as_str().is_some_and(bytes));
    if curved && !(good("x") && good("y")) {
        return Err(rule("`x` and `y` are 32 bytes each, in base64url without padding"));
    }
    let jwk = Value::Object(jwk);
    if jwk.to_string().len() > LARGEST_KEY {
        return Err(rule(&format!("it is larger than {LARGEST_KEY} bytes")));
    }
    Keys::read(&json!({"keys": [&jwk]}), &ALGORITHMS).map_err(|_| {
        rule("it is a JWK of RSA (2048 bits or more, RS256), P-256 (ES256) or Ed25519 (EdDSA)")
    })?;
    Ok(jwk)
}
