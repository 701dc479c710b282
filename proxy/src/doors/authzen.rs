//! AuthZEN: the OpenID Authorization API 1.0, over products and over plain Cedar stores.
//!
//! A question that can be read is answered with 200 and a decision, whatever it is about; 400 is for
//! a body that cannot be read, 401 for a sender that is not known, 403 for one that may not ask, and
//! never for a denial. A search puts each candidate as an evaluation would and gives out those that
//! are allowed, so the two cannot differ.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use policy::{
    model::{caller::Principal, decision::Decision},
    strict,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::authorize::is_json;
use crate::{
    answer,
    audit::DecisionId,
    clock,
    config::{Authzen, BaseUrl, Reasons},
    forward,
    gate::Gate,
    refusal::{Class, Refusal, Why},
};
use page::{Next, Page, Search};
use question::{Members, Options, Question, Sought};

mod metadata;
mod page;
mod products;
mod question;
mod stores;

pub use stores::Stores;

/// The door's name in records and metrics.
const DOOR: &str = "authzen";

/// Candidates that one request looks at; where they are more, the page ends early.
const MOST_CANDIDATES: usize = 10_000;

/// The door.
#[derive(Debug)]
pub struct Door {
    pub config: Authzen,
    /// Where this installation is reached.
    pub base: BaseUrl,
    pub stores: Arc<Stores>,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// `None` for products.
    store: Option<&'a str>,
    api: Api,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Evaluation,
    Evaluations,
    Search(Sought),
}

/// A request, as far as it has been read.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    pub gate: &'a Gate,
    pub peer: IpAddr,
    pub headers: &'a HeaderMap,
    pub request_id: &'a str,
}

/// Whom questions are put to: products' policies, or a store's.
trait Point {
    /// Decide, record and count.
    fn decide(&self, question: &Question<'_>, reasons: bool) -> (DecisionId, Answer);

    /// What [`Point::decide`] would, for a search, which is recorded as one.
    fn allows(&self, question: &Question<'_>) -> bool;

    /// All that may be sought, in order, from behind `after` on.
    fn candidates<'s>(
        &'s self,
        sought: Sought,
        question: &Question<'_>,
        after: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<str>> + 's>;

    /// Record and count a search.
    fn searched(
        &self,
        sought: Sought,
        question: &Question<'_>,
        found: usize,
        took: Duration,
    ) -> DecisionId;
}

/// A decision (section 5.5).
#[derive(Debug, Serialize)]
struct Answer {
    decision: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Members>,
}

impl Answer {
    /// To an item of a batch that is no question.
    fn no_question(message: &str) -> Self {
        let told = json!({ "error": { "status": 400, "message": message } });
        Self { decision: false, context: told.as_object().cloned() }
    }
}

/// As much of why as may be let out.
fn told(
    lets_out: Reasons,
    id: DecisionId,
    decision: &Decision,
    why: Option<(&str, String)>,
) -> Option<Members> {
    let mut context = Members::new();
    if lets_out >= Reasons::Id {
        context.insert("id".to_owned(), id.to_string().into());
    }
    if lets_out == Reasons::Full {
        if let Some((word, sentence)) = why {
            context.insert("reason".to_owned(), word.into());
            context.insert("message".to_owned(), sentence.into());
        }
        let policies: Vec<&str> = decision.policies.iter().map(|id| &**id).collect();
        context.insert("policies".to_owned(), policies.into());
    }
    (!context.is_empty()).then_some(context)
}

/// One that a search has found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found<'a> {
    Entity {
        #[serde(rename = "type")]
        kind: &'a str,
        id: Arc<str>,
    },
    Action {
        name: Arc<str>,
    },
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<Next>,
    results: Vec<Found<'a>>,
}

#[derive(Debug, Serialize)]
struct Answers {
    evaluations: Vec<Answer>,
}

/// What a path asks for, if it is one of ours. It has no slash at its end.
pub fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    let (store, rest) = match path.strip_prefix("/stores/") {
        Some(rest) => rest.split_once('/').map(|(store, rest)| (Some(store), rest))?,
        None => (None, path.strip_prefix('/')?),
    };
    let api = match rest.strip_prefix("access/v1/")? {
        "evaluation" => Api::Evaluation,
        "evaluations" => Api::Evaluations,
        "search/subject" => Api::Search(Sought::Subject),
        "search/resource" => Api::Search(Sought::Resource),
        "search/action" => Api::Search(Sought::Action),
        _ => return None,
    };
    Some(Endpoint { store, api })
}

/// Whether the door answers here: then the sender's own name for a request comes back as it was.
pub fn is_here(path: &str) -> bool {
    endpoint(path.strip_suffix('/').unwrap_or(path)).is_some() || metadata::rest(path).is_some()
}

impl Door {
    /// Discovery (section 9): what of `/.well-known/authzen-configuration` stands there, if anything.
    pub fn metadata(&self, path: &str, method: &Method) -> Option<Response<Bytes>> {
        let rest = metadata::rest(path)?;
        Some(if matches!(*method, Method::GET | Method::HEAD) {
            metadata::answer(self, rest)
        } else {
            bad_method("GET")
        })
    }

    /// Answer a request. `body` is what came of reading its body.
    pub fn answer(
        &self,
        heard: &Heard<'_>,
        endpoint: Endpoint<'_>,
        body: Result<Bytes, String>,
    ) -> Response<Bytes> {
        let (in_force, bearer) = match heard.gate.bearer(heard.headers) {
            Ok(known) => known,
            Err(why) => return refused(heard, why),
        };
        let asker = bearer.subject().principal.clone();
        let bad = |message: &str| {
            let why = Why::Headers("a question that is malformed");
            heard.gate.unreadable(DOOR, Some(heard.peer), heard.request_id, why);
            error(StatusCode::BAD_REQUEST, message)
        };
        let point: Box<dyn Point + '_> = match endpoint.store {
            None => Box::new(products::Products {
                heard: *heard,
                in_force: &in_force,
                bearer: &bearer,
                subject_tokens: self.config.subject_tokens,
                now: clock::now(),
            }),
            Some(name) => match self.stores.for_asker(*heard, name, &asker) {
                Some(store) => Box::new(store),
                None => return refused(heard, Why::NotAsker(asker)),
            },
        };
        let body = match read(heard.headers, body) {
            Ok(body) => body,
            Err(message) => return bad(&message),
        };
        let answered = match endpoint.api {
            Api::Evaluation => one(&*point, &body),
            Api::Evaluations => self.many(&*point, &body),
            Api::Search(sought) => {
                let store = endpoint.store.unwrap_or_default();
                self.search(&*point, &body, (store, &asker), sought)
            }
        };
        answered.unwrap_or_else(|message| bad(&message))
    }

    /// Several questions in one request (section 7).
    fn many(&self, point: &dyn Point, body: &Members) -> Result<Response<Bytes>, String> {
        let Some(items) = question::batch(body, self.config.max_evaluations)? else {
            return one(point, body);
        };
        let options = Options::read(body)?;
        let mut evaluations = Vec::new();
        for item in items {
            let answer = match question::of_batch(body, item) {
                Ok(question) => point.decide(&question, options.reasons).1,
                Err(message) => Answer::no_question(&message),
            };
            let ends = options.semantic.ends(answer.decision);
            evaluations.push(answer);
            if ends {
                break;
            }
        }
        Ok(answer::json(StatusCode::OK, &Answers { evaluations }))
    }

    /// All of one kind that are allowed (section 8), page by page.
    fn search(
        &self,
        point: &dyn Point,
        body: &Members,
        (store, asker): (&str, &Principal),
        sought: Sought,
    ) -> Result<Response<Bytes>, String> {
        let started = Instant::now();
        let question = Question::read(|name| body.get(name), Some(sought))?;
        let search = Search { store, asker, sought, question };
        let page = Page::read(body, &search, self.config.page_size)?;
        let mut found: Vec<Arc<str>> = Vec::new();
        let (mut last, mut cut) = (page.after.as_deref().map(Arc::from), false);
        let candidates = point.candidates(sought, &question, page.after.as_deref());
        for (looked, candidate) in candidates.enumerate() {
            if looked == MOST_CANDIDATES {
                cut = true;
                break;
            }
            if point.allows(&question.about(sought, &candidate)) {
                if found.len() == page.limit {
                    cut = true;
                    break;
                }
                found.push(Arc::clone(&candidate));
            }
            last = Some(candidate);
        }
        let id = point.searched(sought, &question, found.len(), started.elapsed());
        let next_token = if cut { search.seal(page.limit, last.as_deref()) } else { String::new() };
        let next = Next { next_token, count: found.len() };
        let kind = match sought {
            Sought::Subject => question.subject.kind,
            Sought::Resource | Sought::Action => question.resource.kind,
        };
        let results = found.into_iter().map(|one| match sought {
            Sought::Action => Found::Action { name: one },
            Sought::Subject | Sought::Resource => Found::Entity { kind, id: one },
        });
        let results = results.collect();
        let results = Results { page: (page.asked || cut).then_some(next), results };
        Ok(named(answer::json(StatusCode::OK, &results), id))
    }
}

/// The body, if it is an object.
fn read(headers: &HeaderMap, body: Result<Bytes, String>) -> Result<Members, String> {
    if !is_json(headers) {
        return Err("The content type must be `application/json`.".to_owned());
    }
    strict::from_slice(&body?).map_err(|error| {
        let told = error.to_string();
        let told = told.split(" at line ").next().unwrap_or_default();
        format!("The body must be a JSON object: {told}.")
    })
}

/// One question (section 6).
fn one(point: &dyn Point, body: &Members) -> Result<Response<Bytes>, String> {
    let question = Question::read(|name| body.get(name), None)?;
    let options = Options::read(body)?;
    let (id, answer) = point.decide(&question, options.reasons);
    Ok(named(answer::json(StatusCode::OK, &answer), id))
}

/// With the name of its decision.
fn named(mut response: Response<Bytes>, id: DecisionId) -> Response<Bytes> {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(forward::DECISION, id);
    }
    response
}

/// Nobody who may ask, or nothing to answer with.
fn refused(heard: &Heard<'_>, why: Why) -> Response<Bytes> {
    let refusal = heard.gate.unreadable(DOOR, Some(heard.peer), heard.request_id, why);
    let Refusal { why, .. } = &refusal;
    let status = match why.class() {
        Class::BadRequest => StatusCode::BAD_REQUEST,
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = error(status, &refusal.sentence());
    if let Some(challenge) = why.challenge() {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    match refusal.named() {
        Some(id) => named(response, id),
        None => response,
    }
}

/// An error: its message, as a JSON text (section 10.1.2).
fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    answer::json(status, &Value::from(message))
}

/// A method that the path does not take.
pub fn bad_method(allowed: &'static str) -> Response<Bytes> {
    let mut response =
        error(StatusCode::METHOD_NOT_ALLOWED, &format!("This path takes {allowed}."));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_an_endpoint_of_products_or_of_a_store() {
        let api =
            |path: &'static str| endpoint(path).map(|found| (found.store.unwrap_or(""), found.api));
        for (path, expected) in [
            ("/access/v1/evaluation", Some(("", Api::Evaluation))),
            ("/access/v1/search/action", Some(("", Api::Search(Sought::Action)))),
            ("/stores/s/access/v1/evaluations", Some(("s", Api::Evaluations))),
            ("/stores//access/v1/evaluation", Some(("", Api::Evaluation))),
            ("/stores/access/v1/evaluation", None),
            ("/stores/s/t/access/v1/evaluation", None),
            ("/access/v1/search", None),
            ("/access/v1/evaluation/x", None),
            ("access/v1/evaluation", None),
        ] {
            assert_eq!(api(path), expected, "{path}");
        }
    }
}
