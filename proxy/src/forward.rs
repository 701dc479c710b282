//! Permit → what the upstream sees: identity headers in, forged ones out.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use policy::model::caller::Principal;

use crate::{assertion::Signer, authenticate::Bearer, authorize::Permit, config::Names, peer};

/// The headers that tell a product who asks. A client's own are removed, on every route.
pub const SUBJECT: &str = "x-postern-subject";
/// `user` or `application`.
pub const KIND: &str = "x-postern-type";
/// The organization.
pub const ORGANIZATION: &str = "x-postern-organization";
/// The user name, or the application's id.
pub const NAME: &str = "x-postern-name";
/// A person's groups, separated by commas.
pub const GROUPS: &str = "x-postern-groups";
/// The client that the token was issued to.
pub const CLIENT: &str = "x-postern-client";
/// The name of the decision, on requests that pass and on every answer.
pub const DECISION: &str = "x-postern-decision-id";
/// The name of the request, ours or the caller's.
pub const REQUEST: &str = "x-request-id";

/// A signed statement of who asks.
pub const ASSERTION: &str = "x-postern-assertion";

/// All that a permit may set.
pub const IDENTITY: [&str; 8] =
    [SUBJECT, KIND, ORGANIZATION, NAME, GROUPS, CLIENT, DECISION, ASSERTION];

/// Proxies hold an answer's headers in a buffer of 4 or 8 KiB; a list that would not fit is left
/// out, and the product asks for it.
const MOST_GROUP_BYTES: usize = 2 * 1024;

/// Headers by which some frameworks replace the method or the target that was decided on.
pub const OVERRIDES: [&str; 4] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-rewrite-url"];

/// Headers that are the same in every request of a bearer.
pub type Told = Vec<(HeaderName, HeaderValue)>;

/// The headers that say who asks: which are set, and which a client may not send.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The sets of names that are set.
    names: Vec<Names>,
    /// The names beside ours that a client may not send, folded.
    others: Vec<String>,
    /// Who signs assertions.
    signer: Option<Arc<Signer>>,
}

impl Identity {
    /// In these sets of names; a client may send none of them, and none of the others.
    pub fn new(names: &[Names], others: &[String]) -> Self {
        let mut others: Vec<String> =
            others.iter().map(|name| peer::folded(name).into_owned()).collect();
        others.extend(names.iter().flat_map(|set| set.all()).map(|name| (*name).to_owned()));
        others.retain(|name| !IDENTITY.contains(&name.as_str()));
        others.sort_unstable();
        others.dedup();
        Self { names: names.to_vec(), others, signer: None }
    }

    /// The same, with assertions for the products that ask for them.
    #[must_use]
    pub fn signed_by(self, signer: Option<Arc<Signer>>) -> Self {
        Self { signer, ..self }
    }

    /// By what assertions are verified, where there are any.
    pub fn assertion_keys(&self) -> Option<&serde_json::Value> {
        self.signer.as_deref().map(Signer::jwks)
    }

    /// The identity headers of a permit.
    pub fn of(&self, permit: &Permit) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(9);
        self.set(permit, permit.id().header(), &mut headers);
        headers
    }

    /// Set the identity headers of a permit, whose name is `id` as a header's value.
    pub fn set(&self, permit: &Permit, id: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static(DECISION), id);
        let Some(bearer) = permit.bearer() else { return };
        let product = &permit.target().product;
        if product.assertion
            && let Some(signer) = &self.signer
            && let Some(value) = signer.of(bearer, &product.name)
        {
            headers.insert(HeaderName::from_static(ASSERTION), value);
        }
        for (name, value) in bearer.held.told(|| self.told(bearer)) {
            headers.insert(name, value.clone());
        }
    }

    /// What is told of a bearer. A value that is no header text is left out: a name from elsewhere
    /// cannot break the message.
    fn told(&self, bearer: &Bearer) -> Told {
        let mut told = Told::new();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                told.push((HeaderName::from_static(name), value));
            }
        };
        let principal = &bearer.subject().principal;
        let name = bearer.caller.name.as_deref();
        let groups = groups(bearer);
        for names in &self.names {
            match names {
                Names::Postern => {
                    set(SUBJECT, principal.id());
                    set(ORGANIZATION, principal.org().as_str());
                    set(KIND, if principal.is_user() { "user" } else { "application" });
                    name.inspect(|name| set(NAME, name));
                    bearer.caller.client_id.as_deref().inspect(|client| set(CLIENT, client));
                    groups.as_deref().inspect(|groups| set(GROUPS, groups));
                }
                Names::AuthRequest => {
                    set("x-auth-request-user", principal.id());
                    name.inspect(|name| set("x-auth-request-preferred-username", name));
                    groups.as_deref().inspect(|groups| set("x-auth-request-groups", groups));
                }
                Names::Remote => {
                    set("remote-user", name.unwrap_or(principal.id()));
                    groups.as_deref().inspect(|groups| set("remote-groups", groups));
                }
            }
        }
        told
    }

    /// Every name that is known, whether it is set or only a client's to leave alone.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        IDENTITY.iter().copied().chain(self.others.iter().map(String::as_str))
    }

    /// The names to remove from a client's request: identity headers in every spelling, method
    /// overrides, whatever `Connection` nominates (RFC 9110, section 7.6.1), and forwarded headers
    /// unless a trusted proxy sent them.
    pub fn forged(&self, headers: &HeaderMap, trusted: bool) -> Vec<HeaderName> {
        let nominated: Vec<String> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !matches!(name.as_str(), "upgrade" | "te" | "trailer"))
            .collect();
        headers
            .keys()
            .filter(|name| {
                let folded = peer::folded(name.as_str());
                self.is_identity(&folded)
                    || OVERRIDES.contains(&folded.as_ref())
                    || nominated.iter().any(|nominated| nominated == name.as_str())
                    || peer::is_forwarded(&folded) && (!trusted || folded != name.as_str())
            })
            .cloned()
            .collect()
    }

    /// Whether a header says who asks.
    pub fn is_identity(&self, folded: &str) -> bool {
        folded.starts_with("x-postern-") || self.others.iter().any(|name| name == folded)
    }
}

/// A person's groups, if the list is not too long.
fn groups(bearer: &Bearer) -> Option<String> {
    let Principal::User { .. } = bearer.subject().principal else { return None };
    let groups: Vec<&str> =
        bearer.subject().groups.iter().map(policy::model::name::GroupName::as_str).collect();
    Some(groups.join(",")).filter(|groups| groups.len() <= MOST_GROUP_BYTES)
}

impl Names {
    /// All headers of the set that some product reads an identity from.
    fn all(self) -> &'static [&'static str] {
        match self {
            Self::Postern => &IDENTITY,
            Self::AuthRequest => &[
                "x-auth-request-user",
                "x-auth-request-preferred-username",
                "x-auth-request-groups",
                "x-auth-request-email",
                "x-auth-request-access-token",
            ],
            Self::Remote => &["remote-user", "remote-groups", "remote-name", "remote-email"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(pairs: &[(&str, &str)], trusted: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let identity = Identity::new(&[Names::Remote], &["X-Auth-User".to_owned()]);
        let mut names: Vec<String> =
            identity.forged(&headers, trusted).iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn h_a_client_cannot_say_who_it_is() {
        for name in [
            "X-Postern-Subject",
            "x-postern-anything",
            "X_Postern_Subject",
            "x-postern_subject",
            "X.Postern.Subject",
            "X!Postern~Subject",
            "X-Rewrite-URL",
            "X.HTTP.Method.Override",
            "X-Auth-User",
            "X_AUTH_USER",
            "Remote-User",
            "Remote_Email",
            "X-HTTP-Method-Override",
            "X_HTTP_Method_Override",
        ] {
            assert_eq!(removed(&[(name, "x")], true), [name.to_ascii_lowercase()], "{name}");
        }
        assert!(
            removed(&[("authorization", "x"), ("cookie", "x"), ("accept", "x")], false).is_empty()
        );
    }

    #[test]
    fn h_forwarded_headers_are_a_trusted_proxys() {
        for name in ["forwarded", "x-forwarded-for", "x-original-url", "x-real-ip", "x-forwarded-x"]
        {
            assert!(removed(&[(name, "x")], true).is_empty(), "{name}");
            assert_eq!(removed(&[(name, "x")], false), [name], "{name}");
        }
        assert_eq!(removed(&[("x_forwarded_for", "x")], true), ["x_forwarded_for"]);
    }

    #[test]
    fn h_what_connection_nominates_goes_no_further() {
        let pairs = [("connection", "close, X-Secret"), ("x-secret", "x"), ("x-other", "x")];
        assert_eq!(removed(&pairs, true), ["x-secret"]);
    }
}
