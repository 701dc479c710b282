//! The ceremony of signing in: which client asks, who the person is, and then a session.

use policy::model::name::OrgId;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    app::App,
    audit::{self, Account},
    credentials,
    defence::{Acquaintance, Target},
    error::Error,
    grants::Narrowing,
    master::same,
    mfa::{
        self, Need,
        challenge::{self, Asked},
        device,
    },
    model::{
        app::{Client, GrantType},
        credential::{self, Proof},
        event::Event,
        grant::Grant,
        user::{Credentials, User},
    },
    origin::Origin,
    passwords::Match,
    sessions,
    store::Tx,
    tokens::{self, Issued},
};

/// From how many bytes on a secret is not to be guessed. Those that are made here have more; one that
/// an operator chose may have fewer.
const UNGUESSABLE: usize = 32;

/// What a client says of itself.
pub struct ClientCredentials {
    pub id: String,
    pub secret: SecretString,
}

/// The client that asks, once its secret fits.
///
/// # Errors
///
/// When there is no such client, or the secret is another one; which, is not told. And when there
/// were too many guesses.
pub async fn client(app: &App, said: &ClientCredentials, origin: &Origin) -> Result<Client, Error> {
    let now = app.clock.now();
    let (known, shown) = app.store.client_with(&said.id, credential::SECRET, now).await?;
    // An unknown client costs the same questions and the same hash.
    let hash = app.secret_hasher.hash(said.secret.expose_secret());
    let fits = |shown: &&credential::Shown| match &shown.proof {
        Proof::Secret { hash: held, .. } => same(&hash, held),
        Proof::Key(_) => false,
    };
    // Each of them is looked at, whichever fits.
    let fitting: Vec<_> = shown.iter().filter(fits).collect();
    let meant = known.as_ref().map(|client| (client.org.clone(), client.id.clone()));
    let client = known.zip(fitting.first());
    // Nobody comes upon a long one by guessing, so whoever has it is not held up by those who try.
    if said.secret.expose_secret().len() >= UNGUESSABLE
        && let Some((client, secret)) = client
    {
        credentials::used(app, secret).await;
        return Ok(client);
    }
    let guess = app.defence.guess(None, Target::client(&said.id), origin, now).await?;
    if let Some((client, secret)) = client.filter(|_| guess.counts()) {
        app.defence.succeeded(guess).await;
        credentials::used(app, secret).await;
        Ok(client)
    } else {
        if app.defence.failed(guess).await {
            let org = meant.as_ref().map_or(&app.home, |(org, _)| org);
            audit::failed(app, org, Event::Sprayed, Account::Unknown, None).await?;
        }
        if let Some(meant) = meant {
            audit::refused(app, meant).await?;
        }
        Err(Error::InvalidClient)
    }
}

/// The client that a sign-in means which names none.
///
/// # Errors
///
/// When there is none.
pub async fn default_client(app: &App) -> Result<Client, Error> {
    let mut tx = app.store.read(&app.home).await?;
    let org = tx.organization().await?.ok_or(Error::InvalidClient)?;
    tx.client_of(&org.default_application).await?.ok_or(Error::InvalidClient)
}

/// What a password led to.
pub enum Entered {
    /// Everything that was needed.
    In(Issued),
    /// A second factor is needed, too.
    Asked(Asked),
}

/// Sign a person in by password, or ask for what is needed beside it. `device` is the token of a device
/// that was remembered. Unknown people cost what known ones cost, and are told the same.
///
/// # Errors
///
/// When the client may not do that, the user name or password is wrong, there were too many guesses, or
/// a second factor is needed where nothing but tokens can be answered: for a grant in OAuth's words.
pub async fn password(
    app: &App,
    client: &Client,
    (username, password): (&str, &SecretString),
    (grant, device): (Option<Grant>, Option<&str>),
    origin: &Origin,
) -> Result<Entered, Error> {
    permitted(client, GrantType::Password)?;
    let (user, proved) = prove(app, client, (username, password), origin).await?;
    let (need, remembered) = need(app, client, &user, device).await?;
    if !remembered && !matches!(need, Need::Nothing) {
        if grant.is_some() {
            return Err(Error::FactorNeeded);
        }
        return match challenge::ask(app, client, (&user, &proved), &need).await {
            Err(Error::Conflict) => Err(Error::InvalidCredentials),
            other => Ok(Entered::Asked(other?)),
        };
    }
    match sessions::start(app, (&user, &proved), client, grant, remembered).await {
        // Removed while the password was being compared.
        Err(Error::Conflict) => Err(Error::InvalidCredentials),
        other => Ok(Entered::In(other?)),
    }
}

/// What somebody has to show beside the password, and whether a device of theirs is remembered by that
/// token, so that they need not.
///
/// # Errors
///
/// When the database fails.
pub async fn need(
    app: &App,
    client: &Client,
    user: &User,
    device: Option<&str>,
) -> Result<(Need, bool), Error> {
    let mut tx = app.store.read(&client.org).await?;
    let need = mfa::need(&mut tx, user).await?;
    let remembered = match (&need, device) {
        (Need::Factor(_), Some(token)) => device::is_known(app, &mut tx, &user.id, token).await?,
        _ => false,
    };
    Ok((need, remembered))
}

/// Who somebody is, by password, and the hash that was proved. Unknown people cost what known ones
/// cost, and are told the same.
///
/// # Errors
///
/// When the user name or password is wrong, or there were too many guesses.
pub async fn prove(
    app: &App,
    client: &Client,
    (username, password): (&str, &SecretString),
    origin: &Origin,
) -> Result<(User, String), Error> {
    let org = &client.org;
    let mut tx = app.store.read(org).await?;
    let known = tx.credentials(username).await?;
    let whom = (org, known.as_ref(), username);
    let (verdict, acquaintance) = compare(app, tx, whom, password, origin).await?;
    if verdict == Match::No {
        // By id alone: what was typed as a user name may be a password.
        let user = known.as_ref().map_or("unknown", |known| known.id.as_str());
        tracing::info!(user.id = user, client = client.client_id, "a sign-in failed");
        let account = known.as_ref().map_or(Account::Unknown, |known| Account::User(&known.id));
        audit::failed(app, org, Event::SignInFailed, account, Some(&client.id)).await?;
        return Err(Error::InvalidCredentials);
    }
    let known = known.ok_or(Error::InvalidCredentials)?;
    app.defence.note(app, (org, &known.id), &acquaintance).await?;
    let proved = match verdict {
        Match::Outdated => strengthen(app, client, &known, password).await?,
        Match::Yes | Match::No => known.password_hash,
    };
    let user = app.store.read(&client.org).await?.user(&known.id).await?;
    Ok((user.ok_or(Error::InvalidCredentials)?, proved))
}

/// Compare a password with somebody's, or with nobody's, as a guess that is counted; and how they are
/// known here. Hashes that came from elsewhere cost otherwise than ours: for nobody, the work is that of
/// somebody, who depends on what was typed. `typed` is what was typed as a name. `tx` has looked them up.
///
/// # Errors
///
/// When there were too many guesses from there.
pub async fn compare(
    app: &App,
    mut tx: Tx,
    (org, known, typed): (&OrgId, Option<&Credentials>, &str),
    password: &SecretString,
    origin: &Origin,
) -> Result<(Match, Acquaintance), Error> {
    let whom = (org, known.map(|known| &known.id), typed);
    let acquaintance = app.defence.known(app, &mut tx, whom, origin).await?;
    let somebody = tx.hash_at(&app.defence.place(org, typed)).await?;
    drop(tx);
    let target = acquaintance.target();
    let guess = app.defence.guess(Some(org), target, origin, app.clock.now()).await?;
    let held = known.map(|known| known.password_hash.as_str()).filter(|hash| !hash.is_empty());
    let verdict = match held.filter(|_| guess.counts()) {
        Some(hash) => app.passwords.verify(password, Some(hash)).await,
        None => app.passwords.imitate(password, held.or(somebody.as_deref())).await,
    };
    match verdict {
        Ok(Match::No) => {
            if app.defence.failed(guess).await {
                audit::failed(app, org, Event::Sprayed, Account::Unknown, None).await?;
            }
            Ok((Match::No, acquaintance))
        }
        Ok(verdict) => {
            app.defence.succeeded(guess).await;
            Ok((verdict, acquaintance))
        }
        Err(error) => {
            app.defence.undone(guess).await;
            Err(error.into())
        }
    }
}

/// A token for the client itself, with its record.
///
/// # Errors
///
/// When the client may not do that.
pub async fn machine(
    app: &App,
    client: &Client,
    audiences: Option<Vec<String>>,
) -> Result<Issued, Error> {
    permitted(client, GrantType::ClientCredentials)?;
    let issued = tokens::for_application(app, client, audiences)?;
    audit::issued(app, client).await?;
    Ok(issued)
}

/// Go on with a sign-in.
///
/// # Errors
///
/// When the client may not do that, or the token cannot be used.
pub async fn refresh(
    app: &App,
    client: Option<&Client>,
    token: &str,
    narrowing: Option<&Narrowing>,
) -> Result<Issued, Error> {
    client.map_or(Ok(()), |client| permitted(client, GrantType::RefreshToken))?;
    sessions::refresh(app, token, client, narrowing).await
}

/// Check that a client may ask in this way.
///
/// # Errors
///
/// When it may not.
pub fn permitted(client: &Client, grant: GrantType) -> Result<(), Error> {
    if client.may(grant) { Ok(()) } else { Err(Error::GrantNotAllowed) }
}

/// Hash the password with the work that is asked for today; the hash that has been proved. Somebody
/// who signs in at the same moment may have done so already, and with the same password.
async fn strengthen(
    app: &App,
    client: &Client,
    known: &Credentials,
    password: &SecretString,
) -> Result<String, Error> {
    let hash = app.passwords.hash(password).await?;
    let mut tx = app.store.begin(&client.org).await?;
    let held = tx.password_hash(&known.id).await?.ok_or(Error::InvalidCredentials)?;
    if held == known.password_hash {
        tx.set_password_hash(&known.id, &hash).await?;
        app.commit(tx).await?;
        return Ok(hash);
    }
    drop(tx);
    match app.passwords.verify(password, Some(&held)).await? {
        Match::No => Err(Error::InvalidCredentials),
        Match::Yes | Match::Outdated => Ok(held),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use policy::{catalog::Catalog, model::manifest::Manifest};

    use super::*;
    use crate::{Bootstrap, Clock, Config, Identity, Secrets};

    const IDENTITY: &str = "\
product: plugin-identity
resources: {users: [get]}
roles: {editor: {permissions: {'*': ['*']}}}
groups: {admin-group: {title: A, roles: [editor]}}
";
    const BOOTSTRAP: &str = "\
organization: {id: acme}
administrator: {username: admin, email: a@b.co, groups: [admin-group]}
application: {name: app}
";

    async fn open(folder: &std::path::Path) -> Identity {
        let manifest = Arc::new(Manifest::parse("i.yaml", IDENTITY).unwrap());
        let opening = Identity::open(
            Config::default(),
            folder,
            Catalog::new(vec![manifest], Vec::new()).unwrap(),
            Bootstrap::parse("b.yaml", BOOTSTRAP).unwrap(),
            Secrets::default(),
            Clock::standing_at(1_800_000_000),
        );
        opening.await.unwrap().0
    }

    fn from(last: u8) -> Origin {
        Origin { address: [192, 0, 2, last].into(), device: None }
    }

    #[tokio::test]
    async fn a_failure_is_one_hash_whoever_is_meant_and_whatever_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path()).await.app().clone();
        let client = default_client(&app).await.unwrap();
        let wrong = crate::passwords::make().unwrap();
        let admin = app.store.read(&app.home).await.unwrap().credentials("admin").await.unwrap();
        let admin = admin.unwrap();
        let mut attempts: Vec<_> = (0..7).map(|_| ("admin", 1)).collect();
        attempts.extend((0..7).map(|_| ("nobody", 2)));
        attempts.extend([("", 3), ("a\0b", 3), ("nobody@b.co", 3), ("a@b.co", 3)]);
        for (name, place) in attempts {
            let before = app.passwords.worked.load(Ordering::Relaxed);
            let failed = prove(&app, &client, (name, &wrong), &from(place)).await;
            assert!(matches!(failed, Err(Error::InvalidCredentials)), "{name}: {failed:?}");
            let work = app.passwords.worked.load(Ordering::Relaxed) - before;
            assert_eq!(work, 1, "{name}");
        }
        // So it is for somebody who has no password.
        let mut tx = app.store.begin(&app.home).await.unwrap();
        tx.set_password_hash(&admin.id, "").await.unwrap();
        tx.commit().await.unwrap();
        let before = app.passwords.worked.load(Ordering::Relaxed);
        let failed = prove(&app, &client, ("admin", &wrong), &from(4)).await;
        assert!(matches!(failed, Err(Error::InvalidCredentials)), "{failed:?}");
        assert_eq!(app.passwords.worked.load(Ordering::Relaxed) - before, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_who_sign_in_at_once_with_an_outdated_hash_get_in() {
        let folder = tempfile::tempdir().unwrap();
        let identity = open(folder.path()).await;
        let app = identity.app().clone();
        let secret = crate::passwords::make().unwrap();
        let outdated = app.passwords.outdated(&secret);
        let mut tx = app.store.begin(&app.home).await.unwrap();
        let known = tx.credentials("admin").await.unwrap().unwrap();
        tx.set_password_hash(&known.id, &outdated).await.unwrap();
        tx.commit().await.unwrap();
        let client = default_client(&app).await.unwrap();
        // Each has compared before any has strengthened.
        let signing: Vec<_> = (0..3)
            .map(|_| {
                let (app, client, secret) = (app.clone(), client.clone(), secret.clone());
                let known = Credentials { id: known.id.clone(), password_hash: outdated.clone() };
                tokio::spawn(async move { strengthen(&app, &client, &known, &secret).await })
            })
            .collect();
        let mut proved = Vec::new();
        for hash in signing {
            proved.push(hash.await.unwrap().unwrap());
        }
        proved.dedup();
        assert_eq!(proved.len(), 1, "one has strengthened it, and the others go on with that");
        password(&app, &client, ("admin", &secret), (None, None), &from(1)).await.unwrap();
        // Whoever proved a password that has been changed since does not get in.
        let other = crate::passwords::make().unwrap();
        let mut tx = app.store.begin(&app.home).await.unwrap();
        let hash = app.passwords.hash(&other).await.unwrap();
        tx.set_password_hash(&known.id, &hash).await.unwrap();
        tx.commit().await.unwrap();
        let late = strengthen(
            &app,
            &client,
            &Credentials { id: known.id, password_hash: outdated },
            &secret,
        )
        .await;
        assert!(matches!(late, Err(Error::InvalidCredentials)));
    }
}
