//! Rules of what an application registers as a client: how it may ask for tokens, and where people
//! may be sent.

use http::Uri;

use crate::{
    config::Config,
    error::Error,
    model::app::{GrantType, Registration},
};

/// The most addresses of one kind.
const MOST: usize = 20;
/// The most bytes of an address.
const LONGEST: usize = 1024;

/// What is to be registered; what is `None` stays as it is.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    pub grant_types: Option<Vec<String>>,
    pub redirect_uris: Option<Vec<String>>,
    pub post_logout_redirect_uris: Option<Vec<String>>,
    pub audiences: Option<Vec<String>>,
    /// An empty one takes away the one there is.
    pub backchannel_logout_uri: Option<String>,
    pub backchannel_logout_session_required: Option<bool>,
    pub public: Option<bool>,
    /// In seconds; 0 for the installation's.
    pub access_token_secs: Option<u64>,
    pub refresh_token_secs: Option<u64>,
}

impl Asked {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.grant_types.is_none()
            && self.redirect_uris.is_none()
            && self.post_logout_redirect_uris.is_none()
            && self.audiences.is_none()
            && self.backchannel_logout_uri.is_none()
            && self.backchannel_logout_session_required.is_none()
            && self.public.is_none()
            && self.access_token_secs.is_none()
            && self.refresh_token_secs.is_none()
    }

    /// The registration once this is done.
    ///
    /// # Errors
    ///
    /// The field that may not be so.
    pub fn onto(
        self,
        mut registration: Registration,
        bounds: &Config,
    ) -> Result<Registration, Error> {
        for (field, asked, held, most) in [
            (
                "accessTokenSecs",
                self.access_token_secs,
                &mut registration.access_token_secs,
                bounds.longest_access_secs(),
            ),
            (
                "refreshTokenSecs",
                self.refresh_token_secs,
                &mut registration.refresh_token_secs,
                bounds.longest_refresh_secs(),
            ),
        ] {
            let Some(asked) = asked else { continue };
            if asked > most {
                return Err(Error::rule(field, format!("this installation allows at most {most}")));
            }
            *held = Some(asked).filter(|secs| *secs > 0);
        }
        if let Some(names) = self.grant_types {
            registration.grant_types = grant_types(&names)?;
        }
        for (field, asked, held, check) in [
            (
                "redirectUris",
                self.redirect_uris,
                &mut registration.redirect_uris,
                redirect_uri as fn(&str) -> Result<(), &'static str>,
            ),
            (
                "postLogoutRedirectUris",
                self.post_logout_redirect_uris,
                &mut registration.post_logout_redirect_uris,
                redirect_uri,
            ),
            ("audiences", self.audiences, &mut registration.audiences, audience),
        ] {
            let Some(asked) = asked else { continue };
            if asked.len() > MOST {
                return Err(Error::rule(field, format!("there are at most {MOST}")));
            }
            for text in &asked {
                check(text).map_err(|rule| Error::rule(field, rule))?;
            }
            *held = asked;
        }
        if let Some(to) = self.backchannel_logout_uri {
            if !to.is_empty() {
                logout_uri(&to).map_err(|rule| Error::rule("backchannelLogoutUri", rule))?;
            }
            registration.backchannel_logout_uri = Some(to).filter(|to| !to.is_empty());
        }
        if let Some(required) = self.backchannel_logout_session_required {
            registration.backchannel_logout_session_required = required;
        }
        registration.public = self.public.unwrap_or(registration.public);
        let may = |grant| registration.grant_types.contains(&grant);
        if registration.public && (may(GrantType::ClientCredentials) || may(GrantType::Password)) {
            let rule = "a public application keeps no secret, and may only use \
                        `authorization_code` and `refresh_token`";
            return Err(Error::rule("grantTypes", rule));
        }
        if may(GrantType::AuthorizationCode) && registration.redirect_uris.is_empty() {
            return Err(Error::rule("redirectUris", "`authorization_code` needs at least one"));
        }
        Ok(registration)
    }
}

fn grant_types(names: &[String]) -> Result<Vec<GrantType>, Error> {
    let known = || {
        let names: Vec<_> = GrantType::ALL.iter().map(|grant| grant.as_str()).collect();
        Error::rule("grantTypes", format!("there are `{}`", names.join("`, `")))
    };
    let grants: Option<Vec<_>> = names.iter().map(|name| GrantType::named(name)).collect();
    let grants = grants.filter(|grants| !grants.is_empty()).ok_or_else(known)?;
    Ok(GrantType::ALL.into_iter().filter(|grant| grants.contains(grant)).collect())
}

/// Characters that stand for themselves in an address, in a header and in a list of addresses.
fn plain(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#;,'".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(good)
}

/// An address to send people to (RFC 9700, section 2.1; RFC 8252, section 7).
fn redirect_uri(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "an address is absolute, without `#`, user name or characters that have to be \
                        escaped; it is `https`, `http` on this machine alone, or of a scheme of the \
                        application's own that has a `.`";
    let (scheme, rest) = text.split_once(':').ok_or(RULE)?;
    if !plain(text) || rest.len() < 2 || !rest.starts_with('/') {
        return Err(RULE);
    }
    if !matches!(scheme, "http" | "https") {
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        let own = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(good)
            && scheme.contains('.');
        return if own { Ok(()) } else { Err(RULE) };
    }
    let uri: Uri = text.parse().map_err(|_| RULE)?;
    let authority = uri.authority().ok_or(RULE)?;
    let local = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
    let fine = !authority.as_str().contains('@')
        && !authority.host().is_empty()
        && (scheme == "https" || local);
    if fine { Ok(()) } else { Err(RULE) }
}

/// An address that this service calls (OpenID Connect Back-Channel Logout 1.0, section 2.2).
fn logout_uri(text: &str) -> Result<(), &'static str> {
    if text.starts_with("http") && redirect_uri(text).is_ok() {
        return Ok(());
    }
    Err("it is an absolute `https` address, or `http` on this machine, without `#`, user name or \
         characters that have to be escaped")
}

/// The name of a resource (RFC 8707, section 2).
fn audience(text: &str) -> Result<(), &'static str> {
    let scheme = text.split_once(':').map(|(scheme, rest)| (scheme, !rest.is_empty()));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let absolute = scheme.is_some_and(|(scheme, rest)| {
        rest && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(good)
    });
    if absolute && plain(text) {
        return Ok(());
    }
    Err("an audience is an absolute URI without `#`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_sent_to_addresses_that_mean_one_thing() {
        for good in [
            "https://app.example.com/callback",
            "https://app.example.com/",
            "https://app.example.com:8443/cb?tenant=1&x=%20",
            "http://localhost:3000/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:1/cb",
            "com.example.app:/cb",
            "com.example.app://cb/x",
        ] {
            assert_eq!(redirect_uri(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/cb",
            "//app.example.com/cb",
            "https:/cb",
            "https:///cb",
            "https://",
            "http://app.example.com/cb",
            "http://localhost.example.com/cb",
            "http://localhost@evil.example/cb",
            "https://a@b/cb",
            "https://a/cb#x",
            "https://a/c b",
            "https://a/cb\r\nset-cookie: x",
            "https://a/\u{e4}",
            "https://a\\b/",
            "https://*/cb;script-src 'unsafe-inline'",
            "javascript:alert(1)",
            "javascript://a/%0aalert(1)",
            "data:text/html,x",
            "HTTPS://a/cb",
            "app:/cb",
            "a.b:",
        ] {
            assert!(redirect_uri(bad).is_err(), "{bad}");
        }
        assert!(redirect_uri(&format!("https://a/{}", "x".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_resource_is_an_absolute_uri() {
        for good in ["https://api.example.com/v1", "urn:acme:ledger"] {
            assert_eq!(audience(good), Ok(()), "{good}");
        }
        for bad in ["", "postern", "a:", ":a", "https://a b", "https://a#b", "1a:b"] {
            assert!(audience(bad).is_err(), "{bad}");
        }
    }
}
