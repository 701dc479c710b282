//! Counters in Valkey, or Redis from version 7, shared by all processes of an installation.
//!
//! Everything is counted in this process as well, and whichever says more counts, in this process from
//! then on. So there is always an answer, and it is never a laxer one than this process could give by
//! itself: when Valkey is gone, hangs or answers nonsense, that costs one call its patience, and then
//! nobody asks it until it answers a question of ours again. Its own clock only sweeps: when a
//! counter ends is said by ours.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::{Counted, Key, memory::Memory};
use crate::problem::chain;

/// How long a request waits for Valkey.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long it may take to come back.
const LONG: Duration = Duration::from_secs(2);
/// How often a Valkey that is gone is looked for.
const PAUSE: Duration = Duration::from_millis(500);
/// How much longer than a counter its memory is kept, in seconds, for clocks that differ.
const SWEEP: u64 = 60;

/// How long the longest counter lasts, in seconds.
const LONGEST: u64 = 24 * 3600;

/// Adds to a counter unless it has ended; what it says, and in how many seconds it ends.
const ADD: &str = r"
local held = redis.call('HMGET', KEYS[1], 'count', 'ends')
local by, now, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local count, ends = tonumber(held[1]), tonumber(held[2])
if not count or not ends or ends <= now then
    if by <= 0 then
        return {0, 0}
    end
    count, ends = 0, now + window
end
if by ~= 0 then
    count = math.max(0, count + by)
    redis.call('HSET', KEYS[1], 'count', count, 'ends', ends)
    redis.call('EXPIRE', KEYS[1], ends - now + ARGV[4])
end
return {count, ends - now}
";

/// Where a Valkey is. It may hold a password, and is never shown.
#[derive(Debug, Clone)]
pub struct Address(SecretString);

impl Address {
    /// Read `redis://HOST:PORT`, `rediss://…` with TLS, or `unix://SOCKET`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the address.
    pub fn parse(url: &SecretString) -> Result<Self, &'static str> {
        let text = url.expose_secret();
        let schemes = ["redis://", "rediss://", "valkey://", "valkeys://", "unix://"];
        if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Err("it starts with `redis://`, `rediss://` or `unix://`");
        }
        Client::open(text)
            .map_err(|_| "it has the form `redis://USER:PASSWORD@HOST:PORT/NUMBER`")?;
        Ok(Self(url.clone()))
    }
}

/// Why Valkey did not answer.
#[derive(Debug, Error)]
pub enum ValkeyError {
    #[error("it did not answer in time")]
    Late,
    #[error("it answered something else than two numbers")]
    Nonsense,
    #[error(transparent)]
    Failed(#[from] RedisError),
}

/// The counters of an installation.
pub struct Valkey {
    here: Memory,
    connection: ConnectionManager,
    add: Script,
    /// Whether it answered the last time.
    well: AtomicBool,
    /// To look for it while it is gone, for as long as anybody needs it.
    this: Weak<Self>,
}

impl std::fmt::Debug for Valkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Valkey").field("well", &self.well).finish_non_exhaustive()
    }
}

impl Valkey {
    /// Connect. One that does not answer yet is not waited for long: it is looked for from then on.
    ///
    /// # Errors
    ///
    /// When the address cannot be used at all.
    pub async fn open(address: &Address) -> Result<Arc<Self>, ValkeyError> {
        // Two are compiled in, and the library asks which.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(LONG))
            .set_response_timeout(Some(LONG))
            .set_number_of_retries(1);
        let client = Client::open(address.0.expose_secret())?;
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        let valkey = Arc::new_cyclic(|this| Self {
            here: Memory::default(),
            connection,
            add: Script::new(ADD),
            well: AtomicBool::new(true),
            this: Weak::clone(this),
        });
        if let Err(error) = valkey.look().await {
            valkey.lost(&error);
        }
        Ok(valkey)
    }

    /// As [`super::Cache::add`].
    pub async fn add(&self, key: Key, by: i64, (now, window): (u64, u64)) -> Counted {
        let here = self.here.add(key, by, (now, window));
        if !self.well.load(Ordering::Acquire) {
            return here;
        }
        match within(PATIENCE, self.ask(key, by, (now, window))).await {
            Ok(there) if there.count > here.count => {
                self.here.raise(key, there, now);
                there
            }
            Ok(_) => here,
            Err(error) => {
                self.lost(&error);
                here
            }
        }
    }

    /// As [`super::Cache::remove`].
    pub async fn remove(&self, key: Key) {
        self.here.remove(key);
        if !self.well.load(Ordering::Acquire) {
            return;
        }
        let removed = within(PATIENCE, async {
            let mut connection = self.connection.clone();
            let mut command = redis::cmd("UNLINK");
            Ok(command.arg(name(key)).query_async::<u64>(&mut connection).await?)
        });
        if let Err(error) = removed.await {
            self.lost(&error);
        }
    }

    #[cfg(test)]
    pub fn is_well(&self) -> bool {
        self.well.load(Ordering::Acquire)
    }

    async fn ask(
        &self,
        key: Key,
        by: i64,
        (now, window): (u64, u64),
    ) -> Result<Counted, ValkeyError> {
        let mut connection = self.connection.clone();
        let mut call = self.add.key(name(key));
        call.arg(by).arg(now).arg(window).arg(SWEEP);
        let said: Vec<i64> = call.invoke_async(&mut connection).await?;
        match said[..] {
            [count, left] => match (count.try_into(), left.try_into()) {
                // No counter ends later than one that starts now.
                (Ok(count), Ok(left)) if left <= window.max(LONGEST) => Ok(Counted { count, left }),
                _ => Err(ValkeyError::Nonsense),
            },
            _ => Err(ValkeyError::Nonsense),
        }
    }

    /// Ask it something that changes nothing.
    async fn look(&self) -> Result<(), ValkeyError> {
        within(LONG, self.ask(Key::NOBODYS, 0, (0, 0))).await.map(drop)
    }

    /// Go on without it, and look for it until it is back.
    fn lost(&self, error: &ValkeyError) {
        if !self.well.swap(false, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(
            error = %chain(error),
            "Valkey does not answer; until it does, each process counts by itself"
        );
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let Some(valkey) = this.upgrade() else { return };
                if valkey.look().await.is_ok() {
                    valkey.well.store(true, Ordering::Release);
                    tracing::info!("Valkey answers again");
                    return;
                }
            }
        });
    }
}

fn name(Key(key): Key) -> String {
    format!("postern:{}", hex::encode(key))
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, ValkeyError>>,
) -> Result<T, ValkeyError> {
    tokio::time::timeout(patience, call).await.unwrap_or(Err(ValkeyError::Late))
}
