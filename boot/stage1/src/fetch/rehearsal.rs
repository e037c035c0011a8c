//! A rehearsal: plan, layers and placing by an ordinary process, into a folder, without mounts.
//!
//! `towline-stage1 rehearse --stamp FILE --into DIR` does what stage 1 does between network and hand-over, with the same code and
//! the same messages. For tests, and for operators who want to know what a medium would boot without a machine.

use std::fs;
use std::path::PathBuf;

use towline_contract::Timestamp;
use towline_contract::api::{Machine, PlanRequest};
use towline_contract::plan::HandOver;
use towline_contract::stamp::{self, STAMP_BYTES, Settings};

use super::plan::chain as causes;
use super::{Ask, FetchError, Mirrors, plan};
use crate::place::{Mounting, Root};
use crate::progress::Progress;

/// Exit status when something is not trusted.
const NOT_TRUSTED: u8 = 3;
/// Exit status when something cannot be reached or placed.
const NOT_REACHABLE: u8 = 4;
/// Exit status for a wrong command line.
const USAGE: u8 = 2;

/// Runs `rehearse` with the arguments after it; gives the exit status.
pub fn run(arguments: &[String], progress: &dyn Progress) -> u8 {
    let (stamp, into) = match arguments {
        [a, stamp, b, into] if a == "--stamp" && b == "--into" => {
            (PathBuf::from(stamp), PathBuf::from(into))
        }
        _ => {
            progress.warn(format_args!(
                "usage: towline-stage1 rehearse --stamp FILE --into DIR"
            ));
            return USAGE;
        }
    };
    let settings = match fs::read(&stamp)
        .map_err(|error| error.to_string())
        .and_then(|bytes| settings(&bytes))
    {
        Ok(settings) => settings,
        Err(what) => {
            progress.warn(format_args!("{}: {what}", stamp.display()));
            return USAGE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            progress.warn(format_args!("cannot start: {error}"));
            return NOT_REACHABLE;
        }
    };
    match runtime.block_on(rehearse(&settings, &into, progress)) {
        Ok(()) => 0,
        Err(error) => {
            progress.warn(format_args!("{}", causes(&error)));
            match error {
                FetchError::Trust { .. }
                | FetchError::EveryMirrorLies { .. }
                | FetchError::Place(_) => NOT_TRUSTED,
                _ => NOT_REACHABLE,
            }
        }
    }
}

/// The settings in a file that holds a stamp area.
fn settings(bytes: &[u8]) -> Result<Settings, String> {
    let area = bytes.get(..STAMP_BYTES).unwrap_or(bytes);
    match stamp::decode(area) {
        Ok(Some(settings)) => Ok(settings),
        Ok(None) => Err("the stamp is empty".into()),
        Err(error) => Err(causes(&error)),
    }
}

async fn rehearse(
    settings: &Settings,
    into: &std::path::Path,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let ask = Ask {
        request: PlanRequest {
            nonce: towline_contract::Digest::from([0; 32]),
            architecture: "amd64".into(),
            kernel_release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            host: settings.host.clone(),
            hand_over: Some(HandOver::Kexec),
            machine: Machine::default(),
        },
        floor: settings.stamped.unwrap_or(Timestamp::UNIX_EPOCH),
        expiry: settings.expired.into(),
    };
    let planned = plan::plan(settings, &ask, progress).await?;
    progress.note(format_args!(
        "plan {} is trusted; it is {}",
        planned.chain.plan.recovery,
        planned.chain.time()
    ));
    let mirrors = Mirrors::of(&planned)?;
    let mut root = Root::create(into, Mounting::None)?;
    for (index, layer) in planned.chain.layers.iter().enumerate() {
        progress.step(format_args!("layer {}", layer.target));
        let manifest = mirrors.manifest(&planned.chain, index, progress).await?;
        let mut sink = root.layer(&manifest)?;
        mirrors
            .layer(&manifest, &mut |chunk| sink.chunk(chunk), progress)
            .await?;
        sink.finish()?;
    }
    let placed = root.finish()?;
    progress.step(format_args!(
        "every layer is placed in {}",
        placed.path.display()
    ));
    Ok(())
}
