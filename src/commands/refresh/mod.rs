//! `towline catalogue refresh`: layers that follow their packages.
//!
//! It can be interrupted anywhere and run again: until a new layer is signed into the catalogue nothing has changed for
//! machines, and one that was built and not signed yet is taken up by the next run.

mod built;
mod one;
mod timer;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use rustix::process::{geteuid, getpriority_process, setpriority_process};
use serde::Serialize;
use towline_contract::Timestamp;
use towline_initramfs::apt::Apt;
use towline_server::Site;
use towline_server::private::{Folder, Locked};
use towline_server::tracked::record::{self, Record, State};

use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;
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
    /// Leave the processor to others
    #[arg(long, hide = true)]
    in_background: bool,
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
    for path in [site.state(), site.tracked()] {
        let owner = fs::symlink_metadata(&path).map_or(0, |it| it.uid());
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
    if args.in_background && getpriority_process(None).is_ok_and(|it| it < LEAST_PRIORITY) {
        setpriority_process(None, LEAST_PRIORITY).context("cannot lower the priority")?;
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
    let recipes = match args.recipes.as_slice() {
        [] => followed(site)?,
        named => named.to_vec(),
    };
    if recipes.is_empty() && !quiet {
        eprintln!("towline: no recipe in recipes/ has [track] and a layer that is published");
    }
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for recipe in recipes {
        let (report, failure) = looked_at(&mut work, recipe)?;
        if !args.json {
            print(&report);
        }
        reports.push(report);
        failures.extend(failure);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&reports).map_err(anyhow::Error::from)?;
        println!("{text}");
    }
    told(failures)
}

/// Looks at one recipe, and writes down how that went.
fn looked_at(work: &mut Work<'_>, recipe: PathBuf) -> Result<(Report, Option<Failure>), Failure> {
    let Some(name) = record::name_of(&recipe) else {
        let what = anyhow!(
            "{} is no name for a recipe that is tracked",
            recipe.display()
        );
        return Err(Failure::new(Exit::Usage, what)
            .next("name it with letters, digits and -._+ alone: NAME.toml"));
    };
    let now = Timestamp::now();
    let known = record::read(work.site, &name).map_err(anyhow::Error::from)?;
    let mut record = known.unwrap_or_else(|| Record::new(now));
    let mut report = Report {
        recipe,
        ..Report::default()
    };
    let done = one::one(work, &name, &mut record, &mut report, now);
    let failure = done.err().map(|(state, failure)| {
        record.is_not(state, &format!("{:#}", failure.error), now);
        let error = failure
            .error
            .context(format!("recipe {name} is not current"));
        Failure { error, ..failure }
    });
    record::write(work.folder, &name, &record).map_err(anyhow::Error::from)?;
    report.state = Some(record.state);
    report.target.clone_from(&record.target);
    report.why.clone_from(&record.why);
    Ok((report, failure))
}

/// Recipes of the site that are tracked, and of which there is a layer.
fn followed(site: &Site) -> Result<Vec<PathBuf>, Failure> {
    let folder = site.recipes();
    let mut found = Vec::new();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()));
    for entry in entries.map_err(|error| Failure::new(Exit::Usage, error))? {
        let path = entry.context("cannot read recipes/")?.path();
        let is_recipe = path.extension().is_some_and(|it| it == "toml");
        if is_recipe && is_tracked(&path)? && one::is_published(site, &path)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the recipe has `[track]`; also one that is no TOML at the moment, so that it is told.
fn is_tracked(path: &Path) -> Result<bool, Failure> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let text = text.map_err(|error| Failure::new(Exit::Usage, error))?;
    let names_it = |line: &str| line.trim_start().starts_with("[track]");
    Ok(match text.parse::<toml::Table>() {
        Ok(table) => table.contains_key("track"),
        Err(_) => text.lines().any(names_it),
    })
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
    match (&report.state, &report.target) {
        (Some(State::Current), Some(target)) if report.published.is_empty() => {
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
