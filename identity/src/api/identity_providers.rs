//! `/v1/identity-providers`: providers that people sign in through. The original has none.

use std::collections::BTreeMap;

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use policy::model::name::GroupName;
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
    identity_providers::{self, Asked},
    model::identity_provider::{Claims, Details, IdentityProvider},
    problem::Wrong,
};

/// The routes of identity providers.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// The id of an identity provider.
pub struct ProviderId(pub String);

impl Named for ProviderId {
    fn read(text: &str) -> Result<Self, Error> {
        let id = uuid::Uuid::try_parse(text).map_err(|_| Error::BadId("identity provider id"))?;
        Ok(Self(id.to_string()))
    }
}

/// A provider that people sign in through. Its secret is never part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = IdentityProvider)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct Wire {
    #[schema(format = Uuid)]
    id: String,
    /// What its button says.
    name: String,
    issuer: String,
    client_id: String,
    has_secret: bool,
    /// The address to register there.
    redirect_uri: String,
    scopes: Vec<String>,
    claims: Claims,
    /// A group there, and the one here that its people are in.
    #[schema(value_type = BTreeMap<String, String>)]
    group_map: BTreeMap<String, GroupName>,
    create_users: bool,
    #[schema(value_type = Vec<String>)]
    new_user_groups: Vec<GroupName>,
    trust_email: bool,
    trust_mfa: bool,
    mfa_acr: Vec<String>,
    enabled: bool,
    #[schema(format = DateTime)]
    created_at: String,
}

impl Wire {
    fn of(app: &App, provider: IdentityProvider) -> Self {
        let Details {
            scopes,
            claims,
            group_map,
            create_users,
            new_user_groups,
            trust_email,
            trust_mfa,
            mfa_acr,
        } = provider.details;
        Self {
            redirect_uri: identity_providers::redirect_uri(app, &provider.id),
            id: provider.id,
            name: provider.name,
            issuer: provider.issuer,
            client_id: provider.client_id,
            has_secret: provider.sealed.is_some(),
            scopes,
            claims,
            group_map,
            create_users,
            new_user_groups,
            trust_email,
            trust_mfa,
            mfa_acr,
            enabled: provider.enabled,
            created_at: rfc3339(provider.created_at),
        }
    }
}

/// A shape that has, beside its own members, those that may be said of every provider.
macro_rules! with_details {
    ($(#[$of:meta])* struct $name:ident { $($own:tt)* }) => {
        #[expect(dead_code, reason = "describes what is sent")]
        #[derive(ToSchema)]
        $(#[$of])*
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct $name {
            $($own)*
            /// Never read back. An empty one takes away the one there is.
            #[schema(max_length = 512)]
            client_secret: Option<String>,
            /// What is asked for; `openid` among it. Default: `openid`, `profile`, `email`.
            #[schema(max_items = 20)]
            scopes: Option<Vec<String>>,
            /// Which claims say what: `username`, `email`, `groups`. One that is left out stays as it is.
            #[schema(value_type = Option<Object>)]
            claims: Option<Claims>,
            /// A group there, and the one here that its people are in. The mapping owns the groups that
            /// it names: whoever is not in one there is taken out of it at the next sign-in. They may
            /// permit no more than the caller may do.
            group_map: Option<BTreeMap<String, String>>,
            /// Whether people who are not known here get an account when they sign in. Default: false.
            create_users: Option<bool>,
            /// The groups of such an account. They may permit no more than the caller may do.
            new_user_groups: Option<Vec<String>>,
            /// Whether its e-mail addresses are its people's own even where it does not say
            /// `email_verified`. Default: false.
            trust_email: Option<bool>,
            /// Whether a second factor that it tells of stands in for one here. Default: false.
            trust_mfa: Option<bool>,
            /// The values of `acr` that tell of one, beside `mfa` in `amr`.
            #[schema(max_items = 20)]
            mfa_acr: Option<Vec<String>>,
            /// Whether people may sign in through it. Default: true.
            enabled: Option<bool>,
        }
    };
}

with_details! {
    /// An identity provider to be made.
    struct NewIdentityProvider {
        /// What its button says.
        #[schema(min_length = 1, max_length = 255, example = "Company account")]
        name: String,
        /// As the provider says it, to the letter. It cannot be changed.
        #[schema(min_length = 1, max_length = 512, example = "https://sso.example.com/realms/staff")]
        issuer: String,
        /// What this service is called there.
        #[schema(min_length = 1, max_length = 512, example = "postern")]
        client_id: String,
    }
}

with_details! {
    /// What is to be changed of an identity provider; what is left out stays as it is.
    struct IdentityProviderChange {
        #[schema(max_length = 255)]
        name: Option<String>,
        #[schema(max_length = 512)]
        client_id: Option<String>,
    }
}

/// What is said beside what every kind of body has of its own.
fn asked(fields: &mut Fields) -> Asked {
    Asked {
        name: None,
        client_id: None,
        client_secret: fields.text("clientSecret"),
        scopes: fields.texts("scopes"),
        claims: fields.object("claims"),
        group_map: fields.object("groupMap"),
        create_users: fields.flag("createUsers"),
        new_user_groups: fields.texts("newUserGroups"),
        trust_email: fields.flag("trustEmail"),
        trust_mfa: fields.flag("trustMfa"),
        mfa_acr: fields.texts("mfaAcr"),
        enabled: fields.flag("enabled"),
    }
}

/// Identity providers of the organization.
#[utoipa::path(get, path = "/v1/identity-providers", tag = "identity-providers", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The providers.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (all, total) = identity_providers::list(&app, &by, page.window()).await?;
    Ok(page.answer(all.into_iter().map(|one| Wire::of(&app, one)).collect(), total))
}

/// Make an identity provider. It is asked for its metadata first.
#[utoipa::path(post, path = "/v1/identity-providers", tag = "identity-providers",
    request_body = NewIdentityProvider,
    responses(
        (status = 201, body = Wire, description = "The provider, made."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the groups permit more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
        (status = 409, body = Wrong, description = "`IDE-9031` there are as many as there may be"),
    ))]
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let (name, issuer) = (fields.need_text("name"), fields.need_text("issuer"));
    let client_id = fields.need_text("clientId");
    let asked = Asked { name: Some(name), client_id: Some(client_id), ..asked(&mut fields) };
    fields.finish()?;
    let made = identity_providers::create(&app, &by, issuer, asked).await?;
    Ok((StatusCode::CREATED, Json(Wire::of(&app, made))))
}

/// One identity provider.
#[utoipa::path(get, path = "/v1/identity-providers/{id}", tag = "identity-providers",
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = Wire, description = "The provider."),
        (status = 404, body = Wrong, description = "`IDE-9051` no such identity provider"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(ProviderId(id)): Id<ProviderId>,
) -> Result<Json<Wire>, Problem> {
    let found = identity_providers::get(&app, &by, &id).await?;
    Ok(Json(Wire::of(&app, found)))
}

/// Change an identity provider. Its issuer stays.
#[utoipa::path(patch, path = "/v1/identity-providers/{id}", tag = "identity-providers",
    request_body = IdentityProviderChange,
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 200, body = Wire, description = "The provider, changed."),
        (status = 400, body = Wrong, description = "`IDE-0010` the issuer cannot be changed"),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the groups permit more than the caller may do"),
        (status = 404, body = Wrong,
            description = "`IDE-9051` no such identity provider; `IDE-1006` no such group"),
    ))]
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(ProviderId(id)): Id<ProviderId>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    if fields.has("issuer") {
        return Err(Error::Immutable("issuer").into());
    }
    let (name, client_id) = (fields.text("name"), fields.text("clientId"));
    let asked = Asked { name, client_id, ..asked(&mut fields) };
    fields.finish()?;
    let changed = identity_providers::change(&app, &by, &id, asked).await?;
    Ok(Json(Wire::of(&app, changed)))
}

/// Remove an identity provider. Nobody signs in through it any more; who is signed in stays so.
#[utoipa::path(delete, path = "/v1/identity-providers/{id}", tag = "identity-providers",
    params(("id" = uuid::Uuid, Path, description = "The provider.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` its groups permit more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-9051` no such identity provider"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(ProviderId(id)): Id<ProviderId>,
) -> Result<StatusCode, Problem> {
    identity_providers::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
