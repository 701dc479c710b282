//! What tokens and sign-ins of `tools/bench-identity.py` cannot be cheaper than: a signature with the key
//! parsed once, a password's hash with the work of today, alone.
//!
//!     raw      prints a JSON object: how many of each a second of one core makes

use std::{
    error::Error,
    fs, hint,
    io::{self, Write},
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // As large as an access token.
    let message = [b'x'; 900];
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let mut signature = vec![0; rsa.public_modulus_len()];
    let rs256 = a_second(|| {
        Ok(rsa.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature).map(|()| 0)?)
    })?;
    let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let es256 = a_second(|| Ok(ecdsa.sign(&random, &message)?.as_ref().len()))?;
    // Those of `identity::passwords`.
    let hasher = Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(19_456, 2, 1, None).map_err(|error| error.to_string())?,
    );
    let argon2 = a_second(|| {
        let mut hash = [0; 32];
        let made = hasher.hash_password_into(b"Sturdy-Horse-1", b"sixteen bytes ok", &mut hash);
        made.map_err(|error| error.to_string())?;
        Ok(usize::from(hash[0]))
    })?;
    let told = json!({"rs256": rs256, "es256": es256, "argon2": argon2});
    Ok(writeln!(io::stdout(), "{told}")?)
}

/// How often it is done in a second of this thread's own, whatever else the machine does.
fn a_second(mut work: impl FnMut() -> Result<usize, Failure>) -> Result<f64, Failure> {
    let (began, spent) = (Instant::now(), spent()?);
    let mut done = 0_u32;
    while began.elapsed() < Duration::from_secs(3) {
        hint::black_box(work()?);
        done += 1;
    }
    Ok(f64::from(done) / self::spent()?.saturating_sub(spent).as_secs_f64())
}

/// The processor time of this process so far: proc(5), `/proc/pid/schedstat`.
fn spent() -> Result<Duration, Failure> {
    let told = fs::read_to_string("/proc/self/schedstat")?;
    let nanos = told.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}
