//! Changes on their way to proxies elsewhere: a stretch of them, signed as a whole.
//!
//! A batch says: between these two places of the order, these are all the changes that any living
//! token can need; and at that time there were none beyond, and this was the newest revision. So
//! whoever has an unbroken row of batches from the beginning has missed nothing, and nobody in the
//! middle can add, leave out, hold back or repeat a change without its being seen. One without
//! changes says that nothing has happened. Made by identity's feed, read by `proxy::sync`.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    changes::{Change, Sequence},
    model::decision::Revision,
    signed::{self, SignedError, SigningKey, VerifyingKey},
};

/// `typ` of the signature: a snapshot's cannot stand in for it.
pub const TYPE: &str = "postern-changes+jws";

/// A stretch of the changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Every change from after this one,
    pub after: Sequence,
    /// up to this one, is in it, unless it had run out at `at`.
    pub through: Sequence,
    /// When it was so; seconds since the epoch.
    pub at: u64,
    /// Whether there was no change beyond at that time.
    pub current: bool,
    /// The newest revision that a snapshot could be had of at that time.
    pub revision: Revision,
    /// In their order.
    pub changes: Vec<Change>,
}

impl Batch {
    /// The batch as a compact JWS.
    ///
    /// # Errors
    ///
    /// When the key cannot sign.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SignedError> {
        signed::jws(TYPE, &json!(self), key)
    }

    /// Read one that the holder of any of the keys signed.
    ///
    /// # Errors
    ///
    /// When nobody of them did, or it is none.
    pub fn open(jws: &str, keys: &[VerifyingKey]) -> Result<Self, SignedError> {
        let batch: Self = signed::by_any(keys, |key| signed::payload(jws, TYPE, key))?;
        let mut before = batch.after;
        for change in &batch.changes {
            if change.sequence <= before {
                return Err(SignedError::Order);
            }
            before = change.sequence;
        }
        if before > batch.through { Err(SignedError::Order) } else { Ok(batch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Fact;

    fn change(sequence: u64) -> Change {
        let fact = Fact::TokenRevoked { token_id: "t".to_owned() };
        Change { sequence: Sequence(sequence), until: 100, fact }
    }

    fn batch(after: u64, through: u64, changes: &[u64]) -> Batch {
        Batch {
            after: Sequence(after),
            through: Sequence(through),
            at: 50,
            current: true,
            revision: Revision(3),
            changes: changes.iter().map(|sequence| change(*sequence)).collect(),
        }
    }

    #[test]
    fn what_the_key_signed_comes_back_and_nothing_else() {
        let (key, public) = SigningKey::from_seed(&[7; 32]).unwrap();
        let (other, stranger) = SigningKey::from_seed(&[8; 32]).unwrap();
        let ours = || VerifyingKey::from_text(&public).unwrap();
        let theirs = || VerifyingKey::from_text(&stranger).unwrap();
        let made = batch(2, 9, &[3, 7]);
        let jws = made.sign(&key).unwrap();
        assert_eq!(Batch::open(&jws, &[ours()]).unwrap(), made);
        // While a key is replaced, both are believed.
        assert_eq!(Batch::open(&jws, &[theirs(), ours()]).unwrap(), made);
        assert!(matches!(Batch::open(&jws, &[theirs()]), Err(SignedError::Signature)));
        assert!(Batch::open(&jws, &[]).is_err());
        assert!(Batch::open(&made.sign(&other).unwrap(), &[ours()]).is_err());
        let mut bytes = jws.clone().into_bytes();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes.clone()).unwrap();
            assert!(Batch::open(&changed, &[ours()]).is_err(), "{at}");
            bytes[at] ^= 1;
        }
        // A snapshot's signature is none of a batch, and the other way round.
        let snapshot = signed::sign(b"{}", Revision(3), &key).unwrap();
        assert!(matches!(Batch::open(&snapshot, &[ours()]), Err(SignedError::Malformed)));
        assert!(matches!(signed::verify(b"{}", &jws, &ours()), Err(SignedError::Malformed)));
    }

    #[test]
    fn a_change_outside_of_its_stretch_is_refused_whoever_signed_it() {
        let (key, public) = SigningKey::from_seed(&[7; 32]).unwrap();
        let keys = [VerifyingKey::from_text(&public).unwrap()];
        for (good, made) in [
            (true, batch(0, 0, &[])),
            (true, batch(4, 5, &[5])),
            (false, batch(5, 4, &[])),
            (false, batch(4, 5, &[4])),
            (false, batch(4, 5, &[6])),
            (false, batch(1, 9, &[3, 3])),
            (false, batch(1, 9, &[4, 3])),
        ] {
            let opened = Batch::open(&made.sign(&key).unwrap(), &keys);
            assert_eq!(opened.is_ok(), good, "{made:?}");
        }
    }
}
