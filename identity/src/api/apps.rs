//! `/v1/applications`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CACHE_CONTROL};
use policy::model::name::AppId;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    apps::{self, Shown},
    body::Fields,
    clock::rfc3339,
    error::Error,
    keys::Algorithm,
    model::app::GrantType,
    problem::Wrong,
    registration::Asked,
};

/// The routes of applications.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// An application: a machine with credentials of its own, or what people sign in through.
#[derive(Serialize, ToSchema)]
#[schema(as = Application)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = uuid::Uuid)]
    id: AppId,
    /// The product it was made for, or what people know it by.
    name: String,
    description: String,
    client_id: String,
    /// When it is made; and later where the installation lets secrets be read back, to whoever may.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    #[schema(value_type = Option<String>, nullable = false)]
    client_secret: Option<SecretString>,
    /// How it may ask for tokens.
    grant_types: Vec<&'static str>,
    /// Where people may be sent back to after a sign-in: compared as text.
    redirect_uris: Vec<String>,
    /// The same after a log-out.
    post_logout_redirect_uris: Vec<String>,
    /// The resources (RFC 8707) that it may have tokens for, beside this installation.
    audiences: Vec<String>,
    /// Where it is told that a sign-in has ended (OpenID Connect Back-Channel Logout).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    backchannel_logout_uri: Option<String>,
    /// Whether it is to be told which. It always is.
    backchannel_logout_session_required: bool,
    /// Whether it can keep no secret, as what runs in a browser cannot.
    public: bool,
    /// The lifetime of its access tokens, where it has one of its own; seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    access_token_secs: Option<u64>,
    /// The same of its refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token_secs: Option<u64>,
    /// What its tokens are signed with, where it says: `RS256`, `ES256` or `EdDSA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    signing_algorithm: Option<&'static str>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// An application to be made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewApplication {
    /// A product that it acts for; any text, for one that people sign in through and that does not
    /// act for itself.
    #[schema(min_length = 1, max_length = 255, example = "midaz")]
    name: String,
    #[schema(min_length = 1, max_length = 255, example = "Nightly settlement")]
    description: String,
    /// `authorization_code`, `client_credentials`, `refresh_token`, `password`.
    #[schema(min_items = 1)]
    grant_types: Option<Vec<String>>,
    #[schema(max_items = 20)]
    redirect_uris: Option<Vec<String>>,
    #[schema(max_items = 20)]
    post_logout_redirect_uris: Option<Vec<String>>,
    #[schema(max_items = 20)]
    audiences: Option<Vec<String>>,
    /// Where it is told that a sign-in has ended; an empty one is none.
    #[schema(max_length = 1024)]
    backchannel_logout_uri: Option<String>,
    backchannel_logout_session_required: Option<bool>,
    public: Option<bool>,
    /// The lifetime of its access tokens; seconds.
    access_token_secs: Option<u64>,
    /// The lifetime of its refresh tokens; seconds.
    refresh_token_secs: Option<u64>,
    /// What its tokens are signed with: `RS256`, `ES256` or `EdDSA`; `null` as the installation's. A key of
    /// another algorithm is published at once, and signs a day later.
    signing_algorithm: Option<String>,
}

/// What is to be changed of an application: at least one of these. What is left out stays as it is.
#[expect(dead_code, reason = "describes what `change` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApplicationChange {
    #[schema(max_length = 255)]
    description: Option<String>,
    #[schema(min_items = 1)]
    grant_types: Option<Vec<String>>,
    #[schema(max_items = 20)]
    redirect_uris: Option<Vec<String>>,
    #[schema(max_items = 20)]
    post_logout_redirect_uris: Option<Vec<String>>,
    #[schema(max_items = 20)]
    audiences: Option<Vec<String>>,
    /// Where it is told that a sign-in has ended; an empty one is none.
    #[schema(max_length = 1024)]
    backchannel_logout_uri: Option<String>,
    backchannel_logout_session_required: Option<bool>,
    public: Option<bool>,
    /// The lifetime of its access tokens; seconds.
    access_token_secs: Option<u64>,
    /// The lifetime of its refresh tokens; seconds.
    refresh_token_secs: Option<u64>,
    /// What its tokens are signed with: `RS256`, `ES256` or `EdDSA`; `null` as the installation's. A key of
    /// another algorithm is published at once, and signs a day later.
    signing_algorithm: Option<String>,
}

/// The one place where a secret is written out: to whoever may see it.
#[expect(clippy::ref_option, reason = "serde hands the field as it is")]
pub fn exposed<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(to)
}

impl From<Shown> for Wire {
    fn from((app, client_secret): Shown) -> Self {
        let registration = app.registration;
        Self {
            id: app.id,
            name: app.name,
            description: app.description,
            client_id: app.client_id,
            client_secret,
            grant_types: registration.grant_types.into_iter().map(GrantType::as_str).collect(),
            redirect_uris: registration.redirect_uris,
            post_logout_redirect_uris: registration.post_logout_redirect_uris,
            audiences: registration.audiences,
            backchannel_logout_uri: registration.backchannel_logout_uri,
            backchannel_logout_session_required: registration.backchannel_logout_session_required,
            public: registration.public,
            access_token_secs: registration.access_token_secs,
            refresh_token_secs: registration.refresh_token_secs,
            signing_algorithm: registration.signing_algorithm.map(Algorithm::as_str),
            created_at: rfc3339(app.created_at),
        }
    }
}

/// What a body says of the application as a client.
fn asked(fields: &mut Fields) -> Asked {
    Asked {
        grant_types: fields.texts("grantTypes"),
        redirect_uris: fields.texts("redirectUris"),
        post_logout_redirect_uris: fields.texts("postLogoutRedirectUris"),
        audiences: fields.texts("audiences"),
        backchannel_logout_uri: fields.text("backchannelLogoutUri"),
        backchannel_logout_session_required: fields.flag("backchannelLogoutSessionRequired"),
        public: fields.flag("public"),
        access_token_secs: fields.number("accessTokenSecs"),
        refresh_token_secs: fields.number("refreshTokenSecs"),
        signing_algorithm: fields.text_or_none("signingAlgorithm"),
    }
}

/// An answer that may hold a secret is kept by nobody on the way.
pub fn unkept(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Applications of the organization.
#[utoipa::path(get, path = "/v1/applications", tag = "applications", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The applications.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (all, total) = apps::list(&app, &by, page.window()).await?;
    Ok(unkept(page.answer(all.into_iter().map(Wire::from).collect(), total)))
}

/// One application.
#[utoipa::path(get, path = "/v1/applications/{id}", tag = "applications",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Wire, description = "The application."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn show(State(app): State<App>, by: Admin, Id(id): Id<AppId>) -> Result<Response, Problem> {
    Ok(unkept(Json(Wire::from(apps::get(&app, &by, &id).await?))))
}

/// Make an application. Its secret is in the answer.
#[utoipa::path(post, path = "/v1/applications", tag = "applications", request_body = NewApplication,
    responses(
        (status = 201, body = Wire, description = "The application, made."),
        (status = 400, body = Wrong, description = "`IDE-0012` there is no such product"),
        (status = 403, body = Wrong, description =
            "`IDE-9002` the application would be permitted more than the caller may do"),
    ))]
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    let name = fields.need_text("name");
    let description = fields.need_text("description");
    let asked = asked(&mut fields);
    fields.finish()?;
    let made = apps::create(&app, &by, name, description, asked).await?;
    Ok(unkept((StatusCode::CREATED, Json(Wire::from(made)))))
}

/// Describe an application anew, or register it anew.
#[utoipa::path(patch, path = "/v1/applications/{id}", tag = "applications",
    request_body = ApplicationChange,
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Wire, description = "The application, changed."),
        (status = 400, body = Wrong, description =
            "`IDE-0010` name, client id and secret cannot be changed; `IDE-0012` there is no product \
             of its name that it could act for"),
        (status = 403, body = Wrong, description =
            "`IDE-9002` the application would be permitted more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    for name in ["name", "clientId", "clientSecret"] {
        if fields.has(name) {
            return Err(Error::Immutable(name).into());
        }
    }
    let asked = asked(&mut fields);
    // Whoever says nothing else has to say this.
    let description = if asked.is_empty() {
        Some(fields.need_text("description"))
    } else {
        fields.text("description")
    };
    fields.finish()?;
    Ok(unkept(Json(Wire::from(apps::change(&app, &by, &id, description, asked).await?))))
}

/// Remove an application. Its tokens, and the sign-ins made through it, are refused everywhere before
/// this is answered.
#[utoipa::path(delete, path = "/v1/applications/{id}", tag = "applications",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 204, description = "The application is gone."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
        (status = 409, body = Wrong, description = "`IDE-9010` it is needed to sign in"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<StatusCode, Problem> {
    apps::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
