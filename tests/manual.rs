//! What the manual pages show does what they say, also with what a hostile job holds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod harness;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use harness::{Job, PROGRAM, Tree};

/// The examples of a manual page, as a reader would type them.
fn examples(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man").join(page);
    let text = fs::read_to_string(path).unwrap();
    let shown = text.split("\n.EX\n").skip(1).map(|rest| rest.split("\n.EE").next().unwrap());
    shown.map(|example| example.replace("\\-", "-").replace("\\e", "\\").replace("\\(dq", "\"")).collect()
}

/// The one example that has this in it.
fn example(page: &str, part: &str) -> String {
    let mut found = examples(page).into_iter().filter(|example| example.contains(part));
    let example = found.next().unwrap_or_else(|| panic!("{page} shows no {part}"));
    assert_eq!(found.next(), None, "{page} shows more than one {part}");
    example
}

/// Writes a script.
fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// What the page's log of instances leaves when its hook gets this name.
fn logged(name: &str) -> Vec<PathBuf> {
    let dir = TempDir::new().unwrap();
    let logs = dir.path().join("log/instances");
    fs::create_dir_all(logs.join("sub")).unwrap();
    let text = example("ganeti-global-hooks.7", "/var/log/instances");
    let hook = dir.path().join("log/instances/sub/hook");
    script(&hook, &text.replace("/var/log/instances", &logs.display().to_string()));
    // Another test may have forked while it was open for writing: it is read, not executed.
    let status = Command::new("/bin/sh")
        .arg(&hook)
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("GANETI_INSTANCE_NAME", name), ("GANETI_OP_CODE", "OP_X")])
        .status()
        .unwrap();
    assert!(status.success(), "{name:?}: {status}");
    fs::remove_file(hook).unwrap();
    let made = files(dir.path());
    made.iter().map(|file| file.strip_prefix(&logs).unwrap_or(file).to_owned()).collect()
}

#[test]
fn the_log_of_instances_stays_in_its_directory() {
    assert_eq!(logged("web1.example.com"), [Path::new("web1.example.com")]);
    for name in ["", "../evil", "..", ".hidden", "sub/evil", "/tmp/evil", "a\nb", "$(touch evil)", "a b"] {
        assert!(logged(name).is_empty(), "{name:?}: {:?}", logged(name));
    }
}

#[test]
fn values_are_said_to_be_untrusted() {
    for page in ["packaging/man/ganeti-global-hooks.7", "docs/variables.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert!(text.to_lowercase().contains("values are untrusted"), "{page}");
    }
}

/// What a shipped example passes to a command, when its values are these.
fn passed(example: &str, command: &str, variables: &[(&str, &str)]) -> String {
    let dir = TempDir::new().unwrap();
    let said = dir.path().join("said");
    script(
        &dir.path().join(command),
        &format!("#!/bin/sh\nprintf '[%s]\\n' \"$@\" >{0}; cat >>{0}\n", said.display()),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(example);
    let status = Command::new(path)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{example}: {status}");
    fs::read_to_string(said).unwrap()
}

#[test]
fn the_examples_keep_a_value_on_its_line() {
    let variables = [
        ("GANETI_HOOKS_PHASE", "post"),
        ("GANETI_POST_STATUS", "failed"),
        ("GANETI_JOB_ID", "7"),
        ("GANETI_CLUSTER", "cluster"),
        ("GANETI_OP_CODE", "OP_X"),
        ("GANETI_OP_TARGET", "web\nBcc: evil\u{1b}[2J"),
        ("GANETI_HOOKD_OP_INDEX", "0"),
        ("GANETI_HOOKD_OP_COUNT", "1"),
        ("GANETI_HOOKD_EXECUTED", "yes"),
        ("GANETI_HOOKD_LATE", "no"),
    ];
    let logged = passed("log-to-syslog", "logger", &variables);
    assert!(logged.contains("[job 7: OP_X on webBcc: evil[2J failed]"), "{logged}");
    let mailed = passed("mail-on-failure", "sendmail", &variables);
    assert!(mailed.contains("\nTarget:   webBcc: evil[2J\n"), "{mailed}");
}

/// A recipe of ganeti-hookd(8) with the program and the directories of a tree.
fn recipe(tree: &Tree, part: &str) -> String {
    let program = format!("{PROGRAM} --config {}", tree.config().display());
    let text = example("ganeti-hookd.8", part).replace("ganeti-hookd", &program);
    text.replace("/etc/ganeti/hooks", &tree.path("hooks").display().to_string())
}

/// Has a shell run a recipe to its end.
fn run(recipe: &str) -> String {
    let output = Command::new("sh").args(["-c", recipe]).output().unwrap();
    assert!(output.status.success(), "{recipe}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_script_that_is_tried_by_hand_gets_what_it_had() {
    let tree = Tree::new();
    // What the recipe is given may name any file of a program's that a shell reads.
    let evil = tree.path("evil");
    script(&evil, &format!("touch {}", tree.path("was-here").display()));
    let value = format!("quiet\nBASH_ENV={}\n$(reboot) \"'`x`\u{1b}[2J", evil.display());
    let mut job = Job::new(42, &["OP_INSTANCE_REBOOT"]);
    job.op(0)["input"] =
        json!({"OP_ID": "OP_INSTANCE_REBOOT", "reboot_type": value, "ignore_secondaries": false});
    tree.file_hook("post", "10-mine", "#!/bin/bash\nexec env -0\n");
    let daemon = tree.start();
    tree.put(job.runs(0));
    tree.put(job.succeeds(0));
    daemon.wait_done(&["42.0.post"]);
    let of_daemon = tree.event("42.0.post")["runs"][0]["output"].as_str().unwrap().to_owned();
    let by_hand = run(&recipe(&tree, "env --null 42 0 post"));
    let sorted = |output: &str| {
        let is_shells_own = |variable: &&str| {
            ["_=", "SHLVL=", "PWD=", "OLDPWD="].iter().any(|name| variable.starts_with(name))
        };
        let mut variables: Vec<String> =
            output.split('\0').filter(|variable| !is_shells_own(variable)).map(str::to_owned).collect();
        variables.sort();
        variables
    };
    assert_eq!(sorted(&by_hand), sorted(&of_daemon));
    assert!(sorted(&by_hand).contains(&format!("GANETI_REBOOT_TYPE={value}")), "{by_hand}");
    assert!(!tree.path("was-here").exists());
    let shown = tree.cli(&["env", "42", "0", "post"]).out;
    assert!(shown.contains("GANETI_REBOOT_TYPE=quiet\\nBASH_ENV="), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn the_recipes_of_the_history_run() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(42));
    daemon.wait_done(&["42.0.post"]);
    assert!(run(&recipe(&tree, "events --job 42")).contains("42.0.post"));
    let mut job = Job::new(41, &["OP_INSTANCE_MIGRATE"]);
    job.op(0)["input"] = json!({
        "OP_ID": "OP_INSTANCE_MIGRATE", "instance_name": "web1.example.com",
        "reason": [["gnt:user", "kernel update", 1_795_366_412_879_889_123_u64]],
    });
    tree.put(job.waits(0).fails(0));
    daemon.wait_done(&["41.0.post"]);
    let asked = run(&recipe(&tree, "--object web1"));
    let told: Vec<&str> = asked.lines().skip(1).collect();
    assert!(told[0].contains("41.0.post failed ") && told[0].contains("kernel update"), "{asked}");
    let follow = recipe(&tree, "events --follow").replace("my-tool", "head -n 1");
    let mut command = Command::new("sh").args(["-c", &follow]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(command.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains(r#""event":"42.0.pre""#), "{line}");
    // Who has gone is noticed at the next event.
    tree.put(&Job::ended(43));
    assert!(command.wait().unwrap().success());
}
