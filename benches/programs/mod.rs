//! The C programs of the benchmarks, and what they say.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::master::{Kill, Result, hookd};

/// Compiles a C program of this directory's parent.
pub fn compile(name: &str, program: &Path, options: &[String]) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/{name}.c"));
    let status = Command::new("cc").arg("-O2").args(options).arg("-o").arg(program).arg(source).status()?;
    if status.success() { Ok(()) } else { Err(format!("cc cannot compile {name}.c").into()) }
}

/// A program's next line.
pub fn await_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.is_empty() { Err("a program ended early".into()) } else { Ok(line) }
}

/// Makes the hook of this name, and the FIFO that it leaves its times in. For the opcode `hangs` it hangs.
pub fn stamps(dir: &Path, name: &str, hangs: Option<&str>) -> Result<File> {
    let fifo = dir.join(format!("{name}s"));
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)?;
    let mut options = vec![format!("-DSTAMP=\"{}\"", fifo.display()), "-static".to_owned()];
    options.extend(hangs.map(|op_code| format!("-DHANGS=\"{op_code}\"")));
    compile("stamp", &dir.join(name), &options)?;
    Ok(File::options().read(true).write(true).open(&fifo)?)
}

/// The time of the next stamp.
pub fn stamp(stamps: &mut File) -> Result<u64> {
    let mut bytes = [0; 8];
    stamps.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A process that holds a livelock.
pub fn stand_in(livelock: &Path) -> Result<Kill> {
    let mut child = Command::new(hookd())
        .arg("stand-in")
        .arg(livelock)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    await_line(&mut BufReader::new(child.stdout.take().ok_or("no pipe")?))?;
    Ok(Kill(child))
}
