//! Where the stage 1 program is, which goes onto the medium and into the base layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use towline_media::build;

use crate::exit::{Exit, Failure};

/// The stage 1 program: the `chosen` file, or the one beside this program, where `make stage1` leaves it, or where the
/// package installs it. `option` is how this command lets people choose.
pub(crate) fn stage1(chosen: Option<&Path>, option: &str) -> Result<PathBuf, Failure> {
    let next = format!("build it with `make stage1`, or name it with {option}");
    let path = match chosen {
        Some(path) => path.to_owned(),
        None => found().map_err(|failure| failure.next(&next))?,
    };
    build::check_stage1(&path).map_err(|error| Failure::new(Exit::Usage, error).next(&next))?;
    path.canonicalize()
        .with_context(|| format!("cannot open {}", path.display()))
        .map_err(Into::into)
}

/// The first place that has one.
fn found() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let places = [
        folder.join("towline-stage1"),
        folder.join("../x86_64-unknown-linux-gnu/stage1/towline-stage1"),
        PathBuf::from("/usr/lib/towline/stage1"),
    ];
    // A development build beside this program is linked dynamically; PID 1 cannot be.
    let good = |place: &&PathBuf| build::check_stage1(place).is_ok();
    if let Some(place) = places.iter().find(good) {
        return Ok(place.clone());
    }
    let looked: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    Err(Failure::new(
        Exit::Usage,
        anyhow!("there is no static stage 1 at {}", looked.join(", ")),
    ))
}
