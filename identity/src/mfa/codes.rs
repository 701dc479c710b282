//! Codes that are sent: eight digits, for five minutes, each bound to what it was asked for by.

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

use crate::{
    app::App,
    clock::{self, NoRandom},
    model::{factor::FactorKind, provider::Category},
    store::Limit,
};

/// How long a code is good, in seconds.
pub const LIFETIME: u64 = 300;
/// How long to wait for another one, in seconds.
pub const PAUSE: u64 = 60;
/// How many there are for one challenge: the first and three more.
pub const SENDS: u64 = 4;
/// How many a person is sent at all.
pub const DAILY: Limit = Limit { what: "codes", most: 5, seconds: 86_400 };

/// A new one.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make() -> Result<Zeroizing<String>, NoRandom> {
    let number = u64::from_be_bytes(clock::random()?);
    Ok(Zeroizing::new(format!("{:08}", number % 100_000_000)))
}

/// The hash of a code of a challenge or an enrolment, by its id.
pub fn hash(app: &App, of: &str, code: &str) -> Vec<u8> {
    app.factor_hasher.hash(&format!("code/{of}/{code}"))
}

/// Whether that is the hash of the code.
pub fn fits(app: &App, of: &str, code: &str, held: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(&hash(app, of, code), held).is_ok()
}

/// What delivers codes of a kind; nothing for an app, which makes its own.
pub fn category(kind: FactorKind) -> Option<Category> {
    match kind {
        FactorKind::App | FactorKind::Passkey => None,
        FactorKind::Email => Some(Category::Email),
        FactorKind::Sms => Some(Category::Sms),
    }
}
