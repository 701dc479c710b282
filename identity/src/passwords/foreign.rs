//! Hashes that were made elsewhere: bcrypt and Argon2, as they came, until their people sign in.
//!
//! They have no pepper, and what they cost was decided by somebody else: whoever guesses makes us pay it,
//! so there are bounds, looked at when a hash is read and again when it is compared.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordVerifier, phc::PasswordHash},
};
use thiserror::Error;

/// Stands before each of them in the database.
pub const MARK: &str = "f1";
/// The most that a bcrypt hash may cost: 2 to that power of rounds.
const MOST_BCRYPT: u32 = 13;
/// The most memory of an Argon2 hash in KiB, its most passes, and its most lanes.
const MOST_ARGON2: (u32, u32, u32) = (131_072, 6, 8);
/// The most bytes of a password that bcrypt looks at. What is longer fits nothing: it would do so
/// whatever stood behind them.
const MOST_BYTES: usize = 72;
/// The longest hash, in bytes.
const LONGEST: usize = 512;

/// Why a hash is of no use here.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    #[error("is of a kind that is not known here: there are bcrypt and Argon2")]
    Unknown,
    #[error("is damaged")]
    Damaged,
    /// `crypt_blowfish` before 1.1 took some characters for others (CVE-2011-2483).
    #[error("is `$2x$`: made by a faulty bcrypt, which fits other passwords, too")]
    Faulty,
    #[error("has a bcrypt cost of {0}, and at most {MOST_BCRYPT} is taken")]
    Bcrypt(u32),
    #[error("takes {0} KiB, {1} passes and {2} lanes, and at most {m} KiB, {t} passes and {p} lanes are taken",
        m = MOST_ARGON2.0, t = MOST_ARGON2.1, p = MOST_ARGON2.2)]
    Argon2(u32, u32, u32),
    #[error("was made with a key of its own (`keyid`, `data`), which is not in it")]
    Keyed,
}

/// Check that a hash is one that can be compared here, at a cost that is bearable.
///
/// # Errors
///
/// Why it cannot.
pub fn check(hash: &str) -> Result<(), Unusable> {
    if hash.len() > LONGEST {
        return Err(Unusable::Damaged);
    }
    if hash.starts_with("$2") {
        if hash.starts_with("$2x$") {
            return Err(Unusable::Faulty);
        }
        let parts: bcrypt::HashParts = hash.parse().map_err(|_| Unusable::Damaged)?;
        return match parts.get_cost() {
            4..=MOST_BCRYPT => Ok(()),
            0..4 => Err(Unusable::Damaged),
            cost => Err(Unusable::Bcrypt(cost)),
        };
    }
    if hash.starts_with("$argon2") { argon2(hash).map(|_| ()) } else { Err(Unusable::Unknown) }
}

fn argon2(hash: &str) -> Result<PasswordHash, Unusable> {
    let hash = PasswordHash::new(hash).map_err(|_| Unusable::Damaged)?;
    Algorithm::new(hash.algorithm.as_str()).map_err(|_| Unusable::Unknown)?;
    if let Some(version) = hash.version {
        Version::try_from(version).map_err(|_| Unusable::Unknown)?;
    }
    if ["keyid", "data"].iter().any(|name| hash.params.get(*name).is_some()) {
        return Err(Unusable::Keyed);
    }
    let params = Params::try_from(&hash).map_err(|_| Unusable::Damaged)?;
    let costs = (params.m_cost(), params.t_cost(), params.p_cost());
    let (m, t, p) = MOST_ARGON2;
    if costs.0 > m || costs.1 > t || costs.2 > p {
        return Err(Unusable::Argon2(costs.0, costs.1, costs.2));
    }
    // Shorter ones fit by chance.
    let long = hash.hash.as_ref().is_some_and(|output| output.len() >= 16);
    if hash.salt.is_none() || !long { Err(Unusable::Damaged) } else { Ok(hash) }
}

/// Whether a password is the one of that hash.
///
/// # Errors
///
/// When the hash is of no use.
pub fn fits(hash: &str, password: &[u8]) -> Result<bool, password_hash::Error> {
    check(hash).map_err(|_| password_hash::Error::EncodingInvalid)?;
    if hash.starts_with("$2") {
        let fits = bcrypt::verify(password, hash);
        let fits = fits.map_err(|_| password_hash::Error::EncodingInvalid)?;
        // Some implementations end a password at its first NUL, others do not.
        return Ok(fits && password.len() <= MOST_BYTES && !password.contains(&0));
    }
    let hash = argon2(hash).map_err(|_| password_hash::Error::EncodingInvalid)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_made_is_taken_and_fits_its_password_alone() {
        let password = b"Sturdy-Horse-1";
        let bcrypted = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY] {
            let hash = bcrypted.format_for_version(version);
            check(&hash).unwrap();
            assert!(fits(&hash, password).unwrap(), "{hash}");
            assert!(!fits(&hash, b"Sturdy-Horse-2").unwrap());
        }
        // Made by Casdoor's libraries and by PHP's.
        let known = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(fits(known, b"U*U").unwrap());
        let argon2 = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$";
        assert_eq!(check(argon2), Err(Unusable::Damaged));
    }

    #[test]
    fn bcrypt_looks_at_no_more_than_it_can_and_a_longer_password_fits_nothing() {
        let long = [b'a'; 73];
        let hash = bcrypt::hash_with_salt(&long[..72], 4, [1; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoA);
        assert!(fits(&hash, &long[..72]).unwrap());
        assert!(!fits(&hash, &long).unwrap());
        let hash = bcrypt::hash_with_salt(b"a\0b", 4, [1; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoB);
        assert!(!fits(&hash, b"a\0b").unwrap());
    }

    #[test]
    fn what_costs_too_much_or_cannot_be_compared_is_refused() {
        let hash = bcrypt::hash_with_salt(b"x", 4, [1; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoB);
        let cost = |cost: &str| hash.replacen("$04$", cost, 1);
        let argon2 = |with: &str| {
            format!("$argon2id$v=19${with}$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo")
        };
        for (hash, expected) in [
            (cost("$31$"), Unusable::Bcrypt(31)),
            (cost("$14$"), Unusable::Bcrypt(14)),
            (cost("$03$"), Unusable::Damaged),
            (hash.replacen("$2b$", "$2x$", 1), Unusable::Faulty),
            (hash[..59].to_owned(), Unusable::Damaged),
            (hash.replacen('.', "\u{e4}", 1), Unusable::Damaged),
            (argon2("m=4194304,t=1,p=1"), Unusable::Argon2(4_194_304, 1, 1)),
            (argon2("m=65536,t=100,p=1"), Unusable::Argon2(65_536, 100, 1)),
            (argon2("m=65536,t=1,p=64"), Unusable::Argon2(65_536, 1, 64)),
            (argon2("m=65536,t=1,p=1").replacen("v=19", "v=17", 1), Unusable::Unknown),
            ("$argon2id$".to_owned(), Unusable::Damaged),
            ("5f4dcc3b5aa765d61d8327deb882cf99".to_owned(), Unusable::Unknown),
            ("$pbkdf2-sha256$i=1$YQ$YQ".to_owned(), Unusable::Unknown),
            (format!("$2b${}", "a".repeat(4096)), Unusable::Damaged),
        ] {
            assert_eq!(check(&hash), Err(expected), "{hash}");
            assert!(fits(&hash, b"x").is_err(), "{hash}");
        }
        assert_eq!(check(&argon2("m=65536,t=3,p=4")), Ok(()));
    }
}
