//! The ceremony of signing in: which client asks, who the person is, and then a session.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    app::App,
    credentials,
    error::Error,
    grants::Narrowing,
    master::same,
    model::{
        app::{Client, GrantType},
        credential::{self, Proof},
        grant::Grant,
        user::{Credentials, User},
    },
    passwords::Match,
    sessions,
    tokens::{self, Issued},
};

/// What a client says of itself.
pub struct ClientCredentials {
    pub id: String,
    pub secret: SecretString,
}

/// The client that asks, once its secret fits.
///
/// # Errors
///
/// When there is no such client, or the secret is another one; which, is not told.
pub async fn client(app: &App, said: &ClientCredentials) -> Result<Client, Error> {
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
    let known = known.ok_or(Error::InvalidClient)?;
    let used = fitting.first().ok_or(Error::InvalidClient)?;
    credentials::used(app, used).await;
    Ok(known)
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

/// Sign a person in by password. Unknown people cost what known ones cost, and are told the same.
///
/// # Errors
///
/// When the client may not do that, or the user name or password is wrong.
pub async fn password(
    app: &App,
    client: &Client,
    username: &str,
    password: &SecretString,
    grant: Option<Grant>,
) -> Result<Issued, Error> {
    permitted(client, GrantType::Password)?;
    let (user, proved) = prove(app, client, username, password).await?;
    match sessions::start(app, &user, &proved, client, grant).await {
        // Removed while the password was being compared.
        Err(Error::Conflict) => Err(Error::InvalidCredentials),
        other => other,
    }
}

/// Who somebody is, by password, and the hash that was proved. Unknown people cost what known ones
/// cost, and are told the same.
///
/// # Errors
///
/// When the user name or password is wrong.
pub async fn prove(
    app: &App,
    client: &Client,
    username: &str,
    password: &SecretString,
) -> Result<(User, String), Error> {
    let known = app.store.read(&client.org).await?.credentials(username).await?;
    let hash = known.as_ref().map(|known| known.password_hash.as_str());
    let verdict = app.passwords.verify(password, hash).await?;
    if verdict == Match::No {
        // By id alone: what was typed as a user name may be a password.
        let user = known.as_ref().map_or("unknown", |known| known.id.as_str());
        tracing::info!(user.id = user, client = client.client_id, "a sign-in failed");
    }
    let known = known.filter(|_| verdict != Match::No).ok_or(Error::InvalidCredentials)?;
    let proved = match verdict {
        Match::Outdated => strengthen(app, client, &known, password).await?,
        Match::Yes | Match::No => known.password_hash,
    };
    let user = app.store.read(&client.org).await?.user(&known.id).await?;
    Ok((user.ok_or(Error::InvalidCredentials)?, proved))
}

/// A token for the client itself.
///
/// # Errors
///
/// When the client may not do that.
pub fn machine(
    app: &App,
    client: &Client,
    audiences: Option<Vec<String>>,
) -> Result<Issued, Error> {
    permitted(client, GrantType::ClientCredentials)?;
    tokens::for_application(app, client, audiences)
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
    use std::sync::Arc;

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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_who_sign_in_at_once_with_an_outdated_hash_get_in() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Arc::new(Manifest::parse("i.yaml", IDENTITY).unwrap());
        let (identity, _) = Identity::open(
            Config::default(),
            folder.path(),
            Catalog::new(vec![manifest], Vec::new()).unwrap(),
            Bootstrap::parse("b.yaml", BOOTSTRAP).unwrap(),
            Secrets::default(),
            Clock::standing_at(1_800_000_000),
        )
        .await
        .unwrap();
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
        password(&app, &client, "admin", &secret, None).await.unwrap();
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
