//! Where people come to sign in, and come back to: `/.postern/…` at a product's own origin.
//!
//! The way is that of the authorization code (RFC 6749, section 4.1; RFC 9700) with PKCE, `state` and
//! `nonce`. All three stand in a sealed cookie of the browser that set out, and so does where it wanted
//! to go: a code that comes back elsewhere, twice, or to somebody else gives nothing. Where somebody is
//! sent in the end is a path of the same origin, which Postern itself has sealed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    CALLBACK, Place, REFRESH, SIGN_IN, SIGN_OUT, Session, SignIn, SignIns, Wanted, cookie, is_own,
    page,
    provider::{Asker, Failed},
    seal::Purpose,
};
use crate::{answer, canonical, clock, gate::Gate, relay::Relay};

/// How long a sign-in may take, in seconds.
const BEGUN_SECS: u64 = 600;
/// How many may be on their way in one browser.
const MOST_BEGUN: usize = 5;
/// How long an answer to a renewal is given to whoever asks for the same one.
const RENEWAL: Duration = Duration::from_mins(1);
/// A session is renewed so long before its token expires, or in the last quarter of a shorter life.
const AHEAD_SECS: u64 = 60;

/// A sign-in that has begun, in the cookie of the browser that did.
#[derive(Serialize, Deserialize)]
struct Begun {
    #[serde(rename = "p")]
    product: String,
    #[serde(rename = "o")]
    origin: String,
    #[serde(rename = "s")]
    state: String,
    #[serde(rename = "v")]
    verifier: String,
    #[serde(rename = "n")]
    nonce: String,
    /// Where it goes in the end.
    #[serde(rename = "t")]
    target: String,
    #[serde(rename = "e")]
    expires: u64,
}

/// What became of a renewal.
#[derive(Debug, Clone)]
enum Renewal {
    Done(Box<Session>),
    /// The issuer wants a new sign-in.
    Over,
    /// It cannot be asked.
    Later,
}

/// A request to the desk.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// As sent.
    pub host: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub client: IpAddr,
    pub request_id: &'a str,
}

impl<'a> Visit<'a> {
    fn asker(&self) -> Asker<'a> {
        Asker { client: self.client, request_id: self.request_id }
    }

    /// A parameter, if it stands there once.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut all =
            form_urlencoded::parse(self.query.as_bytes()).filter(|(held, _)| held == name);
        let first = all.next().map(|(_, value)| value.into_owned());
        first.filter(|_| all.next().is_none())
    }
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    gate: Arc<Gate>,
    relay: Arc<Relay>,
    /// States that somebody came back with.
    spent: Cache<String, ()>,
    /// Renewals under way or just done, by the digest of the refresh token.
    renewals: Cache<[u8; 32], Arc<OnceCell<Renewal>>>,
}

impl Desk {
    /// For the sign-ins of that gate.
    pub fn new(gate: Arc<Gate>, relay: Arc<Relay>) -> Self {
        let spent = Duration::from_secs(BEGUN_SECS);
        Self {
            gate,
            relay,
            spent: Cache::builder().max_capacity(100_000).time_to_live(spent).build(),
            renewals: Cache::builder().max_capacity(10_000).time_to_live(RENEWAL).build(),
        }
    }

    fn sign_ins(&self) -> &SignIns {
        &self.gate.sign_ins
    }

    fn ways(&self) -> (&Gate, &Relay) {
        (&self.gate, &self.relay)
    }

    fn place(&self, host: &str) -> Option<Place<'_>> {
        // Whichever scheme was spoken on the way here: a port that one of them implies is not told.
        self.sign_ins().at(&canonical::host("https", host)?)
    }

    /// Answer; nothing where people do not sign in.
    pub async fn answer(self: &Arc<Self>, visit: Visit<'_>) -> Option<Response<Bytes>> {
        let place = self.place(visit.host)?;
        let reads = matches!(visit.method, "GET" | "HEAD");
        Some(match visit.path {
            SIGN_IN if reads => self.sign_in(place, &visit).await,
            CALLBACK if reads => self.back(place, &visit).await,
            SIGN_OUT if reads || visit.method == "POST" => self.sign_out(place, &visit).await,
            REFRESH if visit.method == "POST" => self.refresh(place, &visit).await,
            SIGN_IN | CALLBACK | SIGN_OUT | REFRESH => {
                answer::error(answer::BAD_METHOD, "This path takes another method.")
            }
            _ => answer::error(answer::NOT_FOUND, "There is nothing at this path."),
        })
    }

    /// Go on with the session that there is, or begin a sign-in.
    async fn sign_in(self: &Arc<Self>, place: Place<'_>, visit: &Visit<'_>) -> Response<Bytes> {
        let now = clock::now();
        let target = self.wanted(place, visit, now);
        let to = format!("{}{target}", place.origin);
        if let Some(session) = self.sign_ins().session(place, visit.headers, now) {
            if now < session.expires && self.gate.bears(&session.access).await.is_ok() {
                // They signed in elsewhere meanwhile, or their cookies do not reach the door.
                if cookie::get(visit.headers, cookie::SENT_BACK).is_some() {
                    let text = "You are signed in, and the server in front of this product does not \
                                tell its access control so. (Operators: it has to pass `Cookie` on \
                                when it asks.)";
                    let told = page::told(visit.headers, page::NOT_PASSED_ON, text);
                    return page::with(told, cookie::forget(cookie::SENT_BACK));
                }
                return page::send(&to, cookie::set(cookie::SENT_BACK, "1", 10));
            }
            if let Renewal::Done(session) = self.renew(place, &session, visit.asker()).await
                && self.gate.bears(&session.access).await.is_ok()
                && let Ok(cookies) = self.kept(&session, now)
            {
                return page::send(&to, cookies);
            }
        }
        self.begin(place, visit, target, now).await
    }

    /// Where somebody wanted to go, as far as Postern has said so; or else the product's front page.
    fn wanted(&self, place: Place<'_>, visit: &Visit<'_>, now: u64) -> String {
        let sealer = self.sign_ins().sealer.as_ref();
        let wanted: Option<Wanted> = visit
            .parameter("to")
            .and_then(|sealed| sealer?.open_as(Purpose::Wanted, &sealed))
            .filter(|wanted: &Wanted| {
                wanted.origin == place.origin.as_str() && now < wanted.expires
            });
        wanted.map_or_else(|| "/".to_owned(), |wanted| wanted.target)
    }

    async fn begin(
        &self,
        place: Place<'_>,
        visit: &Visit<'_>,
        target: String,
        now: u64,
    ) -> Response<Bytes> {
        let SignIn { product, config, provider } = &**place.sign_in;
        let endpoints = match provider.endpoints(&self.gate).await {
            Ok(endpoints) => endpoints,
            Err(failed) => return unreachable(place, visit, &failed),
        };
        let fault = || answer::error(answer::UNAVAILABLE, "No sign-in can be begun at the moment.");
        let (Some(state), Some(verifier), Some(nonce)) = (random(), random(), random()) else {
            return fault();
        };
        let challenge = BASE64.encode(digest(&SHA256, verifier.as_bytes()));
        let redirect_uri = format!("{}{CALLBACK}", place.origin);
        let scope = config.scopes.join(" ");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([
            ("response_type", "code"),
            ("client_id", &config.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", &scope),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        query.extend_pairs(config.resource.as_deref().map(|resource| ("resource", resource)));
        let joint = if endpoints.authorization.contains('?') { '&' } else { '?' };
        let to = format!("{}{joint}{}", endpoints.authorization, query.finish());
        let name = format!("{}{}", cookie::BEGUN, &state[..8]);
        let begun = Begun {
            product: product.to_string(),
            origin: place.origin.to_string(),
            state,
            verifier,
            nonce,
            target,
            expires: now + BEGUN_SECS,
        };
        let sealed = self.sign_ins().sealer.as_ref().and_then(|s| s.seal(Purpose::Begun, &begun));
        let Some(cookie) = sealed.and_then(|sealed| cookie::set(&name, &sealed, BEGUN_SECS)) else {
            return fault();
        };
        // A browser that set out many times and never came back keeps the last few.
        let before: Vec<&str> = cookie::names(visit.headers, cookie::BEGUN).collect();
        let old = before.len().saturating_sub(MOST_BEGUN - 1);
        let old = before.into_iter().take(old).filter_map(cookie::forget);
        page::send(&to, old.chain([cookie]))
    }

    /// Somebody comes back from the issuer.
    async fn back(&self, place: Place<'_>, visit: &Visit<'_>) -> Response<Bytes> {
        let over = |what: &str| {
            tracing::info!(product = %place.sign_in.product, what, "a sign-in was not finished");
            let text = "This sign-in was finished already, has taken too long, or began in another \
                        browser.";
            page::told(visit.headers, page::OVER, text)
        };
        let now = clock::now();
        let Some(state) = visit.parameter("state") else { return over("no state, or two") };
        let Some(name) = state.get(..8).map(|head| format!("{}{head}", cookie::BEGUN)) else {
            return over("a state that is none");
        };
        let sealer = self.sign_ins().sealer.as_ref();
        let begun: Option<Begun> = cookie::get(visit.headers, &name)
            .and_then(|sealed| sealer?.open_as(Purpose::Begun, sealed));
        let Some(begun) = begun else { return over("a state that this browser does not know") };
        let here = begun.product == *place.sign_in.product && begun.origin == place.origin.as_str();
        let same = verify_slices_are_equal(begun.state.as_bytes(), state.as_bytes()).is_ok();
        if !here || !same || now >= begun.expires {
            return over("a state of another time or place");
        }
        // Once, whatever comes of it.
        if !self.spent.entry(state).or_insert(()).is_fresh() {
            return over("a state that was used");
        }
        let answer = self.finish(place, visit, &begun, now).await;
        page::with(answer, cookie::forget(&name))
    }

    async fn finish(
        &self,
        place: Place<'_>,
        visit: &Visit<'_>,
        begun: &Begun,
        now: u64,
    ) -> Response<Bytes> {
        let SignIn { product, config, provider } = &**place.sign_in;
        let does_not_hold = |what: &str| {
            tracing::warn!(product = %product, what, "what an issuer says of a sign-in does not hold");
            let text = "What the issuer said of your sign-in does not hold here.";
            page::told(visit.headers, page::FAILED, text)
        };
        let endpoints = match provider.endpoints(&self.gate).await {
            Ok(endpoints) => endpoints,
            Err(failed) => return unreachable(place, visit, &failed),
        };
        // Whoever answers says who they are, or another issuer's answer is taken for theirs (RFC 9207).
        let named =
            form_urlencoded::parse(visit.query.as_bytes()).filter(|(name, _)| name == "iss");
        if named.into_iter().any(|(_, issuer)| issuer != endpoints.issuer.as_str()) {
            return does_not_hold("the answer is another issuer's");
        }
        let Some(code) = visit.parameter("code") else {
            let error = visit.parameter("error").unwrap_or_default();
            let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            let error = if error.len() <= 40 && error.bytes().all(word) { &*error } else { "" };
            tracing::info!(product = %product, error, "an issuer refused a sign-in");
            return page::told(visit.headers, page::REFUSED, "The issuer did not sign you in.");
        };
        let redirect_uri = format!("{}{CALLBACK}", place.origin);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", &begun.verifier),
        ];
        form.extend(config.resource.as_deref().map(|resource| ("resource", resource)));
        let told = match provider.tokens(self.ways(), config, &form, visit.asker()).await {
            Ok(told) => told,
            Err(failed) => return unreachable(place, visit, &failed),
        };
        if config.scopes.iter().any(|scope| scope == "openid") {
            let token = told["id_token"].as_str().unwrap_or_default();
            let said = (token, config.client_id.as_str(), begun.nonce.as_str());
            if let Err(what) = provider.identified(&self.gate, said, now) {
                return does_not_hold(what);
            }
        }
        let session = match self.session(place, &told, now + config.session_secs).await {
            Ok(session) => session,
            // It would be refused again and again, and somebody sent round and round.
            Err(what) => return does_not_hold(&what),
        };
        match self.kept(&session, now) {
            Ok(cookies) => page::send(&format!("{}{}", place.origin, begun.target), cookies),
            Err(cookie::TooLarge(size)) => {
                tracing::error!(
                    product = %product,
                    size,
                    "the tokens of a sign-in are larger than a browser keeps; have the issuer put less \
                     into them, or give no refresh token"
                );
                let text = "What the issuer says of you is more than a browser keeps.";
                page::told(visit.headers, page::TOO_LARGE, text)
            }
        }
    }

    /// The session that an issuer's answer makes, if its token holds here.
    async fn session(&self, place: Place<'_>, told: &Value, until: u64) -> Result<Session, String> {
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = text("token_type").unwrap_or_default();
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err("the token is of another type than `Bearer`".to_owned());
        }
        let access = text("access_token").ok_or("there is no access token")?;
        let bearer = self.gate.bears(&access).await;
        let bearer = bearer.map_err(|why| format!("the access token: {}", why.word()))?;
        Ok(Session {
            product: place.sign_in.product.to_string(),
            origin: place.origin.to_string(),
            access,
            refresh: text("refresh_token"),
            from: clock::now(),
            expires: bearer.caller.expires_at,
            until,
        })
    }

    /// The cookies that hold a session for as long as it may last.
    fn kept(&self, session: &Session, now: u64) -> Result<Vec<HeaderValue>, cookie::TooLarge> {
        // Without a way to renew it there is no use for it once its token has expired.
        let end = if session.refresh.is_some() { session.until } else { session.expires };
        let sealer = self.sign_ins().sealer.as_ref();
        let sealed = sealer.and_then(|sealer| sealer.seal(Purpose::Session, session));
        let secs = end.min(session.until).saturating_sub(now);
        cookie::keep(&sealed.ok_or(cookie::TooLarge(0))?, secs)
    }

    /// End a session, here and at its issuer.
    async fn sign_out(&self, place: Place<'_>, visit: &Visit<'_>) -> Response<Bytes> {
        let cross = visit.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let own = match visit.method {
            "POST" => is_own("POST", visit.headers, place.origin),
            // A link on a page of the product, or an address that somebody typed.
            _ => cross.is_none_or(|site| matches!(site, b"same-origin" | b"none")),
        };
        if !own {
            let text = "Another site sent you to sign out.";
            return page::told(visit.headers, page::CROSS_SITE, text);
        }
        let SignIn { config, provider, .. } = &**place.sign_in;
        let session = self.sign_ins().session(place, visit.headers, clock::now());
        if let Some(session) = &session {
            // The refresh token ends the whole sign-in, the access token only itself.
            let token = session.refresh.as_ref().unwrap_or(&session.access);
            provider.revoke(self.ways(), config, token, visit.asker()).await;
        }
        let endpoints = provider.endpoints(&self.gate).await.ok();
        let Some(to) = endpoints.and_then(|endpoints| endpoints.end_session.clone()) else {
            let done = page::html(StatusCode::OK, "Signed Out", "You are signed out here.");
            return page::with(done, cookie::end());
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("client_id", &config.client_id);
        if let Some(after) = &config.after_sign_out {
            query.append_pair("post_logout_redirect_uri", after);
        }
        let joint = if to.contains('?') { '&' } else { '?' };
        page::send(&format!("{to}{joint}{}", query.finish()), cookie::end())
    }

    /// A page has its session renewed before its token expires.
    async fn refresh(self: &Arc<Self>, place: Place<'_>, visit: &Visit<'_>) -> Response<Bytes> {
        if !is_own(visit.method, visit.headers, place.origin) {
            return answer::error(page::CROSS_SITE, "Another site asked for this.");
        }
        let now = clock::now();
        let none = || answer::error(page::NO_SESSION, "There is no session that could be renewed.");
        let Some(session) = self.sign_ins().session(place, visit.headers, now) else {
            return none();
        };
        let (mut session, mut cookies) = (session, Vec::new());
        // In the second half of its life; earlier there is nothing to win.
        if session.refresh.is_some() && now >= session.from.midpoint(session.expires) {
            match self.renew(place, &session, visit.asker()).await {
                Renewal::Done(renewed) => {
                    cookies = self.kept(&renewed, now).unwrap_or_default();
                    session = *renewed;
                }
                Renewal::Over => return page::with(none(), cookie::end()),
                Renewal::Later => {}
            }
        }
        if self.gate.bears(&session.access).await.is_err() {
            return none();
        }
        let secs = session.expires.min(session.until).saturating_sub(now);
        page::with(answer::json(StatusCode::OK, &json!({ "expiresIn": secs })), cookies)
    }

    /// The session of a request at the gateway, renewed ahead of its end, and the cookies that say so.
    pub async fn renewed(
        self: &Arc<Self>,
        host: &str,
        headers: &HeaderMap,
        asker: (IpAddr, &str),
    ) -> Option<(Session, Vec<HeaderValue>)> {
        if self.sign_ins().is_empty() || headers.contains_key(http::header::AUTHORIZATION) {
            return None;
        }
        let (place, now) = (self.place(host)?, clock::now());
        let session = self.sign_ins().session(place, headers, now)?;
        session.refresh.as_ref()?;
        let ahead = AHEAD_SECS.min(session.expires.saturating_sub(session.from) / 4);
        if now + ahead < session.expires {
            return None;
        }
        let (client, request_id) = asker;
        match self.renew(place, &session, Asker { client, request_id }).await {
            Renewal::Done(session) => {
                let cookies = self.kept(&session, now).ok()?;
                Some((*session, cookies))
            }
            Renewal::Over | Renewal::Later => None,
        }
    }

    /// Renew a session. However many ask with one refresh token, it is used once, and goes on when
    /// whoever asked goes away.
    async fn renew(
        self: &Arc<Self>,
        place: Place<'_>,
        session: &Session,
        asker: Asker<'_>,
    ) -> Renewal {
        let Some(token) = session.refresh.clone() else { return Renewal::Over };
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let cell = self.renewals.get_with(key, Arc::default);
        let (desk, origin) = (Arc::clone(self), place.origin.host().to_owned());
        let (until, client, id) = (session.until, asker.client, asker.request_id.to_owned());
        let renewal = tokio::spawn(async move {
            let renewal = cell.get_or_init(|| async {
                let Some(place) = desk.sign_ins().at(&origin) else { return Renewal::Over };
                let asker = Asker { client, request_id: &id };
                desk.ask_again(place, &token, until, asker).await
            });
            let renewal = renewal.await.clone();
            if matches!(renewal, Renewal::Later) {
                desk.renewals.invalidate(&key);
            }
            renewal
        });
        renewal.await.unwrap_or(Renewal::Later)
    }

    async fn ask_again(
        &self,
        place: Place<'_>,
        token: &str,
        until: u64,
        asker: Asker<'_>,
    ) -> Renewal {
        let SignIn { product, config, provider } = &**place.sign_in;
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let told = match provider.tokens(self.ways(), config, &form, asker).await {
            Ok(told) => told,
            Err(Failed::Refused(error)) => {
                tracing::info!(product = %product, error, "a session is over");
                return Renewal::Over;
            }
            Err(Failed::Unreachable(error)) => {
                tracing::warn!(product = %product, error, "a session could not be renewed");
                return Renewal::Later;
            }
        };
        match self.session(place, &told, until).await {
            // An issuer that does not rotate gives none anew (RFC 6749, section 6).
            Ok(session) => Renewal::Done(Box::new(Session {
                refresh: session.refresh.or_else(|| Some(token.to_owned())),
                ..session
            })),
            Err(error) => {
                tracing::warn!(product = %product, error, "a renewed session does not hold");
                Renewal::Over
            }
        }
    }
}

fn unreachable(place: Place<'_>, visit: &Visit<'_>, failed: &Failed) -> Response<Bytes> {
    let product = &place.sign_in.product;
    match failed {
        Failed::Refused(error) => {
            tracing::info!(%product, error, "an issuer refused a code");
            let text = "The issuer did not sign you in.";
            page::told(visit.headers, page::REFUSED, text)
        }
        Failed::Unreachable(error) => {
            tracing::warn!(%product, error, "an issuer cannot be asked to sign somebody in");
            let text = "The issuer that signs you in cannot be reached. Wait a moment.";
            page::told(visit.headers, page::FAILED, text)
        }
    }
}

/// 32 random bytes, as text.
fn random() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(BASE64.encode(bytes))
}
