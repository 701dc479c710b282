//! Recovery codes: ten of 128 bits, each good for one sign-in.
//!
//! The original's documents show three of ten characters; these are longer and more.

use policy::model::name::UserId;

use super::totp::base32;
use crate::{
    app::App,
    clock::{self, NoRandom},
};

/// How many there are.
const CODES: usize = 10;
/// The bytes of a keyed hash.
const HASH: usize = 32;

/// A set of codes, as people write them down: `abcdef-ghijkl-…`.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make() -> Result<Vec<String>, NoRandom> {
    (0..CODES).map(|_| Ok(grouped(&base32(&clock::random::<16>()?)))).collect()
}

fn grouped(text: &str) -> String {
    let mut code = String::new();
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % 6 == 0 {
            code.push('-');
        }
        code.push(letter.to_ascii_lowercase());
    }
    code
}

/// The hash of a person's code, however it was typed.
pub fn hash(app: &App, user: &UserId, code: &str) -> Vec<u8> {
    let plain: String = code.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
    app.factor_hasher.hash(&format!("recovery/{user}/{}", plain.to_ascii_lowercase()))
}

/// The hashes of a set, one after the other.
pub fn hashes(app: &App, user: &UserId, codes: &[String]) -> Vec<u8> {
    codes.iter().flat_map(|code| hash(app, user, code)).collect()
}

/// The single hashes of [`hashes`].
pub fn each(hashes: &[u8]) -> impl Iterator<Item = &[u8]> {
    hashes.chunks_exact(HASH)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_ten_and_differ_and_have_all_their_bits() {
        let codes = make().unwrap();
        let different: HashSet<_> = codes.iter().collect();
        assert_eq!(different.len(), 10);
        for code in &codes {
            assert_eq!(code.chars().filter(|letter| *letter != '-').count(), 26, "{code}");
        }
        assert_eq!(grouped("ABCDEFGHIJKLMN"), "abcdef-ghijkl-mn");
    }
}
