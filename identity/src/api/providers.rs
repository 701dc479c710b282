//! `/v1/providers`, and `/v1/applications/{id}/providers`.
//!
//! That a list is a bare array without `page` and `limit`, and the codes of what is not found or
//! cannot change, are guesses.

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, State},
    response::Response,
    routing::{get, patch},
};
use http::{StatusCode, request::Parts};
use policy::model::name::AppId;
use serde::Serialize;

use super::{
    auth::{Id, Named, Sent},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    body::Fields,
    clock::rfc3339,
    error::Error,
    model::provider::{Category, Details, Link, Provider, Type, Use},
    providers::{self, Asked, AskedUse, Secrets},
};

/// The routes of providers.
pub fn router() -> Router<App> {
    const LINK: &str = "/v1/applications/{id}/providers/{providerId}";
    Router::new()
        .route("/v1/providers", get(list).post(create))
        .route("/v1/providers/{id}", get(show).patch(change).delete(remove))
        .route("/v1/applications/{id}/providers", get(links).post(link))
        .route(LINK, patch(relink).delete(unlink))
        .route("/v1/applications/{id}/providers/{providerId}/default", patch(prefer))
}

/// The id of a provider.
struct ProviderId(String);

impl Named for ProviderId {
    fn read(text: &str) -> Result<Self, Error> {
        let id = uuid::Uuid::try_parse(text).map_err(|_| Error::BadId("provider id"))?;
        Ok(Self(id.to_string()))
    }
}

/// The application and the provider in the path.
struct Ends(AppId, ProviderId);

impl FromRequestParts<App> for Ends {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((of, provider)) = path.map_err(|_| Error::BadId("id"))?;
        Ok(Self(AppId::read(&of)?, ProviderId::read(&provider)?))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    name: String,
    category: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    details: Details,
    created_at: String,
}

impl From<Provider> for Wire {
    fn from(provider: Provider) -> Self {
        Self {
            id: provider.id,
            name: provider.name,
            category: provider.kind.category().as_str(),
            kind: provider.kind.as_str(),
            details: provider.details,
            created_at: rfc3339(provider.created_at),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkWire {
    provider_id: String,
    category: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    with: Use,
    /// An addition to the original.
    is_default: bool,
}

impl From<Link> for LinkWire {
    fn from(Link { provider, with, is_default, .. }: Link) -> Self {
        Self {
            provider_id: provider.id,
            category: provider.kind.category().as_str(),
            kind: provider.kind.as_str(),
            with,
            is_default,
        }
    }
}

fn asked(fields: &mut Fields) -> Asked {
    let text = |name: &'static str| fields.text(name).map(|text| (name, text));
    let texts = Details::TEXTS.into_iter().filter_map(text).collect();
    Asked {
        name: fields.text("name"),
        texts,
        port: fields.number("port"),
        disable_ssl: fields.flag("disableSsl"),
        headers: fields.texts("headers"),
        secrets: Secrets {
            client_secret: fields.text("clientSecret"),
            client_secret2: fields.text("clientSecret2"),
        },
    }
}

fn asked_use(fields: &mut Fields) -> AskedUse {
    AskedUse {
        can_sign_in: fields.flag("canSignIn"),
        can_sign_up: fields.flag("canSignUp"),
        can_unlink: fields.flag("canUnlink"),
        prompted: fields.flag("prompted"),
        alert_type: fields.text("alertType"),
        rule: fields.text("rule"),
    }
}

/// Providers of the organization.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (all, total) = providers::list(&app, &by, page.window()).await?;
    Ok(page.answer(all.into_iter().map(Wire::from).collect(), total))
}

/// One provider.
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<ProviderId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(providers::get(&app, &by, &id.0).await?.into()))
}

/// Make a provider.
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let (category, kind) = (fields.need_text("category"), fields.need_text("type"));
    let name = fields.need_text("name");
    let asked = Asked { name: Some(name), ..asked(&mut fields) };
    fields.finish()?;
    let category = Category::named(&category)
        .ok_or_else(|| Error::rule("category", "it is `Email` or `SMS`"))?;
    let kind = Type::named(&kind).filter(|kind| kind.category() == category).ok_or_else(|| {
        Error::rule(
            "type",
            "`SMTP` or `SendGrid` for `Email`; `Twilio`, `Webhook` or `HTTP` for `SMS`",
        )
    })?;
    let made = providers::create(&app, &by, kind, asked).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Change a provider.
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<ProviderId>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    for name in ["category", "type"] {
        if fields.has(name) {
            return Err(Error::Fixed(name).into());
        }
    }
    let asked = asked(&mut fields);
    fields.finish()?;
    Ok(Json(providers::change(&app, &by, &id.0, asked).await?.into()))
}

/// Remove a provider.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<ProviderId>,
) -> Result<StatusCode, Problem> {
    providers::remove(&app, &by, &id.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The providers that an application uses.
async fn links(
    State(app): State<App>,
    by: Admin,
    Id(of): Id<AppId>,
) -> Result<Json<Vec<LinkWire>>, Problem> {
    let links = providers::links(&app, &by, &of).await?;
    Ok(Json(links.into_iter().map(LinkWire::from).collect()))
}

/// Let an application use a provider.
async fn link(
    State(app): State<App>,
    by: Admin,
    Id(of): Id<AppId>,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<LinkWire>), Problem> {
    let id = fields.need_text("providerId");
    let asked = asked_use(&mut fields);
    fields.finish()?;
    let id = ProviderId::read(&id)
        .map_err(|_| Error::rule("providerId", "it is the id of a provider"))?;
    let link = providers::link(&app, &by, (&of, &id.0), asked).await?;
    Ok((StatusCode::CREATED, Json(link.into())))
}

/// Change how an application uses a provider.
async fn relink(
    State(app): State<App>,
    by: Admin,
    Ends(of, id): Ends,
    Sent(mut fields): Sent,
) -> Result<Json<LinkWire>, Problem> {
    let asked = asked_use(&mut fields);
    fields.finish()?;
    Ok(Json(providers::relink(&app, &by, (&of, &id.0), asked).await?.into()))
}

/// Let a provider come first. The body is not read: that of the original is unknown.
async fn prefer(
    State(app): State<App>,
    by: Admin,
    Ends(of, id): Ends,
) -> Result<Json<LinkWire>, Problem> {
    Ok(Json(providers::prefer(&app, &by, (&of, &id.0)).await?.into()))
}

/// Let an application use a provider no more.
async fn unlink(
    State(app): State<App>,
    by: Admin,
    Ends(of, id): Ends,
) -> Result<StatusCode, Problem> {
    providers::unlink(&app, &by, (&of, &id.0)).await?;
    Ok(StatusCode::NO_CONTENT)
}
