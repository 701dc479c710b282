//! The token endpoints.
//!
//! JSON in the spelling of the products' client library, or a form in that of RFC 6749. The answer
//! has both spellings, for the older clients read the one and the newer the other.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, PRAGMA},
};
use policy::model::name::UserId;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::Refusal;
use crate::{
    app::App,
    body::{self, Fields, Media},
    error::{BodyFault, Error},
    login::{self, ClientCredentials, Entered},
    mfa::challenge::Asked,
    model::{app::Client, factor::FactorKind},
    origin::Origin,
    problem::Wrong,
    tokens::Issued,
};

/// RFC 6749's names, and ours.
const FORM: [(&str, &str); 4] = [
    ("grant_type", "grantType"),
    ("client_id", "clientId"),
    ("client_secret", "clientSecret"),
    ("refresh_token", "refreshToken"),
];

/// A request for a token. Which members there are depends on the grant.
#[expect(dead_code, reason = "describes what `grant` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenRequest {
    /// `password`, `client_credentials` or `refresh_token`.
    #[schema(min_length = 1, example = "client_credentials")]
    grant_type: String,
    /// For `password`: a user name or an e-mail address.
    username: Option<String>,
    /// For `password`.
    #[schema(format = Password)]
    password: Option<String>,
    /// For `client_credentials`; otherwise the default application is meant if it is left out.
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
    /// For `refresh_token`.
    refresh_token: Option<String>,
    /// Taken and not looked at.
    scope: Option<String>,
    /// For `password`: of a device that was remembered.
    device_token: Option<String>,
}

/// The same as a form, in the names of RFC 6749. Those of the JSON are understood here, too.
#[expect(dead_code, reason = "describes what `grant` takes")]
#[derive(ToSchema)]
struct TokenRequestForm {
    #[schema(min_length = 1)]
    grant_type: String,
    username: Option<String>,
    #[schema(format = Password)]
    password: Option<String>,
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

/// A refresh token, and whose it is.
#[expect(dead_code, reason = "describes what `refresh` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshRequest {
    #[schema(min_length = 1)]
    refresh_token: String,
    /// With the secret, or not at all.
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
    /// Taken and not looked at.
    scope: Option<String>,
}

/// The same as a form, in the names of RFC 6749.
#[expect(dead_code, reason = "describes what `refresh` takes")]
#[derive(ToSchema)]
struct RefreshRequestForm {
    #[schema(min_length = 1)]
    refresh_token: String,
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
    scope: Option<String>,
}

/// Tokens, in both spellings.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub struct Wire {
    #[serde(rename = "accessToken")]
    access: String,
    #[serde(rename = "idToken", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    #[serde(rename = "tokenType")]
    kind: &'static str,
    /// Seconds.
    #[serde(rename = "expiresIn")]
    expires_in: u64,
    #[serde(rename = "refreshToken", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<String>,
    /// Of a device that is remembered from now on.
    #[serde(rename = "deviceToken", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device_token: Option<String>,
    #[serde(flatten)]
    snake: Snake,
}

/// The same in the other spelling.
#[derive(Serialize, ToSchema)]
#[schema(as = TokensInSnakeCase)]
struct Snake {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id_token: Option<String>,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token: Option<String>,
}

/// What is answered instead of tokens. Of the original's answer `mfaToken` alone is known.
#[derive(Serialize, ToSchema)]
#[schema(as = MfaChallenge)]
#[serde(rename_all = "camelCase")]
struct Challenge {
    mfa_token: String,
    methods: Vec<&'static str>,
    preferred_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Whether a first factor is to be set up, by this token and for that person.
    enrolment_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>, nullable = false)]
    user_id: Option<UserId>,
}

/// Tokens; or for a person of whom a second factor is asked, a challenge.
#[expect(dead_code, reason = "describes what `grant` answers")]
#[derive(ToSchema)]
#[schema(as = TokensOrChallenge)]
#[serde(untagged)]
enum Answered {
    Tokens(Wire),
    Challenge(Challenge),
}

impl From<Asked> for Challenge {
    fn from(asked: Asked) -> Self {
        Self {
            mfa_token: asked.token,
            methods: asked.factors.into_iter().map(FactorKind::as_str).collect(),
            preferred_type: asked.preferred.map_or("", FactorKind::as_str),
            expires_in: asked.expires_in,
            enrolment_required: asked.enrol.is_some(),
            user_id: asked.enrol,
        }
    }
}

/// Answer with tokens, and with that of a device that is remembered from now on.
pub fn answer(issued: Issued, device_token: Option<String>) -> Response {
    let Issued { access, id, refresh, expires_in, scope } = issued;
    let kind = "Bearer";
    let snake = Snake {
        access_token: access.clone(),
        id_token: id.clone(),
        token_type: kind,
        expires_in,
        refresh_token: refresh.clone(),
    };
    let wire = Wire { access, id, kind, expires_in, refresh, scope, device_token, snake };
    unkept(&wire)
}

fn unkept(wire: &impl Serialize) -> Response {
    let mut response = Json(wire).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Ask for a token by any grant.
#[utoipa::path(post, path = "/v1/login/oauth/access_token", tag = "sign-in", security(()),
    request_body(content(
        (TokenRequest = "application/json"),
        (TokenRequestForm = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, body = Answered, description = "The tokens, or a challenge."),
        (status = 400, body = Wrong, description =
            "`AUT-0013` no such grant; `AUT-0014` members of that grant are missing; `AUT-1001` the \
             application may not use it; `AUT-1005` the refresh token is invalid, expired or revoked"),
        (status = 401, body = Wrong, description =
            "`AUT-1002` the user name or password is wrong; `AUT-1004` the client id or secret is wrong"),
    ))]
pub async fn grant(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let mut fields = read(&app, &headers, body).await?;
    let grant_type = fields.need_text("grantType");
    // A scope may be asked for; what is given does not depend on it, and the answer says what it is.
    fields.text("scope");
    let issued = match grant_type.as_str() {
        "password" => match by_password(&app, fields, &origin).await? {
            Entered::In(issued) => issued,
            Entered::Asked(asked) => return Ok(unkept(&Challenge::from(asked))),
        },
        "client_credentials" => by_client(&app, fields, &origin).await?,
        "refresh_token" => by_refresh(&app, fields, &origin).await?,
        "" => return Err(BodyFault::Missing(vec!["grantType".to_owned()]).into()),
        _ => return Err(Error::UnknownGrantType.into()),
    };
    Ok(answer(issued, None))
}

/// Exchange a refresh token. It is good once, and its answer brings the next.
#[utoipa::path(post, path = "/v1/login/oauth/refresh_token", tag = "sign-in", security(()),
    request_body(content(
        (RefreshRequest = "application/json"),
        (RefreshRequestForm = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, body = Wire, description = "The tokens."),
        (status = 400, body = Wrong, description =
            "`AUT-0014` client id or secret is missing; `AUT-1001` the application may not refresh; \
             `AUT-1005` the refresh token is invalid, expired or revoked"),
        (status = 401, body = Wrong, description = "`AUT-1004` the client id or secret is wrong"),
    ))]
pub async fn refresh(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let mut fields = read(&app, &headers, body).await?;
    let token = fields.need_text("refreshToken");
    fields.text("scope");
    let said = client_fields(&mut fields);
    fields.finish()?;
    let client = client(&app, said?, &origin).await?;
    Ok(answer(login::refresh(&app, client.as_ref(), &token, None).await?, None))
}

async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Fields, BodyFault> {
    if body::media(headers)? == Media::Json {
        return body::json(&app.config, headers, body).await;
    }
    let mut fields = body::form(&app.config, headers, body).await?;
    fields.rename(&FORM);
    Ok(fields)
}

async fn by_password(app: &App, mut fields: Fields, origin: &Origin) -> Result<Entered, Error> {
    let username = fields.need_text("username");
    let password = SecretString::from(fields.need_text("password"));
    let device = fields.text("deviceToken");
    let said = client_fields(&mut fields);
    fields.finish_grant()?;
    let client = match client(app, said?, origin).await? {
        Some(client) => client,
        None => login::default_client(app).await?,
    };
    let person = (username.as_str(), &password);
    login::password(app, &client, person, (None, device.as_deref()), origin).await
}

async fn by_client(app: &App, mut fields: Fields, origin: &Origin) -> Result<Issued, Error> {
    let said = ClientCredentials {
        id: fields.need_text("clientId"),
        secret: SecretString::from(fields.need_text("clientSecret")),
    };
    fields.finish_grant()?;
    login::machine(app, &login::client(app, &said, origin).await?, None).await
}

async fn by_refresh(app: &App, mut fields: Fields, origin: &Origin) -> Result<Issued, Error> {
    let token = fields.need_text("refreshToken");
    let said = client_fields(&mut fields);
    fields.finish_grant()?;
    let client = client(app, said?, origin).await?;
    login::refresh(app, client.as_ref(), &token, None).await
}

/// What the client says of itself: both id and secret, or neither.
fn client_fields(fields: &mut Fields) -> Result<Option<ClientCredentials>, Error> {
    match (fields.text("clientId"), fields.text("clientSecret")) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => {
            Ok(Some(ClientCredentials { id, secret: SecretString::from(secret) }))
        }
        (None, Some(_)) => Err(Error::GrantFields(vec!["clientId".to_owned()])),
        (Some(_), None) => Err(Error::GrantFields(vec!["clientSecret".to_owned()])),
    }
}

async fn client(
    app: &App,
    said: Option<ClientCredentials>,
    origin: &Origin,
) -> Result<Option<Client>, Error> {
    match said {
        Some(said) => Ok(Some(login::client(app, &said, origin).await?)),
        None => Ok(None),
    }
}
