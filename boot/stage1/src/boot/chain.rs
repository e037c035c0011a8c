//! From a verified plan to a chain that is ready to be started: manifests, memory, layers, credentials.

use std::fs;
use std::path::Path;
use std::time::Instant;

use towline_contract::event::What;
use towline_contract::manifest::{Kind, Manifest, Placement, memory_bytes, unplaceable};
use towline_contract::plan::HandOver;
use towline_contract::trust::{ChunkError, Credentials, SealedChunk, Verified};
use zeroize::Zeroizing;

use super::{IMAGE_MODULES, PLACE};
use crate::console::Console;
use crate::failure::BootError;
use crate::fetch::{Mirrors, Planned};
use crate::handover::{HandOverError, Ready};
use crate::machine;
use crate::modules::{self, Loader};
use crate::place::{KexecPlacing, LayerSink, Mounting, PlaceError, Root};
use crate::progress::Progress as _;
use crate::report::Reporter;

/// The manifests of the chain's layers, verified, in its order.
pub(super) async fn manifests(
    console: &Console,
    mirrors: &Mirrors,
    planned: &Planned,
) -> Result<Vec<Verified<Manifest>>, BootError> {
    let chain = &planned.chain;
    console.step(format_args!(
        "plan verified: {} layers, {}",
        chain.layers.len(),
        in_words(chain.plan.hand_over)
    ));
    let mut manifests = Vec::new();
    for index in 0..chain.layers.len() {
        manifests.push(mirrors.manifest(chain, index, console).await?);
    }
    Ok(manifests)
}

/// Says what the chain needs before anything is downloaded.
pub(super) fn check_memory(
    console: &Console,
    how: HandOver,
    manifests: &[Verified<Manifest>],
) -> Result<(), HandOverError> {
    let need_bytes: u64 = manifests.iter().map(|it| memory_bytes(how, it)).sum();
    let have_kib = machine::memory_kib("MemAvailable").unwrap_or(u64::MAX);
    let (need_mib, have_mib) = (need_bytes >> 20, have_kib >> 10);
    console.note(format_args!(
        "its layers need {need_mib} MiB of memory; {have_mib} MiB are free"
    ));
    if need_mib > have_mib {
        Err(HandOverError::Memory { need_mib, have_mib })
    } else {
        Ok(())
    }
}

/// Every layer must come where it belongs, which older rescue systems know nothing of.
pub(super) fn check_placement<'a>(
    manifests: impl Iterator<Item = &'a Manifest> + Clone,
) -> Result<(), PlaceError> {
    let Some(layer) = unplaceable(manifests.clone()) else {
        return Ok(());
    };
    let mut manifests = manifests;
    let base = manifests.find(|it| it.kind == Kind::Base);
    Err(PlaceError::OlderBase {
        layer: layer.target_name(),
        base: base.map_or_else(|| "this chain".into(), Manifest::target_name),
    })
}

/// What the base lets other layers replace.
pub(super) fn replaceable(manifests: &[Verified<Manifest>]) -> Vec<String> {
    let base = manifests.iter().find(|it| it.kind == Kind::Base);
    base.map_or_else(Vec::new, |it| it.replaceable.clone())
}

/// Loads what mounting needs; from here on no driver is needed, and their files are given back as memory.
pub(super) fn prepare_for_images(console: &Console, loader: &mut Loader) -> Result<(), BootError> {
    for module in IMAGE_MODULES {
        loader.load(module)?;
    }
    let kib = modules::release_memory();
    console.note(format_args!("{} MiB of drivers given back", kib >> 10));
    Ok(())
}

/// What came sealed with the plan.
#[derive(Default)]
pub(super) struct Came {
    /// The credentials.
    pub(super) credentials: Option<Credentials>,
    /// The host layer as it is stored; not verified yet.
    pub(super) host_layer: Option<Zeroizing<Vec<u8>>>,
}

pub(super) async fn place(
    console: &Console,
    mirrors: &Mirrors,
    planned: &Planned,
    manifests: &[Verified<Manifest>],
    came: Came,
    reporter: &Reporter,
) -> Result<Ready, BootError> {
    let plan = &planned.chain.plan;
    for manifest in manifests
        .iter()
        .filter(|it| it.placement == Placement::Target)
    {
        console.note(format_args!(
            "{} is fetched later, onto the recreated file systems",
            manifest.target_name()
        ));
    }
    let work = Work {
        console,
        mirrors,
        reporter,
        host_layer: came.host_layer,
    };
    match plan.hand_over {
        HandOver::InPlace => {
            let mut root = Root::create(Path::new(PLACE), Mounting::Real)?;
            for manifest in in_memory(manifests) {
                work.layer(manifest, root.layer(manifest)?).await?;
            }
            if let Some(Credentials { manifest, chunk }) = came.credentials {
                at_once(root.layer(&manifest)?, chunk)?;
            }
            Ok(Ready::InPlace(root.finish()?))
        }
        HandOver::Kexec => {
            let mut placing = KexecPlacing::create(Path::new(PLACE), Mounting::Real)?;
            for manifest in in_memory(manifests) {
                work.layer(manifest, placing.layer(manifest)?).await?;
            }
            if let Some(Credentials { manifest, chunk }) = came.credentials {
                at_once(placing.layer(&manifest)?, chunk)?;
            }
            let running = fs::read_to_string("/proc/cmdline").unwrap_or_default();
            let command_line = with_consoles(&plan.command_line, &running);
            Ok(Ready::Kexec {
                chain: placing.finish()?,
                command_line,
            })
        }
    }
}

/// The layers that are placed now; the rescue system places the others when there are disks for them.
fn in_memory(manifests: &[Verified<Manifest>]) -> impl Iterator<Item = &Verified<Manifest>> {
    manifests.iter().filter(|it| it.placement == Placement::Ram)
}

/// Places a layer that is here already.
fn at_once(mut sink: LayerSink<'_>, chunk: Verified<impl AsRef<[u8]>>) -> Result<(), PlaceError> {
    sink.chunk(chunk)?;
    sink.finish()
}

/// What each layer is fetched with.
struct Work<'a> {
    console: &'a Console,
    mirrors: &'a Mirrors,
    reporter: &'a Reporter,
    host_layer: Option<Zeroizing<Vec<u8>>>,
}

impl Work<'_> {
    async fn layer(
        &self,
        manifest: &Verified<Manifest>,
        mut sink: LayerSink<'_>,
    ) -> Result<(), BootError> {
        let started = Instant::now();
        let target = manifest.target_name();
        if let Some(chunks) = self.came(manifest, &target) {
            self.console
                .step(format_args!("{target} came sealed with the plan"));
            for chunk in chunks {
                sink.chunk(chunk)?;
            }
        } else {
            self.console.step(format_args!("fetching {target}"));
            self.console.transfer(&target, 0, manifest.stored_bytes);
            self.mirrors
                .layer(manifest, &mut |chunk| sink.chunk(chunk), self.console)
                .await?;
        }
        sink.finish()?;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let bytes = manifest.stored_bytes;
        self.reporter.send_meanwhile(What::LayerPlaced {
            target,
            bytes,
            milliseconds,
        });
        Ok(())
    }

    /// The verified chunks of a layer that came with the plan. One that is not the signed layer is fetched like the others.
    fn came(&self, manifest: &Verified<Manifest>, target: &str) -> Option<Vec<SealedChunk>> {
        let bytes = self.host_layer.as_ref();
        let bytes = bytes.filter(|_| manifest.kind == Kind::Host)?;
        let wrong = |error: &ChunkError| {
            self.console.warn(format_args!(
                "what came with the plan as {target} is not it: {error}"
            ));
        };
        manifest.whole(bytes).inspect_err(wrong).ok()
    }
}

/// A plan that chooses no console keeps those of this boot: whoever watches goes on watching.
fn with_consoles(planned: &str, running: &str) -> String {
    let consoles = |line: &str| {
        let words = line
            .split_whitespace()
            .filter(|word| word.starts_with("console="));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    if !consoles(planned).is_empty() {
        return planned.to_owned();
    }
    let mut line = planned.trim().to_owned();
    for word in consoles(running) {
        line.push(' ');
        line.push_str(&word);
    }
    line.trim().to_owned()
}

/// How the chain is started, for people.
pub(super) fn in_words(how: HandOver) -> &'static str {
    match how {
        HandOver::InPlace => "in place",
        HandOver::Kexec => "by kexec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towline_contract::manifest::PLACES_ON_TARGET;

    #[test]
    fn a_base_that_knows_no_layers_for_the_target_is_named_before_anything_is_downloaded() {
        let golden = include_str!("../../../contract/tests/golden/v1/base.manifest.json");
        let mut base = Manifest::parse(golden.as_bytes()).unwrap();
        let mut agent = base.clone();
        (agent.kind, agent.name) = (Kind::Agent, "large".into());
        agent.placement = Placement::Target;
        let error = check_placement([&base, &agent].into_iter()).unwrap_err();
        let error = BootError::from(error);
        let message = error.message();
        for words in [agent.target_name(), base.target_name()] {
            assert!(message.contains(&words), "{message}");
        }
        assert!(error.next().contains("publish a base layer"), "{message}");
        base.provides.programs.push(PLACES_ON_TARGET.into());
        assert!(check_placement([&base, &agent].into_iter()).is_ok());
    }

    #[test]
    fn a_plan_without_a_console_keeps_those_of_this_boot() {
        let running = "quiet console=tty0 console=ttyS0,115200n8 towline.handover=kexec";
        assert_eq!(
            with_consoles("panic=30", running),
            "panic=30 console=tty0 console=ttyS0,115200n8"
        );
        assert_eq!(
            with_consoles("", running),
            "console=tty0 console=ttyS0,115200n8"
        );
        assert_eq!(with_consoles("console=ttyS1", running), "console=ttyS1");
    }
}
