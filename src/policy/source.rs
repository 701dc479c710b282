//! What the author's tools work on: a policy folder, a snapshot in a file, or a running Postern.

use std::{
    fs,
    io::{Write, stderr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use http::Uri;
use policy::{
    engine::Engine,
    folder::{self, Folder},
    model::decision::Revision,
    signed::{self, Trust, VerifyingKey},
    snapshot::Snapshot,
    store::{self, Store},
};

mod remote;

/// The folder that is meant where none is named.
const DEFAULT: &str = "policies";

/// Where the policies are.
#[derive(Args, Debug, Clone)]
pub struct Where {
    /// A policy folder, or a snapshot in a file [default: the folder `policies`]
    #[arg(value_name = "FOLDER|FILE", conflicts_with = "url")]
    path: Option<PathBuf>,
    /// A running Postern: its operators' listener, as in `http://127.0.0.1:9090`
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// The snapshot's signature must be there and hold by this public key
    #[arg(long, value_name = "PUB.pem", conflicts_with = "url")]
    verify_key: Option<PathBuf>,
}

/// Policies, compiled.
#[derive(Debug)]
pub enum Policies {
    /// Products with roles, groups and routes.
    Catalog(Arc<Engine>),
    /// A plain Cedar store.
    Store(Arc<Store>),
}

/// Policies, as they were read: not yet known to hold.
#[derive(Debug, Clone)]
pub enum Source {
    Catalog(Arc<Snapshot>),
    Store(store::Source),
}

impl Where {
    /// The folder, where the policies come from one: its tests lie there too.
    pub fn folder(&self) -> Option<&Path> {
        let path = self.path.as_deref().unwrap_or(Path::new(DEFAULT));
        let named = self.url.is_none() && self.verify_key.is_none();
        (named && path.is_dir()).then_some(path)
    }

    /// What was named, for a title.
    pub fn name(&self) -> String {
        let address = self.url.as_ref().and_then(Uri::authority).map(|authority| {
            // Without what may be a password.
            let authority = authority.as_str();
            authority.rsplit_once('@').map_or(authority, |(_, address)| address).to_owned()
        });
        let path = || self.path.as_deref().unwrap_or(Path::new(DEFAULT)).display().to_string();
        address.unwrap_or_else(path)
    }

    /// Read.
    ///
    /// # Errors
    ///
    /// When it is not there, or has another shape; complaints about its text are the error's text.
    pub fn read(&self) -> Result<Source> {
        if let Some(url) = &self.url {
            return Source::running(url);
        }
        let path = self.path.as_deref().unwrap_or(Path::new(DEFAULT));
        if self.path.is_none() && !path.exists() {
            bail!(
                "there is no folder `{DEFAULT}` here: name a policy folder or a snapshot file, or a running Postern with `--url`"
            );
        }
        match &self.verify_key {
            Some(key) => Source::read_verified(path, key),
            None => Source::read(path),
        }
    }

    /// Read and compile.
    ///
    /// # Errors
    ///
    /// As [`Where::read`], and when the policies do not hold.
    pub fn open(&self) -> Result<Policies> {
        self.read()?.compile()
    }

    /// Read and compile products.
    ///
    /// # Errors
    ///
    /// As [`Where::open`], and when it is a plain Cedar store.
    pub fn catalog(&self) -> Result<Arc<Engine>> {
        self.open()?.catalog()
    }
}

impl Policies {
    /// Products.
    ///
    /// # Errors
    ///
    /// When it is a plain Cedar store, which has no permissions to ask about.
    pub fn catalog(self) -> Result<Arc<Engine>> {
        match self {
            Self::Catalog(engine) => Ok(engine),
            Self::Store(_) => bail!(
                "a plain Cedar store is not served here, for it has no products, roles and permissions; name a policy folder with products"
            ),
        }
    }
}

impl Source {
    /// Read a folder or a file.
    ///
    /// # Errors
    ///
    /// When it is not there, or has another shape; complaints about its text are the error's text.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return match folder::open(path).map_err(|complaints| anyhow!("{complaints}"))? {
                Folder::Catalog(catalog) => Ok(Self::Catalog(Arc::new(Snapshot {
                    revision: Revision::default(),
                    products: catalog.products,
                    roles: Vec::new(),
                    groups: Vec::new(),
                    policies: catalog.policies,
                    issuer: None,
                    guests: Vec::new(),
                }))),
                Folder::Store(store) => Ok(Self::Store(store)),
            };
        }
        if !path.exists() {
            bail!("`{}`: no such policy folder or snapshot file", path.display());
        }
        opened(path, None)
    }

    /// What a running Postern decides by.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or has nothing in force.
    pub fn running(url: &Uri) -> Result<Self> {
        Ok(Self::Catalog(Arc::new(remote::snapshot(url)?)))
    }

    /// Read a file whose signature must hold.
    ///
    /// # Errors
    ///
    /// When it is no signed snapshot, or the signature is not the key's.
    pub fn read_verified(path: &Path, key: &Path) -> Result<Self> {
        if path.is_dir() {
            bail!("`{}` is a folder; only a snapshot's file can be signed", path.display());
        }
        let pem = fs::read(key).with_context(|| format!("cannot read `{}`", key.display()))?;
        let key = VerifyingKey::from_pem(&pem)
            .map_err(|error| anyhow!("`{}`: {error}", key.display()))?;
        opened(path, Some(&key))
    }

    /// Compile.
    ///
    /// # Errors
    ///
    /// What is wrong with the policies.
    pub fn compile(self) -> Result<Policies> {
        let told = |complaints| anyhow!("{complaints}");
        match self {
            Self::Catalog(snapshot) => {
                Ok(Policies::Catalog(Arc::new(Engine::compile(snapshot).map_err(told)?)))
            }
            Self::Store(source) => {
                Ok(Policies::Store(Arc::new(Store::compile(&source).map_err(told)?)))
            }
        }
    }
}

fn opened(path: &Path, key: Option<&VerifyingKey>) -> Result<Source> {
    let name = path.display();
    let file = fs::read(path).with_context(|| format!("cannot read `{name}`"))?;
    let opened = signed::open(&file, key).map_err(|error| anyhow!("`{name}`: {error}"))?;
    let note = match opened.trust {
        Trust::Verified => None,
        Trust::Unverified => Some("its signature was not verified: `--verify-key` was not given"),
        Trust::Unsigned => Some("it is not signed, so nobody vouches for it"),
    };
    if let Some(note) = note {
        writeln!(stderr(), "postern: note: `{name}`: {note}")?;
    }
    Ok(Source::Catalog(Arc::new(opened.snapshot)))
}
