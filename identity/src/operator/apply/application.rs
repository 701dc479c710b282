//! Applications: what is declared of them, and what there is.

use std::collections::BTreeSet;

use policy::{catalog::Catalog, complaint::Complaint, model::name::AppId};

use super::{Fields, Found, Kind, Present, Refusal, Registry, Told, clean, list};
use crate::{
    admin::Admin,
    app::App,
    app_grants, apps,
    error::Error,
    model::{
        self,
        app::{Client, Registration},
    },
    operator::declared::{Application, Grants, Organization, Said, snake},
};

impl Present {
    /// The application that is known by that name.
    pub(super) fn application(&self, declared: &Application) -> Option<&model::app::Application> {
        let mark = self
            .owned
            .iter()
            .find(|(kind, name, _)| kind == Kind::Application.as_str() && *name == declared.name)?;
        let known = |id: &AppId| self.applications.iter().find(|app| app.id == *id);
        let by_id = mark.2.parse::<AppId>().ok().and_then(|id| known(&id));
        // A run that was killed has made it and not noted which it is.
        let marked = |app: &&model::app::Application| {
            app.name == declared.product
                && app.description == declared.description
                && !self.owned.iter().any(|(.., object)| *object == app.id.to_string())
        };
        by_id.or_else(|| mark.2.is_empty().then(|| self.applications.iter().find(marked)).flatten())
    }
}

/// What is wrong with them.
pub(super) fn check(
    app: &App,
    org: &Organization,
    there: (&Catalog, Option<&Present>),
    complaints: &mut Vec<Complaint>,
) {
    for declared in &org.applications {
        let held = there.1.and_then(|present| present.application(declared));
        let made = held.is_none();
        let held = held.map_or_else(apps::machine, |held| held.registration.clone());
        let wanted = declared.asked.clone().onto(held, &app.config);
        let named = |wanted: Registration| {
            if made { apps::named(app, &declared.product, &wanted) } else { Ok(()) }
        };
        if let Err(error) = wanted.and_then(named) {
            let (field, told) = match error {
                Error::Rule { field, rule } => (snake(field), rule),
                error => ("product".to_owned(), error.to_string()),
            };
            let place = declared.place_of(&field);
            complaints.push(place.complain(format!("`applications.{field}`: {told}")));
        }
        let Said::This(grants) = &declared.grants else { continue };
        let mut complain = |told: String| complaints.push(grants.place.complain(told));
        for role in &grants.roles {
            if !super::role::known(role, org, there) {
                complain(format!("`applications.grants.roles`: there is no role `{role}`"));
            }
        }
        if let Err(error) = app_grants::powers(app, &grants.permissions) {
            complain(format!("`applications.grants.permissions`: {error}"));
        }
    }
}

impl Found<'_> {
    pub(super) fn applications(&mut self, app: &App) -> Result<(), Refusal> {
        let (org, present) = (self.org, self.present);
        for application in &org.applications {
            let found = present.and_then(|present| present.application(application));
            if let Some(is) = found.filter(|is| is.name != application.product) {
                let name = clean(&application.name);
                let told = format!("{}: application {name} is of product {}", org.id, is.name);
                self.plan.foreign.push(told);
                continue;
            }
            let fields = match found {
                Some(is) => Some(fields(app, is, self.present, application)?),
                None => None,
            };
            self.thing(Kind::Application, &application.name, fields);
        }
        Ok(())
    }
}

/// An application as it is, and as it is declared.
fn fields(
    app: &App,
    is: &model::app::Application,
    present: Option<&Present>,
    declared: &Application,
) -> Result<Fields, Refusal> {
    let wanted = declared.asked.clone().onto(is.registration.clone(), &app.config)?;
    let mut fields = vec![("description", is.description.clone(), declared.description.clone())];
    for ((name, is), (_, to_be)) in told(&is.registration).into_iter().zip(told(&wanted)) {
        fields.push((name, is, to_be));
    }
    let client = present.and_then(|present| present.clients.iter().find(|c| c.id == is.id));
    if let Some((is, to_be)) = client.and_then(|client| grants(client, &declared.grants)) {
        fields.push(("grants.roles", is.0, to_be.0));
        fields.push(("grants.permissions", is.1, to_be.1));
    }
    Ok(fields)
}

/// The roles and the permissions of a client, as they are and as they are declared; `None` where nothing
/// is.
fn grants(client: &Client, said: &Said<Grants>) -> Option<((String, String), (String, String))> {
    let products = || ("what its product says".to_owned(), String::new());
    let is = client.given.as_ref().map_or_else(products, |given| {
        let permissions = given.permissions.iter().map(|(product, p)| format!("{product}/{p}"));
        let permissions: BTreeSet<_> = permissions.collect();
        (list(given.roles.iter().map(|(role, _)| role)), list(permissions))
    });
    match said {
        Said::Nothing => None,
        Said::Default => Some((is, products())),
        Said::This(these) => Some((is, (list(&these.roles), list(&these.permissions)))),
    }
}

/// What an application has registered, in the file's words.
fn told(of: &Registration) -> [(&'static str, String); 9] {
    let secs = |secs: Option<u64>| {
        secs.map_or_else(|| "the installation's".to_owned(), |secs| secs.to_string())
    };
    let logout = of.backchannel_logout_uri.as_deref().unwrap_or("none");
    [
        ("grant_types", list(of.grant_types.iter().map(|grant| grant.as_str()))),
        ("redirect_uris", list(&of.redirect_uris)),
        ("post_logout_redirect_uris", list(&of.post_logout_redirect_uris)),
        ("audiences", list(&of.audiences)),
        ("backchannel_logout_uri", logout.to_owned()),
        ("backchannel_logout_session_required", of.backchannel_logout_session_required.to_string()),
        ("public", of.public.to_string()),
        ("access_token_secs", secs(of.access_token_secs)),
        ("refresh_token_secs", secs(of.refresh_token_secs)),
    ]
}

impl Registry {
    pub(super) async fn machine(
        &self,
        by: &Admin,
        declared: &Application,
        create: bool,
        secrets: &mut Vec<Told>,
    ) -> Result<(), Refusal> {
        let Application { name, product, description, asked, .. } = declared;
        let (app, asked) = (&self.app, asked.clone());
        if create {
            let made = apps::create(app, by, product.clone(), description.clone(), asked).await;
            let (made, secret) = match made {
                Ok(made) => made,
                Err(error) => {
                    self.disown(by.org(), Kind::Application, name).await?;
                    return Err(error.into());
                }
            };
            self.own(by.org(), Kind::Application, name, made.id.as_str()).await?;
            let of = format!("client {} of application {}", made.client_id, clean(name));
            // Told of whatever comes of its rights: the next run finds it made.
            secrets.extend(secret.map(|secret| Told { of, secret }));
            return self.grant(by, &made.id, &declared.grants).await;
        }
        let present = self.present(by.org()).await?;
        let Some(present) = &present else { return Ok(()) };
        let Some(found) = present.application(declared) else { return Ok(()) };
        let wanted = asked.clone().onto(found.registration.clone(), &app.config)?;
        if found.description != *description || found.registration != wanted {
            apps::change(app, by, &found.id, Some(description.clone()), asked).await?;
        }
        let client = present.clients.iter().find(|client| client.id == found.id);
        let moved = client.and_then(|client| grants(client, &declared.grants));
        if moved.is_some_and(|(is, to_be)| is != to_be) {
            self.grant(by, &found.id, &declared.grants).await?;
        }
        Ok(())
    }

    async fn grant(&self, by: &Admin, id: &AppId, said: &Said<Grants>) -> Result<(), Refusal> {
        match said {
            Said::Nothing => {}
            Said::Default => drop(app_grants::reset(&self.app, by, id).await?),
            Said::This(grants) => {
                let roles: Vec<String> = grants.roles.iter().map(ToString::to_string).collect();
                app_grants::put(&self.app, by, id, &roles, &grants.permissions).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn remove_machine(&self, by: &Admin, name: &str) -> Result<(), Refusal> {
        let present = self.present(by.org()).await?;
        let owned = present.iter().flat_map(|present| &present.owned);
        let id = owned
            .filter(|(kind, known, _)| kind == "application" && known == name)
            .find_map(|(.., object)| object.parse::<AppId>().ok());
        match id {
            None => Ok(()),
            Some(id) => match apps::remove(&self.app, by, &id).await {
                Err(Error::NoSuchApplication) => Ok(()),
                removed => Ok(removed?),
            },
        }
    }
}
