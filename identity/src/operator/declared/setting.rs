//! What an organization is declared to have decided for itself.

use std::collections::BTreeMap;

use policy::complaint::Place;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::Reader;

/// Settings by section and member, each with its place.
pub(super) type Raw = BTreeMap<String, Spanned<Option<BTreeMap<String, Spanned<Value>>>>>;

/// One member of an organization's settings. Those that nobody names stay as they are.
#[derive(Debug)]
pub struct Setting {
    /// As in the file: `password.min_length`.
    pub path: String,
    /// `null` for its default.
    pub value: Value,
    pub place: Place,
}

impl Setting {
    /// A change to the settings that says what these do.
    pub fn patch(settings: &[Self]) -> Map<String, Value> {
        let mut patch = Map::new();
        for Self { path, value, .. } in settings {
            let Some((section, member)) = path.split_once('.') else {
                patch.insert(camel(path), value.clone());
                continue;
            };
            let section = patch.entry(camel(section));
            if let Value::Object(section) = section.or_insert_with(|| Value::Object(Map::new())) {
                section.insert(camel(member), value.clone());
            }
        }
        patch
    }
}

/// A name of the file as the management API has it.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        all + letters.as_str()
    })
}

/// A name of the management API as the file has it.
pub fn snake(name: &str) -> String {
    let spelled = |c: char| {
        let parted = c.is_ascii_uppercase().then_some('_');
        parted.into_iter().chain([c.to_ascii_lowercase()])
    };
    name.chars().flat_map(spelled).collect()
}

impl Reader<'_> {
    pub(super) fn settings(&mut self, raw: Raw) -> Vec<Setting> {
        let mut settings = Vec::new();
        for (section, members) in raw {
            let place = self.place(&members);
            let Some(members) = members.value else {
                settings.push(Setting { path: section, value: Value::Null, place });
                continue;
            };
            if members.is_empty() {
                self.complaints.push(place.complain(format!("`settings.{section}` says nothing")));
            }
            for (member, value) in members {
                let path = format!("{section}.{member}");
                settings.push(Setting { path, place: self.place(&value), value: value.value });
            }
        }
        // Of two spellings of one member, which counted would be chance.
        for setting in &settings {
            if setting.path.contains(|c: char| c.is_ascii_uppercase()) {
                let (path, meant) = (&setting.path, snake(&setting.path));
                let told = format!("`settings.{path}`: there is no such setting; `{meant}`?");
                self.complaints.push(setting.place.complain(told));
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_file_are_those_of_the_management_api() {
        assert_eq!(
            (camel("min_length"), snake("minLength")),
            ("minLength".into(), "min_length".into())
        );
        assert_eq!((camel("mfa"), snake("mfa.groups")), ("mfa".into(), "mfa.groups".into()));
    }
}
