//! Rules of what an organization decides for itself.

use serde_json::{Map, Value};

use crate::{
    admin::Admin,
    app::App,
    error::{BodyFault, Error},
    holdings::Holdings,
    model::{
        event::{Change, Event},
        settings::Settings,
    },
};

/// The settings.
pub async fn get(app: &App, by: &Admin) -> Result<Settings, Error> {
    Ok(app.store.read(by.org()).await?.settings().await?)
}

/// Change the members that are given, and no others; `null` puts one back to its default (RFC 7396).
pub async fn patch(app: &App, by: &Admin, patch: Map<String, Value>) -> Result<Settings, Error> {
    let (mut tx, _) = by.begin(app).await?;
    let before = tx.settings().await?;
    let after = merged(&before, patch)?;
    after.check().map_err(|(field, rule)| Error::rule(field, rule))?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let added = after.mfa.groups.iter().filter(|group| !before.mfa.groups.contains(group));
    for group in added {
        holdings.group(group).ok_or(Error::NoSuchGroup)?;
    }
    if after != before {
        tx.set_settings(&after).await?;
        let change = Change::between(&before, &after);
        app.audit(&mut tx, by, Event::SettingsChanged, by.org(), change);
        app.commit(tx).await?;
        tracing::info!(by = %by.principal(), "changed the settings of the organization");
    }
    Ok(after)
}

/// What the settings are with these members in the place of theirs.
pub fn merged(before: &Settings, patch: Map<String, Value>) -> Result<Settings, BodyFault> {
    let fault = |_| BodyFault::Unreadable("the settings cannot be put together".to_owned());
    let mut whole = serde_json::to_value(before).map_err(fault)?;
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    let mut members = Vec::new();
    leaves(&whole, patch, "", &mut members, &mut unknown);
    unknown.sort();
    if !unknown.is_empty() {
        return Err(BodyFault::Unknown(unknown));
    }
    for (path, value) in members {
        // Each by itself, to say which one is wrong.
        let mut tried = whole.clone();
        // A list would pass for a section: its members in their order.
        let is_section = whole.pointer(&format!("/{path}")).is_some_and(Value::is_object);
        if !(is_section && value.is_array())
            && put(&mut tried, &path, value)
            && serde_json::from_value::<Settings>(tried.clone()).is_ok()
        {
            whole = tried;
        } else {
            wrong.push(path);
        }
    }
    wrong.sort();
    if !wrong.is_empty() {
        return Err(BodyFault::WrongType(wrong));
    }
    serde_json::from_value(whole).map_err(fault)
}

/// The members of a patch by their paths; those that the settings do not have, apart.
fn leaves(
    known: &Value,
    patch: Map<String, Value>,
    above: &str,
    members: &mut Vec<(String, Value)>,
    unknown: &mut Vec<String>,
) {
    for (name, value) in patch {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match (known.get(&name), value) {
            (None, _) => unknown.push(path.chars().take(64).flat_map(char::escape_debug).collect()),
            (Some(section @ Value::Object(_)), Value::Object(patch)) => {
                leaves(section, patch, &path, members, unknown);
            }
            (Some(_), value) => members.push((path, value)),
        }
    }
}

/// Put a value where the path says, or the default for `null`; whether there is such a place.
fn put(whole: &mut Value, path: &str, value: Value) -> bool {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = section.split('.').filter(|name| !name.is_empty());
    let section = place.try_fold(whole, |at, name| at.get_mut(name));
    let Some(Value::Object(section)) = section else { return false };
    if value.is_null() {
        section.remove(name);
    } else {
        section.insert(name.to_owned(), value);
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(before: &Settings, patch: Value) -> Result<Settings, String> {
        let Value::Object(patch) = patch else { panic!("{patch}") };
        merged(before, patch).map_err(|fault| fault.to_string())
    }

    #[test]
    fn members_that_are_given_change_and_what_is_none_is_told_by_its_path() {
        let none = Settings::default();
        let some = apply(&none, json!({"mfa": {"groups": ["staff"]}})).unwrap();
        let both = apply(&some, json!({"mfa": {"required": true}})).unwrap();
        assert!(both.mfa.required && both.mfa.groups.len() == 1);
        assert_eq!(apply(&both, json!({})).unwrap(), both);
        assert_eq!(apply(&both, json!({"mfa": {"required": null}})).unwrap(), some);
        assert_eq!(apply(&both, json!({"mfa": null})).unwrap(), none);
        for (patch, told) in [
            (json!({"x": 1}), "the request has the unexpected `x`"),
            (json!({"mfa": {"x": 1}}), "the request has the unexpected `mfa.x`"),
            (
                json!({"mfa": {"required": {"x": 1}}}),
                "the request has the wrong type of `mfa.required`",
            ),
            (
                json!({"mfa": {"required": "yes", "groups": "all"}}),
                "the request has the wrong type of `mfa.groups`, `mfa.required`",
            ),
            (json!({"mfa": []}), "the request has the wrong type of `mfa`"),
            (
                json!({"mfa": {"groups": ["no good name"]}}),
                "the request has the wrong type of `mfa.groups`",
            ),
        ] {
            assert_eq!(apply(&both, patch).unwrap_err(), told);
        }
    }
}
