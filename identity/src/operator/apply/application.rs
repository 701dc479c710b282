//! Applications: what is declared of them, and what there is.

use policy::model::name::AppId;

use super::{Found, Kind, Present, Refusal, Registry, Told, clean};
use crate::{
    admin::Admin, apps, error::Error, model, operator::declared::Application, registration::Asked,
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

impl Found<'_> {
    pub(super) fn applications(&mut self) {
        let (org, present) = (self.org, self.present);
        for application in &org.applications {
            let found = present.and_then(|present| present.application(application));
            if let Some(is) = found.filter(|is| is.name != application.product) {
                let name = clean(&application.name);
                let told = format!("{}: application {name} is of product {}", org.id, is.name);
                self.plan.foreign.push(told);
                continue;
            }
            let fields = found.map(|is| {
                vec![("description", is.description.clone(), application.description.clone())]
            });
            self.thing(Kind::Application, &application.name, fields);
        }
    }
}

impl Registry {
    pub(super) async fn machine(
        &self,
        by: &Admin,
        declared: &Application,
        create: bool,
    ) -> Result<Option<Told>, Refusal> {
        let Application { name, product, description, .. } = declared;
        if create {
            let made =
                apps::create(&self.app, by, product.clone(), description.clone(), Asked::default());
            let (made, secret) = made.await?;
            self.own(by.org(), Kind::Application, name, made.id.as_str()).await?;
            let of = format!("client {} of application {}", made.client_id, clean(name));
            return Ok(secret.map(|secret| Told { of, secret }));
        }
        let present = self.present(by.org()).await?;
        if let Some(found) = present.as_ref().and_then(|present| present.application(declared)) {
            let description = Some(description.clone());
            apps::change(&self.app, by, &found.id, description, Asked::default()).await?;
        }
        Ok(None)
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
