//! What an installation is declared to be: YAML of organizations, with their roles, groups, people,
//! applications and settings. Everything wrong is told at once, each with its place.

mod application;
mod setting;

use std::{fmt, fs, path::Path, str::FromStr, sync::Arc};

use policy::{
    complaint::{Complaint, Complaints, Place},
    model::name::{GroupName, OrgId, ProductName, RoleName},
};
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use self::{
    application::{Application, Grants, Said},
    setting::{Setting, snake},
};
use crate::words;

/// Everything that is declared.
#[derive(Debug, Default)]
pub struct Declared {
    pub organizations: Vec<Organization>,
}

/// An organization. What it has beside this is its own.
#[derive(Debug)]
pub struct Organization {
    pub id: OrgId,
    pub title: String,
    pub roles: Vec<Role>,
    pub groups: Vec<Group>,
    pub users: Vec<User>,
    pub applications: Vec<Application>,
    pub settings: Vec<Setting>,
    pub place: Place,
}

/// A role of an organization's own.
#[derive(Debug)]
pub struct Role {
    pub name: RoleName,
    pub product: ProductName,
    pub title: String,
    pub permissions: Vec<String>,
    pub place: Place,
}

/// A group of an organization's own.
#[derive(Debug)]
pub struct Group {
    pub name: GroupName,
    pub title: String,
    pub roles: Vec<RoleName>,
    pub place: Place,
}

/// A person, without a password: one is made up with the account.
#[derive(Debug)]
pub struct User {
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<GroupName>,
    pub place: Place,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    organizations: Vec<RawOrganization>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOrganization {
    id: Spanned<String>,
    title: Option<Spanned<String>>,
    #[serde(default)]
    roles: Vec<RawRole>,
    #[serde(default)]
    groups: Vec<RawGroup>,
    #[serde(default)]
    users: Vec<RawUser>,
    #[serde(default)]
    applications: Vec<application::Raw>,
    #[serde(default)]
    settings: setting::Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    name: Spanned<String>,
    product: Spanned<String>,
    #[serde(default)]
    title: String,
    permissions: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: Spanned<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    username: Spanned<String>,
    email: Spanned<String>,
    #[serde(default)]
    first_name: String,
    #[serde(default)]
    last_name: String,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
}

impl Declared {
    /// Read a file, or every `.yaml` and `.yml` of a folder in the order of their names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Complaints> {
        let unread = |path: &Path, error: &std::io::Error| -> Complaints {
            let place = Place::file(path.display().to_string().as_str());
            place.complain(format!("not read: {error}")).into()
        };
        let mut files = Vec::new();
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(|error| unread(path, &error))?;
            for entry in entries {
                let file = entry.map_err(|error| unread(path, &error))?.path();
                if file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml") {
                    files.push(file);
                }
            }
            files.sort();
        } else {
            files.push(path.to_owned());
        }
        let mut complaints = Vec::new();
        let mut declared = Self::default();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|error| unread(&file, &error))?;
            declared.take(&file.display().to_string(), &text, &mut complaints);
        }
        Complaints::unless(complaints, declared)
    }

    /// Read one file's text into it.
    fn take(&mut self, file: &str, text: &str, complaints: &mut Vec<Complaint>) {
        let file: Arc<str> = file.into();
        let raw: Raw = match serde_saphyr::from_str(text) {
            Ok(raw) => raw,
            Err(error) => {
                let place = error.location().map_or(Place::file(Arc::clone(&file)), |at| {
                    spot(&file, at.line(), at.column())
                });
                let told = error.without_snippet().to_string();
                complaints.push(place.complain(told.lines().next().unwrap_or("not valid YAML")));
                return;
            }
        };
        for raw in raw.organizations {
            let mut reader = Reader { file: &file, complaints };
            let Some(organization) = reader.organization(raw) else { continue };
            if self.organizations.iter().any(|known| known.id == organization.id) {
                let told = format!("`{}` is declared twice", organization.id);
                complaints.push(organization.place.complain(told));
            } else {
                self.organizations.push(organization);
            }
        }
    }
}

/// Reads the parts of one file, and notes what is wrong with them.
struct Reader<'a> {
    file: &'a Arc<str>,
    complaints: &'a mut Vec<Complaint>,
}

impl Reader<'_> {
    fn organization(&mut self, raw: RawOrganization) -> Option<Organization> {
        let place = self.place(&raw.id);
        let id = self.named::<OrgId>(&raw.id, "organizations.id");
        let title = raw.title.map_or_else(|| raw.id.value.clone(), |title| title.value);
        let roles = raw.roles.into_iter().filter_map(|role| self.role(role)).collect::<Vec<_>>();
        let groups = raw.groups.into_iter().filter_map(|g| self.group(g)).collect::<Vec<_>>();
        let users = raw.users.into_iter().map(|user| self.user(user)).collect::<Vec<_>>();
        let applications: Vec<_> =
            raw.applications.into_iter().map(|app| self.application(app)).collect();
        self.twice("role", roles.iter().map(|role| (role.name.as_str(), &role.place)));
        self.twice("group", groups.iter().map(|group| (group.name.as_str(), &group.place)));
        self.twice("user", users.iter().map(|user| (user.username.as_str(), &user.place)));
        self.twice("application", applications.iter().map(|a| (a.name.as_str(), &a.place)));
        let settings = self.settings(raw.settings);
        Some(Organization { id: id?, title, roles, groups, users, applications, settings, place })
    }

    fn role(&mut self, raw: RawRole) -> Option<Role> {
        let (name, product) =
            (self.named(&raw.name, "roles.name"), self.named(&raw.product, "roles.product"));
        let permissions = raw.permissions.into_iter().map(|one| one.value).collect();
        let place = self.place(&raw.name);
        Some(Role { name: name?, product: product?, title: raw.title, permissions, place })
    }

    fn group(&mut self, raw: RawGroup) -> Option<Group> {
        let name = self.named(&raw.name, "groups.name");
        let mut roles: Vec<RoleName> =
            raw.roles.iter().filter_map(|role| self.named(role, "groups.roles")).collect();
        roles.sort();
        roles.dedup();
        Some(Group { name: name?, title: raw.title, roles, place: self.place(&raw.name) })
    }

    fn user(&mut self, raw: RawUser) -> User {
        let RawUser { username, email, first_name, last_name, groups } = raw;
        self.keeps(&username, "users.username", words::username);
        self.keeps(&email, "users.email", words::email);
        let mut groups: Vec<GroupName> =
            groups.iter().filter_map(|group| self.named(group, "users.groups")).collect();
        groups.sort();
        groups.dedup();
        let place = self.place(&username);
        let (username, email) = (username.value, email.value);
        User { username, email, first_name, last_name, groups, place }
    }

    fn twice<'a>(&mut self, kind: &str, names: impl Iterator<Item = (&'a str, &'a Place)>) {
        let mut seen = std::collections::HashSet::new();
        for (name, place) in names {
            if !seen.insert(words::fold(name)) {
                self.complaints.push(place.complain(format!("{kind} `{name}` is declared twice")));
            }
        }
    }

    fn named<N: FromStr<Err: fmt::Display>>(
        &mut self,
        text: &Spanned<String>,
        field: &str,
    ) -> Option<N> {
        let complain = |error: N::Err| {
            self.complaints.push(self.place(text).complain(format!("`{field}`: {error}")));
        };
        text.value.parse().map_err(complain).ok()
    }

    fn keeps(
        &mut self,
        text: &Spanned<String>,
        field: &str,
        rule: fn(&str) -> Result<(), &'static str>,
    ) {
        if let Err(fault) = rule(&text.value) {
            self.complaints.push(self.place(text).complain(format!("`{field}`: {fault}")));
        }
    }

    fn place<T>(&self, at: &Spanned<T>) -> Place {
        spot(self.file, at.referenced.line(), at.referenced.column())
    }
}

fn spot(file: &Arc<str>, line: impl TryInto<u32>, column: impl TryInto<u32>) -> Place {
    let (line, column) = (line.try_into().unwrap_or(0), column.try_into().unwrap_or(0));
    Place { file: Arc::clone(file), line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acme.yaml");
        for (text, expected) in [
            ("organizations:\n- {id: Acme}\n", "acme.yaml:2:8: `organizations.id`"),
            ("organizations:\n- {id: acme, secret: x}\n", "acme.yaml:2:"),
            (
                "organizations:\n- id: acme\n  users:\n  - {username: 'a b', email: x}\n",
                "acme.yaml:4:16: `users.username`",
            ),
            (
                "organizations:\n- id: acme\n  groups: [{name: a}, {name: A}]\n",
                "group `A` is declared twice",
            ),
            ("organizations:\n- id: acme\n- id: acme\n", "acme.yaml:3:7: `acme` is declared twice"),
            ("organizations: 1\n", "acme.yaml:1:"),
        ] {
            fs::write(&file, text).unwrap();
            let told = Declared::read(folder.path()).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
        }
        let told = Declared::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(told.contains("not read"), "{told}");
    }
}
