//! `/v1/users/{id}/identities`: who a person is at the providers that people sign in through. The
//! original has none.

use axum::{Json, extract::State};
use http::StatusCode;
use policy::model::name::UserId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Ids, Sent},
    identity_providers::ProviderId,
    problem::Problem,
};
use crate::{
    admin::Admin, app::App, clock::rfc3339, identities, model::identity_provider::ExternalIdentity,
    problem::Wrong,
};

/// The routes of identities.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, remove))
}

/// Who a person is at a provider.
#[derive(Serialize, ToSchema)]
#[schema(as = ExternalIdentity)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(format = Uuid)]
    provider_id: String,
    /// `sub`: the provider's name for the person.
    subject: String,
    #[schema(format = DateTime)]
    linked_at: String,
}

/// Who a person is to be at a provider.
#[expect(dead_code, reason = "describes what `put` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct ExternalIdentityChange {
    /// `sub`: the provider's name for the person.
    #[schema(min_length = 1, max_length = 255)]
    subject: String,
}

impl From<ExternalIdentity> for Wire {
    fn from(identity: ExternalIdentity) -> Self {
        Self {
            provider_id: identity.provider,
            subject: identity.subject,
            linked_at: rfc3339(identity.created_at),
        }
    }
}

/// Who a person is at providers.
#[utoipa::path(get, path = "/v1/users/{id}/identities", operation_id = "list_identities",
    tag = "identity-providers",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 200, body = Vec<Wire>, description = "One for each provider, at most."),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn list(
    State(app): State<App>,
    by: Admin,
    Id(user): Id<UserId>,
) -> Result<Json<Vec<Wire>>, Problem> {
    let all = identities::list(&app, &by, &user).await?;
    Ok(Json(all.into_iter().map(Wire::from).collect()))
}

/// Let somebody at a provider be a person here, in the place of whoever was.
#[utoipa::path(put, path = "/v1/users/{id}/identities/{provider}", operation_id = "put_identity",
    tag = "identity-providers", request_body = ExternalIdentityChange,
    params(
        ("id" = uuid::Uuid, Path, description = "The person."),
        ("provider" = uuid::Uuid, Path, description = "The provider."),
    ),
    responses(
        (status = 200, body = Wire, description = "It is so."),
        (status = 201, body = Wire, description = "They were nobody there, and are now."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong,
            description = "`IDE-1003` no such user; `IDE-9051` no such identity provider"),
        (status = 409, body = Wrong, description = "`IDE-9053` the subject is somebody else here"),
    ))]
async fn put(
    State(app): State<App>,
    by: Admin,
    Ids(user, provider): Ids<UserId, ProviderId>,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let subject = fields.need_text("subject");
    fields.finish()?;
    let (identity, is_new) = identities::put(&app, &by, (&user, &provider.0), subject).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(identity.into())))
}

/// Let a person be nobody at a provider any more.
#[utoipa::path(delete, path = "/v1/users/{id}/identities/{provider}",
    operation_id = "remove_identity", tag = "identity-providers",
    params(
        ("id" = uuid::Uuid, Path, description = "The person."),
        ("provider" = uuid::Uuid, Path, description = "The provider."),
    ),
    responses(
        (status = 204, description = "They are nobody there."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong,
            description = "`IDE-1003` no such user; `IDE-9052` they are nobody there"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Ids(user, provider): Ids<UserId, ProviderId>,
) -> Result<StatusCode, Problem> {
    identities::remove(&app, &by, (&user, &provider.0)).await?;
    Ok(StatusCode::NO_CONTENT)
}
