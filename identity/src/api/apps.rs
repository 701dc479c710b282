//! `/v1/applications`.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header::CACHE_CONTROL};
use policy::model::name::AppId;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use super::{
    auth::{Id, Sent},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    apps::{self, Shown},
    body::Fields,
    clock::rfc3339,
    error::Error,
    model::app::GrantType,
    registration::Asked,
};

/// The routes of applications.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/applications", get(list).post(create))
        .route("/v1/applications/{id}", get(show).patch(change).delete(remove))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: AppId,
    name: String,
    description: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    client_secret: Option<SecretString>,
    grant_types: Vec<&'static str>,
    redirect_uris: Vec<String>,
    post_logout_redirect_uris: Vec<String>,
    audiences: Vec<String>,
    public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_secs: Option<u64>,
    created_at: String,
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
            public: registration.public,
            access_token_secs: registration.access_token_secs,
            refresh_token_secs: registration.refresh_token_secs,
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
        public: fields.flag("public"),
        access_token_secs: fields.number("accessTokenSecs"),
        refresh_token_secs: fields.number("refreshTokenSecs"),
    }
}

/// An answer that may hold a secret is kept by nobody on the way.
pub fn unkept(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Applications of the organization.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (all, total) = apps::list(&app, &by, page.window()).await?;
    Ok(unkept(page.answer(all.into_iter().map(Wire::from).collect(), total)))
}

/// One application.
async fn show(State(app): State<App>, by: Admin, Id(id): Id<AppId>) -> Result<Response, Problem> {
    Ok(unkept(Json(Wire::from(apps::get(&app, &by, &id).await?))))
}

/// Make an application. Its secret is in the answer.
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

/// Remove an application.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<StatusCode, Problem> {
    apps::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
