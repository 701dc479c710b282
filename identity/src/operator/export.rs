//! What an export of the original (a Casdoor, in the shape of its `init_data.json`) says of organizations,
//! their groups, people and applications. Who may do what is read from the same file by
//! `policy::import::casdoor`.
//!
//! What is no export at all is refused whole. Of what cannot be carried over, each thing is told with
//! its place and the reason; never with a secret.

mod people;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use policy::{
    complaint::{Complaint, Complaints, Place},
    import::{
        Source,
        tree::{Node, Value},
    },
    model::name::{GroupName, OrgId, RoleName},
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::words;

/// The largest file, in bytes.
const LARGEST: u64 = 64 << 20;
/// The original's own organization, whose people administer the original.
const ITS_OWN: &str = "built-in";
/// Sections that say who may do what.
const POLICY: [&str; 6] = ["permissions", "models", "adapters", "enforcers", "policies", "rules"];
/// What is said of organizations and has no meaning for access.
const OF_ORGANIZATIONS: &str = "createdTime websiteUrl logo logoDark favicon passwordType passwordSalt \
    passwordOptions passwordObfuscatorType passwordObfuscatorKey passwordExpireDays countryCodes \
    defaultAvatar defaultApplication tags languages themeData initScore enableSoftDeletion \
    isProfilePublic useEmailAsUsername enableTour navItems widgetItems mfaItems accountItems \
    userTypes defaultPassword mfaRememberInHours accountMenu";
/// The same of applications.
const OF_APPLICATIONS: &str = "createdTime logo title favicon order homepageUrl description \
    enablePassword enableSignUp disableSignin enableSigninSession enableAutoSignin enableCodeSignin \
    enableSamlCompress enableSamlC14n10 enableSamlPostBinding enableWebAuthn orgChoiceMode signinMethods \
    signupItems signinItems cert headerHtml tokenFormat tokenFields tokenSigningMethod \
    tokenAttributes failedSigninLimit failedSigninFrozenTime failedSigninFreezeTime codeResendTimeout \
    formCss formCssMobile formOffset formSideHtml formBackgroundUrl formBackgroundUrlMobile \
    signupHtml signinHtml themeData footerHtml tags signinUrl signupUrl forgetUrl affiliationUrl \
    termsOfUse isShared organizationObj certPublicKey ipWhitelist";

/// An export, read.
#[derive(Debug, Default)]
pub struct Export {
    pub organizations: Vec<Organization>,
    /// What is not carried over, and why.
    pub left_out: Vec<Complaint>,
    /// What the operator should know, though nothing is missing.
    pub notes: Vec<Complaint>,
}

/// An organization.
#[derive(Debug)]
pub struct Organization {
    pub id: OrgId,
    pub title: String,
    pub groups: Vec<Group>,
    pub applications: Vec<Application>,
    pub users: Vec<User>,
    /// How passwords without a kind of their own are kept.
    kind: String,
}

/// A group, and the roles that its members hold.
#[derive(Debug)]
pub struct Group {
    pub name: GroupName,
    pub title: String,
    pub roles: Vec<RoleName>,
    pub place: Place,
}

/// An application, with its credentials.
#[derive(Debug)]
pub struct Application {
    pub name: String,
    pub title: String,
    pub client_id: String,
    pub secret: SecretString,
    pub grant_types: Vec<String>,
    pub redirect_uris: Vec<String>,
    /// In seconds.
    pub access_secs: Option<u64>,
    pub refresh_secs: Option<u64>,
    pub place: Place,
}

/// A person.
#[derive(Debug)]
pub struct User {
    /// The id, which tokens and the products' own records know them by.
    pub id: Option<Uuid>,
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<GroupName>,
    pub disabled: bool,
    pub password: Password,
    pub place: Place,
}

/// What a person proves themselves with.
pub enum Password {
    /// Nothing: an administrator gives them one.
    None,
    /// A hash that can be compared here.
    Hash(String),
    /// To be hashed.
    Plain(SecretString),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Hash(_) => "Hash",
            Self::Plain(_) => "Plain",
        })
    }
}

impl Export {
    /// Read an export: of one organization, or of all that are in it.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn read(path: &Path, only: Option<&OrgId>) -> Result<Self, Complaints> {
        let source = source(path)?;
        let root = Node::parse_large(&source)?;
        if !root.is_map() {
            let told =
                format!("an export is an object with `users` and the like, not {}", root.kind());
            return Err(root.place.complain(told).into());
        }
        let mut reader = Reader { only, found: Self::default(), fields: BTreeMap::new() };
        reader.organizations(&root);
        reader.groups(&root);
        reader.applications(&root);
        reader.users(&root);
        reader.rest(&root);
        let mut found = reader.found;
        if let Some(only) = only.filter(|only| !found.organizations.iter().any(|o| o.id == **only))
        {
            let told = format!("there is no organization `{only}` in it");
            return Err(root.place.complain(told).into());
        }
        for list in [&mut found.left_out, &mut found.notes] {
            list.sort();
            list.dedup();
        }
        Ok(found)
    }
}

/// The file as text, if it is one, and not too large.
fn source(path: &Path) -> Result<Source, Complaints> {
    let file: Arc<str> = path.display().to_string().into();
    let told = |text: String| Complaints::from(Place::file(Arc::clone(&file)).complain(text));
    let failed = |error: std::io::Error| told(format!("cannot read the file: {error}"));
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > LARGEST {
        let most = LARGEST >> 20;
        return Err(told(format!(
            "it has more than {most} MiB; export one organization at a time"
        )));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]);
        let place = Place::of_byte(&file, &before, good);
        Complaints::from(place.complain("it is not UTF-8 from here on"))
    })?;
    Ok(Source { file, text })
}

struct Reader<'a> {
    only: Option<&'a OrgId>,
    found: Export,
    /// Fields that are not carried over: by section and name, the first place and how many have it.
    fields: BTreeMap<(&'static str, String), (Place, u64)>,
}

impl Reader<'_> {
    fn leave_out(&mut self, place: &Place, text: impl Into<String>) {
        self.found.left_out.push(place.complain(text));
    }

    fn note(&mut self, place: &Place, text: impl Into<String>) {
        self.found.notes.push(place.complain(text));
    }

    /// An organization of the export, where it is to be read.
    fn organization(&mut self, name: &str, place: &Place) -> Option<&mut Organization> {
        let Ok(id) = name.parse::<OrgId>() else {
            let told = format!("`{}` can be no organization here", clean(name));
            self.leave_out(place, told);
            return None;
        };
        if self.only.map_or(name == ITS_OWN, |only| *only != id) {
            let told = format!("what is of organization `{id}` is not read");
            let whole = Place { line: 0, column: 0, file: Arc::clone(&place.file) };
            self.note(&whole, told);
            return None;
        }
        let all = &mut self.found.organizations;
        let at = all.iter().position(|known| known.id == id).unwrap_or_else(|| {
            let (title, kind) = (id.to_string(), String::new());
            let (groups, applications, users) = Default::default();
            all.push(Organization { id, title, groups, applications, users, kind });
            all.len() - 1
        });
        all.get_mut(at)
    }

    fn organizations(&mut self, root: &Node) {
        for node in items(root, "organizations") {
            let name = text(node, "name");
            let title = text(node, "displayName");
            let kind = text(node, "passwordType");
            let Some(organization) = self.organization(&name, &node.place) else { continue };
            organization.kind = kind;
            if !title.is_empty() && words::line(&title).is_ok() {
                organization.title = title;
            }
            for secret in ["masterPassword", "masterVerificationCode"] {
                if !text(node, secret).is_empty() {
                    let told =
                        format!("`{name}`: a `{secret}` opens every account; there is none here");
                    self.leave_out(&node.place, told);
                }
            }
            let used = ["owner", "name", "displayName", "masterPassword", "masterVerificationCode"];
            self.fields("organizations", node, (&used, OF_ORGANIZATIONS));
        }
    }

    fn groups(&mut self, root: &Node) {
        let mut held = self.roles(root);
        for node in items(root, "groups") {
            let (owner, name) = (text(node, "owner"), text(node, "name"));
            if flag(node, "isEnabled") == Some(false) {
                self.note(&node.place, format!("group `{}` is disabled there", clean(&name)));
                continue;
            }
            let above = text(node, "parentId");
            if !above.is_empty() && above != owner {
                let told = format!(
                    "group `{}` is below `{}`; groups here lie beside each other",
                    clean(&name),
                    clean(&above)
                );
                self.leave_out(&node.place, told);
            }
            let Some(parsed) = self.named::<GroupName>(&name, "group", &node.place) else {
                continue;
            };
            let title = Some(text(node, "displayName")).filter(|title| !title.is_empty());
            let title = title.filter(|title| words::line(title).is_ok()).unwrap_or(name);
            let roles = held.remove(&(owner.clone(), parsed.clone())).unwrap_or_default();
            let place = node.place.clone();
            let Some(organization) = self.organization(&owner, &place) else { continue };
            if let Some(first) = organization.groups.iter().find(|group| group.name == parsed) {
                let told = format!("group `{parsed}` stands in line {} already", first.place.line);
                self.leave_out(&place, told);
                continue;
            }
            organization.groups.push(Group { name: parsed, title, roles, place });
        }
        for ((owner, group), roles) in held {
            let whole = root.place.clone();
            // Built-in ones need not be in an export.
            let Some(organization) = self.organization(&owner, &whole) else { continue };
            let title = group.to_string();
            organization.groups.push(Group { name: group, title, roles, place: whole });
        }
    }

    /// The roles of each group; memberships in roles that are something else are told of.
    fn roles(&mut self, root: &Node) -> BTreeMap<(String, GroupName), Vec<RoleName>> {
        let mut held: BTreeMap<(String, GroupName), Vec<RoleName>> = BTreeMap::new();
        for node in items(root, "roles") {
            let (owner, name) = (text(node, "owner"), text(node, "name"));
            if self.only.is_some_and(|only| only.as_str() != owner) || owner == ITS_OWN {
                continue;
            }
            if flag(node, "isEnabled") == Some(false) {
                self.note(&node.place, format!("role `{}` is disabled there", clean(&name)));
                continue;
            }
            let Some(role) = self.named::<RoleName>(&name, "role", &node.place) else { continue };
            for (kind, what) in [("users", "people"), ("roles", "other roles")] {
                let some = texts(node, kind);
                if !some.is_empty() {
                    let count = some.len();
                    let told = format!(
                        "role `{role}` is held by {what} ({count}); here groups hold roles, so put \
                         them into one that does"
                    );
                    self.leave_out(&node.place, told);
                }
            }
            if !texts(node, "domains").is_empty() {
                let told =
                    format!("role `{role}` is held in some domains only; there are none here");
                self.leave_out(&node.place, told);
                continue;
            }
            for group in texts(node, "groups") {
                let (of, group) = group.split_once('/').unwrap_or((&owner, group));
                let (of, group) = (of.to_owned(), group.to_owned());
                if of != owner {
                    let told = format!("role `{role}` is held by a group of `{}`", clean(&of));
                    self.leave_out(&node.place, told);
                } else if let Some(group) = self.named::<GroupName>(&group, "group", &node.place) {
                    held.entry((of, group)).or_default().push(role.clone());
                }
            }
        }
        for roles in held.values_mut() {
            roles.sort();
            roles.dedup();
        }
        held
    }

    fn applications(&mut self, root: &Node) {
        for node in items(root, "applications") {
            let name = text(node, "name");
            let owner = Some(text(node, "organization")).filter(|org| !org.is_empty());
            let owner = owner.unwrap_or_else(|| text(node, "owner"));
            let place = node.place.clone();
            if self.organization(&owner, &place).is_none() {
                continue;
            }
            let what = format!("application `{}`", clean(&name));
            let client_id = text(node, "clientId");
            let secret = text(node, "clientSecret");
            let wrong = words::line(&name).err().or_else(|| words::client_id(&client_id).err());
            let wrong = wrong.or(match secret.len() {
                0 => Some("it has no client secret"),
                1..=256 => None,
                _ => Some("a client secret has at most 256 bytes"),
            });
            if let Some(wrong) =
                wrong.filter(|_| !name.is_empty()).or(name.is_empty().then_some("it has no name"))
            {
                self.leave_out(&place, format!("{what}: {wrong}"));
                continue;
            }
            let secs = |field: &str| {
                let hours = node.get(field).and_then(Node::number)?;
                hours.checked_mul(3600).filter(|secs| *secs > 0)
            };
            let (access_secs, refresh_secs) = (secs("expireInHours"), secs("refreshExpireInHours"));
            let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            let application = Application {
                title: text(node, "displayName"),
                client_id,
                secret: secret.into(),
                grant_types: own(texts(node, "grantTypes")),
                redirect_uris: own(texts(node, "redirectUris")),
                access_secs,
                refresh_secs,
                place: place.clone(),
                name,
            };
            let used = [
                "owner",
                "name",
                "organization",
                "displayName",
                "clientId",
                "clientSecret",
                "grantTypes",
                "redirectUris",
                "expireInHours",
                "refreshExpireInHours",
            ];
            self.fields("applications", node, (&used, OF_APPLICATIONS));
            if let Some(organization) = self.organization(&owner, &place) {
                organization.applications.push(application);
            }
        }
    }

    /// Count the fields of a thing that are not carried over.
    fn fields(&mut self, section: &'static str, node: &Node, (used, plain): (&[&str], &str)) {
        for (key, value) in node.entries() {
            let name = key.text.as_str();
            let nothing = value.is_empty()
                || value.bool() == Some(false)
                || matches!(&value.value, Value::Number(number) if number == "0");
            if nothing || used.contains(&name) || plain.split(' ').any(|one| one == name) {
                continue;
            }
            let entry = self.fields.entry((section, clean(name)));
            entry.or_insert_with(|| (key.place.clone(), 0)).1 += 1;
        }
    }

    /// What else is in it.
    fn rest(&mut self, root: &Node) {
        for (key, node) in root.entries() {
            let name = key.text.as_str();
            if ["organizations", "users", "groups", "roles", "applications"].contains(&name)
                || node.is_empty()
            {
                continue;
            }
            let (place, count) = (&key.place, node.items().len());
            let lower = name.to_lowercase();
            if POLICY.contains(&name) || lower.ends_with("rule") || lower.ends_with("rules") {
                let told = format!(
                    "`{}` says who may do what: `postern policy import casdoor` reads it",
                    clean(name)
                );
                self.note(place, told);
            } else if name == "certs" {
                self.note(place, "`certs`: tokens are signed with Postern's own keys");
            } else {
                let told = format!("`{}` ({count}) is not carried over", clean(name));
                self.leave_out(place, told);
            }
        }
        for ((section, field), (place, times)) in std::mem::take(&mut self.fields) {
            let told = format!("`{section}`: `{field}` ({times}) is not carried over");
            self.leave_out(&place, told);
        }
    }

    fn named<N: std::str::FromStr>(&mut self, name: &str, what: &str, place: &Place) -> Option<N> {
        let parsed = name.parse().ok();
        if parsed.is_none() {
            self.leave_out(place, format!("`{}` can be no {what}'s name here", clean(name)));
        }
        parsed
    }
}

/// What a file says, as one line shows it.
pub fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(64).map(shown).collect()
}

fn items<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    node.get(name).map(Node::items).unwrap_or_default()
}

fn text(node: &Node, name: &str) -> String {
    node.get(name).and_then(Node::text).unwrap_or_default().to_owned()
}

fn texts<'n>(node: &'n Node, name: &str) -> Vec<&'n str> {
    items(node, name).iter().filter_map(Node::text).filter(|text| !text.is_empty()).collect()
}

fn flag(node: &Node, name: &str) -> Option<bool> {
    node.get(name).and_then(Node::bool)
}
