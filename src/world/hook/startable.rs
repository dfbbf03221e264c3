//! Whether the kernel can execute a script, told without executing it (execve(2)).

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Access;

/// So much of a file's beginning is looked at for the interpreter (Linux: `BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

/// Where the kernel names other formats that it knows.
const OTHER_FORMATS: &str = "/proc/sys/fs/binfmt_misc/status";

/// Why a script will not start, and what to do; `None` when nothing is known against it.
pub fn obstacle(script: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(script).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    if head.starts_with(b"\x7fELF") {
        return None;
    }
    let Some(rest) = head.strip_prefix(b"#!") else {
        // What Python or Java have compiled, for instance.
        let others = std::fs::read(OTHER_FORMATS).is_ok_and(|status| status.starts_with(b"enabled"));
        let is_text = !others || head.iter().all(|byte| *byte != 0);
        return is_text.then(|| "it does not begin with a line such as #!/bin/sh".to_owned());
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii_start();
    let interpreter = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    interpreter_obstacle(interpreter, line.ends_with(b"\r"))
}

fn interpreter_obstacle(interpreter: &[u8], has_return: bool) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(interpreter));
    let shown = path.display().to_string().escape_debug().to_string();
    if has_return {
        return Some("its lines end as in DOS (CR LF): sed -i 's/\\r$//' it".to_owned());
    }
    if interpreter.is_empty() {
        return Some("its first line names no interpreter".to_owned());
    }
    match rustix::fs::access(path, Access::EXEC_OK) {
        Ok(()) if path.is_file() => None,
        Ok(()) => Some(format!("its interpreter {shown} is no file")),
        Err(errno) => Some(format!("its interpreter {shown}: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::environment::Environment;
    use crate::world::hook::run::{Judged, Limits, Starter, run};

    #[test]
    fn what_is_said_to_start_starts_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        let limits = Limits { timeout: std::time::Duration::from_secs(60), output: 1024 };
        for (text, obstacle_is) in [
            ("#!/bin/sh\n", None),
            ("#! /bin/sh -e\n", None),
            ("#!/bin/sh", None),
            ("#!/usr/bin/env sh\n", None),
            ("echo\n", Some("#!/bin/sh")),
            ("", Some("#!/bin/sh")),
            ("#!\n", Some("names no interpreter")),
            ("#!/bin/sh\r\necho\r\n", Some("CR LF")),
            ("#!/bin/sh -e\r\n", Some("CR LF")),
            ("#!/no/such/python\n", Some("/no/such/python")),
            ("#!/bin\n", Some("/bin is no file")),
        ] {
            std::fs::write(&script, text).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            let told = obstacle(&script);
            let ran =
                run(&Starter::new().unwrap(), Judged::new(&script, None), &Environment::new(), limits, None);
            assert_eq!(told.is_none(), ran.code == Some(0), "{text:?}: {told:?}, {ran:?}");
            let fits = obstacle_is.is_none_or(|part| told.as_ref().is_some_and(|told| told.contains(part)));
            assert!(fits, "{text:?}: {told:?}");
        }
    }
}
