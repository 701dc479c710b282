//! What an application is declared to be, beside what it is called.

use policy::{complaint::Place, model::name::RoleName};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Reader;
use crate::{model::app::GrantType, registration::Asked, words};

/// An application of a product. Its name here is what it is known by from one run to the next.
#[derive(Debug)]
pub struct Application {
    pub name: String,
    pub product: String,
    pub description: String,
    /// What is said of it as a client. What is not, stays as it is.
    pub(crate) asked: Asked,
    pub grants: Said<Grants>,
    pub place: Place,
    /// Where each field of `asked` is said, by its name in the file.
    said_at: Vec<(&'static str, Place)>,
}

/// What an application may do of its own.
#[derive(Debug)]
pub struct Grants {
    /// Sorted, each once.
    pub roles: Vec<RoleName>,
    /// As `product/resource:action`; sorted, each once.
    pub permissions: Vec<String>,
    pub place: Place,
}

/// What a file says of something that may be left as it is.
#[derive(Debug, Default)]
pub enum Said<T> {
    #[default]
    Nothing,
    /// `null`: as it is where nobody decided otherwise.
    Default,
    This(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Default, Self::This))
    }
}

impl Application {
    /// Where a field is said.
    pub fn place_of(&self, field: &str) -> &Place {
        let found = self.said_at.iter().find(|(name, _)| *name == field);
        found.map_or(&self.place, |(_, place)| place)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    product: Spanned<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    grant_types: Said<Spanned<Vec<String>>>,
    #[serde(default)]
    redirect_uris: Said<Spanned<Vec<String>>>,
    #[serde(default)]
    post_logout_redirect_uris: Said<Spanned<Vec<String>>>,
    #[serde(default)]
    audiences: Said<Spanned<Vec<String>>>,
    #[serde(default)]
    backchannel_logout_uri: Said<Spanned<String>>,
    #[serde(default)]
    backchannel_logout_session_required: Said<Spanned<bool>>,
    #[serde(default)]
    public: Said<Spanned<bool>>,
    #[serde(default)]
    access_token_secs: Said<Spanned<u64>>,
    #[serde(default)]
    refresh_token_secs: Said<Spanned<u64>>,
    #[serde(default)]
    grants: Said<Spanned<RawGrants>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrants {
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    permissions: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn application(&mut self, raw: Raw) -> Application {
        self.keeps(&raw.name, "applications.name", words::line);
        let place = self.place(&raw.name);
        let grants = match raw.grants {
            Said::Nothing => Said::Nothing,
            Said::Default => Said::Default,
            Said::This(raw) => {
                let place = self.place(&raw);
                let RawGrants { roles, mut permissions } = raw.value;
                let named = |role| self.named(role, "applications.grants.roles");
                let mut roles: Vec<RoleName> = roles.iter().filter_map(named).collect();
                roles.sort();
                roles.dedup();
                permissions.sort();
                permissions.dedup();
                Said::This(Grants { roles, permissions, place })
            }
        };
        let mut said_at = Vec::new();
        let mut note = |name, place| said_at.push((name, place));
        let acts = || vec![GrantType::ClientCredentials.as_str().to_owned()];
        let asked = Asked {
            grant_types: match raw.grant_types {
                Said::Default => Some(acts()),
                said => self.said(said, "grant_types", &mut note),
            },
            redirect_uris: self.said(raw.redirect_uris, "redirect_uris", &mut note),
            post_logout_redirect_uris: self.said(
                raw.post_logout_redirect_uris,
                "post_logout_redirect_uris",
                &mut note,
            ),
            audiences: self.said(raw.audiences, "audiences", &mut note),
            backchannel_logout_uri: self.said(
                raw.backchannel_logout_uri,
                "backchannel_logout_uri",
                &mut note,
            ),
            backchannel_logout_session_required: self.said(
                raw.backchannel_logout_session_required,
                "backchannel_logout_session_required",
                &mut note,
            ),
            public: self.said(raw.public, "public", &mut note),
            access_token_secs: self.said(raw.access_token_secs, "access_token_secs", &mut note),
            refresh_token_secs: self.said(raw.refresh_token_secs, "refresh_token_secs", &mut note),
        };
        let (name, product) = (raw.name.value, raw.product.value);
        Application { name, product, description: raw.description, asked, grants, place, said_at }
    }

    /// A field as the rules are asked for it; its default is what stands for none.
    fn said<T: Default>(
        &self,
        said: Said<Spanned<T>>,
        name: &'static str,
        note: &mut impl FnMut(&'static str, Place),
    ) -> Option<T> {
        match said {
            Said::Nothing => None,
            Said::Default => Some(T::default()),
            Said::This(this) => {
                note(name, self.place(&this));
                Some(this.value)
            }
        }
    }
}
