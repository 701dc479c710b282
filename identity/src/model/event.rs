//! What is recorded: administrative acts and sign-ins, each an [`Entry`] in its organization's chain.
//!
//! The canonical form of an entry is its JSON under RFC 8785: members in the order of their names, no
//! white space. Its hash is the SHA-256 of that form, in which `previous` is the hash of the entry
//! before it; of the first one, 64 zeros. So `hash` is what `sha256sum` says of the exported line
//! without its `hash`.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use policy::model::{
    caller::Principal,
    name::{AppId, GroupName, OrgId, RoleName, SessionId, UserId},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::clock::rfc3339;

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident = $name:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $event,)* }

        impl Event {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$event),*];

            /// Its name on the wire and in the database, which never changes.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$event => $name,)* }
            }
        }
    };
}

events! {
    /// The first start made it, with its administrator and default application.
    OrganizationCreated = "organization.created",

    SettingsChanged = "organization.settings-changed",

    UserCreated = "user.created",
    UserChanged = "user.changed",
    UserRemoved = "user.removed",
    /// Nobody signs in as them, for now.
    UserDisabled = "user.disabled",
    UserEnabled = "user.enabled",
    /// By the person.
    PasswordChanged = "user.password-changed",
    /// Whoever has a token of the person does not know the password.
    PasswordRefused = "user.password-refused",
    /// By an administrator.
    PasswordReset = "user.password-reset",
    /// A link to set another one was sent: because somebody asked for it on the sign-in page, or by an
    /// administrator.
    PasswordLinkSent = "user.password-link-sent",
    /// By such a link.
    PasswordRecovered = "user.password-recovered",
    /// A letter could not be sent while it was good.
    LetterUnsent = "letter.unsent",

    /// What is said of a person of another issuer, for the first time or anew.
    GuestChanged = "guest.changed",
    GuestRemoved = "guest.removed",

    FactorEnabled = "second-factor.enabled",
    FactorsDisabled = "second-factor.disabled",
    /// By an administrator.
    FactorsReset = "second-factor.reset",
    /// A second factor was wrong.
    FactorFailed = "second-factor.failed",
    /// A passkey was refused: it counts its signatures as one with a copy would.
    PasskeyCloned = "second-factor.passkey-cloned",

    GroupCreated = "group.created",
    GroupChanged = "group.changed",
    GroupRemoved = "group.removed",

    RoleCreated = "role.created",
    RoleChanged = "role.changed",
    RoleRemoved = "role.removed",

    ProviderCreated = "provider.created",
    ProviderChanged = "provider.changed",
    ProviderRemoved = "provider.removed",
    /// An application uses it, in that way from now on.
    ProviderLinked = "application.provider-linked",
    /// It comes before the application's others.
    ProviderChosen = "application.provider-chosen",
    ProviderUnlinked = "application.provider-unlinked",

    /// A provider that people sign in through.
    IdentityProviderCreated = "identity-provider.created",
    IdentityProviderChanged = "identity-provider.changed",
    IdentityProviderRemoved = "identity-provider.removed",
    /// Somebody at a provider is a person here from now on.
    IdentityLinked = "user.identity-linked",
    IdentityUnlinked = "user.identity-unlinked",

    ApplicationCreated = "application.created",
    ApplicationChanged = "application.changed",
    ApplicationRemoved = "application.removed",
    /// A secret was read back.
    SecretRead = "application.secret-read",
    /// What it proves itself with: a secret or a public key.
    CredentialCreated = "application.credential-created",
    CredentialRotated = "application.credential-rotated",
    CredentialRetired = "application.credential-retired",
    CredentialRemoved = "application.credential-removed",
    /// What it may do.
    GrantsChanged = "application.grants-changed",
    /// A product published what it is.
    Declared = "product.declared",
    /// It came with a wrong secret.
    ClientRefused = "application.refused",
    /// It was given access tokens of its own.
    TokensIssued = "application.tokens-issued",
    /// Every token of its own that it had was revoked.
    TokensEnded = "application.tokens-ended",

    /// Somebody proved who they are.
    SignedIn = "sign-in.succeeded",
    SignInFailed = "sign-in.failed",
    /// Many accounts failed from one network: somebody may try one password on all of them.
    Sprayed = "sign-in.sprayed",
    /// Somebody who is signed in at our page went on to an application.
    SessionStarted = "session.started",
    /// A sign-in was ended, by whoever is the actor.
    SessionEnded = "session.ended",
    /// Every sign-in of a person, or through an application.
    AllSessionsEnded = "session.all-ended",
    /// An application was never told that a sign-in has ended, for it did not answer.
    LogoutUntold = "session.log-out-untold",
    /// A sign-in was ended because a refresh token of it was used twice.
    RefreshReused = "session.refresh-token-reused",
    /// A sign-in was ended because the code that it came from was used twice.
    CodeReused = "session.code-reused",
    /// A single access token was given up.
    TokenRevoked = "token.revoked",

    /// Of the keys that tokens are signed with.
    KeyPublished = "key.published",
    KeySigns = "key.signs",
    KeyRetired = "key.retired",
    /// The last token that it signed has run out.
    KeyForgotten = "key.forgotten",
    /// Whatever it signed is refused.
    KeyRevoked = "key.revoked",

    /// Another master key took over, and everything is sealed anew.
    ReEncrypted = "installation.re-encrypted",
    /// The master key from before opens nothing any more.
    MasterKeyLeft = "installation.master-key-left",
    /// Passwords are hashed with another pepper from now on.
    PepperRotated = "installation.pepper-rotated",
    /// Earlier peppers are gone, and the passwords that hung on them.
    PepperRetired = "installation.pepper-retired",
    /// A copy of the database was asked for.
    BackedUp = "installation.backed-up",
    /// A copy took the database's place.
    Restored = "installation.restored",

    /// A campaign in which it is reviewed who holds what.
    ReviewCreated = "review.created",
    /// Somebody decided about one of its items; what was taken away has an entry of its own.
    ReviewDecided = "review.decided",
    ReviewClosed = "review.closed",

    AuditExported = "audit.exported",
    /// The oldest entries were forgotten, as configured.
    AuditTrimmed = "audit.trimmed",
}

impl Event {
    /// The event of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    User(UserId),
    Application(AppId),
    /// Whoever runs the installation: a first start, or the command line.
    Operator,
    /// The service itself, by a rule that nobody was asked about.
    System,
    /// It is not known who.
    Nobody,
}

impl Actor {
    /// Its kind and its id, which for a kind of which there is one is the kind again.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::User(id) => ("user", id.as_str()),
            Self::Application(id) => ("application", id.as_str()),
            Self::Operator => ("operator", "operator"),
            Self::System => ("system", "system"),
            Self::Nobody => ("nobody", "nobody"),
        }
    }
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        match principal {
            Principal::User { id, .. } => Self::User(id.clone()),
            Principal::Application { id, .. } => Self::Application(id.clone()),
        }
    }
}

impl From<&UserId> for Actor {
    fn from(id: &UserId) -> Self {
        Self::User(id.clone())
    }
}

/// What was acted upon: what kind of thing, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: &'static str,
    pub id: String,
}

macro_rules! targets {
    ($($kind:literal: $name:ty,)*) => {
        $(impl From<&$name> for Target {
            fn from(id: &$name) -> Self {
                Self { kind: $kind, id: id.to_string() }
            }
        })*
    };
}

targets! {
    "organization": OrgId,
    "user": UserId,
    "group": GroupName,
    "role": RoleName,
    "application": AppId,
    "session": SessionId,
}

/// A kind of thing that has no type of its own here, and which of them.
impl From<(&'static str, &str)> for Target {
    fn from((kind, id): (&'static str, &str)) -> Self {
        Self { kind, id: id.to_owned() }
    }
}

/// How what was acted upon was, and how it is. Never with a secret.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Change {
    /// It was made.
    pub fn made(after: &impl Serialize) -> Self {
        Self { before: None, after: value(after) }
    }

    /// It was changed.
    pub fn between(before: &impl Serialize, after: &impl Serialize) -> Self {
        Self { before: value(before), after: value(after) }
    }

    /// It was removed.
    pub fn lost(before: &impl Serialize) -> Self {
        Self { before: value(before), after: None }
    }

    /// Nothing more is to be said than what happened.
    pub fn none() -> Self {
        Self::default()
    }
}

/// The nouns are plain data, which always is JSON. `None` is nothing.
fn value(noun: &impl Serialize) -> Option<Value> {
    serde_json::to_value(noun).ok().filter(|value| !value.is_null())
}

/// What is to be recorded; its place in the chain is found at the commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Seconds since the epoch.
    pub at: u64,
    pub event: Event,
    pub actor: Actor,
    pub target: Option<Target>,
    pub change: Change,
    pub request_id: Option<String>,
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub agent: Option<String>,
    /// How many times it happened.
    pub times: u64,
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    /// Seconds since the epoch.
    pub at: u64,
    pub event: String,
    /// Kind and id.
    pub actor: (String, String),
    /// Likewise.
    pub target: Option<(String, String)>,
    /// JSON in its canonical form.
    pub before: Option<String>,
    pub after: Option<String>,
    pub request_id: Option<String>,
    pub address: Option<String>,
    pub agent: Option<String>,
    pub times: u64,
    pub hash: Vec<u8>,
}

/// A SHA-256.
pub type Hash = [u8; 32];

impl Draft {
    /// The entry at that place.
    pub fn at_place(&self, org: &OrgId, sequence: u64, previous: &[u8]) -> Entry {
        let owned = |(kind, id): (&str, &str)| (kind.to_owned(), id.to_owned());
        let mut entry = Entry {
            sequence,
            at: self.at,
            event: self.event.as_str().to_owned(),
            actor: owned(self.actor.parts()),
            target: self.target.as_ref().map(|target| owned((target.kind, &target.id))),
            before: self.change.before.as_ref().map(canonical),
            after: self.change.after.as_ref().map(canonical),
            request_id: self.request_id.clone(),
            address: self.address.map(|address| address.to_string()),
            agent: self.agent.clone(),
            times: self.times,
            hash: Vec::new(),
        };
        entry.hash = entry.digest(org, previous).to_vec();
        entry
    }
}

impl Entry {
    /// What its hash has to be.
    pub fn digest(&self, org: &OrgId, previous: &[u8]) -> Hash {
        let text = canonical(&Value::Object(self.members(org, previous)));
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        hash
    }

    /// The members of its JSON, without the hash.
    fn members(&self, org: &OrgId, previous: &[u8]) -> Map<String, Value> {
        let thing = |(kind, id): &(String, String)| -> Value { json!({"type": kind, "id": id}) };
        // What is not JSON any more, because somebody altered it, is taken as the text that it is.
        let read = |text: &Option<String>| {
            text.as_ref().map(|text| {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
            })
        };
        let members = json!({
            "organization": org,
            "sequence": self.sequence,
            "at": rfc3339(self.at),
            "event": self.event,
            "actor": thing(&self.actor),
            "target": self.target.as_ref().map(thing),
            "before": read(&self.before),
            "after": read(&self.after),
            "requestId": self.request_id,
            "address": self.address,
            "agent": self.agent,
            "times": self.times,
            "previous": hex::encode(previous),
        });
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// The entry as it is told: its canonical form, and its hash with it.
    pub fn told(&self, org: &OrgId, previous: &[u8]) -> Value {
        let mut members = self.members(org, previous);
        members.insert("hash".to_owned(), hex::encode(&self.hash).into());
        Value::Object(members)
    }
}

/// JSON as RFC 8785 has it, for what is recorded: texts, whole numbers, and names in ASCII.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, to: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            to.push('{');
            for (n, name) in names.into_iter().enumerate() {
                if n > 0 {
                    to.push(',');
                }
                to.push_str(&Value::from(name.as_str()).to_string());
                to.push(':');
                write(&members[name], to);
            }
            to.push('}');
        }
        Value::Array(items) => {
            to.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    to.push(',');
                }
                write(item, to);
            }
            to.push(']');
        }
        plain => to.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_has_its_members_in_order_whatever_order_they_were_said_in() {
        let said = json!({"b": [1, {"z": null, "a": "\u{e4}\n\u{1}\""}], "a": true});
        let text = "{\"a\":true,\"b\":[1,{\"a\":\"\u{e4}\\n\\u0001\\\"\",\"z\":null}]}";
        assert_eq!(canonical(&said), text);
    }

    #[test]
    fn every_event_has_a_name_of_its_own() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.as_str()), Some(*event));
        }
        assert_eq!(Event::named("user"), None);
    }

    #[test]
    fn the_hash_covers_everything_that_the_entry_says() {
        let org: OrgId = "acme".parse().unwrap();
        let draft = Draft {
            at: 1_800_000_000,
            event: Event::GroupCreated,
            actor: Actor::Operator,
            target: Some(("group", "readers").into()),
            change: Change::made(&json!({"name": "R"})),
            request_id: Some("r".to_owned()),
            address: Some("::1".parse().unwrap()),
            agent: Some("curl".to_owned()),
            times: 1,
        };
        let entry = draft.at_place(&org, 1, &[0; 32]);
        let alter: [fn(&mut Entry); 13] = [
            |e| e.sequence = 2,
            |e| e.at += 1,
            |e| e.event.push('x'),
            |e| e.actor.0.push('x'),
            |e| e.actor.1.push('x'),
            |e| e.target = None,
            |e| e.before = Some("{}".to_owned()),
            |e| e.after = None,
            |e| e.after = Some("{\"name\":\"S\"}".to_owned()),
            |e| e.request_id = None,
            |e| e.address = None,
            |e| e.agent = None,
            |e| e.times = 2,
        ];
        for alter in alter {
            let mut altered = entry.clone();
            alter(&mut altered);
            assert_ne!(altered.digest(&org, &[0; 32]).as_slice(), entry.hash, "{altered:?}");
        }
        assert_ne!(entry.digest(&org, &[1; 32]).as_slice(), entry.hash);
        assert_ne!(entry.digest(&"other".parse().unwrap(), &[0; 32]).as_slice(), entry.hash);
        assert_eq!(entry.digest(&org, &[0; 32]).as_slice(), entry.hash);
    }
}
