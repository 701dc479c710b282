//! `/v1/providers`, and `/v1/applications/{id}/providers`.
//!
//! That a list is a bare array without `page` and `limit`, and the codes of what is not found or
//! cannot change, are guesses.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    response::Response,
};
use http::{StatusCode, request::Parts};
use policy::model::name::AppId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Named, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    body::Fields,
    clock::rfc3339,
    error::Error,
    model::provider::{Category, Details, Link, Provider, Type, Use},
    problem::Wrong,
    providers::{self, Asked, AskedUse, Secrets},
};

/// The routes of providers.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(links, link))
        .routes(routes!(relink, unlink))
        .routes(routes!(prefer))
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

/// A shape that has, beside its own members, those that a provider is told beside its kind.
macro_rules! with_details {
    ($(#[$of:meta])* struct $name:ident { $($own:tt)* }) => {
        #[expect(dead_code, reason = "describes what is sent or answered")]
        #[derive(ToSchema)]
        $(#[$of])*
        #[serde(rename_all = "camelCase")]
        struct $name {
            $($own)*
            sub_type: Option<String>,
            method: Option<String>,
            client_id: Option<String>,
            client_id2: Option<String>,
            host: Option<String>,
            title: Option<String>,
            content: Option<String>,
            receiver: Option<String>,
            region_id: Option<String>,
            sign_name: Option<String>,
            template_code: Option<String>,
            app_id: Option<String>,
            endpoint: Option<String>,
            intranet_endpoint: Option<String>,
            domain: Option<String>,
            #[schema(minimum = 1, maximum = 65535)]
            port: Option<u64>,
            disable_ssl: Option<bool>,
            /// Of a request by a template, each as `Name: value`.
            #[schema(max_items = 16)]
            headers: Option<Vec<String>>,
        }
    };
}

with_details! {
    /// A way to deliver codes. Its secrets are never part of it, nor is what is empty.
    #[schema(as = Provider)]
    struct Told {
        id: uuid::Uuid,
        name: String,
        /// `Email` or `SMS`.
        category: String,
        /// `SMTP` or `SendGrid` for `Email`; `Twilio`, `Webhook` or `HTTP` for `SMS`.
        r#type: String,
        #[schema(format = DateTime)]
        created_at: String,
    }
}

with_details! {
    /// A provider to be made.
    #[serde(deny_unknown_fields)]
    struct NewProvider {
        /// `Email` or `SMS`.
        #[schema(min_length = 1, example = "Email")]
        category: String,
        /// `SMTP` or `SendGrid` for `Email`; `Twilio`, `Webhook` or `HTTP` for `SMS`.
        #[schema(min_length = 1, example = "SMTP")]
        r#type: String,
        #[schema(min_length = 1, max_length = 255, example = "Mail server")]
        name: String,
        /// Never read back.
        client_secret: Option<String>,
        /// Never read back.
        client_secret2: Option<String>,
    }
}

with_details! {
    /// What is to be changed of a provider; what is left out stays as it is.
    #[serde(deny_unknown_fields)]
    struct ProviderChange {
        #[schema(max_length = 255)]
        name: Option<String>,
        /// Never read back.
        client_secret: Option<String>,
        /// Never read back.
        client_secret2: Option<String>,
    }
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

/// An application's use of a provider.
#[expect(dead_code, reason = "describes `LinkWire`")]
#[expect(clippy::struct_excessive_bools, reason = "the original's members")]
#[derive(ToSchema)]
#[schema(as = ProviderLink)]
#[serde(rename_all = "camelCase")]
struct ToldLink {
    provider_id: uuid::Uuid,
    /// `Email` or `SMS`.
    category: String,
    r#type: String,
    can_sign_in: bool,
    can_sign_up: bool,
    can_unlink: bool,
    prompted: bool,
    alert_type: String,
    rule: String,
    /// Whether it comes before the application's others of its category.
    is_default: bool,
}

/// A provider that an application is to use. How it uses it is kept and told as it was given.
#[expect(dead_code, reason = "describes what `link` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewProviderLink {
    #[schema(format = Uuid, example = "0191e1a0-0000-7000-8000-000000000000")]
    provider_id: String,
    can_sign_in: Option<bool>,
    can_sign_up: Option<bool>,
    can_unlink: Option<bool>,
    prompted: Option<bool>,
    alert_type: Option<String>,
    rule: Option<String>,
}

/// What is to be changed of how an application uses a provider; what is left out stays as it is.
#[expect(dead_code, reason = "describes what `relink` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProviderLinkChange {
    can_sign_in: Option<bool>,
    can_sign_up: Option<bool>,
    can_unlink: Option<bool>,
    prompted: Option<bool>,
    alert_type: Option<String>,
    rule: Option<String>,
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
#[utoipa::path(get, path = "/v1/providers", tag = "providers", params(Paging),
    responses((status = 200, body = Listed<Told>, description = "The providers.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (all, total) = providers::list(&app, &by, page.window()).await?;
    Ok(page.answer(all.into_iter().map(Wire::from).collect(), total))
}

/// One provider.
#[utoipa::path(get, path = "/v1/providers/{id}", tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = Told, description = "The provider."),
        (status = 404, body = Wrong, description = "`IDE-1012` no such provider"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<ProviderId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(providers::get(&app, &by, &id.0).await?.into()))
}

/// Make a provider.
#[utoipa::path(post, path = "/v1/providers", tag = "providers", request_body = NewProvider,
    responses((status = 201, body = Told, description = "The provider, made.")))]
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
#[utoipa::path(patch, path = "/v1/providers/{id}", tag = "providers",
    request_body = ProviderChange,
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = Told, description = "The provider, changed."),
        (status = 400, body = Wrong, description = "`IDE-0011` category and type are as they were made"),
        (status = 404, body = Wrong, description = "`IDE-1012` no such provider"),
    ))]
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
#[utoipa::path(delete, path = "/v1/providers/{id}", tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 204, description = "The provider is gone, and no application uses it."),
        (status = 404, body = Wrong, description = "`IDE-1012` no such provider"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<ProviderId>,
) -> Result<StatusCode, Problem> {
    providers::remove(&app, &by, &id.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The providers that an application uses.
#[utoipa::path(get, path = "/v1/applications/{id}/providers", tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Vec<ToldLink>, description = "The providers."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn links(
    State(app): State<App>,
    by: Admin,
    Id(of): Id<AppId>,
) -> Result<Json<Vec<LinkWire>>, Problem> {
    let links = providers::links(&app, &by, &of).await?;
    Ok(Json(links.into_iter().map(LinkWire::from).collect()))
}

/// Let an application use a provider.
#[utoipa::path(post, path = "/v1/applications/{id}/providers", tag = "providers",
    request_body = NewProviderLink,
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 201, body = ToldLink, description = "How it uses the provider."),
        (status = 404, body = Wrong,
            description = "`IDE-1001` no such application; `IDE-1012` no such provider"),
    ))]
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
#[utoipa::path(patch, path = "/v1/applications/{id}/providers/{providerId}", tag = "providers",
    request_body = ProviderLinkChange,
    params(("id" = uuid::Uuid, Path, description = "The application."), ("providerId" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = ToldLink, description = "How it uses the provider now."),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-1012` it uses no such provider"),
    ))]
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
#[utoipa::path(patch, path = "/v1/applications/{id}/providers/{providerId}/default",
    tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("providerId" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = ToldLink, description = "How it uses the provider."),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-1012` it uses no such provider"),
    ))]
async fn prefer(
    State(app): State<App>,
    by: Admin,
    Ends(of, id): Ends,
) -> Result<Json<LinkWire>, Problem> {
    Ok(Json(providers::prefer(&app, &by, (&of, &id.0)).await?.into()))
}

/// Let an application use a provider no more.
#[utoipa::path(delete, path = "/v1/applications/{id}/providers/{providerId}",
    tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("providerId" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 204, description = "The application uses it no more."),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-1012` it uses no such provider"),
    ))]
async fn unlink(
    State(app): State<App>,
    by: Admin,
    Ends(of, id): Ends,
) -> Result<StatusCode, Problem> {
    providers::unlink(&app, &by, (&of, &id.0)).await?;
    Ok(StatusCode::NO_CONTENT)
}
