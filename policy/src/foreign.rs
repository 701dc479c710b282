//! Tokens of somebody else's issuer: what they must say, and who is meant by it.
//!
//! An OpenID provider names people, organizations and groups in its own way. [`Rules`] say where in
//! its claims they stand and what they mean here. Nothing is taken that they do not name: without a
//! listed organization a token speaks for nobody, and a group that is not mapped is nobody's.
//!
//! A principal's id begins with the issuer's short name and a colon, `keycloak:6f0c…`. Our own ids
//! have no colon and short names neither, so two issuers never mean the same principal.

mod meaning;
mod path;

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use self::meaning::says;
pub use self::{
    meaning::{Machine, Names, Organizations, When},
    path::Path,
};
use crate::{
    model::{
        caller::{Authentication, Caller, Principal, Subject},
        name::{GroupName, RoleName},
    },
    strict,
    token::{Header, Keys, Parts, TokenError},
};

/// What tokens of one issuer must say, and what is made of it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The short name, before the id of each of its principals.
    pub name: Arc<str>,
    /// `iss`, compared exactly.
    pub issuer: Arc<str>,
    /// One of these must be among `aud`.
    pub audiences: Vec<String>,
    /// What `typ` in the header may be, in lower case and without `application/`.
    pub types: Vec<String>,
    /// Claims that must be there and, where texts are named, say one of them.
    pub require: Vec<(Path, Vec<String>)>,
    /// How far clocks may disagree, in seconds.
    pub skew: u64,
    pub organizations: Organizations,
    /// The subject's id.
    pub subject: Path,
    /// The bearer's name, as products are told it. A product that knows people by name takes it for
    /// one of its own, so nothing is told unless somebody says where it stands.
    pub display: Option<Path>,
    /// `None`: every bearer is a person.
    pub machine: Option<Machine>,
    /// A person's groups.
    pub groups: Names,
    /// A machine's roles.
    pub roles: Names,
}

/// A signed token, read and not believed.
pub struct Unverified<'a> {
    parts: Parts<'a>,
    claims: Map<String, Value>,
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("header", &self.parts.header).finish_non_exhaustive()
    }
}

/// Whether a token has the form of a signed JWT, so that its issuer need not be asked what it is.
pub fn is_jwt(token: &str) -> bool {
    token.starts_with("ey") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Unverified<'a> {
    /// Read a token.
    ///
    /// # Errors
    ///
    /// When it is too large, no signed JWT, or has a claim twice.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        let parts = Parts::of(token)?;
        let claims = strict::from_slice(&parts.payload).map_err(|_| TokenError::Claims)?;
        Ok(Self { parts, claims })
    }

    /// Whose token it says it is: good for finding the keys that say whether it is.
    pub fn issuer(&self) -> Option<&str> {
        text(&self.claims, "iss")
    }

    /// What it says, for whoever has it from the issuer's own hand.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

impl Rules {
    /// The bearer of a token, once everything about it holds. `now` is in seconds since the epoch.
    ///
    /// # Errors
    ///
    /// The first thing that does not hold.
    pub fn verify(
        &self,
        token: &Unverified<'_>,
        keys: &Keys,
        now: u64,
    ) -> Result<Caller, TokenError> {
        let Unverified { parts, claims } = token;
        if token.issuer() != Some(&*self.issuer) {
            return Err(TokenError::Issuer);
        }
        let expires_at = number(claims, "exp")?.ok_or(TokenError::Claims)?;
        let issued_at = number(claims, "iat")?.ok_or(TokenError::Claims)?;
        let not_before = number(claims, "nbf")?.unwrap_or(0).max(issued_at);
        self.in_time(not_before, Some(expires_at), now)?;
        self.check_type(&parts.header, claims)?;
        if !self.is_for_us(claims) {
            return Err(TokenError::Audience);
        }
        self.check_required(claims)?;
        let key = keys.of(&parts.header)?;
        if !key.signed(parts) {
            return Err(TokenError::Signature);
        }
        self.caller(claims, not_before, expires_at)
    }

    /// The bearer of a token of which its issuer was asked (RFC 7662, section 2.2). It counts until
    /// `until` at the latest, and `without_audience` says whether the answer may name nobody whom the
    /// token is for.
    ///
    /// # Errors
    ///
    /// When it is not active, or the first thing of it that does not hold.
    pub fn introspected(
        &self,
        answer: &Map<String, Value>,
        without_audience: bool,
        now: u64,
        until: u64,
    ) -> Result<Caller, TokenError> {
        if answer.get("active") != Some(&Value::Bool(true)) {
            return Err(TokenError::Inactive);
        }
        if answer.contains_key("iss") && text(answer, "iss") != Some(&*self.issuer) {
            return Err(TokenError::Issuer);
        }
        let expires_at = number(answer, "exp")?;
        let issued_at = number(answer, "iat")?.unwrap_or(0);
        let not_before = number(answer, "nbf")?.unwrap_or(0).max(issued_at);
        self.in_time(not_before, expires_at, now)?;
        // Some answer for refresh tokens, too, and say the same of them but for this.
        let kind = answer.get("token_type").map(|kind| kind.as_str().unwrap_or_default());
        let fits = match kind {
            Some(kind) => kind.eq_ignore_ascii_case("bearer"),
            None => !self.require.is_empty(),
        };
        if !fits {
            return Err(TokenError::Kind);
        }
        if !(self.is_for_us(answer) || without_audience && !answer.contains_key("aud")) {
            return Err(TokenError::Audience);
        }
        self.check_required(answer)?;
        self.caller(answer, not_before, expires_at.unwrap_or(until).min(until))
    }

    /// Whether an ID token is this issuer's and in its time (OpenID Connect Core, section 2). Whom it is
    /// for, and of which sign-in, its reader knows.
    ///
    /// # Errors
    ///
    /// The first thing that does not hold.
    pub fn check_id(&self, claims: &Map<String, Value>, now: u64) -> Result<(), TokenError> {
        if text(claims, "iss") != Some(&*self.issuer) {
            return Err(TokenError::Issuer);
        }
        let until = number(claims, "exp")?.ok_or(TokenError::Claims)?;
        let from = number(claims, "iat")?.ok_or(TokenError::Claims)?;
        self.in_time(from, Some(until), now)
    }

    /// An id of the issuer's, told apart from everybody else's.
    fn ours(&self, id: &str) -> String {
        format!("{}:{id}", self.name)
    }

    fn in_time(&self, from: u64, until: Option<u64>, now: u64) -> Result<(), TokenError> {
        if until.is_some_and(|until| until.saturating_add(self.skew) <= now) {
            return Err(TokenError::Expired);
        }
        if from > now.saturating_add(self.skew) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }

    /// An access token, and none of the others that the same key signs. Where the header does not say
    /// so, what id tokens and log-out tokens alone have gives them away (OpenID Connect Core, section
    /// 3.1.3.6; Back-Channel Logout, section 2.4), and the configuration requires a claim that tells.
    fn check_type(&self, header: &Header, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        if !self.types.iter().any(|known| known == typ) {
            return Err(TokenError::Kind);
        }
        let others = ["nonce", "at_hash", "c_hash", "s_hash", "events"];
        if typ != "at+jwt" && others.iter().any(|other| claims.contains_key(*other)) {
            return Err(TokenError::Kind);
        }
        Ok(())
    }

    fn is_for_us(&self, claims: &Map<String, Value>) -> bool {
        claims.get("aud").is_some_and(|said| says(said, &self.audiences))
    }

    fn check_required(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let fits = |(path, texts): &(Path, Vec<String>)| {
            path.of(claims).is_some_and(|value| texts.is_empty() || says(value, texts))
        };
        if self.require.iter().all(fits) { Ok(()) } else { Err(TokenError::Kind) }
    }

    fn caller(
        &self,
        claims: &Map<String, Value>,
        not_before: u64,
        expires_at: u64,
    ) -> Result<Caller, TokenError> {
        let org = self.organizations.of(claims).ok_or(TokenError::Organization)?.clone();
        let machine = self
            .machine
            .as_ref()
            .filter(|machine| machine.when.holds(machine.claim.of(claims), claims));
        let subject = machine.and_then(|machine| machine.subject.as_ref()).unwrap_or(&self.subject);
        let subject = subject.of(claims).and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() {
            return Err(TokenError::Claims);
        }
        // Bound to a key that its bearer must show (RFC 7800), which nobody here asks to see.
        if claims.contains_key("cnf") {
            return Err(TokenError::Kind);
        }
        let id = self.ours(subject);
        let none = || -> Arc<[GroupName]> { [].into() };
        let (principal, groups, roles): (_, _, Arc<[RoleName]>) = if machine.is_some() {
            let id = id.parse().map_err(|_| TokenError::Claims)?;
            (Principal::Application { org, id }, none(), self.roles.of(claims))
        } else {
            let id = id.parse().map_err(|_| TokenError::Claims)?;
            (Principal::User { org, id }, self.groups.of(claims), [].into())
        };
        let amr = claims.get("amr").and_then(Value::as_array).map(Vec::as_slice);
        let amr = amr.unwrap_or_default().iter().filter_map(Value::as_str);
        Ok(Caller {
            subject: Subject { principal, groups, roles },
            authentication: Authentication {
                acr: text(claims, "acr").map(str::to_owned),
                amr: amr.map(str::to_owned).collect(),
                auth_time: number(claims, "auth_time")?,
            },
            issuer: Arc::clone(&self.issuer),
            client_id: text(claims, "azp").or(text(claims, "client_id")).map(|id| self.ours(id)),
            name: self
                .display
                .as_ref()
                .and_then(|path| path.of(claims).and_then(Value::as_str))
                .map(str::to_owned),
            // Sessions are ended by name, and other issuers' names are not ours.
            session: None,
            token_id: text(claims, "jti").map(|id| self.ours(id)),
            not_before,
            expires_at,
        })
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A time in whole seconds. Some issuers write fractions; what is before the point counts.
fn number(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => Ok(Some(whole)),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range")]
        (None, Some(seconds)) if (0.0..9e15).contains(&seconds) => Ok(Some(seconds as u64)),
        _ => Err(TokenError::Claims),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::{meaning::MOST_NAMES, *};

    const NOW: u64 = 1_800_000_000;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn rules() -> Rules {
        Rules {
            name: "sso".into(),
            issuer: "https://sso.example".into(),
            audiences: vec!["postern".to_owned(), "other".to_owned()],
            types: vec!["at+jwt".to_owned()],
            require: Vec::new(),
            skew: 10,
            organizations: Organizations::Pinned("acme".parse().unwrap()),
            subject: path("sub"),
            display: None,
            machine: None,
            groups: Names {
                from: vec![path("realm_access.roles"), path("/a.b~1c")],
                map: HashMap::from([("/staff".to_owned(), vec!["g1".to_owned(), "g2".to_owned()])]),
                others: None,
            },
            roles: Names {
                from: vec![path("role")],
                map: HashMap::new(),
                others: Some("x-".to_owned()),
            },
        }
    }

    fn read(rules: &Rules, more: &Value) -> Result<Caller, TokenError> {
        let mut claims = json!({
            "active": true, "token_type": "Bearer", "sub": "ana", "aud": "postern", "exp": NOW + 60,
        });
        let claims = claims.as_object_mut().unwrap();
        claims.extend(more.as_object().unwrap().clone());
        claims.retain(|_, value| !value.is_null());
        rules.introspected(claims, false, NOW, NOW + 300)
    }

    #[test]
    fn groups_are_found_by_path_and_only_those_that_are_mapped() {
        for (claims, expected) in [
            (json!({}), vec![]),
            (json!({"realm_access": {"roles": ["/staff", "/staff", "admin"]}}), vec!["g1", "g2"]),
            (json!({"realm_access": {"roles": "/staff"}}), vec!["g1", "g2"]),
            (json!({"realm_access": {"roles": {"/staff": true}}}), vec![]),
            (json!({"realm_access": ["/staff"]}), vec![]),
            (json!({"a.b/c": ["/staff", 7, null]}), vec!["g1", "g2"]),
            (json!({"groups": ["/staff"], "roles": ["/staff"]}), vec![]),
        ] {
            let caller = read(&rules(), &claims).unwrap();
            let groups: Vec<&str> = caller.subject.groups.iter().map(AsRef::as_ref).collect();
            assert_eq!(groups, expected, "{claims}");
        }
        let many: Vec<String> = (0..10_000).map(|n| format!("r{n}")).collect();
        let machine = Some(Machine { claim: path("gty"), when: When::Present, subject: None });
        let caller = read(&Rules { machine, ..rules() }, &json!({"gty": 1, "role": many})).unwrap();
        assert_eq!(caller.subject.roles.len(), MOST_NAMES);
        assert_eq!(caller.subject.roles[0].as_str(), "x-r0");
    }

    #[test]
    fn a_machine_is_told_by_its_claim_and_is_never_the_person_of_that_id() {
        let same = || When::SameAs(path("client_id"));
        for (when, claim, is) in [
            (When::Present, json!("x"), true),
            (When::Present, json!(null), false),
            (When::Is(vec!["app".to_owned()]), json!("app"), true),
            (When::Is(vec!["app".to_owned()]), json!(["user", "app"]), true),
            (When::Is(vec!["app".to_owned()]), json!("application"), false),
            (When::Begins("service-".to_owned()), json!("service-batch"), true),
            (When::Begins("service-".to_owned()), json!("a-service-"), false),
            (same(), json!("c1"), true),
            (same(), json!("c2"), false),
        ] {
            let told = format!("{when:?} {claim}");
            let subject = Some(path("client_id"));
            let machine = Some(Machine { claim: path("kind"), when, subject });
            let claims = json!({"kind": claim, "client_id": "c1"});
            let caller = read(&Rules { machine, ..rules() }, &claims).unwrap();
            let expected = if is { "application:acme/sso:c1" } else { "user:acme/sso:ana" };
            assert_eq!(caller.subject.principal.to_string(), expected, "{told}");
        }
        // Absent on both sides is not the same.
        let machine = Some(Machine { claim: path("kind"), when: same(), subject: None });
        assert!(
            read(&Rules { machine, ..rules() }, &json!({})).unwrap().subject.principal.is_user()
        );
    }

    #[test]
    fn an_answer_counts_no_longer_than_the_token_and_the_answer() {
        let until = |claims: &Value| read(&rules(), claims).map(|caller| caller.expires_at);
        assert_eq!(until(&json!({})), Ok(NOW + 60));
        assert_eq!(until(&json!({"exp": null})), Ok(NOW + 300));
        assert_eq!(until(&json!({"exp": NOW + 9_000})), Ok(NOW + 300));
        assert_eq!(until(&json!({"exp": 1_800_000_060.9})), Ok(NOW + 60));
        for (claims, expected) in [
            (json!({"exp": "soon"}), TokenError::Claims),
            (json!({"exp": -1}), TokenError::Claims),
            (json!({"exp": NOW - 10}), TokenError::Expired),
            (json!({"iat": NOW + 11}), TokenError::NotYet),
            (json!({"active": "true"}), TokenError::Inactive),
            (json!({"active": null}), TokenError::Inactive),
            (json!({"aud": ["a", "b"]}), TokenError::Audience),
            (json!({"aud": null}), TokenError::Audience),
            (json!({"aud": {"postern": true}}), TokenError::Audience),
            (json!({"iss": "https://sso.example/"}), TokenError::Issuer),
            (json!({"iss": 7}), TokenError::Issuer),
            (json!({"token_type": 7}), TokenError::Kind),
            (json!({"cnf": {"jkt": "x"}}), TokenError::Kind),
            (json!({"sub": 7}), TokenError::Claims),
        ] {
            assert_eq!(until(&claims), Err(expected), "{claims}");
        }
        assert_eq!(
            until(&json!({"aud": ["a", "other"], "iss": "https://sso.example"})),
            Ok(NOW + 60)
        );
    }

    #[test]
    fn what_two_issuers_call_the_same_is_not_the_same_here() {
        let claims = json!({"jti": "j", "azp": "c", "sid": "s", "preferred_username": "admin"});
        let one = read(&rules(), &claims).unwrap();
        let other = read(&Rules { name: "idp".into(), ..rules() }, &claims).unwrap();
        assert_ne!(one.subject.principal, other.subject.principal);
        assert_eq!(one.token_id.as_deref(), Some("sso:j"));
        assert_eq!(one.client_id.as_deref(), Some("sso:c"));
        assert_eq!((one.session, one.name), (None, None), "a name is told where it is asked for");
    }
}
