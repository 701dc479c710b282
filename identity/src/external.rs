//! The rules of signing in through a provider: who is sent there, who comes back, and who they are here.
//!
//! Somebody there is somebody here by the provider and its subject alone: an e-mail address can be had
//! by whoever asks a careless provider for it. What was sent is taken once, from the provider that it
//! was sent to and by the browser that it was sent from; what goes out beside it (`nonce`, the PKCE
//! verifier) hangs from `state` by a key, so the database holds none of it.

mod person;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::{OrgId, UserId};

use crate::{
    app::App,
    audit::{self, Account},
    browsers, clock,
    defence::{Guess, Target},
    error::Error,
    federation::{self, Exchange, Fault, Known, Said},
    identity_providers, login,
    mfa::{
        self, Need,
        challenge::{self, Asked},
    },
    model::{
        app::Client,
        event::Event,
        identity_provider::{Details, IdentityProvider, Sent},
        session::Methods,
        user::User,
    },
    origin::Origin,
    problem::chain,
    store::{Tx, Window},
};

/// How long somebody may take at a provider, in seconds.
const LIFETIME: u64 = 600;
/// The longest request for a code that goes on afterwards, in bytes.
const LONGEST: usize = 8192;
/// How far clocks may disagree about when somebody signed in there, in seconds.
const SKEW: u64 = 60;

/// A way to sign in, as the page shows it.
pub struct Offer {
    pub id: String,
    pub name: String,
}

/// The providers that an organization's people sign in through now.
///
/// # Errors
///
/// When the database fails.
pub async fn offers(app: &App, org: &OrgId) -> Result<Vec<Offer>, Error> {
    let all = app.store.read(org).await?.identity_providers(Window::ALL).await?;
    let enabled = all.into_iter().filter(|provider| provider.enabled);
    Ok(enabled.map(|IdentityProvider { id, name, .. }| Offer { id, name }).collect())
}

/// What an application wants of a sign-in, as far as the provider has to know.
#[derive(Debug, Default)]
pub struct Wish<'a> {
    pub username: &'a str,
    /// Whether somebody who is signed in there is to do so again.
    pub anew: bool,
    /// How long ago they may have, in seconds.
    pub max_age: Option<u64>,
}

/// What goes to a provider and comes back, or hangs from what does.
struct Hanging {
    nonce: String,
    verifier: String,
    hash: Vec<u8>,
}

impl Hanging {
    fn from(app: &App, state: &str) -> Self {
        let hash = |what: &str| app.external_hasher.hash(&format!("{what}\n{state}"));
        let text = |what| BASE64_URL_SAFE_NO_PAD.encode(hash(what));
        Self { nonce: text("nonce"), verifier: text("verifier"), hash: hash("state") }
    }
}

fn tie_hash(app: &App, tie: &str) -> Vec<u8> {
    app.external_hasher.hash(&format!("tie\n{tie}"))
}

/// Send somebody to a provider of the client's organization, from the browser with the cookie `tie`:
/// the address, and the parameters to add to it.
///
/// # Errors
///
/// When there is no such provider, it cannot be reached, or too many were sent from there.
pub async fn begin(
    app: &App,
    client: &Client,
    (id, request): (&str, &str),
    tie: &str,
    wish: &Wish<'_>,
    origin: &Origin,
) -> Result<(String, Vec<(&'static str, String)>), Error> {
    let now = app.clock.now();
    app.defence.sends(origin, now).await?;
    if request.len() > LONGEST {
        return Err(Error::External("The application asks for too much at once."));
    }
    let provider = enabled(app, &client.org, id).await?;
    let known = known(app, &provider).await?;
    let random = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
    let state = format!("{}.{random}", client.org);
    let hanging = Hanging::from(app, &state);
    let sent = Sent {
        provider: provider.id.clone(),
        request: request.to_owned(),
        expires_at: now + LIFETIME,
    };
    let mut tx = app.store.begin_beside(&client.org).await?;
    tx.add_sent(&sent, (&hanging.hash, &tie_hash(app, tie))).await?;
    app.commit(tx).await?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, hanging.verifier.as_bytes()));
    let mut parameters = vec![
        ("response_type", "code".to_owned()),
        ("client_id", provider.client_id.clone()),
        ("redirect_uri", identity_providers::redirect_uri(app, &provider.id)),
        ("scope", provider.details.scopes.join(" ")),
        ("state", state),
        ("nonce", hanging.nonce),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256".to_owned()),
    ];
    if !wish.username.is_empty() {
        parameters.push(("login_hint", wish.username.to_owned()));
    }
    if wish.anew {
        parameters.push(("prompt", "login".to_owned()));
    }
    parameters.extend(wish.max_age.map(|age| ("max_age", age.to_string())));
    Ok((known.authorization.to_string(), parameters))
}

async fn enabled(app: &App, org: &OrgId, id: &str) -> Result<IdentityProvider, Error> {
    let provider = app.store.read(org).await?.identity_provider(id).await?;
    provider.filter(|provider| provider.enabled).ok_or(Error::NoSuchIdentityProvider)
}

async fn known(app: &App, provider: &IdentityProvider) -> Result<std::sync::Arc<Known>, Error> {
    federation::known(app, &provider.issuer).await.map_err(|fault| refusal(provider, &fault))
}

/// What the person is told; the log says more.
fn refusal(provider: &IdentityProvider, fault: &Fault) -> Error {
    let error = chain(fault);
    tracing::warn!(provider.id, error, "an identity provider did not say who somebody is");
    Error::External(if fault.is_away() {
        "Your organization's sign-in service cannot be reached. Try again in a moment."
    } else {
        "Your organization's sign-in service did not confirm who you are. Try again."
    })
}

/// What a provider sent somebody back with.
pub struct Answer<'a> {
    pub code: Option<&'a str>,
    pub error: Option<&'a str>,
    /// Whose answer it says that it is (RFC 9207).
    pub issuer: Option<&'a str>,
}

/// Somebody who came back to where they were sent from.
pub struct Returned {
    pub org: OrgId,
    /// The request for a code that goes on now.
    pub request: String,
    provider: String,
    hanging: Hanging,
}

/// Take what was sent, once; `None` where nothing was, from that browser and to that provider.
///
/// # Errors
///
/// When the database fails, or too many sign-ins from there have failed.
pub async fn take(
    app: &App,
    (provider, state): (&str, &str),
    tie: &str,
    origin: &Origin,
) -> Result<Option<Returned>, Error> {
    let now = app.clock.now();
    let guess = app.defence.guess(None, Target::client(tie), origin, now).await?;
    let Some(org) = browsers::org_of(state) else {
        failed(app, guess).await?;
        return Ok(None);
    };
    let hanging = Hanging::from(app, state);
    let mut tx = app.store.begin_beside(&org).await?;
    let taken = tx.take_sent(provider, (&hanging.hash, &tie_hash(app, tie)), now).await?;
    app.commit(tx).await?;
    let Some(request) = taken else {
        failed(app, guess).await?;
        return Ok(None);
    };
    // What was sent from here is no guess, whatever comes of it.
    app.defence.undone(guess).await;
    Ok(Some(Returned { org, request, provider: provider.to_owned(), hanging }))
}

async fn failed(app: &App, guess: Guess) -> Result<(), Error> {
    if app.defence.failed(guess).await {
        audit::failed(app, &app.home, Event::Sprayed, Account::Unknown, None).await?;
    }
    Ok(())
}

/// Somebody who is known by a provider, and may sign in.
pub struct Arrival {
    provider: String,
    subject: String,
    pub methods: Methods,
    /// When they proved it; seconds since the epoch.
    pub auth_time: u64,
    /// Whether a device that is remembered stands in for the second factor.
    pub remembered: bool,
    /// Whether the provider told of one that counts here.
    trusted: bool,
}

impl Arrival {
    /// Check that it is still enough.
    ///
    /// # Errors
    ///
    /// When the person is nobody there any more, or something else is asked for by now.
    pub async fn redeem(&self, tx: &mut Tx, user: &User) -> Result<(), Error> {
        let there = tx.user_of_subject(&self.provider, &self.subject).await?;
        let provider = tx.identity_provider(&self.provider).await?;
        if there.as_ref() != Some(&user.id) || !provider.is_some_and(|provider| provider.enabled) {
            return Err(Error::Conflict);
        }
        let enough = self.trusted || self.remembered;
        if !enough && !matches!(mfa::need(tx, user).await?, Need::Nothing) {
            return Err(Error::Conflict);
        }
        Ok(())
    }
}

/// What came of it.
pub enum Entered {
    /// Everything that was needed.
    In(Box<(User, Arrival)>),
    /// A second factor is needed, too.
    Asked(Asked),
}

/// Find out who came back, and whether they may sign in. `device` is the token of a device that was
/// remembered.
///
/// # Errors
///
/// When they may not: `Error::External`, in words for them.
pub async fn enter(
    app: &App,
    client: &Client,
    returned: &Returned,
    answer: &Answer<'_>,
    (max_age, device): (Option<u64>, Option<&str>),
) -> Result<Entered, Error> {
    let mut who = None;
    let entered = arrive(app, client, returned, answer, (max_age, device), &mut who).await;
    if let Err(Error::External(_)) = &entered {
        let account = who.as_ref().map_or(Account::Unknown, Account::User);
        audit::failed(app, &client.org, Event::SignInFailed, account, Some(&client.id)).await?;
    }
    entered
}

async fn arrive(
    app: &App,
    client: &Client,
    returned: &Returned,
    answer: &Answer<'_>,
    (max_age, device): (Option<u64>, Option<&str>),
    who: &mut Option<UserId>,
) -> Result<Entered, Error> {
    let org = &client.org;
    let provider = match enabled(app, org, &returned.provider).await {
        Err(Error::NoSuchIdentityProvider) => {
            return Err(Error::External("That way of signing in is not offered any more."));
        }
        provider => provider?,
    };
    let said = ask(app, org, &provider, returned, answer).await?;
    let now = app.clock.now();
    if let Some(age) = max_age {
        let at = said.auth_time.unwrap_or(0);
        if at.saturating_add(age).saturating_add(SKEW) < now {
            let told = "Your organization's sign-in service did not ask you to sign in again, as this \
                        application wants it.";
            return Err(Error::External(told));
        }
    }
    let user = person::settle(app, org, &provider, &said).await?;
    *who = Some(user.id.clone());
    if user.disabled {
        return Err(Error::External("Your account is disabled. Ask your administrator."));
    }
    let details = &provider.details;
    let trusted = details.trust_mfa && shows_several(details, &said);
    let methods = Methods::federated(trusted.then_some(said.amr.as_slice()));
    let (need, remembered) = login::need(app, client, &user, device).await?;
    if !trusted && !remembered && !matches!(need, Need::Nothing) {
        let mut tx = app.store.read(org).await?;
        let hash = tx.password_hash(&user.id).await?.unwrap_or_default();
        drop(tx);
        let asked = challenge::ask_after(app, client, (&user, &hash), (methods, &need)).await?;
        return Ok(Entered::Asked(asked));
    }
    let arrival = Arrival {
        provider: provider.id,
        subject: said.subject,
        methods,
        auth_time: said.auth_time.unwrap_or(now),
        remembered: remembered && !trusted,
        trusted,
    };
    Ok(Entered::In(Box::new((user, arrival))))
}

fn shows_several(details: &Details, said: &Said) -> bool {
    said.amr.iter().any(|method| method == "mfa")
        || said.acr.as_ref().is_some_and(|acr| details.mfa_acr.contains(acr))
}

/// Have the provider say who it is.
async fn ask(
    app: &App,
    org: &OrgId,
    provider: &IdentityProvider,
    returned: &Returned,
    answer: &Answer<'_>,
) -> Result<Said, Error> {
    const UNSURE: Error = Error::External(
        "Your organization's sign-in service did not confirm who you are. Try again.",
    );
    let known = known(app, provider).await?;
    // Before anything of the answer is looked at: it may be another's.
    if answer.issuer.map_or(known.says_issuer, |issuer| issuer != provider.issuer) {
        tracing::warn!(provider.id, "an answer says that it is another issuer's, or not whose");
        return Err(UNSURE);
    }
    if let Some(error) = answer.error {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let error = if error.bytes().all(good) { error } else { "" };
        tracing::info!(
            provider.id,
            error,
            "an identity provider sent somebody back without a code"
        );
        return Err(Error::External(if error == "access_denied" {
            "You did not sign in at your organization's sign-in service, or it does not let you."
        } else {
            "Your organization's sign-in service sent you back without signing you in. Try again."
        }));
    }
    let code = answer.code.ok_or(UNSURE)?;
    let secret = identity_providers::secret(app, org, provider)?;
    let redirect_uri = identity_providers::redirect_uri(app, &provider.id);
    let with = Exchange {
        provider,
        secret: secret.as_ref(),
        code,
        redirect_uri: &redirect_uri,
        verifier: &returned.hanging.verifier,
        nonce: &returned.hanging.nonce,
    };
    let claims = &provider.details.claims;
    let mut wanted = Vec::new();
    if !provider.details.group_map.is_empty() {
        wanted.push(claims.groups.as_str());
    }
    if provider.details.create_users {
        wanted.extend([claims.username.as_str(), claims.email.as_str()]);
    }
    let said = federation::exchange(app, &known, &with, &wanted).await;
    said.map_err(|fault| refusal(provider, &fault))
}
