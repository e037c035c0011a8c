//! `towline catalogue refresh`: layers that follow their packages and releases.
//!
//! It can be interrupted anywhere and run again: until a new layer is signed into the catalogue nothing has changed for
//! machines, and one that was built and not signed yet is taken up by the next run.

mod built;
mod failures;
mod followed;
mod one;
mod timer;
mod turns;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use clap::Args;
use rustix::process::{geteuid, getpriority_process, setpriority_process};
use serde::Serialize;
use towline_contract::Timestamp;
use towline_initramfs::apt::Apt;
use towline_server::Site;
use towline_server::private::{Folder, Locked};
use towline_server::tracked::record::State;

use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;
use followed::{Ended, Followed};
use one::Work;
pub(super) use timer::keep;

/// What `catalogue refresh` is told.
#[derive(Args)]
pub(super) struct RefreshArgs {
    /// Recipes with [track] [default: those in recipes/ of the site whose layers
    /// are published]
    recipes: Vec<PathBuf>,
    /// Folder for package lists and packages
    /// [default: state/tracked/packages of the site]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Leave the processor to others, and end with the process that has started
    /// this
    #[arg(long, value_name = "PID", hide = true)]
    in_background: Option<u32>,
}

/// What came of one recipe.
#[derive(Debug, Default, Serialize)]
struct Report {
    recipe: PathBuf,
    state: Option<State>,
    /// What is published now.
    target: Option<String>,
    published: Vec<Published>,
    retired: Vec<String>,
    why: Option<String>,
}

/// A layer that was published.
#[derive(Debug, Serialize)]
struct Published {
    target: String,
    /// What had changed since the layer before it.
    changes: Vec<String>,
}

/// The least that the scheduler gives: whatever else runs goes first.
const LEAST_PRIORITY: i32 = 19;

/// What root would put into somebody else's folder, by whatever links are there, would be root's: apt's lists and packages, and
/// layers. Nothing here needs root.
fn refuse_to_be_root(site: &Site) -> Outcome {
    if !geteuid().is_root() {
        return Ok(());
    }
    // What is not there yet would be made in the folder above it.
    let folders = [site.relative(Path::new(".")), site.state(), site.tracked()];
    let there = folders.map(|path| Some((fs::symlink_metadata(&path).ok()?.uid(), path)));
    let [folder, state, tracked] = there;
    for (owner, path) in [state.or(folder), tracked].into_iter().flatten() {
        if owner != 0 {
            let what = anyhow!("{} is not root's but of user {owner}", path.display());
            return Err(Failure::new(Exit::Usage, what).next(format!(
                "run this as that user: sudo -u '#{owner}' towline catalogue refresh"
            )));
        }
    }
    Ok(())
}

/// The folder of what is known, while nobody else looks.
fn locked(site: &Site) -> Result<Locked, Failure> {
    let folder = Folder::make(&site.tracked()).and_then(Folder::try_lock);
    folder.map_err(|error| match error.is_locked() {
        true => Failure::new(Exit::No, anyhow!(error).context("another look is at work"))
            .next("run this again when that has ended"),
        false => anyhow::Error::from(error).into(),
    })
}

/// Looks at each recipe. One that fails does not keep the others from being looked at.
pub(super) fn run(site: &Site, args: &RefreshArgs, quiet: bool) -> Outcome {
    if let Some(server) = args.in_background {
        timer::end_with_server(server);
        if getpriority_process(None).is_ok_and(|it| it < LEAST_PRIORITY) {
            setpriority_process(None, LEAST_PRIORITY).context("cannot lower the priority")?;
        }
    }
    refuse_to_be_root(site)?;
    let folder = locked(site)?;
    let cache = args.cache.clone();
    let cache = cache.unwrap_or_else(|| site.tracked().join("packages"));
    let mut work = Work {
        site,
        folder: &folder,
        apt: Apt::new(&cache).map_err(one::apt_failure)?,
        cache: &cache,
        updated: None,
        quiet,
    };
    let ended = looked_at(&mut work, args.recipes.clone())?;
    if args.cache.is_none() {
        work.forget_old(SystemTime::now());
    }
    if ended.is_empty() && !quiet {
        eprintln!("towline: no recipe in recipes/ has [track] and a layer that is published");
    }
    let (reports, failures): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
    match args.json {
        true => {
            let text = serde_json::to_string_pretty(&reports).map_err(anyhow::Error::from)?;
            println!("{text}");
        }
        false => reports.iter().for_each(print),
    }
    told(failures.into_iter().flatten().collect())
}

/// Looks at these recipes, or at those of the site: what was built before is published first, then each is looked at and
/// built, and then that is published. The one that was looked at longest ago is the first: a look is ended after some hours, and
/// a server that is slow must not keep the same ones from being looked at each time.
fn looked_at(work: &mut Work<'_>, named: Vec<PathBuf>) -> Result<Vec<Ended>, Failure> {
    let site = work.site;
    let paths = match named.is_empty() {
        true => followed::in_site(site, &one::published(site)?)?,
        false => named,
    };
    let (mut followed, mut ended) = (Vec::new(), Vec::new());
    for path in paths {
        match Followed::open(site, work.folder, &path, Timestamp::now()) {
            Ok(it)
                if followed
                    .iter()
                    .any(|other: &Followed| other.name == it.name) =>
            {
                ended.push(it.has_name_of_another());
            }
            Ok(it) => followed.push(it),
            Err(it) => ended.push(*it),
        }
    }
    followed::refuse_twins(site, &mut followed, Timestamp::now());
    built::publish(work, &mut followed, Timestamp::now());
    let layers = one::published(site)?;
    let waits = turns::waiting(work, &followed);
    let mut turns: Vec<_> = followed.iter_mut().filter(|it| it.goes_on()).collect();
    turns.sort_by_key(|it| it.turn);
    for it in turns {
        let now = Timestamp::now();
        let looked = it
            .begin(work.folder, now)
            .and_then(|()| work.look(it, &layers, &waits, now));
        if let Err(stopped) = looked {
            it.stop(stopped, now);
        }
        // The others may take hours; that it cannot be written is told at the end.
        let _ = it.write(work.folder);
    }
    built::publish(work, &mut followed, Timestamp::now());
    ended.extend(followed.into_iter().map(|it| it.close(work.folder)));
    Ok(ended)
}

fn print(report: &Report) {
    for Published { target, changes } in &report.published {
        match changes.join(", ") {
            none if none.is_empty() => println!("published {target}"),
            changes => println!("published {target} ({})", one_line(&changes)),
        }
    }
    for target in &report.retired {
        println!("retired {target}");
    }
    match (&report.state, &report.target, &report.why) {
        (Some(State::Current), Some(target), Some(why)) => {
            println!("stays {target} ({})", one_line(why));
        }
        (Some(State::Current), Some(target), None) if report.published.is_empty() => {
            println!("unchanged {target}");
        }
        _ => {}
    }
}

/// The gravest failure, once the others are printed.
fn told(mut failures: Vec<Failure>) -> Outcome {
    failures.sort_by_key(|it| it.exit as u8);
    let Some(gravest) = failures.pop() else {
        return Ok(());
    };
    failures
        .into_iter()
        .map(Failure::advised)
        .for_each(|it| crate::print_failure(&it));
    Err(gravest)
}
