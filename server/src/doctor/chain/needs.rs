//! What the layers of one chain need: drivers, firmware, libraries and programs, bytes in the store, memory. Pure functions.

use std::collections::BTreeSet;

use serde::Serialize;
use towline_contract::Digest;
use towline_contract::manifest::{Kind, Manifest, memory_bytes};
use towline_contract::plan::HandOver;
use towline_contract::session::Session;
use towline_initramfs::chain::Unread;

use super::known::Stack;
use crate::config::HandOverChoice;
use crate::doctor::{Finding, Level, problem, warning};

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
    /// Firmware that these may ask for, and the kernel layer does not have.
    pub firmware: Vec<Firmware>,
}

/// Firmware that a driver may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// The driver.
    pub module: String,
    /// Files below `lib/firmware` that are not there.
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

pub(super) fn drivers(session: &Session, stack: &Stack<'_>) -> Drivers {
    let needed = &session.hardware.modules;
    let has_kernel = stack.needs.has(Kind::Kernel);
    let is_missing = |name: &&String| has_kernel && !stack.needs.has_module(name);
    Drivers {
        missing: needed.iter().filter(is_missing).cloned().collect(),
        needed: needed.clone(),
        firmware: Vec::new(),
    }
}

/// Storage and network devices that no module of the kernel says it is for. The host may have done without them.
pub(super) fn devices(session: &Session, stack: &Stack<'_>) -> Option<Finding> {
    let (kernel, _) = stack.kernel.as_ref()?;
    let devices = session.hardware.pci.iter();
    let mut names: Vec<_> = devices
        .filter(|it| is_needed(it) && !stack.has_driver(it))
        .map(|it| in_short(it))
        .collect();
    names.dedup();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        warning(
            format!("{kernel} has no driver for {names} of the host"),
            "if the host's disks or network hang on it, add its module to the kernel's recipe, build and publish it",
        )
    })
}

/// Whether a device is for storage or a wired network, by its class (`bc01`, `bc02`; `bc02sc80` are others, such as wireless).
fn is_needed(modalias: &str) -> bool {
    let class = modalias.rsplit_once("bc").map_or("", |(_, class)| class);
    class.starts_with("01") || (class.starts_with("02") && !class.starts_with("02sc80"))
}

/// `network device 8086:1533` of `pci:v00008086d00001533…`.
fn in_short(modalias: &str) -> String {
    let number = |sign: char| {
        let (_, rest) = modalias.split_once(sign)?;
        rest.get(4..8).map(str::to_ascii_lowercase)
    };
    let rest = modalias.strip_prefix("pci:").unwrap_or(modalias);
    let maker = rest.strip_prefix('v').and_then(|it| it.get(4..8));
    let device = number('d').unwrap_or_default();
    let maker = maker.unwrap_or_default().to_ascii_lowercase();
    let kind = match modalias.contains("bc01") {
        true => "storage",
        false => "network",
    };
    format!("{kind} device {maker}:{device}")
}

/// Firmware that the host's drivers may ask for and the kernel layer does not have.
pub(super) fn firmware(session: &Session, stack: &Stack<'_>) -> Vec<Firmware> {
    let Some((_, drives)) = &stack.kernel else {
        return Vec::new();
    };
    let modules = session.hardware.modules.iter();
    let firmware = modules.map(|module| Firmware {
        module: module.clone(),
        missing: drives.missing_firmware(module),
    });
    firmware.filter(|it| !it.missing.is_empty()).collect()
}

/// A driver names the firmware of all the devices that it is for, and most devices go without: so this is a warning.
pub(super) fn missing_firmware(firmware: &[Firmware], stack: &Stack<'_>) -> Option<Finding> {
    let (kernel, _) = stack.kernel.as_ref()?;
    let told = |it: &Firmware| match it.missing.as_slice() {
        [one] => format!("{} for {one}", it.module),
        [first, .., last] => {
            format!(
                "{} for {} files from {first} to {last}",
                it.module,
                it.missing.len()
            )
        }
        [] => it.module.clone(),
    };
    (!firmware.is_empty()).then(|| {
        let told: Vec<_> = firmware.iter().map(told).collect();
        warning(
            format!("drivers of the host may ask for firmware that {kernel} does not have: {}", told.join(", ")),
            "if its device does not work without, add the package with it to the kernel's recipe, build and publish it",
        )
    })
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
pub(super) fn unresolved(layers: &[&Manifest], stack: &Stack<'_>) -> Vec<Finding> {
    let mut unresolved = stack.unresolved.clone();
    // What should be in a layer that is not there is no news.
    let hosts = layers
        .iter()
        .filter(|it| it.kind == Kind::Host && stack.is_whole());
    for host in hosts {
        let needs = stack.needs.unresolved_of(host).into_iter();
        let needs = needs.filter(|it| !host.requires.modules.contains(it));
        unresolved.extend(needs.map(|need| (host.target_name(), need)));
    }
    let told = |(layer, need): &(String, String)| {
        let what = format!("{layer} needs {need}, which no layer of its chain has");
        problem(what, "add it to a layer, build and publish that")
    };
    unresolved.iter().map(told).collect()
}

/// Layers that the chain's kernel has to read and cannot.
pub(super) fn unread(layers: &[&Manifest], how: HandOverChoice) -> Vec<Finding> {
    let found = crate::unread::unread(layers, how).into_iter();
    let told = |(level, it): (Level, Unread<'_>)| match level {
        Level::Problem => problem(it.to_string(), it.next()),
        Level::Warning => warning(format!("from a medium with another kernel {it}"), it.next()),
    };
    found.map(told).collect()
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
