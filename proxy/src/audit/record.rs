//! A line of the log → what the policies were asked, and what they answered.
//!
//! Reads what the module above writes, as one JSON object a line (`log.format = "json"`).

use std::{fmt::Display, net::IpAddr, str::FromStr, sync::Arc};

use percent_encoding::percent_decode_str;
use policy::model::caller::{Authentication, Subject};
use serde::Deserialize;
use serde_json::Value;

/// What a line is.
#[derive(Debug)]
pub enum Line {
    /// Of the log, but no decision; or of something else.
    Other,
    /// A decision that no policy had a part in: an open route, a token that does not hold.
    Unasked,
    /// Policies were asked.
    Asked(Box<Asked>),
    /// A plain Cedar store was asked.
    Stored(Box<Stored>),
    /// A decision that lacks what it takes to ask again, or has it in another form.
    Unreadable(String),
}

/// A question, with its answer.
#[derive(Debug)]
pub struct Asked {
    pub subject: Subject,
    pub authentication: Authentication,
    pub client: Option<IpAddr>,
    /// Seconds since the epoch.
    pub now: u64,
    pub parameters: Vec<(String, String)>,
    /// As logs name them.
    pub permissions: Vec<String>,
    /// Whether any of them is enough, as for a check that names no product.
    pub any: bool,
    /// What the policies said.
    pub allowed: bool,
    /// Those that settled it, with spaces between.
    pub policies: String,
}

/// A question to a plain Cedar store, in Cedar's terms, with its answer.
#[derive(Debug, Deserialize)]
pub struct Stored {
    /// Its name in the configuration.
    pub store: String,
    pub principal: String,
    pub action: String,
    pub resource: String,
    /// In Cedar's JSON; none is an empty one.
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    entities: Option<String>,
    #[serde(default)]
    cut: bool,
    verdict: String,
    /// Those that settled it, with spaces between.
    #[serde(default)]
    pub policies: String,
}

impl Stored {
    /// Whether it was allowed.
    pub fn allowed(&self) -> bool {
        self.verdict == "allow"
    }

    /// The context, and what was told of entities.
    ///
    /// # Errors
    ///
    /// When the record does not hold them.
    pub fn brought(&self) -> Result<(Value, Vec<Value>), String> {
        if self.cut {
            return Err("what the question brought was too large for its record".to_owned());
        }
        let text = |text: &Option<String>, empty: &str| text.clone().unwrap_or(empty.to_owned());
        let told = |member: &str, error| format!("its `{member}`: {error}");
        let context = serde_json::from_str(&text(&self.context, "{}"));
        let entities = serde_json::from_str(&text(&self.entities, "[]"));
        Ok((
            context.map_err(|error| told("context", error))?,
            entities.map_err(|error| told("entities", error))?,
        ))
    }
}

/// The members that matter here.
#[derive(Deserialize)]
struct Raw {
    target: Option<String>,
    verdict: Option<String>,
    principal: Option<String>,
    permission: Option<String>,
    needs: Option<String>,
    any_of: Option<String>,
    #[serde(default)]
    policies: String,
    #[serde(default)]
    groups: String,
    #[serde(default)]
    roles: String,
    acr: Option<String>,
    #[serde(default)]
    amr: String,
    auth_time: Option<u64>,
    #[serde(default)]
    parameters: String,
    now: Option<u64>,
    client: Option<String>,
}

/// Just enough to tell a decision from other lines.
#[derive(Deserialize)]
struct Head {
    target: Option<Value>,
    store: Option<Value>,
    principal: Option<Value>,
}

/// Read a line.
pub fn read(line: &[u8]) -> Line {
    if let Ok(Head { target: Some(target), store: Some(_), principal }) =
        serde_json::from_slice::<Head>(line)
        && target == "decision"
    {
        // What could not be asked in Cedar's terms was denied without policies.
        if principal.is_none() {
            return Line::Unasked;
        }
        return match serde_json::from_slice(line) {
            Ok(stored) => Line::Stored(Box::new(stored)),
            Err(error) => Line::Unreadable(error.to_string()),
        };
    }
    let raw: Raw = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(error) => {
            let head = serde_json::from_slice::<Head>(line).ok().and_then(|head| head.target);
            let decision = head.is_some_and(|target| target == "decision");
            return if decision { Line::Unreadable(error.to_string()) } else { Line::Other };
        }
    };
    if raw.target.as_deref() != Some("decision") {
        return Line::Other;
    }
    let allowed = match (raw.verdict.as_deref(), &raw.permission) {
        (Some("allow"), Some(_)) => true,
        (Some("deny" | "monitored"), Some(_)) => false,
        (Some("deny" | "monitored" | "public" | "authenticated" | "off" | "searched"), _) => {
            return Line::Unasked;
        }
        (Some("allow"), None) => return missing("permission"),
        (Some(other), _) => return Line::Unreadable(format!("no verdict is `{other}`")),
        (None, _) => return missing("verdict"),
    };
    raw.asked(allowed).map_or_else(Line::Unreadable, |asked| Line::Asked(Box::new(asked)))
}

fn missing(member: &str) -> Line {
    Line::Unreadable(lacks(member))
}

fn lacks(member: &str) -> String {
    format!("it has no `{member}`")
}

impl Raw {
    fn asked(self, allowed: bool) -> Result<Asked, String> {
        let now = self.now.ok_or_else(|| lacks("now"))?;
        let principal = self.principal.ok_or_else(|| lacks("principal"))?;
        let any = self.any_of.is_some();
        let permissions = self.any_of.or(self.needs).or(self.permission).unwrap_or_default();
        let subject = Subject {
            principal: parsed("principal", &principal)?,
            groups: names("groups", &self.groups)?,
            roles: names("roles", &self.roles)?,
        };
        let amr = words(&self.amr).map(|word| decoded("amr", word)).collect::<Result<_, _>>()?;
        let client = self.client.map(|text| parsed("client", &text)).transpose()?;
        Ok(Asked {
            subject,
            authentication: Authentication { acr: self.acr, amr, auth_time: self.auth_time },
            client,
            now,
            parameters: parameters(&self.parameters)?,
            permissions: words(&permissions).map(str::to_owned).collect(),
            any,
            allowed,
            policies: self.policies,
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

fn names<N: FromStr<Err: Display>>(member: &str, text: &str) -> Result<Arc<[N]>, String> {
    words(text).map(|word| parsed(member, word)).collect()
}

fn parsed<T: FromStr<Err: Display>>(member: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("its `{member}`: {error}"))
}

fn decoded(member: &str, text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|error| format!("its `{member}`: {error}"))
}

fn parameters(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let pair = pair.split_once('=').ok_or_else(|| "its `parameters` are no form".to_owned())?;
        Ok((decoded("parameters", pair.0)?, decoded("parameters", pair.1)?))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> Value {
        json!({
            "target": "decision", "verdict": "deny", "principal": "user:acme/ana",
            "permission": "demo::things:get", "policies": "", "groups": "readers writers",
            "amr": "pwd face%20and%25", "acr": "2", "auth_time": 5, "now": 7,
            "parameters": "id=a%26b%3D&part=", "client": "10.0.0.1", "micros": 3,
        })
    }

    fn read_of(record: &Value) -> Line {
        read(record.to_string().as_bytes())
    }

    #[test]
    fn what_was_asked_is_read_back() {
        let Line::Asked(asked) = read_of(&whole()) else { panic!("no question") };
        assert_eq!(asked.subject.principal.to_string(), "user:acme/ana");
        assert_eq!(asked.subject.groups.len(), 2);
        assert_eq!(asked.authentication.amr, ["pwd", "face and%"]);
        assert_eq!((asked.now, asked.authentication.auth_time), (7, Some(5)));
        let parameters = [("id", "a&b="), ("part", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(asked.parameters, parameters);
        assert_eq!(asked.permissions, ["demo::things:get"]);
        assert!(!asked.allowed && !asked.any);
        let mut record = whole();
        record["any_of"] = "a::b:c d::b:c".into();
        let Line::Asked(asked) = read_of(&record) else { panic!("no question") };
        assert!(asked.any && asked.permissions.len() == 2);
    }

    #[test]
    fn a_decision_that_cannot_be_asked_again_says_why() {
        for (member, value, expected) in [
            ("now", Value::Null, "no `now`"),
            ("now", "noon".into(), "invalid type"),
            ("principal", Value::Null, "no `principal`"),
            ("principal", "ana".into(), "`principal`"),
            ("principal", "robot:acme/ana".into(), "`principal`"),
            ("groups", "a\tb".into(), "`groups`"),
            ("client", "here".into(), "`client`"),
            ("amr", "%ff".into(), "`amr`"),
            ("parameters", "id".into(), "`parameters`"),
            ("verdict", "perhaps".into(), "`perhaps`"),
            ("verdict", Value::Null, "no `verdict`"),
        ] {
            let mut record = whole();
            record[member] = value.clone();
            let Line::Unreadable(told) = read_of(&record) else { panic!("{member}: {value}") };
            assert!(told.contains(expected), "{member}: {told}");
        }
    }

    #[test]
    fn a_question_to_a_store_is_read_back() {
        let whole = json!({
            "target": "decision", "verdict": "allow", "store": "s", "principal": "User::\"a\"",
            "action": "Action::\"read\"", "resource": "Doc::\"d\"", "context": "{\"n\":1}",
            "policies": "p", "errors": 0,
        });
        let Line::Stored(stored) = read_of(&whole) else { panic!("no question") };
        assert!(stored.allowed());
        assert_eq!(stored.brought(), Ok((json!({"n": 1}), Vec::new())));
        for (member, value) in
            [("cut", json!(true)), ("context", json!("{")), ("entities", json!("{}"))]
        {
            let mut record = whole.clone();
            record[member] = value;
            let Line::Stored(stored) = read_of(&record) else { panic!("no question") };
            assert!(stored.brought().is_err(), "{member}");
        }
        let mut record = whole.clone();
        record["resource"] = Value::Null;
        assert!(matches!(read_of(&record), Line::Unreadable(_)));
        let unasked = json!({"target": "decision", "verdict": "deny", "store": "s"});
        assert!(matches!(read_of(&unasked), Line::Unasked));
    }

    #[test]
    fn what_no_policy_decided_is_not_asked() {
        for verdict in ["deny", "monitored", "public", "authenticated", "off", "searched"] {
            let record = json!({"target": "decision", "verdict": verdict, "reason": "no-token"});
            assert!(matches!(read_of(&record), Line::Unasked), "{verdict}");
        }
        for line in ["", "{", "[]", "null", "INFO decision: denied", "{\"target\": \"other\"}"] {
            assert!(matches!(read(line.as_bytes()), Line::Other), "{line}");
        }
    }
}
