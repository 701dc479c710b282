//! The section `[[issuer]]` as it is written, before it is checked.

use std::{collections::HashMap, path::PathBuf};

use policy::{foreign::Path, model::name::OrgId};
use serde::Deserialize;

use super::Introspection;

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) jwks_url: Option<String>,
    #[serde(default)]
    pub(super) jwks: Option<PathBuf>,
    #[serde(default)]
    pub(super) jwt: Option<bool>,
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    pub(super) algorithms: Vec<String>,
    #[serde(default)]
    pub(super) types: Option<Vec<String>>,
    #[serde(default)]
    pub(super) require: HashMap<String, Texts>,
    #[serde(default)]
    pub(super) skew_secs: Option<u64>,
    #[serde(default)]
    pub(super) organization: Option<OrgId>,
    #[serde(default)]
    pub(super) organizations: Option<Listed>,
    #[serde(default)]
    pub(super) claims: Claims,
    #[serde(default)]
    pub(super) machine: Option<WrittenMachine>,
    #[serde(default)]
    pub(super) groups: WrittenNames,
    #[serde(default)]
    pub(super) roles: WrittenNames,
    #[serde(default)]
    pub(super) introspection: Option<Introspection>,
    #[serde(default)]
    pub(super) refresh_secs: Option<u64>,
    #[serde(default)]
    pub(super) early_refresh_secs: Option<u64>,
    #[serde(default)]
    pub(super) max_staleness_secs: Option<u64>,
    #[serde(default)]
    pub(super) timeout_secs: Option<u64>,
    #[serde(default)]
    pub(super) insecure_http: bool,
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
}

/// One text, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a list of them")]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(one) => vec![one],
            Texts::Many(many) => many,
        }
    }
}

/// Organizations that the issuer calls as we do, or its names for ours.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of organizations, or a table of the issuer's names for them")]
pub(super) enum Listed {
    Same(Vec<OrgId>),
    Renamed(HashMap<String, OrgId>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    #[serde(default)]
    pub(super) subject: Option<Path>,
    #[serde(default)]
    pub(super) organization: Option<Path>,
    #[serde(default)]
    pub(super) name: Option<Path>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenMachine {
    pub(super) claim: Path,
    #[serde(default)]
    pub(super) is: Option<Texts>,
    #[serde(default)]
    pub(super) begins: Option<String>,
    #[serde(default)]
    pub(super) same_as: Option<Path>,
    #[serde(default)]
    pub(super) subject: Option<Path>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNames {
    #[serde(default)]
    pub(super) from: Vec<Path>,
    #[serde(default)]
    pub(super) map: HashMap<String, Texts>,
    #[serde(default)]
    pub(super) others: Option<Others>,
    #[serde(default)]
    pub(super) prefix: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Others {
    Drop,
    Keep,
}
