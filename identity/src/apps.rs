//! Rules of applications: machines that sign in with credentials of their own.

use policy::{
    changes::Fact,
    model::{
        caller::{Principal, Subject},
        name::{AppId, OrgId, RoleName},
    },
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    admin::{Admin, CREDENTIALS, Reach},
    app::App,
    app_grants,
    clock::{self, NoRandom},
    error::Error,
    holdings::Holdings,
    master::{Hasher, MasterKey, Purpose},
    model::{
        app::{Application, GrantType, NewApplication, Registration},
        event::{Change, Event},
    },
    registration::Asked,
    store::{Tx, Window},
    words,
};

/// Products of the family that have no manifest here, for which applications are made all the same.
const OTHER_PRODUCTS: [&str; 3] =
    ["plugin-br-pix-direct-jd", "plugin-br-pix-indirect-btg", "plugin-br-bank-transfer"];

/// An application, and its secret where it may be shown.
pub type Shown = (Application, Option<SecretString>);

/// Credentials for an application to be made.
pub struct Credentials {
    pub client_id: String,
    pub secret: SecretString,
}

impl Credentials {
    /// Random ones, in the form that clients know: 20 and 40 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn make() -> Result<Self, NoRandom> {
        let client_id = hex::encode(clock::random::<10>()?);
        let secret = SecretString::from(hex::encode(clock::random::<20>()?));
        Ok(Self { client_id, secret })
    }

    /// The application that has them. The secret itself is kept, sealed, only where it may be read
    /// back.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn application(
        &self,
        (name, description): (String, String),
        registration: Registration,
        hasher: &Hasher,
        vault: Option<&MasterKey>,
    ) -> Result<NewApplication, Error> {
        let id: AppId =
            clock::random_id()?.to_string().parse().map_err(|_| Error::BadId("application id"))?;
        let secret = self.secret.expose_secret();
        let secret_sealed = vault
            .map(|vault| vault.seal_for(Purpose::ClientSecrets, id.as_str(), secret.as_bytes()))
            .transpose()?;
        let secret_hash = hasher.hash(secret);
        let client_id = self.client_id.clone();
        Ok(NewApplication {
            id,
            name,
            description,
            client_id,
            secret_hash,
            secret_sealed,
            registration,
        })
    }
}

/// Applications, and how many there are in all.
pub async fn list(app: &App, by: &Admin, window: Window) -> Result<(Vec<Shown>, u64), Error> {
    let mut tx = app.store.read(by.org()).await?;
    let applications = tx.applications(window).await?;
    let count = tx.application_count().await?;
    drop(tx);
    Ok((reveal(app, by, applications).await?, count))
}

/// An application.
pub async fn get(app: &App, by: &Admin, id: &AppId) -> Result<Shown, Error> {
    let found = app.store.read(by.org()).await?.application(id).await?;
    let found = found.ok_or(Error::NoSuchApplication)?;
    reveal(app, by, vec![found]).await?.pop().ok_or(Error::NoSuchApplication)
}

/// What an application registers that says nothing of itself: it acts for itself.
pub fn machine() -> Registration {
    Registration { grant_types: vec![GrantType::ClientCredentials], ..Registration::default() }
}

/// Make an application. It will hold the roles of its product, which may permit no more than the
/// caller may do. This is the time its secret is shown.
pub async fn create(
    app: &App,
    by: &Admin,
    name: String,
    description: String,
    asked: Asked,
) -> Result<Shown, Error> {
    let registration = asked.onto(machine(), &app.config)?;
    named(app, &name, &registration)?;
    let credentials = Credentials::make()?;
    let public = registration.public;
    let made = adopt(app, by, &credentials, (name, description), registration).await?;
    Ok((made, Some(credentials.secret).filter(|_| !public)))
}

/// Make an application that has these credentials. It will hold the roles of its product, which may permit
/// no more than the caller may do.
///
/// # Errors
///
/// When there is a client of that id.
pub async fn adopt(
    app: &App,
    by: &Admin,
    credentials: &Credentials,
    (name, description): (String, String),
    registration: Registration,
) -> Result<Application, Error> {
    words::line(&name).map_err(|rule| Error::rule("name", rule))?;
    words::line(&description).map_err(|rule| Error::rule("description", rule))?;
    let roles = app.roles_of_application(&name);
    let public = registration.public;
    let vault = (app.config.retrievable_secrets && !public).then_some(&app.master);
    let new =
        credentials.application((name, description), registration, &app.secret_hasher, vault)?;
    let (mut tx, reach) = by.begin(app).await?;
    let declared = tx.machine_roles(&new.name).await?;
    may_empower(app, by, &mut tx, &reach, &new.id, (&roles, &declared)).await?;
    tx.add_application(&new, app.clock.now()).await?;
    let made = tx.application(&new.id).await?.ok_or(Error::NoSuchApplication)?;
    app.audit(&mut tx, by, Event::ApplicationCreated, &made.id, Change::made(&made));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %made.id, "made application {}", made.id);
    Ok(made)
}

/// Check that whoever has this reach may let an application do what its roles permit: those that the
/// folder gives it, and those that its product declares.
async fn may_empower(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    reach: &Reach,
    id: &AppId,
    (roles, declared): (&[RoleName], &[RoleName]),
) -> Result<(), Error> {
    let holdings = Holdings::read(app, tx).await?;
    reach.gives(&holdings.of_application(roles)?)?;
    reach.gives(&holdings.of_roles(declared)?)?;
    let machine = |roles: &[RoleName]| Subject {
        principal: principal(by.org(), id),
        groups: [].into(),
        roles: roles.into(),
    };
    reach.makes(&machine(&[]), &machine(&[roles, declared].concat()))
}

/// Describe an application anew, or register it anew. One that is let act for itself from now on may
/// do no more than the caller.
pub async fn change(
    app: &App,
    by: &Admin,
    id: &AppId,
    description: Option<String>,
    asked: Asked,
) -> Result<Shown, Error> {
    description
        .as_deref()
        .map_or(Ok(()), words::line)
        .map_err(|rule| Error::rule("description", rule))?;
    let (mut tx, reach) = by.begin(app).await?;
    let held = tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
    let acts = |of: &Registration| of.grant_types.contains(&GrantType::ClientCredentials);
    let registration = if asked.is_empty() {
        held.registration.clone()
    } else {
        asked.onto(held.registration.clone(), &app.config)?
    };
    if held.registration.public && !registration.public {
        let rule = "the application was made without a secret and has none; make another";
        return Err(Error::rule("public", rule));
    }
    if acts(&registration) && !acts(&held.registration) {
        named(app, &held.name, &registration)?;
        let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
        app_grants::within(app, &mut tx, &reach, &client).await?;
    }
    let description = description.unwrap_or_else(|| held.description.clone());
    tx.change_application(id, &description, &registration).await?;
    let change = Change::between(&held, &Application { description, registration, ..held.clone() });
    app.audit(&mut tx, by, Event::ApplicationChanged, id, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %id, "changed application {id}");
    get(app, by, id).await
}

/// Check a name. An application that acts for itself is made for a product, whose name it has; one
/// that people sign in through holds nothing by itself, and is called what they know it by.
pub fn named(app: &App, name: &str, registration: &Registration) -> Result<(), Error> {
    let may = |grant| registration.grant_types.contains(&grant);
    let names = product_names(app);
    let own = may(GrantType::AuthorizationCode) && !may(GrantType::ClientCredentials);
    if own || names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Error::ApplicationName(names))
}

/// Remove an application. Its tokens, and the sign-ins made through it, stop working before this
/// returns.
pub async fn remove(app: &App, by: &Admin, id: &AppId) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let held = tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
    if tx.organization().await?.is_some_and(|org| org.default_application == *id) {
        return Err(Error::DefaultApplication);
    }
    for session in tx.sessions_through(id).await? {
        app.record(&mut tx, Fact::SessionEnded { session }).await?;
    }
    tx.remove_application(id).await?;
    app.record(&mut tx, Fact::Gone { principal: principal(by.org(), id) }).await?;
    app.audit(&mut tx, by, Event::ApplicationRemoved, id, Change::lost(&held));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %id, "removed application {id}");
    Ok(())
}

/// The applications with their secrets, where the installation allows that and the caller may. Each
/// reading is recorded before anything is shown.
async fn reveal(
    app: &App,
    by: &Admin,
    applications: Vec<Application>,
) -> Result<Vec<Shown>, Error> {
    let may = app.config.retrievable_secrets && by.may(app, CREDENTIALS, "get");
    let secret = |application: &Application| {
        let sealed = application.secret_sealed.as_ref().filter(|_| may)?;
        let open = app.master.open(application.id.as_str(), sealed).ok()?;
        Some(SecretString::from(String::from_utf8_lossy(&open).into_owned()))
    };
    let shown: Vec<Shown> = applications
        .into_iter()
        .map(|application| {
            let secret = secret(&application);
            (application, secret)
        })
        .collect();
    if shown.iter().any(|(_, secret)| secret.is_some()) {
        let mut tx = app.store.begin_beside(by.org()).await?;
        for (application, _) in shown.iter().filter(|(_, secret)| secret.is_some()) {
            app.audit(&mut tx, by, Event::SecretRead, &application.id, Change::none());
        }
        app.commit(tx).await?;
    }
    Ok(shown)
}

fn product_names(app: &App) -> Vec<String> {
    let catalog = app.catalog();
    let known = catalog.products.iter().map(|product| product.product.as_str());
    known.chain(OTHER_PRODUCTS).map(str::to_owned).collect()
}

fn principal(org: &OrgId, id: &AppId) -> Principal {
    Principal::Application { org: org.clone(), id: id.clone() }
}
