//! The binary; the library beside it has all its parts.

use std::process::ExitCode;

fn main() -> ExitCode {
    towline_stage1::roles::run()
}
