//! Which database: a file of SQLite's, or a PostgreSQL server.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The database's file, where none is named.
const FILE: &str = "postern.db";
/// How many connections to PostgreSQL one process opens, where it is not said.
pub const CONNECTIONS: u32 = 16;
/// The fewest: readers and writers are apart, and of each somebody may have to wait for another.
const FEWEST: u32 = 4;

/// Where people, applications and keys are kept.
#[derive(Debug, Clone, Default)]
pub enum Database {
    /// In `postern.db` in the data folder.
    #[default]
    Embedded,
    /// In a file of SQLite's.
    Sqlite(PathBuf),
    /// In a database of a PostgreSQL server.
    Postgres(Server),
}

/// A database of a PostgreSQL server, and how to get there. Never shows its password.
#[derive(Clone)]
pub struct Server {
    pub(super) options: Box<PgConnectOptions>,
    pub(super) connections: u32,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let name = options.get_database().unwrap_or(options.get_username());
        if let Some(socket) = options.get_socket() {
            return write!(f, "the database `{name}` at {}", socket.display());
        }
        let (host, port) = (options.get_host(), options.get_port());
        write!(f, "the database `{name}` at {host}:{port}")
    }
}

impl Database {
    /// Read an address: `sqlite:FILE`, or `postgres://USER@HOST:PORT/DATABASE`. What a PostgreSQL
    /// address leaves open, libpq's variables (`PGPORT`, `PGPASSFILE`, …) fill in; unless it says
    /// `sslmode`, a server elsewhere must prove who it is.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the address: it may hold a password.
    pub fn parse(
        url: &SecretString,
        password: Option<&SecretString>,
        connections: u32,
    ) -> Result<Self, &'static str> {
        let text = url.expose_secret();
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return match file {
                "" => Err("`sqlite:` is followed by a file"),
                _ if file.contains('?') => Err("the file of `sqlite:` has no parameters"),
                _ if password.is_some() => Err("a file of SQLite's has no password"),
                _ => Ok(Self::Sqlite(file.into())),
            };
        }
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err("it starts with `sqlite:` or `postgres://`");
        }
        if connections < FEWEST {
            return Err("there are at least 4 connections");
        }
        let mut options = PgConnectOptions::from_str(text)
            .map_err(|_| "it has the form `postgres://USER@HOST:PORT/DATABASE`")?
            .application_name("postern");
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        // `prefer`, the usual default, takes whatever the other side offers, and so does whoever
        // stands in between.
        let says = |key| text.split(['?', '&']).skip(1).any(|pair| pair.starts_with(key));
        if !is_here(&options)
            && !says("sslmode=")
            && !says("ssl-mode=")
            && matches!(options.get_ssl_mode(), PgSslMode::Prefer)
        {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        Ok(Self::Postgres(Server { options: Box::new(options), connections }))
    }

    /// The same, known to the server by another name than services have.
    pub fn named(mut self, name: &str) -> Self {
        if let Self::Postgres(server) = &mut self {
            *server.options = (*server.options).clone().application_name(name);
        }
        self
    }

    /// The file that holds it, for a data folder; `None` for a server.
    pub fn file(&self, data_dir: &Path) -> Option<PathBuf> {
        match self {
            Self::Embedded => Some(data_dir.join(FILE)),
            Self::Sqlite(file) => Some(file.clone()),
            Self::Postgres(_) => None,
        }
    }

    /// What people call it.
    pub fn place(&self, data_dir: &Path) -> String {
        match self {
            Self::Postgres(server) => server.to_string(),
            file => file.file(data_dir).unwrap_or_default().display().to_string(),
        }
    }
}

/// Whether a connection does not leave the machine.
fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Database, &'static str> {
        Database::parse(&url.into(), None, CONNECTIONS)
    }

    #[test]
    fn an_address_is_a_file_or_a_server() {
        for url in ["sqlite:a/b.db", "sqlite://a/b.db"] {
            let file = parse(url).unwrap().file(Path::new("data"));
            assert_eq!(file.as_deref(), Some(Path::new("a/b.db")), "{url}");
        }
        let server = parse("postgres://ana:hush-hush@db.example.com:5433/postern").unwrap();
        let shown = format!("{server:?} {}", server.place(Path::new("data")));
        assert!(shown.contains("`postern` at db.example.com:5433"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
        for bad in ["", "a.db", "mysql://a@b/c", "sqlite:", "sqlite:a?mode=ro", "postgres://:x@:/"]
        {
            let told = parse(bad).unwrap_err();
            assert!(!told.is_empty(), "{bad}");
        }
        let few = Database::parse(&"postgres://a@localhost/b".into(), None, 3);
        assert!(few.unwrap_err().contains("at least 4"));
        let secret = SecretString::from("x");
        assert!(Database::parse(&"sqlite:a".into(), Some(&secret), CONNECTIONS).is_err());
    }

    #[test]
    fn a_server_elsewhere_proves_who_it_is_unless_told_otherwise() {
        let mode = |url: &str| match parse(url).unwrap() {
            Database::Postgres(server) => format!("{:?}", server.options.get_ssl_mode()),
            other => panic!("{other:?}"),
        };
        assert_eq!(mode("postgres://a@db.example.com/b"), "VerifyFull");
        assert_eq!(mode("postgres://a@db.example.com/b?sslmode=prefer"), "Prefer");
        assert_eq!(mode("postgres://a@db.example.com/b?sslmode=disable"), "Disable");
        for here in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://a@{here}/b")), "Prefer", "{here}");
        }
    }
}
