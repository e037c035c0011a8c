//! What a person at the machine decides about disks. Nobody there: refused, unless the plan has decided.

use towline_contract::recovery::Recover;
use towline_contract::session;

use super::disks::{self, Disk, gib};
use super::error::RecoverError;
use super::layout::Layout;
use super::mapping::{self, Assignment, MatchError, assign};
use crate::console::Console;
use crate::menu::ANSWER_WAIT;
use crate::progress::Progress as _;

/// Goes on only if a person says so.
///
/// # Errors
/// `what`, if nobody is there or says no.
pub(super) async fn accept(
    console: &Console,
    order: &Recover,
    what: &str,
    next: &'static str,
) -> Result<(), RecoverError> {
    let refused = || RecoverError::refused(what, next);
    if order.unattended {
        return Err(refused());
    }
    console.warn(format_args!("{what}"));
    let answer = console
        .ask("Go on all the same? Type yes and Enter:", Some(ANSWER_WAIT))
        .await;
    match answer {
        Some(answer) if answer.text == "yes" => Ok(()),
        _ => Err(refused()),
    }
}

/// Which disk takes the place of which, shown; and what would be lost on them, shown and asked.
///
/// # Errors
/// Disks are missing, cannot be told apart, are too small, or hold something else, and nobody decides.
pub(super) async fn disks(
    console: &Console,
    layout: &Layout,
    session: &[session::Disk],
    order: &Recover,
) -> Result<(Vec<Assignment>, Vec<Disk>), RecoverError> {
    let found = disks::list().await;
    let mut chosen = Vec::new();
    let assignments = loop {
        match assign(layout, session, &found, &chosen) {
            Ok(assignments) => break assignments,
            Err(error @ MatchError::Unclear { index, .. }) if !order.unattended => {
                console.warn(format_args!("{error}"));
                chosen.push(choose(console, layout, index, &found, &chosen).await?);
            }
            Err(error) => {
                const NEXT: &str =
                    "give the machine the disks that the host had, or recover attended to choose";
                return Err(RecoverError::refused(error.to_string(), NEXT));
            }
        }
    };
    for (old, it) in layout.disks.iter().zip(&assignments) {
        let new = disk(&found, it)?;
        console.note(format_args!(
            "{} ({}) becomes {}",
            old.device,
            gib(old.bytes),
            new.described()
        ));
        if it.shrinks {
            let what = format!(
                "{} is smaller than the partitions of {} ({}): ReaR would shrink the last one",
                new.described(),
                old.device,
                gib(old.bytes_needed())
            );
            accept(console, order, &what, "use a disk of at least that size").await?;
        }
        let foreign = mapping::foreign(layout, old, new);
        if !foreign.is_empty() {
            overwrite(console, order, new, &foreign).await?;
        }
    }
    let used = found
        .into_iter()
        .filter(|disk| assignments.iter().any(|it| it.to == disk.device));
    let used = used.collect();
    Ok((assignments, used))
}

fn disk<'a>(found: &'a [Disk], it: &Assignment) -> Result<&'a Disk, RecoverError> {
    let disk = found.iter().find(|disk| disk.device == it.to);
    disk.ok_or_else(|| RecoverError::refused(format!("{} is gone", it.to), "try again"))
}

/// Asks which disk to take for the one at `index` of the layout.
async fn choose(
    console: &Console,
    layout: &Layout,
    index: usize,
    found: &[Disk],
    chosen: &[Assignment],
) -> Result<Assignment, RecoverError> {
    let old = &layout.disks[index];
    let free = found.iter().filter(|it| !it.is_medium());
    let free: Vec<_> = free
        .filter(|it| chosen.iter().all(|other| other.to != it.device))
        .collect();
    for (number, disk) in (1..).zip(&free) {
        console.plain(format_args!("  {number} = {}", disk.described()));
    }
    let question = format!(
        "Which disk takes the place of {} ({})? Type its number and Enter:",
        old.device,
        gib(old.bytes)
    );
    let answer = console.ask(&question, Some(ANSWER_WAIT)).await;
    let number = answer
        .and_then(|it| it.text.parse::<usize>().ok())
        .unwrap_or(0);
    let disk = number.checked_sub(1).and_then(|index| free.get(index));
    let disk = disk.ok_or_else(|| RecoverError::refused("no disk was chosen", "try again"))?;
    Ok(Assignment {
        from: old.device.clone(),
        to: disk.device.clone(),
        shrinks: false,
    })
}

/// Shows what would be lost, and goes on if the plan or a person says so.
async fn overwrite(
    console: &Console,
    order: &Recover,
    disk: &Disk,
    foreign: &[String],
) -> Result<(), RecoverError> {
    for line in foreign {
        console.warn(format_args!("{line}, which is not this host's"));
    }
    if order.overwrite {
        console.note(format_args!("the plan allows to overwrite {}", disk.device));
        return Ok(());
    }
    let what = format!(
        "{} holds something else: {}",
        disk.described(),
        foreign.join(", ")
    );
    let next = "empty the disk, or open the recovery with --overwrite";
    if order.unattended {
        return Err(RecoverError::refused(what, next));
    }
    let question = format!(
        "All of {} will be lost. Type overwrite and Enter to go on:",
        disk.described()
    );
    match console.ask(&question, Some(ANSWER_WAIT)).await {
        Some(answer) if answer.text == "overwrite" => Ok(()),
        _ => Err(RecoverError::refused(what, next)),
    }
}
