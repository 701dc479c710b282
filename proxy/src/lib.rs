//! The enforcement side: doors and gateway over one gate.
//!
//! A request goes `gateway | doors → canonical → gate → route → authenticate → authorize → forward`.
//! Nothing here writes anything or asks identity for a decision; what is in force arrives through
//! [`sync`] and stands in [`live`]. [`server::Server`] runs it all.

mod answer;
mod assertion;
mod audit;
mod authenticate;
mod authorize;
pub mod canonical;
mod clock;
pub mod config;
mod connection;
pub mod doors;
mod forward;
mod fresh;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gate;
mod gateway;
mod health;
pub mod issuers;
pub mod live;
pub mod metrics;
mod peer;
pub mod policies;
mod rates;
mod refusal;
mod relay;
mod request_id;
mod route;
pub mod server;
pub mod shadow;
mod sign_in;
pub mod sync;
mod tls;
pub mod trace;
mod upgrade;
pub mod upstreams;
pub mod usage;

use std::sync::Arc;

pub use audit::record;
/// For the benches.
#[doc(hidden)]
pub use authenticate::bearer;
use policy::{complaint::Complaints, engine::Engine, snapshot::Snapshot};
pub use route::{Needs, Parameters};

/// Whether a snapshot's policies compile, and the products' routes with them.
///
/// # Errors
///
/// Everything that is wrong with either.
pub fn check(
    snapshot: &Arc<Snapshot>,
    products: &[config::ProductConfig],
) -> Result<(), Complaints> {
    check_routes(&Engine::compile(Arc::clone(snapshot))?, products)
}

/// Whether the products' routes hold by what is compiled.
///
/// # Errors
///
/// Everything that is wrong with them.
pub fn check_routes(engine: &Engine, products: &[config::ProductConfig]) -> Result<(), Complaints> {
    route::Routes::compile(engine, products).map(|_| ())
}

/// What the routes of one product, as `config` runs it, need for a request: for the author's tools.
/// `None` where no row matches.
///
/// # Errors
///
/// When the routes do not compile, or the path has no one meaning.
pub fn routed(
    engine: &Engine,
    config: &config::ProductConfig,
    method: &str,
    path: &str,
) -> Result<(Option<Needs>, Parameters), String> {
    let routes = route::Routes::compile(engine, std::slice::from_ref(config))
        .map_err(|complaints| complaints.to_string())?;
    let method = canonical::method(method).map_err(|error| error.to_string())?;
    let path = canonical::path(path).map_err(|error| error.to_string())?;
    let target =
        routes.at_door(Some(config.name.as_str()), "", method, path).map_err(|why| match why {
            refusal::Why::NotCanonical(error) => error.to_string(),
            why => format!("{why:?}"),
        })?;
    Ok((target.needs, target.parameters))
}
