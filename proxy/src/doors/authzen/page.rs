//! One page of a search, and the token that asks for the next (AuthZEN 1.0, section 8.2).
//!
//! A token says how large pages are and after which result the next begins, and is bound to
//! everything else that was asked and to who asked it, by a digest. It holds no secret and grants
//! nothing: each result is decided about when it is given out. So any replica can read it, and one
//! that was altered, or is used for another question, is refused.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::model::caller::Principal;
use serde::Serialize;
use serde_json::{Number, Value};

use super::question::{Members, Question, Sought};

/// A longer token is none of ours.
const MOST_TOKEN: usize = 16 * 1024;

/// How much of the digest a token holds, in bytes.
const DIGEST: usize = 16;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether the sender speaks of pages at all; otherwise only a cut is told of.
    pub asked: bool,
    pub limit: usize,
    /// The result before the first.
    pub after: Option<String>,
}

/// What is answered beside results.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Empty at the end.
    pub next_token: String,
    pub count: usize,
}

/// Everything that must stay the same from page to page.
#[derive(Debug)]
pub struct Search<'a> {
    /// The store's name; empty for products.
    pub store: &'a str,
    pub asker: &'a Principal,
    pub sought: Sought,
    pub question: Question<'a>,
}

impl Page {
    /// Read `page` of a search.
    ///
    /// # Errors
    ///
    /// When it is malformed, or its token is not for this search.
    pub fn read(body: &Members, search: &Search<'_>, most: usize) -> Result<Self, String> {
        let members = match body.get("page") {
            None | Some(Value::Null) => return Ok(Self { asked: false, limit: most, after: None }),
            Some(Value::Object(members)) => members,
            Some(_) => return Err("`page` must be an object".to_owned()),
        };
        let limit = match members.get("limit") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => Some(whole(number)?.min(most)),
            Some(_) => return Err(NO_NUMBER.to_owned()),
        };
        let token = match members.get("token") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(token.as_str()).filter(|token| !token.is_empty()),
            Some(_) => return Err("`page.token` must be text".to_owned()),
        };
        let Some(token) = token else {
            return Ok(Self { asked: true, limit: limit.unwrap_or(most), after: None });
        };
        let bad = || {
            "`page.token` is not for this search: send the last `next_token`, with all else as it was"
                .to_owned()
        };
        let (was, after) = search.open(token).ok_or_else(bad)?;
        if limit.is_some_and(|limit| limit != was) {
            return Err("`page.limit` must stay as it was".to_owned());
        }
        Ok(Self { asked: true, limit: was.min(most), after })
    }
}

const NO_NUMBER: &str = "`page.limit` must be a whole number, and not negative";

fn whole(number: &Number) -> Result<usize, String> {
    let limit = number.as_u64().ok_or(NO_NUMBER)?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

impl Search<'_> {
    /// The token for the page that begins after `after`.
    pub fn seal(&self, limit: usize, after: Option<&str>) -> String {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).to_be_bytes();
        let mut token = self.digest(limit, after).to_vec();
        token.extend(limit);
        token.push(u8::from(after.is_some()));
        token.extend(after.unwrap_or_default().as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    fn open(&self, token: &str) -> Option<(usize, Option<String>)> {
        if token.len() > MOST_TOKEN {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (digest, rest) = token.split_first_chunk::<DIGEST>()?;
        let (limit, rest) = rest.split_first_chunk::<4>()?;
        let after = match rest.split_first()? {
            (0, []) => None,
            (1, after) => Some(std::str::from_utf8(after).ok()?),
            _ => return None,
        };
        if self.digest(*limit, after) != *digest {
            return None;
        }
        let limit = usize::try_from(u32::from_be_bytes(*limit)).ok()?;
        Some((limit, after.map(str::to_owned)))
    }

    /// Over every part with its length, so no two searches have the same bytes.
    fn digest(&self, limit: [u8; 4], after: Option<&str>) -> [u8; DIGEST] {
        let mut digest = Context::new(&SHA256);
        let Question { subject, action, resource, context } = &self.question;
        let asker = self.asker.to_string();
        for text in [
            "postern page 1",
            self.store,
            &asker,
            self.sought.word(),
            subject.kind,
            subject.id,
            action.name,
            resource.kind,
            resource.id,
        ] {
            part(&mut digest, text.as_bytes());
        }
        for members in [subject.properties, action.properties, resource.properties, *context] {
            match members {
                None => part(&mut digest, b"-"),
                Some(members) => object(&mut digest, members),
            }
        }
        part(&mut digest, &limit);
        part(&mut digest, &[u8::from(after.is_some())]);
        part(&mut digest, after.unwrap_or_default().as_bytes());
        let mut cut = [0; DIGEST];
        cut.copy_from_slice(&digest.finish().as_ref()[..DIGEST]);
        cut
    }
}

fn part(digest: &mut Context, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// An object, whatever the order of its members.
fn object(digest: &mut Context, members: &Members) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    part(digest, format!("{{{}", sorted.len()).as_bytes());
    for (name, value) in sorted {
        part(digest, name.as_bytes());
        any(digest, value);
    }
}

fn any(digest: &mut Context, value: &Value) {
    match value {
        Value::Object(members) => object(digest, members),
        Value::Array(items) => {
            part(digest, format!("[{}", items.len()).as_bytes());
            for item in items {
                any(digest, item);
            }
        }
        // With its quotation marks, so the text `1` is not the number.
        plain => part(digest, plain.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn search<'a>(body: &'a Members, asker: &'a Principal, store: &'a str) -> Search<'a> {
        let question = Question::read(|name| body.get(name), Some(Sought::Resource)).unwrap();
        Search { store, asker, sought: Sought::Resource, question }
    }

    fn body(of: Value) -> Members {
        let Value::Object(mut members) = json!({
            "subject": {"type": "user", "id": "ana"}, "action": {"name": "get"},
            "resource": {"type": "doc"},
        }) else {
            panic!("no object")
        };
        let Value::Object(of) = of else { panic!("no object") };
        members.extend(of);
        members
    }

    #[test]
    fn a_token_is_for_one_search_of_one_asker() {
        let ana: Principal = "user:acme/ana".parse().unwrap();
        let bo: Principal = "user:acme/bo".parse().unwrap();
        let first = body(json!({"context": {"a": 1, "b": [true, null]}}));
        let token = search(&first, &ana, "s").seal(2, Some("x"));
        let page = |page: Value, asker: &Principal, store: &str, of: Value| {
            let mut body = body(of);
            body.insert("page".to_owned(), page);
            Page::read(&body, &search(&body, asker, store), 100)
        };
        let same = || json!({"context": {"b": [true, null], "a": 1}});
        let told = Page { asked: true, limit: 2, after: Some("x".to_owned()) };
        assert_eq!(page(json!({"token": token}), &ana, "s", same()), Ok(told.clone()));
        assert_eq!(page(json!({"token": token, "limit": 2}), &ana, "s", same()), Ok(told));
        // The id of what is searched for is passed over, and may come and go.
        let mut with_id = same();
        with_id["resource"] = json!({"type": "doc", "id": "7"});
        assert!(page(json!({"token": token}), &ana, "s", with_id).is_ok());
        for (given, asker, store, of) in [
            (json!({"token": token, "limit": 3}), &ana, "s", same()),
            (json!({"token": token}), &bo, "s", same()),
            (json!({"token": token}), &ana, "", same()),
            (json!({"token": token}), &ana, "s", json!({})),
            (json!({"token": token}), &ana, "s", json!({"context": {"a": "1", "b": [true, null]}})),
            (json!({"token": format!("{token}A")}), &ana, "s", same()),
            (json!({"token": "x"}), &ana, "s", same()),
            (json!({"token": "x".repeat(20_000)}), &ana, "s", same()),
            (json!({"token": 7}), &ana, "s", same()),
            (json!({"limit": -1}), &ana, "s", same()),
            (json!({"limit": 1.5}), &ana, "s", same()),
            (json!({"limit": "1"}), &ana, "s", same()),
            (json!([]), &ana, "s", same()),
        ] {
            assert!(page(given.clone(), asker, store, of).is_err(), "{given}");
        }
    }

    proptest! {
        #[test]
        fn an_altered_token_opens_nothing(at in 0_usize..64, bit in 0_u8..8, after in ".{0,20}") {
            let ana: Principal = "user:acme/ana".parse().unwrap();
            let body = body(json!({}));
            let search = search(&body, &ana, "");
            let token = search.seal(5, Some(&after));
            prop_assert_eq!(search.open(&token), Some((5, Some(after))));
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(search.open(&URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
