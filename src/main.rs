//! The command `ganeti-hookd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ganeti_hookd::cli::main()
}
