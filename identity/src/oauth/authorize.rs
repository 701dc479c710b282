//! `GET` and `POST /oauth2/authorize` (RFC 6749, section 4.1; OpenID Connect Core, section 3.1.2), and
//! `POST /oauth2/sign-in`, to which our own page sends what somebody typed.
//!
//! What is wrong with the client or the address is told to the person, for there is nowhere to send
//! them; everything else is told to the client, at that address.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use policy::token::Kind;
use secrecy::SecretString;
use utoipa::ToSchema;

use super::{
    factor,
    form::Form,
    page::{self, DEVICE, REMEMBERED, SIGNED_IN, SignIn, Tie},
    passkey,
    refusal::Refusal,
};
use crate::{
    app::App,
    browsers::{self, Proved},
    codes::{self, Ask},
    devices,
    error::Error,
    external, forgotten, grants, login,
    mfa::{self, Need, challenge},
    model::{
        app::{Client, GrantType},
        browser::Browser,
        grant::Grant,
    },
    origin::Origin,
    tokens,
};

/// The longest `state` and `nonce`, in bytes.
const LONGEST: usize = 2048;
/// What a form of the page is for.
const PURPOSE: &str = "sign-in";
/// Parameters that must not stand twice, or nobody can be sent anywhere.
const WHITHER: [&str; 3] = ["client_id", "redirect_uri", "state"];

/// A request that can be answered.
pub struct Request {
    pub client: Client,
    pub redirect_uri: String,
    state: Option<String>,
    challenge: String,
    nonce: Option<String>,
    grant: Grant,
    prompt: Prompt,
    /// How old a sign-in may be, in seconds.
    pub max_age: Option<u64>,
    /// Who should be signed in.
    subject: Option<String>,
    /// Whether two factors are to be shown, by whoever has two (`acr_values`).
    pub strong: bool,
    pub username: String,
}

/// Whether to ask the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    /// If nobody is signed in.
    Needed,
    Never,
    Always,
}

/// Where to answer.
struct Back<'a> {
    redirect_uri: &'a str,
    state: Option<&'a str>,
}

impl Back<'_> {
    /// Send the person back with these parameters; who sends, and the client's own words, are always
    /// there (RFC 9207).
    fn send(&self, app: &App, parameters: &[(&str, &str)]) -> Response {
        let mut all = parameters.to_vec();
        all.extend(self.state.map(|state| ("state", state)));
        all.push(("iss", &app.config.issuer));
        page::send(self.redirect_uri, &all)
    }

    fn refuse(&self, app: &App, refusal: &Refusal) -> Response {
        let said = [("error", refusal.error), ("error_description", &*refusal.description)];
        self.send(app, &said)
    }
}

/// A request for a code (RFC 6749, section 4.1.1; OpenID Connect Core, section 3.1.2.1).
#[expect(dead_code, reason = "describes what is read of a request")]
#[derive(utoipa::IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct AuthorizationRequest {
    client_id: String,
    /// One that is registered for the application: compared as text.
    redirect_uri: String,
    /// `code`.
    response_type: String,
    /// PKCE (RFC 7636).
    code_challenge: String,
    /// `S256`.
    code_challenge_method: String,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    prompt: Option<String>,
    max_age: Option<u64>,
    login_hint: Option<String>,
    id_token_hint: Option<String>,
    /// `aal2` asks for two factors.
    acr_values: Option<String>,
    /// RFC 8707. There may be several.
    resource: Option<String>,
    response_mode: Option<String>,
}

/// What somebody typed on the sign-in page.
#[expect(dead_code, reason = "describes what `sign_in` takes")]
#[derive(ToSchema)]
struct SignInForm {
    /// The parameters of the request for a code.
    request: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    username: Option<String>,
    #[schema(format = Password)]
    password: Option<String>,
}

/// Ask for a code.
#[utoipa::path(get, path = "/oauth2/authorize", tag = "pages", security(()),
    params(AuthorizationRequest),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The sign-in page."),
        (status = 303, description = "Back to the application, with a code or with what is wrong."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong, where it is not clear whom else to tell."),
    ))]
pub async fn ask(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    match answer(&app, &headers, &query).await {
        Ok(response) | Err(response) => response,
    }
}

/// The same by `POST`, whose body is the query. The browser is sent round once more, for from another
/// site it brings no cookies along.
#[utoipa::path(post, path = "/oauth2/authorize", tag = "pages", security(()),
    request_body(content = AuthorizationRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "The same by a link."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
    ))]
pub async fn ask_again(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    match Form::of_body(&app, &headers, body).await {
        Ok(form) => {
            let again = format!("/oauth2/authorize?{}", form.query());
            page::send(&again, &[])
        }
        Err(refusal) => page::refuse(&refusal.description),
    }
}

async fn answer(app: &App, headers: &HeaderMap, query: &str) -> Result<Response, Response> {
    let request = read(app, &Form::of_query(query)).await?;
    if request.prompt != Prompt::Always
        && let Some(browser) = signed_in(app, headers, &request).await.map_err(page::fault)?
        && let Some(response) = give(app, &request, &browser).await?
    {
        return Ok(response);
    }
    if request.prompt == Prompt::Never {
        let refusal = Refusal::of("login_required", "nobody is signed in, or not recently enough");
        return Err(request.back().refuse(app, &refusal));
    }
    show(app, headers, (&request, query), (&request.username, None)).await
}

/// What somebody typed on our page.
#[utoipa::path(post, path = "/oauth2/sign-in", tag = "pages", security(()),
    request_body(content = SignInForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "The page that asks for a second factor."),
        (status = 303, description = "Back to the application, with a code."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The sign-in page again: the user name or password is wrong."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many sign-ins from there have failed."),
    ))]
pub async fn sign_in(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match typed(&app, &origin, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn typed(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let (form, query) = page::typed(app, headers, body, (PURPOSE, "request")).await?;
    let query = &*query;
    let request = read(app, &Form::of_query(query)).await?;
    let username = form.get("username").unwrap_or_default();
    let password = SecretString::from(form.get("password").unwrap_or_default());
    let client = &request.client;
    let before = page::cookie(headers, SIGNED_IN);
    let device = page::cookie(headers, REMEMBERED).filter(|_| !request.strong);
    let done = async {
        let (user, hash) = login::prove(app, client, (username, &password), origin).await?;
        let (need, remembered) = login::need(app, client, &user, device).await?;
        if !remembered && !matches!(need, Need::Nothing) {
            return Ok(Err(challenge::ask(app, client, (&user, &hash), &need).await?));
        }
        let proved = Proved::Password { hash: &hash, remembered };
        Ok(Ok(browsers::sign_in(app, &client.org, (&user, &proved), before).await?))
    };
    match done.await {
        Ok(Ok(done)) => signed(app, &request, done).await,
        Ok(Err(asked)) => factor::begin(app, headers, (&request, query), asked).await,
        // Removed, or changed, while the password was being compared.
        Err(Error::InvalidCredentials | Error::Conflict) => {
            let said = Some("The user name or password is wrong.");
            show(app, headers, (&request, query), (username, said)).await
        }
        Err(error) => Err(page::fault(error)),
    }
}

/// Send somebody on who has just signed in.
///
/// # Errors
///
/// The answer, where the fault is ours.
pub async fn signed(
    app: &App,
    request: &Request,
    (browser, cookie): (Browser, String),
) -> Result<Response, Response> {
    let mut response = if request.is_meant(&browser) {
        give(app, request, &browser).await?.unwrap_or_else(|| page::fault(Error::Busy))
    } else {
        let refusal = Refusal::of("login_required", "somebody else signed in");
        request.back().refuse(app, &refusal)
    };
    hand(app, &mut response, (&browser, &cookie)).map_err(page::fault)?;
    Ok(response)
}

/// Hand the browser the cookies of somebody who has just signed in.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn hand(
    app: &App,
    response: &mut Response,
    (browser, cookie): (&Browser, &str),
) -> Result<(), Error> {
    page::set_cookie(response, SIGNED_IN, cookie);
    let org = browsers::org_of(cookie).ok_or(Error::InvalidCredentials)?;
    let device = devices::make(app, &org, &browser.user)?;
    page::keep_cookie(response, DEVICE, &device, Some(devices::LIFETIME));
    Ok(())
}

/// Who is signed in here, if that is recent enough and whom the client means.
async fn signed_in(
    app: &App,
    headers: &HeaderMap,
    request: &Request,
) -> Result<Option<Browser>, Error> {
    let Some(cookie) = page::cookie(headers, SIGNED_IN) else { return Ok(None) };
    let browser = browsers::find(app, &request.client.org, cookie).await?;
    let now = app.clock.now();
    let recent = |browser: &Browser| {
        request.max_age.is_none_or(|age| now < browser.auth_time.saturating_add(age))
    };
    let Some(browser) = browser.filter(|browser| recent(browser) && request.is_meant(browser))
    else {
        return Ok(None);
    };
    if browser.methods.several() || browser.remembered && !request.strong {
        return Ok(Some(browser));
    }
    // Something may be asked for by now that was not when they signed in.
    let mut tx = app.store.read(&request.client.org).await?;
    let Some(user) = tx.user(&browser.user).await? else { return Ok(None) };
    Ok(matches!(mfa::need(&mut tx, &user).await?, Need::Nothing).then_some(browser))
}

/// Send somebody back with a code; `None` if they were signed out meanwhile.
async fn give(
    app: &App,
    request: &Request,
    browser: &Browser,
) -> Result<Option<Response>, Response> {
    let ask = Ask {
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
        nonce: request.nonce.clone(),
        grant: request.grant.clone(),
    };
    match codes::give(app, &request.client, browser, ask).await {
        Ok(code) => Ok(Some(request.back().send(app, &[("code", &code)]))),
        Err(Error::Conflict) => Ok(None),
        Err(error) => Err(page::fault(error)),
    }
}

/// Show the page.
///
/// # Errors
///
/// When the system has no random bytes, or the database fails.
pub async fn show(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (username, said): (&str, Option<&str>),
) -> Result<Response, Response> {
    let tie = Tie::of(headers).map_err(page::fault)?;
    let passkey = passkey::form(app, (&tie, query), &request.client.org, (None, &[]), "");
    let passkey = passkey.map_err(page::fault)?;
    let asks = passkey.is_some();
    let page = SignIn {
        style: page::style(),
        application: &request.client.name,
        said,
        request: query,
        csrf: &tie.token(app, PURPOSE, query),
        username,
        forgotten: forgotten::offered(app, &request.client).await.map_err(page::fault)?,
        passkey,
        offers: &external::offers(app, &request.client.org).await.map_err(page::fault)?,
    };
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::show_asking((status, asks), &page, Some(&request.redirect_uri));
    tie.hand(&mut response);
    Ok(response)
}

impl Request {
    fn back(&self) -> Back<'_> {
        Back { redirect_uri: &self.redirect_uri, state: self.state.as_deref() }
    }

    /// Whether somebody who is signed in is to sign in once more.
    pub fn asks_anew(&self) -> bool {
        self.prompt == Prompt::Always
    }

    fn is_meant(&self, browser: &Browser) -> bool {
        self.subject.as_deref().is_none_or(|subject| subject == browser.user.as_str())
    }
}

/// Read a request; what is wrong with it is answered where it can be.
///
/// # Errors
///
/// The answer.
pub async fn read(app: &App, form: &Form) -> Result<Request, Response> {
    if let Some(name) = WHITHER.into_iter().find(|name| form.repeats(name)) {
        return Err(page::refuse(&format!("`{name}` stands twice")));
    }
    let missing = |name| page::refuse(&format!("`{name}` is missing"));
    let id = form.get("client_id").ok_or_else(|| missing("client_id"))?;
    let known = app.store.client(id).await.map_err(|error| page::fault(error.into()))?;
    let redirect_uri = form.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    // Text for text: no address looks like another (RFC 9700, section 4.1.3).
    let client = known
        .filter(|client| client.registration.redirect_uris.iter().any(|held| held == redirect_uri))
        .ok_or_else(|| page::refuse("`redirect_uri` is not registered for that `client_id`"))?;
    let state = form.get("state");
    if state.is_some_and(|state| state.len() > LONGEST) {
        return Err(page::refuse("`state` is too long"));
    }
    let back = Back { redirect_uri, state };
    let wanted = wanted(app, &client, form).map_err(|refusal| back.refuse(app, &refusal))?;
    let Wanted { challenge, nonce, grant, prompt, max_age, subject, strong } = wanted;
    Ok(Request {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        username: form.get("login_hint").unwrap_or_default().to_owned(),
        client,
        challenge,
        nonce,
        grant,
        prompt,
        max_age,
        subject,
        strong,
    })
}

/// What a client wants, once it is clear who it is and where it is answered.
struct Wanted {
    challenge: String,
    nonce: Option<String>,
    grant: Grant,
    prompt: Prompt,
    max_age: Option<u64>,
    subject: Option<String>,
    strong: bool,
}

fn wanted(app: &App, client: &Client, form: &Form) -> Result<Wanted, Refusal> {
    login::permitted(client, GrantType::AuthorizationCode)?;
    if form.repeated().is_some() {
        return Err(Refusal::invalid_request("a parameter stands twice"));
    }
    for (name, error) in
        [("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")]
    {
        if form.get(name).is_some() {
            return Err(Refusal::of(error, format!("`{name}` is not supported")));
        }
    }
    if form.need("response_type")? != "code" {
        return Err(Refusal::of("unsupported_response_type", "`response_type` must be `code`"));
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(Refusal::invalid_request("`response_mode` must be `query`"));
    }
    let challenge = form.need("code_challenge")?;
    // Left out it would mean `plain`, which proves nothing to whoever reads along.
    if form.get("code_challenge_method") != Some("S256") {
        return Err(Refusal::invalid_request("`code_challenge_method` must be `S256`"));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if challenge.len() != 43 || !challenge.bytes().all(good) {
        let what = "`code_challenge` must be the SHA-256 of the verifier in base64url";
        return Err(Refusal::invalid_request(what));
    }
    let nonce = form.get("nonce");
    let plain =
        |text: &str| text.len() <= LONGEST && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if nonce.is_some_and(|nonce| !plain(nonce)) {
        return Err(Refusal::invalid_request("`nonce` is too long, or not ASCII"));
    }
    let max_age = form.get("max_age").map(str::parse).transpose();
    let max_age = max_age.map_err(|_| Refusal::invalid_request("`max_age` must be a number"))?;
    let hint = form.get("id_token_hint").map(|hint| {
        app.ring.load().verifier.verify(hint, Kind::Id, app.clock.now()).map(|claims| claims.sub)
    });
    let subject = hint
        .transpose()
        .map_err(|_| Refusal::invalid_request("`id_token_hint` is no ID token of this service"))?;
    // In the order of preference: what comes after the lower one is not asked for (OpenID Connect Core,
    // section 3.1.2.1).
    let strong = form.get("acr_values").and_then(|values| {
        values.split(' ').find(|value| tokens::ACRS.contains(value)).map(|value| value == "aal2")
    });
    let scope = form.scope()?.unwrap_or_default();
    let audiences = grants::audiences(app, client, &form.resources())?;
    Ok(Wanted {
        challenge: challenge.to_owned(),
        nonce: nonce.map(str::to_owned),
        grant: Grant { scope, audiences },
        prompt: prompt(form.get("prompt").unwrap_or_default())?,
        max_age,
        subject,
        strong: strong.unwrap_or(false),
    })
}

fn prompt(text: &str) -> Result<Prompt, Refusal> {
    let mut prompt = Prompt::Needed;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match word {
            "none" if text.trim() == "none" => prompt = Prompt::Never,
            "login" | "select_account" => prompt = Prompt::Always,
            // Applications are the organization's own: it has consented.
            "consent" => {}
            _ => return Err(Refusal::invalid_request("`prompt` is not understood")),
        }
    }
    Ok(prompt)
}
