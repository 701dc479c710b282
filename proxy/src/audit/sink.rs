//! Lines on their way to a file or to standard output.
//!
//! Whoever decides copies its line into a buffer; a thread writes what has gathered. What was allowed
//! is dropped, and counted, where it would fill more than half of the buffer, or cannot be written.
//! What was denied waits for room, and where there is none for a second, or the sink fails, goes to
//! standard error instead: it is lost only if that fails, too, and that is counted. No decision
//! depends on any of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    mem,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::metrics::LogMetrics;

/// How long lines gather before they are written, unless there are many.
const GATHER: Duration = Duration::from_millis(10);
/// How many bytes are many.
const MANY: usize = 256 * 1024;
/// How long a denial waits for room.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stop waits for what is left to be written.
const LAST: Duration = Duration::from_secs(5);
/// A sink that fails is told this often at the most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where lines go.
pub enum Output {
    Stdout,
    Stderr,
    File(Rotated),
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().lock().write(bytes),
            Self::Stderr => io::stderr().lock().write(bytes),
            Self::File(file) => file.write(bytes),
            #[cfg(test)]
            Self::Other(other) => other.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            _ => Ok(()),
        }
    }
}

/// A file that may be moved away, by whoever rotates logs.
pub struct Rotated {
    path: PathBuf,
    file: File,
    told: Option<Instant>,
}

impl Rotated {
    /// Open it, or make it, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it cannot be.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: opened(path)?, told: None })
    }

    /// Open what has taken its place, if it was moved away.
    fn follow(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (own.dev(), own.ino());
        if std::fs::metadata(&self.path).is_ok_and(same) {
            return Ok(());
        }
        match opened(&self.path) {
            Ok(file) => self.file = file,
            // What was moved away can still be read there; what was removed cannot.
            Err(error) if own.nlink() == 0 => return Err(error),
            Err(error) if is_due(&mut self.told) => {
                tracing::error!(%error, "the decision log cannot be opened again");
            }
            Err(_) => {}
        }
        Ok(())
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it is time to tell again of what goes on being wrong.
fn is_due(told: &mut Option<Instant>) -> bool {
    let due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
    if due {
        *told = Some(Instant::now());
    }
    due
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// What has gathered: whole lines, and where each ends.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    marks: Vec<Mark>,
}

/// The end of a line.
#[derive(Clone, Copy)]
struct Mark {
    end: usize,
    /// Whether it may not be lost.
    kept: bool,
}

impl Batch {
    fn clear(&mut self) {
        self.lines.clear();
        self.marks.clear();
    }
}

#[derive(Default)]
struct State {
    gathered: Batch,
    /// How many lines there have been, and how many of them were dealt with.
    taken: u64,
    done: u64,
    /// Whether the writer sleeps until there is something.
    rests: bool,
    /// How many wait for everything to be written.
    flushing: usize,
    ends: bool,
}

struct Shared {
    state: Mutex<State>,
    /// There is work.
    work: Condvar,
    /// There is room, or something is done.
    room: Condvar,
    /// Set while nothing was taken from the buffer for so long that a denial gave up waiting.
    stuck: AtomicBool,
    most: usize,
    /// Where a line goes that may not be lost.
    last: Mutex<Box<dyn Write + Send>>,
    metrics: LogMetrics,
}

/// The way to the log.
pub struct Sink {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("most", &self.shared.most).finish_non_exhaustive()
    }
}

impl Sink {
    /// Begin to write there; `most` bytes may wait.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn begin(output: Output, most: usize, metrics: LogMetrics) -> io::Result<Self> {
        Self::with_last(output, Box::new(io::stderr()), most, metrics)
    }

    fn with_last(
        output: Output,
        last: Box<dyn Write + Send>,
        most: usize,
        metrics: LogMetrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(last, most, metrics));
        let mut writer = Writer::new(&shared, output);
        let thread = thread::Builder::new().name("decision-log".to_owned());
        let writer = thread.spawn(move || writer.run())?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Take a line. One that may not be lost waits for room.
    pub fn push(&self, line: &[u8], kept: bool) {
        let shared = &*self.shared;
        let mut state = shared.state();
        let fits = |state: &State, most: usize| {
            let gathered = state.gathered.lines.len();
            gathered == 0 || gathered + line.len() <= most
        };
        if !kept && !fits(&state, shared.most / 2) {
            drop(state);
            return shared.metrics.dropped("full");
        }
        if kept && !fits(&state, shared.most) {
            if !shared.stuck.load(Ordering::Relaxed) {
                let wait =
                    shared.room.wait_timeout_while(state, PATIENCE, |s| !fits(s, shared.most));
                state = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            if !fits(&state, shared.most) {
                shared.stuck.store(true, Ordering::Relaxed);
                drop(state);
                return shared.divert(line);
            }
        }
        state.gathered.lines.extend_from_slice(line);
        let end = state.gathered.lines.len();
        state.gathered.marks.push(Mark { end, kept });
        state.taken += 1;
        let wake = state.rests || (end >= MANY && end - line.len() < MANY);
        drop(state);
        if wake {
            shared.work.notify_one();
        }
    }

    /// Wait until what was taken so far is written, but not for ever.
    pub fn flush(&self) {
        let shared = &*self.shared;
        let mut state = shared.state();
        let until = state.taken;
        state.flushing += 1;
        shared.work.notify_one();
        let wait = shared.room.wait_timeout_while(state, LAST, |state| state.done < until);
        wait.unwrap_or_else(PoisonError::into_inner).0.flushing -= 1;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
        self.shared.state().ends = true;
        self.shared.work.notify_one();
        let all = {
            let state = self.shared.state();
            state.done == state.taken
        };
        // A writer that hangs in a sink that stands still is left to itself.
        if all && let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn new(last: Box<dyn Write + Send>, most: usize, metrics: LogMetrics) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            stuck: AtomicBool::new(false),
            most,
            last: Mutex::new(last),
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put a line where it is found if the log has no room for it.
    fn divert(&self, line: &[u8]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.write_all(line) {
            Ok(()) => self.metrics.diverted.inc(),
            Err(_) => self.metrics.dropped("lost"),
        }
    }
}

/// What the thread does.
struct Writer {
    shared: Arc<Shared>,
    output: Output,
    /// Whether the last line that was written has no end.
    torn: bool,
    told: Option<Instant>,
}

impl Writer {
    fn new(shared: &Arc<Shared>, output: Output) -> Self {
        Self { shared: Arc::clone(shared), output, torn: false, told: None }
    }

    fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut batch = Batch::default();
        while shared.next(&mut batch) {
            shared.stuck.store(false, Ordering::Relaxed);
            shared.room.notify_all();
            self.write(&batch);
            shared.state().done += batch.marks.len() as u64;
            shared.room.notify_all();
            batch.clear();
        }
    }

    /// Write whole lines; where that fails, what may not be lost goes elsewhere.
    fn write(&mut self, batch: &Batch) {
        let Err((error, written)) = self.try_write(&batch.lines) else { return };
        self.shared.metrics.errors.inc();
        let (mut from, mut untold) = (0, 0_u64);
        for Mark { end, kept } in &batch.marks {
            if *end > written {
                self.torn |= from < written;
                untold += 1;
                if *kept {
                    self.shared.divert(&batch.lines[from..*end]);
                } else {
                    self.shared.metrics.dropped("failed");
                }
            }
            from = *end;
        }
        if is_due(&mut self.told) {
            tracing::error!(
                %error, records = untold,
                "the decision log cannot be written; denials are on standard error"
            );
        }
    }

    /// All of it, or what went wrong after how many bytes.
    fn try_write(&mut self, mut lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let all = lines.len();
        if let Output::File(file) = &mut self.output {
            file.follow().map_err(|error| (error, 0))?;
        }
        if self.torn {
            self.output.write_all(b"\n").map_err(|error| (error, 0))?;
            self.torn = false;
        }
        while !lines.is_empty() {
            let failed = match self.output.write(lines) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(n) => {
                    lines = &lines[n..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(GATHER);
                    continue;
                }
                Err(error) => error,
            };
            return Err((failed, all - lines.len()));
        }
        self.output.flush().map_err(|error| (error, all))
    }
}

impl Shared {
    /// Wait for lines, and for a few more. Whether there are any: there are none after the end.
    fn next(&self, batch: &mut Batch) -> bool {
        let mut state = self.state();
        state.rests = true;
        let nothing = |state: &mut State| state.gathered.marks.is_empty() && !state.ends;
        state = self.work.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        state.rests = false;
        let few = |state: &mut State| {
            state.gathered.lines.len() < MANY && state.flushing == 0 && !state.ends
        };
        let wait = self.work.wait_timeout_while(state, GATHER, few);
        state = wait.unwrap_or_else(PoisonError::into_inner).0;
        mem::swap(&mut state.gathered, batch);
        !batch.marks.is_empty()
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::metrics::Metrics;

    /// What was written.
    pub type Text = Arc<Mutex<Vec<u8>>>;

    /// A sink whose lines can be read.
    pub fn readable() -> (Sink, Text) {
        let text = Text::default();
        let output = Output::Other(Box::new(Kept(Arc::clone(&text))));
        (Sink::begin(output, 1 << 20, Metrics::new().log).unwrap(), text)
    }

    /// Takes `room` bytes, then fails, as long as it holds.
    struct Small {
        text: Text,
        room: usize,
        full: Arc<AtomicBool>,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = if self.full.load(Ordering::SeqCst) {
                let n = bytes.len().min(self.room);
                self.room -= n;
                n
            } else {
                bytes.len()
            };
            if n == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.text.lock().unwrap().extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Stands still until told to go on.
    struct Still(mpsc::Receiver<()>, Text);

    impl Write for Still {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Kept(Text);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// All of it so far.
    pub fn read(text: &Text) -> String {
        String::from_utf8(text.lock().unwrap().clone()).unwrap()
    }

    fn counts(metrics: &LogMetrics) -> (u64, u64, u64) {
        (metrics.count("full"), metrics.count("failed"), metrics.diverted.get())
    }

    #[test]
    fn a_full_disk_loses_no_denial_and_the_next_record_is_whole() {
        let (text, last) = (Text::default(), Text::default());
        let full = Arc::new(AtomicBool::new(true));
        let small = Small { text: Arc::clone(&text), room: 9, full: Arc::clone(&full) };
        let metrics = Metrics::new().log;
        let output = Output::Other(Box::new(small));
        let last_one = Box::new(Kept(Arc::clone(&last)));
        let shared = Arc::new(Shared::new(last_one, 1 << 20, metrics.clone()));
        let mut writer = Writer::new(&shared, output);
        let batch = |lines: &[(&str, bool)]| {
            let mut batch = Batch::default();
            for (line, kept) in lines {
                batch.lines.extend_from_slice(line.as_bytes());
                batch.marks.push(Mark { end: batch.lines.len(), kept: *kept });
            }
            batch
        };
        // It fits up to the middle of the second.
        writer.write(&batch(&[("allow1\n", false), ("deny_2\n", true), ("allow3\n", false)]));
        assert_eq!(read(&last), "deny_2\n");
        assert_eq!(counts(&metrics), (0, 1, 1));
        assert_eq!(metrics.errors.get(), 1);
        full.store(false, Ordering::SeqCst);
        writer.write(&batch(&[("allow4\n", false)]));
        assert_eq!(read(&text), "allow1\nde\nallow4\n");
    }

    #[test]
    fn what_stands_still_drops_allows_and_no_denial() {
        let (text, last) = (Text::default(), Text::default());
        let (go, wait) = mpsc::channel();
        let metrics = Metrics::new().log;
        let output = Output::Other(Box::new(Still(wait, Arc::clone(&text))));
        let last_one = Box::new(Kept(Arc::clone(&last)));
        let sink = Sink::with_last(output, last_one, 100, metrics.clone()).unwrap();
        let (allow, deny) = ([b'a'; 20], [b'd'; 20]);
        sink.push(&allow, false);
        // The writer has it, and hangs.
        while !sink.shared.state().gathered.marks.is_empty() {
            thread::yield_now();
        }
        for _ in 0..5 {
            sink.push(&allow, false);
        }
        assert_eq!(counts(&metrics), (3, 0, 0), "half of the room is for allows");
        for _ in 0..3 {
            sink.push(&deny, true);
        }
        assert_eq!(counts(&metrics), (3, 0, 0), "denials have all of it");
        sink.push(&deny, true);
        sink.push(&deny, true);
        assert_eq!(counts(&metrics), (3, 0, 2), "and go elsewhere then");
        assert_eq!(read(&last), "d".repeat(40));
        drop(go);
        sink.flush();
        assert_eq!(read(&text), "a".repeat(60) + &"d".repeat(60));
        sink.push(&deny, true);
        drop(sink);
        assert_eq!(read(&text), "a".repeat(60) + &"d".repeat(80));
        assert_eq!(metrics.count("lost"), 0);
    }

    #[test]
    fn a_file_is_its_owners_alone_and_followed_when_it_is_moved_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let metrics = Metrics::new().log;
        let output = Output::File(Rotated::open(&path).unwrap());
        let sink = Sink::begin(output, 1 << 20, metrics.clone()).unwrap();
        let push = |line: &str| {
            sink.push(line.as_bytes(), true);
            sink.flush();
        };
        push("one\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::rename(&path, &old).unwrap();
        push("two\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(&path).unwrap();
        push("three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // In its place there is what is no file: what was moved away goes on being written.
        std::fs::rename(&path, &old).unwrap();
        std::fs::create_dir(&path).unwrap();
        push("four\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "three\nfour\n");
        assert_eq!((metrics.errors.get(), metrics.diverted.get()), (0, 0));
    }
}
