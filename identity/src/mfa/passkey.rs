//! Passkeys (`WebAuthn`, Level 3): set up, shown beside a password, or shown alone.
//!
//! An authenticator always has its owner prove who they are (user verification), so a passkey is two
//! factors by itself. What it signs is a challenge, which goes round with the page, sealed for the one
//! browser or sign-in that it was made for, is good for five minutes, and is answered once. The relying
//! party is the host of the issuer that the operator has named, and its origin is the one that counts.
//! No attestation is asked for: what kind of authenticator it is, is the authenticator's own word.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::{OrgId, UserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    self as webauthn, DiscoverableAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Uuid, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::{oneself::Oneself, recovery};
use crate::{
    app::App,
    audit::{self, Account},
    clock,
    error::Error,
    model::{
        app::Client,
        event::{Actor, Change, Event},
        passkey::{Passkey, Use},
        session::Methods,
        user::User,
    },
    store::Tx,
    words,
};

/// How long a challenge may be answered, in seconds.
const LIFETIME: u64 = 300;
/// The most passkeys of one person.
const MOST: u64 = 20;
/// The longest answer of an authenticator, in bytes of JSON.
const LONGEST: usize = 16 * 1024;
/// The longest id of a credential (`WebAuthn`, section 4, "Credential ID").
const LONGEST_ID: usize = 1023;

/// The installation as authenticators know it.
#[derive(Debug)]
pub struct RelyingParty(Option<Webauthn>);

impl RelyingParty {
    /// The one of an issuer. There are no passkeys where the issuer is no domain: an address of digits
    /// is none.
    pub fn of(issuer: &str) -> Self {
        let made = || {
            let issuer = Url::parse(issuer).ok()?;
            let origin = Url::parse(&issuer.origin().ascii_serialization()).ok()?;
            WebauthnBuilder::new(issuer.domain()?, &origin).ok()?.build().ok()
        };
        Self(made())
    }

    /// Whether there are passkeys.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn get(&self) -> Result<&Webauthn, Error> {
        self.0.as_ref().ok_or(Error::NoPasskeys)
    }
}

/// What a browser is asked, and what it sends back with the answer.
#[derive(Debug)]
pub struct Asked {
    /// `PublicKeyCredentialCreationOptions` or `…RequestOptions`, in their JSON form.
    pub options: Value,
    /// The challenge, sealed.
    pub state: String,
}

/// An answer to a challenge.
#[derive(Debug)]
pub struct Answer<'a> {
    /// What the challenge was made for: a browser or a sign-in.
    pub tie: &'a str,
    pub state: &'a str,
    /// The credential, as JSON.
    pub credential: &'a str,
}

/// A challenge that is under way.
#[derive(Serialize, Deserialize)]
struct Begun<S> {
    state: S,
    until: u64,
}

/// A passkey that was shown, and is yet to be noted so.
#[derive(Debug)]
pub struct Used {
    spent: Vec<u8>,
    until: u64,
    shown: Use,
    /// Whether its key stays in one device, as that says.
    bound: bool,
}

impl Used {
    /// How that proves who somebody is, beside these methods (RFC 8176): by a key that stays in a device
    /// or by one that is copied between devices, and by being there.
    pub fn methods(&self, beside: Methods) -> Methods {
        beside.and_key(self.bound)
    }

    /// Note that it was shown, in the transaction that writes what that gives.
    ///
    /// # Errors
    ///
    /// When the challenge was answered before, or the passkey is gone or was shown meanwhile.
    pub async fn redeem(&self, app: &App, tx: &mut Tx) -> Result<(), Error> {
        let fresh = tx.spend_challenge(&self.spent, self.until).await?
            && tx.use_passkey(&self.shown, app.clock.now()).await?;
        if fresh { Ok(()) } else { Err(Error::WrongPasscode) }
    }
}

fn seal<S: Serialize>(app: &App, label: &str, state: S) -> Result<String, Error> {
    let begun = Begun { state, until: app.clock.now() + LIFETIME };
    let text = serde_json::to_vec(&begun).map_err(|error| Error::Fault(Box::new(error)))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(app.master.seal(label, &text)?))
}

/// What was sealed, by what it is known once it is spent, and until when.
fn open<S: DeserializeOwned>(
    app: &App,
    label: &str,
    sealed: &str,
) -> Result<(S, Vec<u8>, u64), Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).map_err(|_| Error::BadPasskey)?;
    let text = app.master.open(label, &bytes).map_err(|_| Error::BadPasskey)?;
    let begun: Begun<S> = serde_json::from_slice(&text).map_err(|_| Error::BadPasskey)?;
    if begun.until <= app.clock.now() {
        return Err(Error::BadPasskey);
    }
    let spent = app.factor_hasher.hash(&format!("passkey/{}", hex::encode(bytes)));
    Ok((begun.state, spent, begun.until))
}

fn read<T: DeserializeOwned>(credential: &str) -> Result<T, Error> {
    if credential.len() > LONGEST {
        return Err(Error::BadPasskey);
    }
    serde_json::from_str(credential).map_err(|_| Error::BadPasskey)
}

/// What went wrong is for the log; nobody learns more than that it did.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it")]
fn refused(error: WebauthnError) -> Error {
    tracing::info!(%error, "what an authenticator said does not hold");
    Error::BadPasskey
}

fn label_of_making(org: &OrgId, user: &UserId, tie: &str) -> String {
    format!("passkey-made/{org}/{user}/{tie}")
}

fn label_of_showing(org: &OrgId, user: Option<&UserId>, tie: &str) -> String {
    format!("passkey-shown/{org}/{}/{tie}", user.map_or("", UserId::as_str))
}

/// What authenticators know a person by.
fn handle(user: &UserId) -> Result<Uuid, Error> {
    Uuid::parse_str(user.as_str()).map_err(|_| Error::NoPasskeys)
}

/// Ask somebody's authenticator for a new passkey.
///
/// # Errors
///
/// When there are none here, or the person may not set one up now.
pub async fn begin(app: &App, me: &Oneself, tie: &str) -> Result<Asked, Error> {
    let party = app.passkeys.get()?;
    let mut tx = app.store.read(&me.org).await?;
    let held = tx.passkeys(&me.user.id).await?;
    let title = tx.title().await?.filter(|title| !title.trim().is_empty());
    drop(tx);
    let held = held.into_iter().map(|passkey| passkey.credential_id).collect();
    let (username, name) = (&me.user.username, me.user.display_name());
    let (asked, state) = party
        .start_passkey_registration(handle(&me.user.id)?, username, &name, Some(held))
        .map_err(|error| Error::Fault(Box::new(error)))?;
    let mut options =
        serde_json::to_value(asked.public_key).map_err(|error| Error::Fault(Box::new(error)))?;
    // Each signs in alone, too, so an authenticator has to know it by itself.
    let chosen = &mut options["authenticatorSelection"];
    chosen["residentKey"] = json!("required");
    chosen["requireResidentKey"] = json!(true);
    options["rp"]["name"] = json!(title.as_deref().unwrap_or(me.org.as_str()));
    let label = label_of_making(&me.org, &me.user.id, tie);
    Ok(Asked { options, state: seal(app, &label, state)? })
}

/// A passkey that was made.
#[derive(Debug)]
pub struct Made {
    pub passkey: Passkey,
    /// Recovery codes, told this once; none for whoever has some.
    pub codes: Vec<String>,
    /// Whether its key stays in one device, as that says.
    pub bound: bool,
}

/// Keep a passkey that somebody's authenticator has made; with recovery codes for whoever has none.
///
/// # Errors
///
/// When the answer does not hold, or the person may not set one up now.
pub async fn finish(
    app: &App,
    me: &Oneself,
    answer: &Answer<'_>,
    name: &str,
) -> Result<Made, Error> {
    words::line(name).map_err(|rule| Error::rule("name", rule))?;
    let party = app.passkeys.get()?;
    let (org, user) = (&me.org, &me.user);
    let label = label_of_making(org, &user.id, answer.tie);
    let (state, spent, until): (PasskeyRegistration, _, _) = open(app, &label, answer.state)?;
    let made: RegisterPublicKeyCredential = read(answer.credential)?;
    let key = party.finish_passkey_registration(&made, &state).map_err(refused)?;
    let credential_id = key.cred_id().clone();
    if !(1..=LONGEST_ID).contains(&credential_id.len()) {
        return Err(Error::BadPasskey);
    }
    let mut tx = me.begin_with_factor(app).await?;
    if !tx.spend_challenge(&spent, until).await? {
        return Err(Error::BadPasskey);
    }
    let held = tx.passkeys(&user.id).await?.len();
    if u64::try_from(held).is_ok_and(|held| held >= MOST) {
        return Err(Error::Full { what: "passkeys", most: MOST });
    }
    let facts = Facts::of(&key)?;
    let name = if name.trim().is_empty() { "Passkey" } else { name.trim() };
    let passkey = Passkey {
        id: clock::random_id()?.to_string(),
        user: user.id.clone(),
        credential_id,
        name: name.to_owned(),
        sign_count: facts.counter,
        details: text(&key)?,
        created_at: app.clock.now(),
        used_at: None,
    };
    tx.add_passkey(&passkey).await?;
    let codes = if tx.recovery_codes_left(&user.id).await? == 0 {
        let codes = recovery::make()?;
        let hashes = recovery::hashes(app, &user.id, &codes);
        tx.set_recovery_codes(&user.id, recovery::each(&hashes)).await?;
        codes
    } else {
        Vec::new()
    };
    me.set_up(app, &mut tx).await?;
    let change = Change::made(&json!({"type": "passkey", "passkey": passkey.id, "name": name}));
    app.audit(&mut tx, &user.id, Event::FactorEnabled, &user.id, change);
    app.commit(tx).await?;
    tracing::info!(user.id = %user.id, passkey.id = passkey.id, "a passkey is in force");
    Ok(Made { passkey, codes, bound: !facts.backup_eligible })
}

fn text(key: &webauthn::Passkey) -> Result<String, Error> {
    serde_json::to_string(key).map_err(|error| Error::Fault(Box::new(error)))
}

/// What a key says of itself that it does not tell otherwise.
#[derive(Deserialize)]
struct Facts {
    counter: u64,
    backup_eligible: bool,
}

impl Facts {
    fn of(key: &webauthn::Passkey) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Whole {
            cred: Facts,
        }
        let whole = serde_json::to_value(key).and_then(serde_json::from_value::<Whole>);
        Ok(whole.map_err(|error| Error::Fault(Box::new(error)))?.cred)
    }
}

/// A person's passkeys.
///
/// # Errors
///
/// When the database fails.
pub async fn list(app: &App, me: &Oneself) -> Result<Vec<Passkey>, Error> {
    Ok(app.store.read(&me.org).await?.passkeys(&me.user.id).await?)
}

/// Call a passkey something else.
///
/// # Errors
///
/// When the person has no such passkey, or the name is none.
pub async fn rename(app: &App, me: &Oneself, id: &str, name: &str) -> Result<Passkey, Error> {
    words::line(name).map_err(|rule| Error::rule("name", rule))?;
    if name.trim().is_empty() {
        return Err(Error::rule("name", "it is not empty"));
    }
    let mut tx = me.begin(app).await?;
    if !tx.rename_passkey(&me.user.id, id, name.trim()).await? {
        return Err(Error::NoSuchPasskey);
    }
    let found = tx.passkeys(&me.user.id).await?.into_iter().find(|passkey| passkey.id == id);
    app.commit(tx).await?;
    found.ok_or(Error::NoSuchPasskey)
}

/// Remove a passkey. Where a factor is asked for, the last one stays.
///
/// # Errors
///
/// When that is so, or the person has no such passkey.
pub async fn remove(app: &App, me: &Oneself, id: &str) -> Result<(), Error> {
    let mut tx = me.begin_with_factor(app).await?;
    let user = &me.user;
    let found = tx.passkeys(&user.id).await?.into_iter().find(|passkey| passkey.id == id);
    let found = found.ok_or(Error::NoSuchPasskey)?;
    tx.remove_passkey(&user.id, id).await?;
    if tx.factors(&user.id).await?.is_empty() {
        if super::required(&mut tx, user).await? {
            return Err(Error::FactorRequired);
        }
        // Nothing is left that they would stand in for.
        tx.remove_factors(&user.id).await?;
    }
    let change = Change::lost(&json!({"type": "passkey", "passkey": id, "name": found.name}));
    app.audit(&mut tx, &user.id, Event::FactorsDisabled, &user.id, change);
    app.commit(tx).await?;
    tracing::info!(user.id = %user.id, passkey.id = id, "a passkey was removed");
    Ok(())
}

/// Ask for a passkey: of that person, where it stands beside a password, or of anybody, who is known by
/// it then.
///
/// # Errors
///
/// When there are none here.
pub fn ask(
    app: &App,
    org: &OrgId,
    (user, held): (Option<&UserId>, &[Passkey]),
    tie: &str,
) -> Result<Asked, Error> {
    let (asked, state) = app
        .passkeys
        .get()?
        .start_discoverable_authentication()
        .map_err(|error| Error::Fault(Box::new(error)))?;
    let mut options =
        serde_json::to_value(asked.public_key).map_err(|error| Error::Fault(Box::new(error)))?;
    let allowed = held.iter().map(
        |one| json!({"type": "public-key", "id": BASE64_URL_SAFE_NO_PAD.encode(&one.credential_id)}),
    );
    options["allowCredentials"] = allowed.collect();
    Ok(Asked { options, state: seal(app, &label_of_showing(org, user, tie), state)? })
}

/// Whose passkey was shown, and what with, if it holds. `user` is whom it was asked of.
///
/// # Errors
///
/// When it does not: `Error::ClonedPasskey` where its number of signatures says that there is another
/// authenticator with the same key.
pub async fn shown(
    app: &App,
    tx: &mut Tx,
    (org, user): (&OrgId, Option<&UserId>),
    answer: &Answer<'_>,
) -> Result<(UserId, Used), Error> {
    let party = app.passkeys.get()?;
    let label = label_of_showing(org, user, answer.tie);
    let (state, spent, until) = open::<DiscoverableAuthentication>(app, &label, answer.state)?;
    let said: PublicKeyCredential = read(answer.credential)?;
    if said.raw_id.len() > LONGEST_ID {
        return Err(Error::BadPasskey);
    }
    let found = tx.passkey_called(&said.raw_id).await?.ok_or(Error::BadPasskey)?;
    // Whoever it was asked of, or else whom the authenticator names, is its owner.
    match user {
        Some(user) if *user != found.user => return Err(Error::BadPasskey),
        Some(_) => {}
        None => {
            let (named, _) = party.identify_discoverable_authentication(&said).map_err(refused)?;
            if named != handle(&found.user)? {
                return Err(Error::BadPasskey);
            }
        }
    }
    let mut key: webauthn::Passkey =
        serde_json::from_str(&found.details).map_err(|error| Error::Fault(Box::new(error)))?;
    let result = match party.finish_discoverable_authentication_v2(&said, state, &key) {
        Err(WebauthnError::CredentialPossibleCompromise) => {
            return Err(Error::ClonedPasskey { user: found.user, passkey: found.id });
        }
        other => other.map_err(refused)?,
    };
    // The library asks for it; it is looked at once more, for all rests on it.
    if !result.user_verified() {
        return Err(Error::BadPasskey);
    }
    key.update_credential(&result);
    let counts = (found.sign_count, u64::from(result.counter()).max(found.sign_count));
    let shown = Use { passkey: found.id, details: text(&key)?, counts };
    let bound = !result.backup_eligible();
    Ok((found.user, Used { spent, until, shown, bound }))
}

/// Who signs in by a passkey alone.
///
/// # Errors
///
/// When what is shown does not hold.
pub async fn prove(app: &App, client: &Client, answer: &Answer<'_>) -> Result<(User, Used), Error> {
    let org = &client.org;
    let mut tx = app.store.read(org).await?;
    let found = async {
        let (user, used) = shown(app, &mut tx, (org, None), answer).await?;
        let user = tx.user(&user).await?.filter(|user| !user.disabled);
        Ok((user.ok_or(Error::BadPasskey)?, used))
    };
    let found = found.await;
    drop(tx);
    match found {
        Err(Error::ClonedPasskey { user, passkey }) => {
            cloned(app, org, &user, &passkey).await?;
            Err(Error::BadPasskey)
        }
        Err(Error::BadPasskey) => {
            let event = Event::SignInFailed;
            audit::failed(app, org, event, Account::Unknown, Some(&client.id)).await?;
            Err(Error::BadPasskey)
        }
        other => other,
    }
}

/// Record that somebody else may have a passkey's key.
///
/// # Errors
///
/// When the database fails.
pub async fn cloned(app: &App, org: &OrgId, user: &UserId, passkey: &str) -> Result<(), Error> {
    tracing::warn!(
        user.id = %user, passkey.id = passkey,
        "a passkey of user {user} was refused: it counts its signatures as one with a copy would"
    );
    let mut tx = app.store.begin_beside(org).await?;
    let change = Change::made(&json!({"passkey": passkey}));
    app.audit(&mut tx, Actor::Nobody, Event::PasskeyCloned, user, change);
    app.commit(tx).await
}
