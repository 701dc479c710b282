//! Settings: what is declared of them, and what there is. A member that is declared is owned.

use policy::{catalog::Catalog, complaint::Complaint};
use serde_json::Value;

use super::{Act, Found, Kind, Present, Refusal, Registry, Step, clean};
use crate::{
    admin::Admin,
    error::{BodyFault, Error},
    model::settings::Settings,
    operator::declared::{Organization, Setting, snake},
    settings,
};

/// What is wrong with them.
pub(super) fn check(
    org: &Organization,
    there: (&Catalog, Option<&Present>),
    complaints: &mut Vec<Complaint>,
) {
    let before = there.1.map(|present| present.settings.clone()).unwrap_or_default();
    let mut complain = |path: &str, told: &str| {
        // A section that there is not, by its first member.
        let of = |said: &str| {
            said.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let said = org.settings.iter().find(|setting| of(&setting.path));
        let place = said.map_or(&org.place, |setting| &setting.place);
        complaints.push(place.complain(format!("`settings.{}`: {told}", clean(path))));
    };
    let after = match settings::merged(&before, Setting::patch(&org.settings)) {
        Ok(after) => after,
        Err(BodyFault::Unknown(paths)) => {
            return paths
                .iter()
                .for_each(|path| complain(&snake(path), "there is no such setting"));
        }
        Err(BodyFault::WrongType(paths)) => {
            return paths.iter().for_each(|path| complain(&snake(path), "is of the wrong type"));
        }
        Err(fault) => return complain("", &fault.to_string()),
    };
    if let Err((path, rule)) = after.check() {
        complain(&snake(path), &rule);
    }
    for group in &after.mfa.groups {
        if !before.mfa.groups.contains(group) && !super::group::known(group, org, there) {
            complain("mfa.groups", &format!("there is no group `{group}`"));
        }
    }
}

impl Found<'_> {
    pub(super) fn settings(&mut self) -> Result<(), Refusal> {
        let org = self.org;
        let before = self.present.map(|present| present.settings.clone()).unwrap_or_default();
        let patch = Setting::patch(&org.settings);
        let after = settings::merged(&before, patch).map_err(Error::from)?;
        let (is, to_be) = (told(&before)?, told(&after)?);
        let mut fields = Vec::new();
        for (path, value) in to_be {
            let was = is.iter().find(|(known, _)| *known == path).map(|(_, value)| value.clone());
            let was = was.unwrap_or_default();
            if was != value {
                fields.push((path.into(), was, value));
            }
        }
        if !fields.is_empty() {
            let (org, act) = (org.id.clone(), Act::Change(fields));
            self.plan.steps.push(Step { org, kind: Kind::Settings, name: String::new(), act });
        }
        Ok(())
    }
}

/// Every member of settings with its value, in the file's words.
fn told(settings: &Settings) -> Result<Vec<(String, String)>, Refusal> {
    fn leaves(value: &Value, path: &str, told: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let name = snake(name);
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    leaves(value, &path, told);
                }
            }
            value => told.push((path.to_owned(), value.to_string())),
        }
    }
    let mut members = Vec::new();
    let value = serde_json::to_value(settings).map_err(|error| Refusal(error.to_string()))?;
    leaves(&value, "", &mut members);
    Ok(members)
}

impl Registry {
    pub(super) async fn settings(&self, by: &Admin, org: &Organization) -> Result<(), Refusal> {
        settings::patch(&self.app, by, Setting::patch(&org.settings)).await?;
        Ok(())
    }
}
