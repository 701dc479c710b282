//! A PostgreSQL server of the tests' own: in a private folder, on a socket in it, as nobody where
//! the tests run as root.
//!
//! A shell keeps it. When the tests are gone, however they went, the shell's input ends, and it stops
//! the server and removes the folder.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// User and group of nobody, on every Linux.
const NOBODY: u32 = 65534;

const KEEPER: &str = r#"
set -eu
folder=$1 binaries=$2
trap '' INT TERM HUP
start() {
    tries=0
    until "$binaries/pg_ctl" -D "$folder/data" -w -t 60 -l "$folder/log" start >/dev/null 2>&1; do
        # What a killed server leaves behind takes a moment to go.
        tries=$((tries + 1))
        if [ "$tries" -gt 50 ]; then cat "$folder/log" >&2; return 1; fi
        sleep 0.1
    done
}
gone() {
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null
}
all() {
    server=$(head -n 1 "$folder/data/postmaster.pid")
    all="$server $(cat "/proc/$server/task/$server/children")"
}
still() {
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*[TZ]' "/proc/$1/status" 2>/dev/null
}
go_on() { kill -CONT $stopped 2>/dev/null || true; stopped=; }
stopped=
end() {
    go_on
    "$binaries/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap end EXIT
"$binaries/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >/dev/null
cat >>"$folder/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$folder'
fsync = off
max_connections = 300
END
start
echo done
while read -r order; do
    case $order in
        kill)
            # All of it at once: what a server leaves alone would answer a moment longer.
            all
            kill -STOP "$server"
            all
            kill -9 $all 2>/dev/null || true
            for one in $all; do until gone "$one"; do sleep 0.01; done; done
            ;;
        start) start ;;
        stop)
            # First the one that makes the others.
            all
            kill -STOP "$server"
            until still "$server"; do sleep 0.01; done
            all
            stopped=$all
            kill -STOP $all 2>/dev/null || true
            for one in $all; do until still "$one"; do sleep 0.01; done; done
            ;;
        go) go_on ;;
    esac
    echo done
done
"#;

/// A running server. It ends with this value, or with the process.
pub struct Server {
    keeper: Child,
    orders: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    folder: PathBuf,
    databases: AtomicU32,
}

impl Server {
    /// The one that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One that may be killed.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("postern-pg-").tempdir().unwrap().keep();
        let mut command = if fs::metadata(&folder).unwrap().uid() == 0 {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            let mut command = Command::new("setpriv");
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([user.as_str(), group.as_str(), "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(binaries()).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let orders = keeper.stdin.take().unwrap();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        let orders = Mutex::new(Some((orders, answers)));
        let server = Self { keeper, orders, folder, databases: AtomicU32::default() };
        server.answer();
        server
    }

    /// An empty database of its own, owned by a user that is nothing special; its address.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut root = self.root("postgres").await;
        let user = "DO $$ BEGIN CREATE ROLE postern LOGIN; EXCEPTION WHEN duplicate_object OR \
                    unique_violation THEN END $$";
        root.execute(user).await.unwrap();
        let make = format!("CREATE DATABASE {name} OWNER postern");
        root.execute(AssertSqlSafe(make)).await.unwrap();
        self.address("postern", &name)
    }

    /// A connection as superuser, whom row-level security does not bind.
    pub async fn root(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.address("postgres", database)).await.unwrap()
    }

    fn address(&self, user: &str, database: &str) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{folder}/{database}")
    }

    /// End it as a power cut would.
    pub fn kill(&self) {
        self.order("kill");
    }

    /// Start it again.
    pub fn start_again(&self) {
        self.order("start");
    }

    /// Let it hang, all of it: it holds its connections, takes others, and answers nothing.
    #[allow(dead_code, reason = "compiled into the tests of two packages, and one lets it hang")]
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Let it go on.
    #[allow(dead_code, reason = "as `stop`")]
    pub fn go_on(&self) {
        self.order("go");
    }

    fn order(&self, order: &str) {
        let mut orders = self.orders.lock().unwrap();
        writeln!(orders.as_mut().unwrap().0, "{order}").unwrap();
        drop(orders);
        self.answer();
    }

    fn answer(&self) {
        let mut line = String::new();
        self.orders.lock().unwrap().as_mut().unwrap().1.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "PostgreSQL does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.lock().unwrap().take();
        let _ = self.keeper.wait();
    }
}

/// Where the newest server's programs are: Debian keeps them off the path.
fn binaries() -> PathBuf {
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = debian.map(|entry| entry.unwrap().path()).max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    let found = newest.map(|folder| folder.join("bin")).or_else(on_path);
    found.expect("no PostgreSQL here: `sh tools/setup.sh test` installs one")
}
