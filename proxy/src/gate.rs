//! The order of the questions, written once for every door.
//!
//! Each door reads its dialect into an [`Ask`]; what comes back is a permit or a refusal, recorded
//! and counted here, so no door can forget to.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use policy::model::decision::Revision;

use crate::{
    audit::{Asked, Audit, DecisionId},
    authenticate::{self, Bearer},
    authorize::{Circumstances, Permit, authorize},
    canonical::{self, NotCanonical},
    clock,
    live::{InForce, Live},
    metrics::Metrics,
    peer::Trusted,
    policies::Policies,
    refusal::{Class, Refusal, Why},
    route::{Routes, Target},
    shadow::Shadow,
    sign_in::{Session, SignIns},
    trace::Tracer,
    usage::Usage,
};

/// How the product is found.
#[derive(Debug, Clone, Copy)]
pub enum Find<'a> {
    /// The gateway: by host and path prefix.
    Gateway,
    /// A door: by name, or else by host.
    Door(Option<&'a str>),
}

/// One request, as a door has read it. Nothing in it is believed yet.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub door: &'static str,
    pub find: Find<'a>,
    pub method: &'a str,
    pub scheme: &'a str,
    /// As sent.
    pub host: &'a str,
    /// Path and query as sent.
    pub target: &'a [u8],
    pub client: Option<IpAddr>,
    /// The headers that may hold a credential.
    pub headers: &'a HeaderMap,
    /// The session of its browser, where the door has renewed it.
    pub session: Option<&'a Session>,
    pub request_id: &'a str,
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    pub live: Arc<Live>,
    pub trusted: Trusted,
    pub metrics: Metrics,
    pub policies: Arc<Policies>,
    pub usage: Arc<Usage>,
    pub sign_ins: Arc<SignIns>,
    pub audit: Audit,
    /// What is asked beside what is in force, if anything is.
    pub shadow: Option<Arc<Shadow>>,
    /// Who traces requests, if somebody does.
    pub tracer: Option<Arc<Tracer>>,
}

impl Gate {
    /// May this request pass?
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, ask: &Ask<'_>) -> Result<Permit, Refusal> {
        let started = Instant::now();
        let id = DecisionId::fresh();
        let current = self.live.current();
        let mut seen = Seen::default();
        let verdict = self.question(ask, id, current.as_deref(), &mut seen);
        let took = started.elapsed();
        let asked = Asked {
            door: ask.door,
            method: printable(ask.method),
            path: seen.path.as_deref().unwrap_or("-"),
            route: seen.route.as_deref(),
            client: ask.client,
            peer: None,
            request_id: ask.request_id,
            asker: None,
            about: None,
            took,
        };
        if let (Some(shadow), Some(in_force)) = (&self.shadow, &current) {
            shadow.compare(self, ask, in_force, &verdict, (&asked, id));
        }
        match verdict {
            Ok(permit) => {
                self.metrics.allowed(ask.door, &permit, took);
                self.audit.allowed(&asked, &permit);
                if let (Some(in_force), Some((bearer, by))) = (&current, permit.used()) {
                    self.usage.note(&in_force.engine, bearer, by, permit.now());
                }
                let errors = permit.decision().map(|d| d.errors.as_slice()).unwrap_or_default();
                self.policies.failed(permit.revision(), errors);
                Ok(permit)
            }
            Err(why) => {
                let revision = current.map_or(Revision(0), |c| c.engine.revision());
                let sign_in = self.offer(ask, &why, &seen);
                let refusal = self.refuse(&asked, why, id, revision, seen.product.clone());
                Err(Refusal { sign_in, ..refusal })
            }
        }
    }

    fn question(
        &self,
        ask: &Ask<'_>,
        id: DecisionId,
        current: Option<&InForce>,
        seen: &mut Seen,
    ) -> Result<Permit, Why> {
        let in_force = current.ok_or(Why::Unavailable)?;
        let laps = self.metrics.steps.measured();
        let target = Self::route(ask, &in_force.routes, seen)?;
        laps.done("route");
        let (host, product) =
            (seen.host.as_deref().unwrap_or(""), Arc::clone(&target.product.name));
        let now = clock::now();
        let circumstances = Circumstances { id, client: ask.client, now };
        let verdict = authorize(&in_force.engine, target, circumstances, || {
            let bearer = self.who(ask, in_force, (host, &product), now);
            laps.done("authenticate");
            bearer
        });
        laps.done("authorize");
        verdict
    }

    /// Who asks a product for something: the bearer of a token, or whoever has signed in to it.
    ///
    /// # Errors
    ///
    /// When that is nobody we know.
    pub fn who(
        &self,
        ask: &Ask<'_>,
        in_force: &InForce,
        (host, product): (&str, &str),
        now: u64,
    ) -> Result<Bearer, Why> {
        let sent = credential(ask.headers)?;
        let session = match sent {
            None => self.sign_ins.credential(ask, (host, product), now)?,
            Some(_) => None,
        };
        let authorization = sent.or(session.as_deref());
        authenticate::bearer(in_force, &self.live.changes, authorization, now)
    }

    /// Where a request goes by other routes than those in force.
    ///
    /// # Errors
    ///
    /// When it goes nowhere.
    pub fn routed(ask: &Ask<'_>, routes: &Routes) -> Result<Target, Why> {
        Self::route(ask, routes, &mut Seen::default())
    }

    fn route(ask: &Ask<'_>, routes: &Routes, seen: &mut Seen) -> Result<Target, Why> {
        let method = canonical::method(ask.method).map_err(Why::NotCanonical)?;
        let host =
            canonical::host(ask.scheme, ask.host).ok_or(Why::NotCanonical(NotCanonical::Host))?;
        let canonical = canonical::target(ask.target).map_err(Why::NotCanonical)?;
        let host = &*seen.host.insert(host);
        seen.path = Some(canonical.path.text().to_owned());
        let target = match ask.find {
            Find::Gateway => routes.at_gateway(host, method, canonical.path)?,
            Find::Door(name) => routes.at_door(name, host, method, canonical.path)?,
        };
        seen.product = Some(target.product.name.to_string());
        seen.route.clone_from(&target.route);
        Ok(target)
    }

    /// Ask about the bearer's token where only its issuer can say whose it is. A door does so before
    /// it puts a question; one that does not has such tokens refused.
    pub async fn ask_ahead(&self, headers: &HeaderMap) {
        let issuers = self.live.issuers();
        let Ok(sent) = credential(headers) else { return };
        let session = match sent {
            None if issuers.ask() => self.sign_ins.token(headers),
            _ => None,
        };
        authenticate::ask_ahead(issuers, sent.or(session.as_deref()), clock::now()).await;
    }

    /// Whose a token is that an issuer has just given for a browser.
    ///
    /// # Errors
    ///
    /// When it would open nothing here.
    pub async fn bears(&self, token: &str) -> Result<Bearer, Why> {
        authenticate::ask_ahead(self.live.issuers(), Some(token), clock::now()).await;
        let in_force = self.live.current().ok_or(Why::Unavailable)?;
        authenticate::bearer(&in_force, &self.live.changes, Some(token), clock::now())
    }

    /// Where somebody may sign in who is nobody we know.
    fn offer(&self, ask: &Ask<'_>, why: &Why, seen: &Seen) -> Option<String> {
        if self.sign_ins.is_empty() || why.class() != Class::Unauthenticated {
            return None;
        }
        let Seen { host, path, product, .. } = seen;
        let at = (host.as_deref()?, product.as_deref()?, path.as_deref()?);
        self.sign_ins.offer(ask, at, clock::now())
    }

    /// Who asks, at a door that is not about one request of a product.
    ///
    /// # Errors
    ///
    /// When nothing is in force, or nobody we know asks.
    pub fn bearer(&self, headers: &HeaderMap) -> Result<(Arc<InForce>, Bearer), Why> {
        let in_force = self.live.current().ok_or(Why::Unavailable)?;
        let authorization = credential(headers)?;
        let bearer =
            authenticate::bearer(&in_force, &self.live.changes, authorization, clock::now())?;
        Ok((in_force, bearer))
    }

    /// Record and count a request that could not be turned into a question.
    pub fn unreadable(
        &self,
        door: &'static str,
        client: Option<IpAddr>,
        request_id: &str,
        why: Why,
    ) -> Refusal {
        let revision = self.live.current().map_or(Revision(0), |c| c.engine.revision());
        let took = Duration::ZERO;
        let (asker, about) = (None, None);
        let (method, path, route, peer) = ("-", "-", None, None);
        let asked =
            Asked { door, method, path, route, client, peer, request_id, asker, about, took };
        self.refuse(&asked, why, DecisionId::fresh(), revision, None)
    }

    /// Record and count a refusal.
    pub fn refuse(
        &self,
        asked: &Asked<'_>,
        why: Why,
        id: DecisionId,
        revision: Revision,
        product: Option<String>,
    ) -> Refusal {
        let reasons = self.live.reasons(product.as_deref());
        let refusal = Refusal { why, id, revision, product, reasons, sign_in: None };
        self.metrics.refused(asked.door, &refusal, asked.took);
        self.audit.refused(asked, &refusal);
        if let Why::Denied(denial) = &refusal.why {
            self.policies.failed(revision, &denial.decision.errors);
        }
        refusal
    }
}

/// What was learnt on the way to a refusal, for its record.
#[derive(Default)]
struct Seen {
    host: Option<String>,
    path: Option<String>,
    route: Option<Arc<str>>,
    product: Option<String>,
}

/// The `Authorization` header: once, in visible characters, and under no other spelling.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, Why> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Why::Headers("more than one `Authorization`"));
    }
    value.to_str().map(Some).map_err(|_| Why::Headers("an `Authorization` that is no text"))
}

/// A header that decides something: its value, once.
///
/// # Errors
///
/// When it stands twice or is no text.
pub fn once<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Why> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Why::Headers("a forwarded header stands twice"));
    }
    let text = value.to_str().map_err(|_| Why::Headers("a forwarded header is no text"))?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}

fn printable(method: &str) -> &str {
    canonical::method(method).unwrap_or("-")
}
