//! YAML → cases; every complaint has a line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Spanned;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Asker, Case, Given, Question};
use crate::{
    complaint::{Complaint, Complaints, Place, near},
    engine::Engine,
    model::{
        caller::{Authentication, Principal, Subject},
        decision::Verdict,
        grant::Grant,
        manifest::{Entries, plain},
        name::{GroupName, OrgId, RoleName},
        query::PermissionId,
    },
    schema,
};

/// The moment of a case that names none: the same today and tomorrow. 2026-01-01T12:00:00Z.
pub(crate) const NOON: u64 = 1_767_268_800;

/// The organization of a matrix that names none.
const ORGANIZATION: &str = "acme";

/// Stands for every built-in group in a matrix.
const ALL: &str = "all";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    principals: Entries<RawPrincipal>,
    #[serde(default)]
    cases: Vec<RawCase>,
    #[serde(default)]
    matrices: Vec<RawMatrix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrincipal {
    user: Option<Spanned<String>>,
    application: Option<Spanned<String>>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
    auth_time: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    principals: Vec<Spanned<String>>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    #[serde(default)]
    context: RawContext,
    policies: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawContext {
    client: Option<Spanned<String>>,
    now: Option<Spanned<String>>,
    #[serde(default)]
    path: Entries<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatrix {
    name: Spanned<String>,
    organization: Option<Spanned<String>>,
    groups: Vec<Spanned<String>>,
    permissions: Vec<Spanned<String>>,
    allow: Entries<Vec<Spanned<String>>>,
}

/// What an engine knows, in the order that tables are read by.
pub(super) struct Known<'a> {
    engine: &'a Engine,
    permissions: Vec<(String, PermissionId)>,
    /// Groups and roles, with the organization whose own they are.
    groups: Vec<(Option<OrgId>, GroupName)>,
    roles: Vec<(Option<OrgId>, RoleName)>,
    policies: BTreeSet<String>,
}

impl<'a> Known<'a> {
    pub(super) fn of(engine: &'a Engine) -> Self {
        let snapshot = engine.snapshot();
        let products = &snapshot.products;
        let permissions = products.iter().flat_map(|manifest| {
            manifest.permissions().filter_map(move |p| {
                let product = manifest.product.as_str();
                let id = engine.permission(product, p.resource.as_str(), p.action.as_str())?;
                Some((product.to_owned(), id))
            })
        });
        let groups = products.iter().flat_map(|m| &m.groups).chain(&snapshot.groups);
        let roles = products.iter().flat_map(|m| &m.roles).chain(&snapshot.roles);
        Self {
            engine,
            permissions: permissions.collect(),
            groups: groups.map(|group| (group.org.clone(), group.name.clone())).collect(),
            roles: roles.map(|role| (role.org.clone(), role.name.clone())).collect(),
            policies: engine.policies().policies().map(|policy| policy.id().to_string()).collect(),
        }
    }
}

/// Read one table.
pub(super) fn parse(known: &Known<'_>, file: &str, text: &str) -> Result<Vec<Case>, Complaints> {
    let file: Arc<str> = file.into();
    let raw = yaml(&file, text, "table")?;
    Reader { known, file, complaints: Vec::new() }.read(raw)
}

/// What a text says, in the shape of its kind; complaints have that code.
pub(crate) fn yaml<T: DeserializeOwned>(
    file: &Arc<str>,
    text: &str,
    code: &'static str,
) -> Result<T, Complaints> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map_or(Place::file(Arc::clone(file)), |at| Place {
            file: Arc::clone(file),
            line: u32::try_from(at.line()).unwrap_or(0),
            column: u32::try_from(at.column()).unwrap_or(0),
        });
        place.complain(plain(&error)).coded(code).into()
    })
}

/// Where a value stands.
pub(crate) fn place<T>(file: &Arc<str>, at: &Spanned<T>) -> Place {
    Place {
        file: Arc::clone(file),
        line: u32::try_from(at.referenced.line()).unwrap_or(0),
        column: u32::try_from(at.referenced.column()).unwrap_or(0),
    }
}

struct Reader<'a> {
    known: &'a Known<'a>,
    file: Arc<str>,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    fn read(mut self, raw: Raw) -> Result<Vec<Case>, Complaints> {
        let mut askers = BTreeMap::new();
        for (name, principal) in raw.principals.0 {
            if let Some(asker) = self.asker(&name, &principal) {
                askers.insert(name.value, Some(Arc::new(asker)));
            } else {
                askers.insert(name.value, None);
            }
        }
        let mut cases: Vec<Case> = raw.cases.iter().map(|case| self.case(&askers, case)).collect();
        cases.extend(raw.matrices.iter().filter_map(|matrix| self.matrix(matrix)));
        if cases.is_empty() && self.complaints.is_empty() {
            let told = "the table asks nothing: it needs `cases` or `matrices`";
            self.complaints.push(Place::file(Arc::clone(&self.file)).complain(told).coded("table"));
        }
        Complaints::unless(self.complaints, cases)
    }

    fn asker(&mut self, name: &Spanned<String>, raw: &RawPrincipal) -> Option<Asker> {
        let (text, user) = match (&raw.user, &raw.application) {
            (Some(user), None) => (user, true),
            (None, Some(application)) => (application, false),
            _ => {
                let told = format!(
                    "principal `{}` needs either `user: organization/id` or `application: organization/id`",
                    name.value
                );
                return self.complain(name, told);
            }
        };
        let Some((org, id)) = text.value.split_once('/') else {
            return self.complain(text, format!("`{}` is no `organization/id`", text.value));
        };
        let org: OrgId = self.parsed(text, org)?;
        let misplaced = if user { raw.roles.first() } else { raw.groups.first() };
        if let Some(misplaced) = misplaced {
            let cure = if user {
                "a person's roles come from `groups`"
            } else {
                "an application holds `roles`, no groups"
            };
            return self.complain(misplaced, cure.to_owned());
        }
        let principal = if user {
            Principal::User { org: org.clone(), id: self.parsed(text, id)? }
        } else {
            Principal::Application { org: org.clone(), id: self.parsed(text, id)? }
        };
        let groups = raw.groups.iter().map(|group| self.group(&org, group)).collect::<Vec<_>>();
        let roles = raw.roles.iter().map(|role| self.role(&org, role)).collect::<Vec<_>>();
        let auth_time = match &raw.auth_time {
            Some(text) => Some(self.moment(text)?),
            None => None,
        };
        let groups: Option<Vec<GroupName>> = groups.into_iter().collect();
        let roles: Option<Vec<RoleName>> = roles.into_iter().collect();
        Some(Asker {
            subject: Subject { principal, groups: groups?.into(), roles: roles?.into() },
            authentication: Authentication {
                acr: raw.acr.clone(),
                amr: raw.amr.clone(),
                auth_time,
            },
        })
    }

    fn group(&mut self, org: &OrgId, text: &Spanned<String>) -> Option<GroupName> {
        let known = self.known;
        self.owned(org, text, "group", &known.groups)
    }

    fn role(&mut self, org: &OrgId, text: &Spanned<String>) -> Option<RoleName> {
        let known = self.known;
        self.owned(org, text, "role", &known.roles)
    }

    fn owned<N: FromStr<Err: Display> + PartialEq + AsRef<str>>(
        &mut self,
        org: &OrgId,
        text: &Spanned<String>,
        kind: &str,
        known: &[(Option<OrgId>, N)],
    ) -> Option<N> {
        let name: N = self.parsed(text, &text.value)?;
        let here = || known.iter().filter(|(own, _)| own.as_ref().is_none_or(|own| own == org));
        if here().any(|(_, other)| *other == name) {
            return Some(name);
        }
        let near = near(&text.value, here().map(|(_, other)| other.as_ref()));
        self.complain(text, format!("no {kind} `{}`{near}", text.value))
    }

    fn case(&mut self, askers: &BTreeMap<String, Option<Arc<Asker>>>, raw: &RawCase) -> Case {
        let before = self.complaints.len();
        let expected = self.expected(raw);
        let given = self.given(&raw.context, &expected).map(Arc::new);
        let policies = raw.policies.as_ref().map(|policies| self.policies(policies));
        let mut questions = Vec::new();
        for name in &raw.principals {
            let Some(asker) = askers.get(&name.value) else {
                let near = near(&name.value, askers.keys().map(String::as_str));
                self.complain::<()>(name, format!("no principal `{}` here{near}", name.value));
                continue;
            };
            // A principal that is there and does not hold has been complained of.
            let (Some(asker), Some(given)) = (asker, &given) else { continue };
            questions.extend(expected.iter().map(|(permission, (expected, place))| Question {
                place: place.clone(),
                asker: Arc::clone(asker),
                permission: *permission,
                expected: *expected,
                policies: policies.clone(),
                given: Arc::clone(given),
            }));
        }
        if questions.is_empty() && self.complaints.len() == before {
            let told = "the case asks nothing: it needs `principals`, and `allow` or `deny`";
            self.complain::<()>(&raw.name, told.to_owned());
        }
        let name = raw.name.value.clone();
        Case { name, place: self.place(&raw.name), questions }
    }

    fn expected(&mut self, raw: &RawCase) -> BTreeMap<PermissionId, (Verdict, Place)> {
        let mut expected: BTreeMap<PermissionId, (Verdict, Place)> = BTreeMap::new();
        for (verdict, texts) in [(Verdict::Allow, &raw.allow), (Verdict::Deny, &raw.deny)] {
            for text in texts {
                let place = self.place(text);
                for permission in self.permissions(text) {
                    let both = expected.insert(permission, (verdict, place.clone()));
                    if both.is_some_and(|(other, _)| other != verdict) {
                        let label = self.known.engine.label(permission);
                        let told = format!("`{label}` stands under `allow` and under `deny`");
                        self.complain::<()>(text, told);
                    }
                }
            }
        }
        expected
    }

    /// `product::resource:action`, any part perhaps `*`: the permissions that it covers.
    fn permissions(&mut self, text: &Spanned<String>) -> Vec<PermissionId> {
        let Some((product, grant)) = text.value.split_once("::") else {
            let told = format!("`{}` is no `product::resource:action`", text.value);
            self.complain::<()>(text, told);
            return Vec::new();
        };
        let Some(grant) = self.parsed::<Grant>(text, grant) else { return Vec::new() };
        let engine = self.known.engine;
        let covered: Vec<PermissionId> = self
            .known
            .permissions
            .iter()
            .filter(|(of, _)| product == "*" || of == product)
            .map(|(_, id)| *id)
            .filter(|id| engine.name(*id).is_some_and(|(_, p)| grant.covers(p)))
            .collect();
        if covered.is_empty() {
            let labels: Vec<Arc<str>> =
                self.known.permissions.iter().map(|(_, id)| engine.label(*id)).collect();
            let near = near(&text.value, labels.iter().map(AsRef::as_ref));
            self.complain::<()>(
                text,
                format!("no product has a permission `{}`{near}", text.value),
            );
        }
        covered
    }

    fn policies(&mut self, texts: &[Spanned<String>]) -> BTreeSet<String> {
        let known = self.known;
        for text in texts.iter().filter(|text| !known.policies.contains(&text.value)) {
            let near = near(&text.value, known.policies.iter().map(String::as_str));
            self.complain::<()>(text, format!("no policy `{}`{near}", text.value));
        }
        texts.iter().map(|text| text.value.clone()).collect()
    }

    fn given(
        &mut self,
        raw: &RawContext,
        expected: &BTreeMap<PermissionId, (Verdict, Place)>,
    ) -> Option<Given> {
        let engine = self.known.engine;
        let products: BTreeSet<&str> = expected
            .keys()
            .filter_map(|id| engine.name(*id))
            .map(|(product, _)| product.as_str())
            .collect();
        let parameters: BTreeSet<String> = products
            .iter()
            .filter_map(|name| engine.product(name))
            .flat_map(|manifest| schema::parameters(manifest))
            .collect();
        for (name, _) in raw.path.0.iter().filter(|(name, _)| !parameters.contains(&name.value)) {
            let near = near(&name.value, parameters.iter().map(String::as_str));
            let told = format!("no route has a path parameter `{}`{near}", name.value);
            self.complain::<()>(name, told);
        }
        let client = match &raw.client {
            Some(text) => Some(self.parsed(text, &text.value)?),
            None => None,
        };
        let now = raw.now.as_ref().map_or(Some(NOON), |text| self.moment(text))?;
        let path = raw.path.0.iter().map(|(name, value)| (name.value.clone(), value.clone()));
        Some(Given { client, now, parameters: path.collect() })
    }

    fn matrix(&mut self, raw: &RawMatrix) -> Option<Case> {
        let before = self.complaints.len();
        let org: OrgId = match &raw.organization {
            Some(text) => self.parsed(text, &text.value)?,
            None => self.parsed(&raw.name, ORGANIZATION)?,
        };
        let groups = self.matrix_groups(&org, &raw.groups);
        let asked: BTreeSet<PermissionId> =
            raw.permissions.iter().flat_map(|text| self.permissions(text)).collect();
        let mut allowed: BTreeMap<(&str, PermissionId), Place> = BTreeMap::new();
        for (group, texts) in &raw.allow.0 {
            if !groups.iter().any(|other| other.as_str() == group.value) {
                let near = near(&group.value, groups.iter().map(GroupName::as_str));
                let told = format!("no group `{}` under this matrix's `groups`{near}", group.value);
                self.complain::<()>(group, told);
            }
            for text in texts {
                let place = self.place(text);
                for permission in self.permissions(text) {
                    if !asked.contains(&permission) {
                        let label = self.known.engine.label(permission);
                        let told = format!("`{label}` is not under this matrix's `permissions`");
                        self.complain::<()>(text, told);
                    }
                    allowed.insert((&group.value, permission), place.clone());
                }
            }
        }
        let given = Arc::new(Given { now: NOON, ..Given::default() });
        let place = self.place(&raw.name);
        let mut questions = Vec::new();
        for group in &groups {
            let asker = Arc::new(self.member(&org, &raw.name, group)?);
            questions.extend(asked.iter().map(|permission| {
                let allow = allowed.get(&(group.as_str(), *permission));
                Question {
                    place: allow.unwrap_or(&place).clone(),
                    asker: Arc::clone(&asker),
                    permission: *permission,
                    expected: if allow.is_some() { Verdict::Allow } else { Verdict::Deny },
                    policies: None,
                    given: Arc::clone(&given),
                }
            }));
        }
        if questions.is_empty() && self.complaints.len() == before {
            let told = "the matrix asks nothing: it needs `groups` and `permissions`";
            self.complain::<()>(&raw.name, told.to_owned());
        }
        Some(Case { name: raw.name.value.clone(), place, questions })
    }

    fn matrix_groups(&mut self, org: &OrgId, texts: &[Spanned<String>]) -> Vec<GroupName> {
        if let [one] = texts
            && one.value == ALL
        {
            let known = self.known.groups.iter();
            return known.filter(|(own, _)| own.is_none()).map(|(_, name)| name.clone()).collect();
        }
        texts.iter().filter_map(|text| self.group(org, text)).collect()
    }

    /// A person of that group and no other, who has the group's name.
    fn member(&mut self, org: &OrgId, at: &Spanned<String>, group: &GroupName) -> Option<Asker> {
        let id = self.parsed(at, group.as_str())?;
        let subject = Subject {
            principal: Principal::User { org: org.clone(), id },
            groups: [group.clone()].into(),
            roles: [].into(),
        };
        Some(Asker { subject, authentication: Authentication::default() })
    }

    fn moment(&mut self, text: &Spanned<String>) -> Option<u64> {
        let seconds = OffsetDateTime::parse(&text.value, &Rfc3339)
            .ok()
            .and_then(|moment| u64::try_from(moment.unix_timestamp()).ok());
        seconds.or_else(|| {
            let cure = "write it as in \"2026-01-01T10:00:00Z\"";
            self.complain(text, format!("`{}` is no moment: {cure}", text.value))
        })
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, at: &Spanned<String>, text: &str) -> Option<T> {
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => self.complain(at, format!("`{}`: {error}", at.value)),
        }
    }

    fn place<T>(&self, at: &Spanned<T>) -> Place {
        place(&self.file, at)
    }

    /// Note what is wrong; there is no value where something is.
    fn complain<N>(&mut self, at: &Spanned<String>, text: String) -> Option<N> {
        let place = self.place(at);
        self.complaints.push(place.complain(text).coded("table"));
        None
    }
}
