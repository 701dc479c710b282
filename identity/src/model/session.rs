//! Sign-ins of people, and the refresh tokens that keep them going.

use std::fmt;

use policy::model::name::{AppId, OrgId, SessionId, UserId};

use super::{factor::FactorKind, grant::Grant};
use crate::keys::Algorithm;

/// How somebody proved who they are, in the words of RFC 8176.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Vec<String>);

impl Methods {
    const PASSWORD: &'static str = "pwd";
    const SEVERAL: &'static str = "mfa";
    /// Not among those of RFC 8176, which has no word for it.
    const FEDERATED: &'static str = "fed";
    /// What a trusted provider may say.
    const TOLD: [&'static str; 9] =
        ["face", "fpt", "hwk", "otp", "pin", "pop", "pwd", "sms", "swk"];

    /// By password alone.
    pub fn password() -> Self {
        Self(vec![Self::PASSWORD.to_owned()])
    }

    /// By nothing yet.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// By a provider that people sign in through; how there, where it is trusted to tell of a second
    /// factor.
    pub fn federated(trusted: Option<&[String]>) -> Self {
        let mut methods = vec![Self::FEDERATED.to_owned()];
        if let Some(said) = trusted {
            methods.push(Self::SEVERAL.to_owned());
            let known = said.iter().filter(|method| Self::TOLD.contains(&method.as_str()));
            methods.extend(known.cloned());
        }
        Self(methods)
    }

    /// By a code of a factor, too. E-mail has no name in RFC 8176, and goes by its own; a passkey has no
    /// code.
    #[must_use]
    pub fn and_code(mut self, of: FactorKind) -> Self {
        let method = match of {
            FactorKind::App => "otp",
            FactorKind::Email => "email",
            FactorKind::Sms => "sms",
            FactorKind::Passkey => return self,
        };
        self.0.extend([method, Self::SEVERAL].map(str::to_owned));
        self
    }

    /// By the key of an authenticator that has its owner prove who they are: one that is bound to a
    /// device, or one that is copied between devices.
    #[must_use]
    pub fn and_key(mut self, bound: bool) -> Self {
        let key = if bound { "hwk" } else { "swk" };
        self.0.extend([key, "user", Self::SEVERAL].map(str::to_owned));
        self
    }

    /// As it was kept: parted by spaces.
    pub fn read(text: &str) -> Self {
        Self(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    /// `amr`.
    pub fn list(&self) -> &[String] {
        &self.0
    }

    /// Whether more than one factor was shown.
    pub fn several(&self) -> bool {
        self.0.iter().any(|method| method == Self::SEVERAL)
    }

    /// `acr`: how sure that is, in the words of NIST SP 800-63B. E-mail is no factor there.
    pub fn acr(&self) -> &'static str {
        let sure =
            self.0.iter().any(|method| matches!(method.as_str(), "otp" | "sms" | "hwk" | "swk"));
        // A provider that is trusted says so itself; what is shown here comes behind its own name.
        let told = self.0.starts_with(&[Self::FEDERATED.to_owned(), Self::SEVERAL.to_owned()]);
        if told || sure && self.several() { "aal2" } else { "aal1" }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    /// The application it was made through.
    pub app: AppId,
    /// When the person proved who they are; seconds since the epoch.
    pub auth_time: u64,
    /// How; nothing that comes later raises it.
    pub methods: Methods,
    /// Whether a device that was remembered stood in for the second factor.
    pub remembered: bool,
    /// What was granted at `/oauth2`; `None` for one of the Auth API, which knows no less than
    /// everything.
    pub grant: Option<Grant>,
    /// The sign-in of a browser that it was made by.
    pub browser: Option<SessionId>,
}

/// A refresh token as the database knows it: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// The token's `jti`.
    pub id: String,
    pub session: SessionId,
    pub issued_at: u64,
    pub expires_at: u64,
    pub consumed_at: Option<u64>,
    /// The token that was given for it.
    pub successor: Option<String>,
}

/// A sign-in that has ended, and whose application is yet to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub org: OrgId,
    /// The sign-in, which may be gone.
    pub session: String,
    /// Whose it was, who may be gone.
    pub user: String,
    pub client_id: String,
    /// What its tokens are signed with, where it says.
    pub algorithm: Option<Algorithm>,
    /// Where the application is told.
    pub to: String,
    /// How often it was tried.
    pub tries: u64,
}
