//! What the layers of one chain need: drivers, libraries and programs, bytes in the store, memory. Pure functions.

use std::collections::BTreeSet;

use serde::Serialize;
use towline_contract::Digest;
use towline_contract::manifest::{Kind, Manifest, memory_bytes};
use towline_contract::plan::HandOver;
use towline_contract::session::Session;
use towline_initramfs::chain;

use crate::config::HandOverChoice;
use crate::doctor::{Finding, problem, warning};

/// Memory that kernel, rescue system and a restore need beside the layers, in KiB: 128 MiB are asked for before a restore,
/// restic takes 90 MiB, the rest is kernel, ReaR and what the medium's drivers take.
const WORKING_KIB: u64 = 300 << 10;

/// Drivers of storage, file systems and network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drivers {
    /// What the host's disks, file systems and network use.
    pub needed: Vec<String>,
    /// What of it the kernel layer does not have.
    pub missing: Vec<String>,
}

/// Memory in KiB: an estimate, with what a restore needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Needed when the rescue system starts in the medium's kernel.
    pub in_place_kib: u64,
    /// Needed when the chain's own kernel is started.
    pub kexec_kib: u64,
    /// What the host had; none when it did not say.
    pub host_kib: Option<u64>,
}

pub(super) fn drivers(session: &Session, layers: &[&Manifest]) -> Drivers {
    let kernel = layers.iter().find(|it| it.kind == Kind::Kernel);
    let needed = &session.hardware.modules;
    let is_missing = |name: &&String| kernel.is_some_and(|it| !it.provides.modules.contains(name));
    Drivers {
        missing: needed.iter().filter(is_missing).cloned().collect(),
        needed: needed.clone(),
    }
}

pub(super) fn missing_drivers(drivers: &Drivers, layers: &[&Manifest]) -> Option<Finding> {
    let kernel = layers.iter().find(|it| it.kind == Kind::Kernel)?;
    let (names, target) = (drivers.missing.join(", "), kernel.target_name());
    (!names.is_empty()).then(|| {
        problem(
            format!("the host's disks, file systems or network need {names}, which {target} does not have"),
            "add the modules to the kernel's recipe, build and publish it",
        )
    })
}

/// Libraries, programs and interpreters that no layer has; drivers are told apart.
pub(super) fn unresolved(layers: &[&Manifest]) -> Vec<Finding> {
    let mut layers: Vec<Manifest> = layers.iter().copied().cloned().collect();
    for host in layers.iter_mut().filter(|it| it.kind == Kind::Host) {
        host.requires.modules.clear();
    }
    // What should be in a layer that is not there is no news.
    let both = [Kind::Kernel, Kind::Base].map(|kind| layers.iter().any(|it| it.kind == kind));
    if both.contains(&false) {
        return Vec::new();
    }
    let told = |(layer, need): &(String, String)| {
        let what = format!("{layer} needs {need}, which no layer of its chain has");
        problem(what, "add it to a layer, build and publish that")
    };
    chain::check(&layers).unresolved.iter().map(told).collect()
}

pub(super) fn absent(layers: &[&Manifest], absent: &BTreeSet<Digest>) -> Vec<Finding> {
    let gone = layers.iter().filter(|it| absent.contains(&it.digest));
    let told = |it: &&Manifest| {
        let (target, digest) = (it.target_name(), it.digest);
        problem(
            format!(
                "the store does not have the {} bytes of {target} ({digest})",
                it.stored_bytes
            ),
            "restore store/layers from a copy, or publish the layer again",
        )
    };
    gone.map(told).collect()
}

pub(super) fn memory(session: &Session, layers: &[&Manifest]) -> Memory {
    let kib = |how| {
        let bytes: u64 = layers.iter().map(|it| memory_bytes(how, it)).sum();
        bytes.div_ceil(1024) + WORKING_KIB
    };
    Memory {
        in_place_kib: kib(HandOver::InPlace),
        kexec_kib: kib(HandOver::Kexec),
        host_kib: Some(session.hardware.memory_kib).filter(|it| *it > 0),
    }
}

pub(super) fn too_little(memory: Memory, how: HandOverChoice) -> Option<Finding> {
    let have = memory.host_kib?;
    let need = match how {
        HandOverChoice::Kexec => memory.kexec_kib,
        HandOverChoice::Auto | HandOverChoice::InPlace => memory.in_place_kib,
    };
    let mib = |kib: u64| kib >> 10;
    if need > have {
        return Some(problem(
            format!(
                "its recovery needs about {} MiB of memory, and the host has {}",
                mib(need),
                mib(have)
            ),
            "recover it on a machine with more memory, or make its layers smaller",
        ));
    }
    let by_kexec = how == HandOverChoice::Auto && memory.kexec_kib > have;
    by_kexec.then(|| {
        warning(
            format!(
                "from a medium with another kernel its recovery needs about {} MiB of memory, and the host has {}",
                mib(memory.kexec_kib),
                mib(have)
            ),
            "keep a medium with the kernel that is published, or make the layers smaller",
        )
    })
}
