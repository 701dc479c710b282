//! What a client was granted in OAuth's words: a scope, and the audiences of its access tokens.

use std::fmt;

use thiserror::Error;

/// A scope that cannot be read, or is more than was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the scope is malformed")]
pub struct BadScope;

/// What a client learns of a person (OpenID Connect Core, section 5.4). What the person may do does not
/// depend on it: that is the policy's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope(Vec<&'static str>);

impl Scope {
    /// Who it is: without it there is no ID token and no user info.
    pub const OPENID: &str = "openid";
    pub const PROFILE: &str = "profile";
    pub const EMAIL: &str = "email";
    /// Every value that means something here.
    pub const KNOWN: [&str; 3] = [Self::OPENID, Self::PROFILE, Self::EMAIL];

    /// All of it.
    pub fn everything() -> Self {
        Self(Self::KNOWN.to_vec())
    }

    /// Read a list parted by spaces. What is not known is passed over (OpenID Connect Core, section
    /// 3.1.2.1); the answer says what was granted.
    ///
    /// # Errors
    ///
    /// When it has characters that no scope has (RFC 6749, section 3.3).
    pub fn read(text: &str) -> Result<Self, BadScope> {
        let good = |byte: u8| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if !text.bytes().all(good) {
            return Err(BadScope);
        }
        let asked = |known: &&str| text.split(' ').any(|word| word == *known);
        Ok(Self(Self::KNOWN.into_iter().filter(asked).collect()))
    }

    /// Whether this value is in it.
    pub fn has(&self, value: &str) -> bool {
        self.0.contains(&value)
    }

    /// Whether everything in the other is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|value| self.has(value))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub scope: Scope,
    /// `aud` of the access tokens.
    pub audiences: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_what_is_known_of_it_in_one_order() {
        let scope = Scope::read("email  admin openid openid").unwrap();
        assert_eq!(scope.to_string(), "openid email");
        assert!(Scope::everything().covers(&scope) && !scope.covers(&Scope::everything()));
        assert!(scope.covers(&Scope::default()));
        for bad in ["a\"b", "a\\b", "a\u{e4}", "a\tb", "a\nb"] {
            assert_eq!(Scope::read(bad), Err(BadScope), "{bad}");
        }
    }
}
