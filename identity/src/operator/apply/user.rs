//! People: what is declared of them, and what there is.

use policy::{catalog::Catalog, complaint::Complaint, model::name::OrgId};

use super::{Found, Kind, Present, Refusal, Registry, Told, list};
use crate::{
    admin::Admin,
    error::Error,
    model::user,
    operator::{
        declared::{Organization, User},
        registry::{NewPerson, wanted},
    },
    passwords, users, words,
};

/// What is wrong with them.
pub(super) fn check(
    org: &Organization,
    there: (&Catalog, Option<&Present>),
    complaints: &mut Vec<Complaint>,
) {
    for user in &org.users {
        for group in &user.groups {
            if !super::group::known(group, org, there) {
                let told = format!("`users.groups`: there is no group `{group}`");
                complaints.push(user.place.complain(told));
            }
        }
    }
}

impl Found<'_> {
    pub(super) fn users(&mut self) {
        let (org, present) = (self.org, self.present);
        for user in &org.users {
            let key = words::fold(&user.username);
            let found =
                present.and_then(|p| p.users.iter().find(|is| words::fold(&is.username) == key));
            let fields = found.map(|is| {
                vec![
                    ("email", is.email.clone(), user.email.clone()),
                    ("first_name", is.first_name.clone(), user.first_name.clone()),
                    ("last_name", is.last_name.clone(), user.last_name.clone()),
                    ("groups", list(&is.groups), list(&user.groups)),
                ]
            });
            self.thing(Kind::User, &user.username, fields);
        }
    }
}

impl Registry {
    pub(super) async fn person(
        &self,
        by: &Admin,
        user: &User,
        create: bool,
        secrets: &mut Vec<Told>,
    ) -> Result<(), Refusal> {
        let User { username, email, first_name, last_name, groups, .. } = user;
        if create {
            let new = NewPerson {
                username: username.clone(),
                email: email.clone(),
                first_name: first_name.clone(),
                last_name: last_name.clone(),
                groups: groups.clone(),
            };
            let password = passwords::make().map_err(Error::from)?;
            users::create(&self.app, by, wanted(new, password.clone())).await?;
            let of = format!("user {username} of organization {}", by.org());
            secrets.push(Told { of, secret: password });
            return Ok(());
        }
        let patch = users::Patch {
            email: Some(email.clone()),
            first_name: Some(first_name.clone()),
            last_name: Some(last_name.clone()),
            groups: Some(groups.iter().map(ToString::to_string).collect()),
            disabled: None,
        };
        let id = self.named(by.org(), username).await?.id;
        users::patch(&self.app, by, &id, patch).await?;
        Ok(())
    }

    pub(super) async fn remove_person(&self, by: &Admin, username: &str) -> Result<(), Refusal> {
        if let Ok(user) = self.named(by.org(), username).await {
            users::remove(&self.app, by, &user.id).await?;
        }
        Ok(())
    }

    async fn named(&self, org: &OrgId, username: &str) -> Result<user::User, Refusal> {
        let present = self.present(org).await?;
        let mut users = present.into_iter().flat_map(|present| present.users);
        let found = users.find(|user| words::fold(&user.username) == words::fold(username));
        found.ok_or_else(|| Refusal("the person is gone".to_owned()))
    }
}
