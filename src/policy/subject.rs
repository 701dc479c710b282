//! Who asks, as the command line names it; and what for.

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use policy::{
    engine::Engine,
    model::{
        caller::{Principal, Subject},
        name::{GroupName, RoleName},
        query::PermissionId,
    },
    search::Search,
};

/// A person with groups, or an application with roles.
#[derive(Args, Debug, Clone)]
pub struct Who {
    /// A person, as in `acme/ana`
    #[arg(long, value_name = "ORG/ID", conflicts_with_all = ["application", "role"])]
    user: Option<String>,
    /// A group that the person is in; may be repeated
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["application", "role"])]
    group: Vec<GroupName>,
    /// An application, as in `acme/billing`
    #[arg(long, value_name = "ORG/ID")]
    application: Option<String>,
    /// A role that the application holds; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<RoleName>,
}

impl Who {
    /// The subject. Without `--user` and `--application` it is somebody whom no policy names.
    ///
    /// # Errors
    ///
    /// A name that is none; nobody; a group or role that the catalog does not have.
    pub fn subject(&self, engine: &Engine) -> Result<Subject> {
        let principal = self.principal(engine)?;
        self.known(engine, &principal)?;
        let (groups, roles) = (self.group.clone().into(), self.role.clone().into());
        Ok(Subject { principal, groups, roles })
    }

    fn principal(&self, engine: &Engine) -> Result<Principal> {
        if let Some(user) = &self.user {
            let (org, id) = pair("--user", user)?;
            return Ok(Principal::User { org: org.parse()?, id: id.parse()? });
        }
        if let Some(application) = &self.application {
            let (org, id) = pair("--application", application)?;
            return Ok(Principal::Application { org: org.parse()?, id: id.parse()? });
        }
        let search = Search::new(engine).map_err(|error| anyhow!(error))?;
        match (self.group.is_empty(), self.role.is_empty()) {
            (false, _) => Ok(search.somebody()),
            (_, false) => Ok(search.some_application()),
            _ => bail!(
                "who asks? name a person with `--user ORG/ID` and `--group`, or an application with `--application ORG/ID` and `--role`"
            ),
        }
    }

    /// A name of nothing would be a deny that nobody understands.
    fn known(&self, engine: &Engine, principal: &Principal) -> Result<()> {
        let snapshot = engine.snapshot();
        let here = |org: Option<&_>| org.is_none_or(|org| org == principal.org());
        let org = principal.org();
        for name in &self.group {
            let mut groups =
                snapshot.products.iter().flat_map(|m| &m.groups).chain(&snapshot.groups);
            if !groups.any(|group| group.name == *name && here(group.org.as_ref())) {
                bail!(
                    "`--group`: no group `{name}` in organization `{org}`; mend its spelling, or declare it"
                );
            }
        }
        for name in &self.role {
            let mut roles = snapshot.products.iter().flat_map(|m| &m.roles).chain(&snapshot.roles);
            if !roles.any(|role| role.name == *name && here(role.org.as_ref())) {
                bail!(
                    "`--role`: no role `{name}` in organization `{org}`; mend its spelling, or declare it"
                );
            }
        }
        Ok(())
    }
}

fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    text.split_once('/')
        .with_context(|| format!("`{option} {text}`: write organization and id, as in `acme/ana`"))
}

/// A permission as logs name it: `midaz::accounts:get`.
///
/// # Errors
///
/// When no product declares it.
pub fn permission(engine: &Engine, text: &str) -> Result<PermissionId> {
    let found = || {
        let (product, permission) = text.split_once("::")?;
        let (resource, action) = permission.split_once(':')?;
        engine.permission(product, resource, action)
    };
    found().with_context(|| {
        let products = engine.snapshot().products.iter();
        let (distance, nearest) = products
            .flat_map(|m| m.permissions().map(move |p| format!("{}::{p}", m.product)))
            .map(|name| (distance(text, &name), name))
            .min()
            .unwrap_or((usize::MAX, String::new()));
        let cure = if distance <= 3 {
            format!("did you mean `{nearest}`?")
        } else {
            "write it as `product::resource:action`".to_owned()
        };
        format!("no product declares a permission `{text}`; {cure}")
    })
}

/// How many letters at one place two names differ by.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    (a.len() - end).max(b.len() - end)
}
