//! What tokens and sign-ins cannot be cheaper than, alone: a signature made and one checked with the key
//! parsed once, a password's hash with the work of today. And tokens, as many as a bench wants to show.
//!
//!     raw                            prints a JSON object: how many of each a second of one core makes
//!     raw tokens ALGORITHM FOLDER    RS256 or ES256: makes a key, leaves its public half in FOLDER as `jwks.json`
//!                                    and `key.pem`, and prints a token for each line of claims that it reads

mod keys;

use std::{
    error::Error,
    fs, hint,
    io::{self, BufRead, BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use keys::Key;
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => raw(),
        ["tokens", "RS256", folder] => tokens(&Key::rs256(), Path::new(folder)),
        ["tokens", "ES256", folder] => tokens(&Key::es256(), Path::new(folder)),
        _ => Err("usage: raw | raw tokens RS256|ES256 FOLDER".into()),
    }
}

fn tokens(key: &Key, folder: &Path) -> Result<(), Failure> {
    fs::write(folder.join("jwks.json"), json!({"keys": [key.jwk]}).to_string())?;
    fs::write(folder.join("key.pem"), key.pem())?;
    let mut out = BufWriter::new(io::stdout().lock());
    for claims in io::stdin().lock().lines() {
        writeln!(out, "{}", key.token(&claims?))?;
    }
    Ok(out.flush()?)
}

fn raw() -> Result<(), Failure> {
    // As large as an access token.
    let message = [b'x'; 900];
    let (rsa, ecdsa) = (Key::rs256(), Key::es256());
    let made = |key: &Key| a_second(|| Ok(key.sign(&message).len()));
    let checked = |key: &Key| {
        let signature = key.sign(&message);
        a_second(|| Ok(key.public.verify_sig(&message, &signature).map(|()| 0)?))
    };
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
    let told = json!({
        "rs256": made(&rsa)?,
        "es256": made(&ecdsa)?,
        "rs256 checked": checked(&rsa)?,
        "es256 checked": checked(&ecdsa)?,
        "argon2": argon2,
    });
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
