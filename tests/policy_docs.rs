//! `docs/policies.md`, done as it is read: every file in it is written, every command in it is run by
//! a shell with the real binary, and what they print is what stands there. `POSTERN_WRITE_DOCS=1`
//! writes what they print into the document instead, to be read before it is kept.

use std::{
    env, fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// What a reader may be told to run.
const PROGRAMS: [&str; 3] = ["postern", "cp", "cat"];

/// What the text speaks of and other tests run, for it does not end by itself or never prints the same
/// twice: `policy_table`, `policy_bench`, `watched`, `alone`.
const ELSEWHERE: [&str; 4] = [
    "postern policy test --watch shop",
    "postern policy bench shop",
    "postern serve",
    "postern proxy --policies FOLDER",
];

/// A folder to follow a document in.
struct Reader(TempDir);

impl Reader {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The document, with what its commands print now.
    fn follow(&self, document: &str) -> Result<String, String> {
        let mut written = String::new();
        let mut lines = document.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            written.push_str(line);
            written.push('\n');
            let told = |what: &str| format!("line {}: {what}", number + 1);
            let Some(info) = line.strip_prefix("```") else {
                prose(line).map_err(|what| told(&what))?;
                continue;
            };
            let mut block = Vec::new();
            loop {
                match lines.next() {
                    Some((_, "```")) => break,
                    Some((_, line)) => block.push(line),
                    None => return Err(told("the block has no end")),
                }
            }
            let block = match info.split_once(" title=") {
                None if info == "console" => self.console(&block),
                Some(("cedar" | "cedarschema" | "json" | "yaml", title)) => {
                    self.file(title, &block)
                }
                _ => Err(format!("nobody knows what to do with a block of `{info}`")),
            };
            written.push_str(&block.map_err(|what| told(&what))?);
            written.push_str("```\n");
        }
        Ok(written)
    }

    fn console(&self, block: &[&str]) -> Result<String, String> {
        let commands: Vec<&str> = block.iter().filter_map(|line| line.strip_prefix("$ ")).collect();
        if !block.first().is_some_and(|line| line.starts_with("$ ")) {
            return Err("a console begins with a command".to_owned());
        }
        commands.into_iter().map(|command| self.run(command)).collect()
    }

    fn run(&self, command: &str) -> Result<String, String> {
        let program = command.split(' ').next().unwrap_or_default();
        if !PROGRAMS.contains(&program) {
            return Err(format!("`{program}` is not among the programs of this document"));
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_postern")).parent().unwrap();
        let path = env::var_os("PATH").unwrap();
        let path =
            env::join_paths([PathBuf::from(binary)].into_iter().chain(env::split_paths(&path)));
        let output = Command::new("sh")
            .args(["-c", &format!("({command}) 2>&1")])
            .current_dir(self.0.path())
            .env("PATH", path.unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            return Err(format!("`{command}` failed:\n{told}"));
        }
        Ok(format!("$ {command}\n{told}"))
    }

    fn file(&self, title: &str, block: &[&str]) -> Result<String, String> {
        if !Path::new(title).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("`{title}` is no file of the reader's"));
        }
        let path = self.0.path().join(title);
        let text: String = block.iter().flat_map(|line| [line, "\n"]).collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &text).unwrap();
        Ok(text)
    }
}

/// What is no block may not look like one, nor tell of a command that nobody runs.
fn prose(line: &str) -> Result<(), String> {
    if line.starts_with("    ") || ["```", "~~~"].iter().any(|f| line.trim_start().starts_with(f)) {
        return Err("a block begins at the margin, with ```".to_owned());
    }
    let mut commands =
        line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("postern "));
    match commands.find(|code| !ELSEWHERE.contains(code)) {
        Some(command) => Err(format!("nobody runs `{command}`")),
        None => Ok(()),
    }
}

#[test]
fn whoever_follows_the_document_sees_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies.md");
    let document = fs::read_to_string(&path).unwrap();
    let seen = Reader::new().follow(&document).unwrap_or_else(|told| panic!("{told}"));
    if env::var_os("POSTERN_WRITE_DOCS").is_some() {
        fs::write(path, seen).unwrap();
        return;
    }
    for (number, (said, seen)) in document.lines().zip(seen.lines()).enumerate() {
        assert_eq!(said, seen, "docs/policies.md:{}", number + 1);
    }
    assert_eq!(document, seen);
    // Of each of these, at least one is run.
    for tool in [
        "new", "check", "fmt", "test", "explain", "who", "what", "matrix", "diff", "replay",
        "import", "export",
    ] {
        assert!(document.contains(&format!("\n$ postern policy {tool} ")), "{tool} is not shown");
    }
}

#[test]
fn a_document_that_drifts_or_cannot_be_followed_is_told() {
    let follow = |text: &str| Reader::new().follow(text);
    let good = "# A\n```cedar title=a/b.cedar\n// c\n```\n```console\n$ cat a/b.cedar\n// c\n```\n";
    assert_eq!(follow(good).as_deref(), Ok(good));
    let drifted = good.replace("// c\n```\n```console", "// d\n```\n```console");
    assert_ne!(follow(&drifted).unwrap(), drifted, "the output is another one");
    for (text, expected) in [
        ("```\nx\n```\n", "line 1: nobody knows what to do with a block of ``"),
        ("    ls\n", "at the margin"),
        ("- a\n  ```console\n", "at the margin"),
        ("~~~\nls\n~~~\n", "at the margin"),
        ("Then `postern policy check`.\n", "nobody runs `postern policy check`"),
        ("a\n```sh\nls\n```\n", "line 2: nobody knows"),
        ("```cedar\n// c\n```\n", "nobody knows"),
        ("```console title=x\n$ cat x\n```\n", "nobody knows"),
        ("```yaml title=../x.yaml\na: 1\n```\n", "is no file of the reader's"),
        ("```yaml title=/x.yaml\na: 1\n```\n", "is no file of the reader's"),
        ("```console\ncat x\n```\n", "begins with a command"),
        ("```console\n```\n", "begins with a command"),
        ("```console\n$ rm -r x\n```\n", "`rm` is not among"),
        ("```console\n$ cat nowhere\n```\n", "failed"),
        ("```console\n$ postern policy check nowhere\n```\n", "failed"),
        ("```console\n$ cat x\n", "has no end"),
    ] {
        let told = follow(text).unwrap_err();
        assert!(told.contains(expected), "{told}\nwants {expected}");
    }
}
