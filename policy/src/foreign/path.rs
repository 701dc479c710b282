//! Where in an issuer's claims something stands.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};

/// `realm_access.roles`: members within members. A name that has a dot in it is written as a JSON
/// pointer (RFC 6901), `/https:~1~1example.com~1roles`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Path(Vec<String>);

impl Path {
    /// What stands there.
    pub fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name))
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
            }
            None => text.split('.').map(str::to_owned).collect(),
        };
        if names.iter().any(String::is_empty) {
            return Err(format!(
                "`{text}` is no path to a claim such as `sub` or `realm_access.roles`"
            ));
        }
        Ok(Self(names))
    }
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
