//! Names, parsed once and trusted after.
//!
//! Every name that reaches a policy, a query or a log is one of these types, so its characters are
//! known: no separator, no control character, nothing that means something to Cedar, SQL or HTTP.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no {kind}: {rule}")]
pub struct BadName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

impl BadName {
    fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        // A hostile name may be long or full of escapes; the message stays one short line.
        let text = text.chars().take(64).flat_map(char::escape_debug).collect();
        Self { kind, text, rule }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for keeping without a copy.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(BadName::new($kind, text, $rule))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

fn of(text: &str, most: usize, first: fn(char) -> bool, rest: fn(char) -> bool) -> bool {
    let mut chars = text.chars();
    text.len() <= most && chars.next().is_some_and(first) && chars.all(rest)
}

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn alnum(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

name! {
    /// A tenant's short name, such as `lerian`.
    OrgId, "organization",
    "1 to 63 of a-z, 0-9, `-`, `_`, starting with a letter or digit",
    |t| of(t, 63, lower, |c| lower(c) || c == '-' || c == '_')
}

name! {
    /// A person's stable id: a UUID for our own users, the subject of a foreign issuer otherwise.
    UserId, "user id",
    "1 to 255 characters, none of them white space or control",
    |t| of(t, 255, |c| !c.is_control() && !c.is_whitespace(), |c| !c.is_control() && !c.is_whitespace())
}

name! {
    /// A machine-to-machine application's stable id: our own have no `:` or `@`, which are for
    /// those of foreign issuers.
    AppId, "application id",
    "1 to 255 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`, `@`, starting with a letter or digit",
    |t| of(t, 255, alnum, |c| alnum(c) || matches!(c, '-' | '_' | '.' | ':' | '@'))
}

name! {
    /// A group's id within its organization, such as `midaz-viewer-group`.
    GroupName, "group",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`, starting with a letter or digit",
    |t| of(t, 128, alnum, |c| alnum(c) || matches!(c, '-' | '_' | '.' | ':'))
}

name! {
    /// A role's id, such as `midaz-editor-role`.
    RoleName, "role",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`, starting with a letter or digit",
    |t| of(t, 128, alnum, |c| alnum(c) || matches!(c, '-' | '_' | '.' | ':'))
}

name! {
    /// A protected API, such as `midaz` or `plugin-crm`.
    ProductName, "product",
    "1 to 63 of a-z, 0-9 and `-`, starting with a letter",
    |t| of(t, 63, |c| c.is_ascii_lowercase(), |c| lower(c) || c == '-')
}

name! {
    /// A resource of a product, such as `accounts`.
    ResourceName, "resource",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`, `/`, starting with a letter or digit",
    |t| of(t, 128, alnum, |c| alnum(c) || matches!(c, '-' | '_' | '.' | '/'))
}

name! {
    /// What is done to a resource: `get`, `patch`, or a product's own word such as `context:create`.
    ActionName, "action",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`, starting with a letter or digit",
    |t| of(t, 128, alnum, |c| alnum(c) || matches!(c, '-' | '_' | '.' | ':'))
}

name! {
    /// One sign-in: what a log-out ends.
    SessionId, "session id",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`",
    |t| of(t, 128, alnum, |c| alnum(c) || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_only_the_characters_of_its_kind() {
        for good in ["lerian", "a", "0x", "acme-2_b"] {
            assert!(good.parse::<OrgId>().is_ok(), "{good}");
        }
        for bad in ["", "Acme", "-a", "a/b", "a b", "a\"b", "ä", "a\0", &"a".repeat(64)] {
            assert!(bad.parse::<OrgId>().is_err(), "{bad:?}");
        }
        assert!("context:create".parse::<ActionName>().is_ok());
        assert!("accounts:get".parse::<ResourceName>().is_err());
        assert!("acme/role".parse::<RoleName>().is_err());
    }

    #[test]
    fn a_refusal_is_one_short_printable_line() {
        let text = format!("a\n\u{1b}[31m{}", "x".repeat(10_000));
        let error = text.parse::<OrgId>().unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains(['\n', '\u{1b}']), "{error}");
    }
}
