//! What a first start makes: one organization, its administrator, its default application.
//!
//! The file says who; the secrets come from the operator beside it, or are made and shown once.

use std::{fmt, path::Path, sync::Arc};

use policy::{
    catalog::Catalog,
    complaint::{Complaint, Complaints, Place},
    model::name::{GroupName, OrgId},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::words;

/// The file `bootstrap.yaml`, read.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub organization: Organization,
    pub administrator: Administrator,
    pub application: Application,
    /// Where it was read, for complaints that only the rest of the installation can raise.
    pub place: Place,
}

/// The first organization.
#[derive(Debug, Clone)]
pub struct Organization {
    pub id: OrgId,
    pub title: String,
}

/// Its first person.
#[derive(Debug, Clone)]
pub struct Administrator {
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<GroupName>,
}

/// The application that sign-ins without a client are made through.
#[derive(Debug, Clone)]
pub struct Application {
    pub name: String,
    pub description: String,
    pub client_id: Option<String>,
}

/// What the operator gives for the first start. Later starts do not look at it.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    pub admin_password: Option<SecretString>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
}

/// What the first start made, to be told to the operator once.
pub struct FirstStart {
    pub organization: OrgId,
    pub username: String,
    pub password: SecretString,
    /// Whether the operator chose the password, so that there is no need to show it.
    pub password_was_given: bool,
    pub client_id: String,
    pub client_secret: SecretString,
    /// Whether the operator chose the secret.
    pub secret_was_given: bool,
}

impl fmt::Debug for FirstStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstStart")
            .field("organization", &self.organization)
            .field("username", &self.username)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    organization: RawOrganization,
    administrator: RawAdministrator,
    application: RawApplication,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOrganization {
    id: Spanned<String>,
    #[serde(default)]
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdministrator {
    username: Spanned<String>,
    email: Spanned<String>,
    #[serde(default)]
    first_name: String,
    #[serde(default)]
    last_name: String,
    groups: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApplication {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    client_id: Option<Spanned<String>>,
}

impl Bootstrap {
    /// Read the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and everything that is wrong with it, each with its line.
    pub fn read(path: &Path) -> Result<Self, Complaints> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Place::file(file.as_str()).complain(format!("not read: {error}")))?;
        Self::parse(&file, &text)
    }

    /// What the file says of the products.
    ///
    /// # Errors
    ///
    /// The administrator's groups that none of them declares.
    pub fn check(&self, catalog: &Catalog) -> Result<(), Complaints> {
        let missing = self.administrator.groups.iter().filter(|name| catalog.group(name).is_none());
        let complaint =
            |name| self.place.complain(format!("no product declares the group `{name}`"));
        Complaints::unless(missing.map(complaint).collect(), ())
    }

    /// Read its text; `file` is what complaints name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Complaints> {
        let file: Arc<str> = file.into();
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
            let place = error
                .location()
                .map_or(Place::file(Arc::clone(&file)), |at| place(&file, at.line(), at.column()));
            let text = error.without_snippet().to_string();
            Complaints::from(place.complain(text.lines().next().unwrap_or("not valid YAML")))
        })?;
        let mut complaints = Vec::new();
        let bootstrap = raw.mean(&file, &mut complaints);
        match bootstrap {
            Some(bootstrap) => Complaints::unless(complaints, bootstrap),
            None => Complaints::unless(complaints, None).and_then(|none: Option<Self>| {
                none.ok_or_else(|| Place::file(file).complain("not understood").into())
            }),
        }
    }
}

impl Raw {
    fn mean(self, file: &Arc<str>, complaints: &mut Vec<Complaint>) -> Option<Bootstrap> {
        let mut complain = |at: &Spanned<String>, text: String| {
            complaints.push(spot(file, at).complain(text));
        };
        let id = named::<OrgId>(&self.organization.id, &mut complain);
        let admin = self.administrator;
        if let Err(fault) = words::username(&admin.username.value) {
            complain(&admin.username, fault.to_owned());
        }
        if let Err(fault) = words::email(&admin.email.value) {
            complain(&admin.email, fault.to_owned());
        }
        if admin.groups.is_empty() {
            complain(
                &admin.username,
                "an administrator without a group administers nothing".into(),
            );
        }
        let groups = admin
            .groups
            .iter()
            .filter_map(|group| named::<GroupName>(group, &mut complain))
            .collect();
        if let Some(client_id) = &self.application.client_id
            && let Err(fault) = words::client_id(&client_id.value)
        {
            complain(client_id, fault.to_owned());
        }
        Some(Bootstrap {
            organization: Organization { id: id?, title: self.organization.title },
            administrator: Administrator {
                username: admin.username.value,
                email: admin.email.value,
                first_name: admin.first_name,
                last_name: admin.last_name,
                groups,
            },
            application: Application {
                name: self.application.name,
                description: self.application.description,
                client_id: self.application.client_id.map(|id| id.value),
            },
            place: admin.groups.first().map_or(Place::file(Arc::clone(file)), |at| spot(file, at)),
        })
    }
}

fn named<N: std::str::FromStr<Err: fmt::Display>>(
    text: &Spanned<String>,
    complain: &mut impl FnMut(&Spanned<String>, String),
) -> Option<N> {
    text.value.parse().map_err(|error: N::Err| complain(text, error.to_string())).ok()
}

fn spot(file: &Arc<str>, at: &Spanned<String>) -> Place {
    place(file, at.referenced.line(), at.referenced.column())
}

fn place(file: &Arc<str>, line: impl TryInto<u32>, column: impl TryInto<u32>) -> Place {
    Place {
        file: Arc::clone(file),
        line: line.try_into().unwrap_or(0),
        column: column.try_into().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
organization: {id: lerian, title: Lerian}
administrator: {username: admin, email: admin@midaz.tech, first_name: Admin, last_name: \"\", groups: [admin-group]}
application: {name: app-lerian, description: The console, client_id: ac56c81d4d6d95c0ac12}
";

    #[test]
    fn the_file_says_who_is_made_on_a_first_start() {
        let bootstrap = Bootstrap::parse("bootstrap.yaml", GOOD).unwrap();
        assert_eq!(bootstrap.organization.id.as_str(), "lerian");
        assert_eq!(bootstrap.administrator.groups.len(), 1);
        assert_eq!(bootstrap.application.client_id.as_deref(), Some("ac56c81d4d6d95c0ac12"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, expected) in [
            ("id: lerian", "id: Lerian", "bootstrap.yaml:1:20: `Lerian` is no organization"),
            ("username: admin", "username: 'a b'", "bootstrap.yaml:2:27:"),
            ("admin@midaz.tech", "admin", "bootstrap.yaml:2:"),
            ("[admin-group]", "['-']", "`-` is no group"),
            ("[admin-group]", "[]", "administers nothing"),
            ("first_name", "firstname", "bootstrap.yaml:2:"),
            ("title: Lerian", "secret: x", "bootstrap.yaml:1:"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let told = Bootstrap::parse("bootstrap.yaml", &text).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
        }
    }
}
