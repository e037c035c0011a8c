//! Why a layer is not built, or not published, and what to do.

use std::path::Path;

use anyhow::anyhow;
use towline_contract::manifest::Manifest;
use towline_initramfs::recipe::Recipe;
use towline_server::catalogue::NewLayer;
use towline_server::tracked::GoneBack;

use super::turns::First;
use crate::exit::{Exit, Failure};

/// Another layer of the same role goes first.
pub(super) fn turn(First { target, recipe }: &First) -> Failure {
    let what = anyhow!(
        "{target}, by recipe {recipe}, goes first: the same role signs the document that it is in"
    );
    Failure::new(Exit::No, what).next(format!(
        "have that one signed (towline doctor names the file), and look at all recipes: towline catalogue refresh; to give it up, remove its document and state/tracked/{recipe}.json"
    ))
}

/// Two recipes that are tracked make the same layers: each would publish over the other at every look.
pub(super) fn is_twin(this: &Path, other: &Path, layers: &str) -> Failure {
    let (this, other) = (this.display(), other.display());
    let what = anyhow!("{this} and {other} both have [track], and both make {layers}");
    Failure::new(Exit::Usage, what)
        .next("take [track] out of one of them, or give its layers another name")
}

pub(super) fn has_gone_back(layer: &NewLayer, back: &[GoneBack]) -> Failure {
    let rows: Vec<_> = back.iter().map(ToString::to_string).collect();
    let what = anyhow!("packages have gone back: {}", rows.join("; "));
    let (kind, name) = (layer.manifest.kind, &layer.manifest.name);
    let targets = back.iter().map(|it| it.target.as_str());
    let version = targets.filter_map(|it| it.split('/').nth(2)).next();
    let version = version.unwrap_or("VERSION");
    Failure::new(Exit::No, what).next(format!(
        "see whether the archive is the right one; if that is right: towline catalogue retire {kind}/{name} {version}, and run this again"
    ))
}

/// The page names no release that is as new as what is published.
pub(super) fn page_has_gone_back(recipe: &Recipe, back: &GoneBack) -> Failure {
    let page = recipe.track.as_ref().and_then(|it| it.page.as_ref());
    let url = page.map_or("the page", |it| it.url.as_str());
    let GoneBack {
        target, was, is, ..
    } = back;
    let what = anyhow!(
        "{url} names {is} as the newest version, but {target}, which is published, is of {was}"
    );
    let mut parts = target.split('/').skip(2);
    let version = parts.next().unwrap_or("VERSION");
    let (kind, name) = (recipe.kind, &recipe.name);
    let path = recipe.path.display();
    Failure::new(Exit::No, what).next(format!(
        "see whether the page and track.version are the right ones, and whether its makers took {was} back, or count otherwise now (2024.1, then 1.0); if that is right, go there by hand: towline layer build {path} --set version={is}, towline publish that layer (if it is not), towline catalogue retire {kind}/{name} {version}, and run this again"
    ))
}

/// What somebody published by hand has packages that upstream has newer.
pub(super) fn has_older(by_hand: &Manifest, older: &[GoneBack]) -> Failure {
    let rows = older
        .iter()
        .map(|it| format!("{} {}, {} by now", it.package, it.is, it.was));
    let rows: Vec<_> = rows.collect();
    let target = by_hand.target_name();
    let what = anyhow!(
        "machines take {target}, which was published by hand, before what the recipe makes, but it has {}",
        rows.join("; ")
    );
    let (kind, name, version) = (by_hand.kind, &by_hand.name, &by_hand.version);
    Failure::new(Exit::No, what).next(format!(
        "publish a newer one by hand, or have the recipe's taken: towline catalogue retire {kind}/{name} {version}, and run this again"
    ))
}

/// Kernels do not go by themselves: media start in place by the layer of their own.
pub(super) fn is_behind(layer: &NewLayer, ahead: &[String]) -> Failure {
    let target = layer.manifest.target_name();
    let what = anyhow!(
        "machines would not take {target} before {}, whose newest file is newer",
        ahead.join(", ")
    );
    Failure::new(Exit::No, what)
        .next("when no medium starts by those kernels any more: towline catalogue retire")
}

pub(super) fn tracks_nothing(path: &Path) -> Failure {
    let what = anyhow!(
        "recipe {} takes no package from an archive, and has no page",
        path.display()
    );
    Failure::new(Exit::Usage, what)
        .next("[track] follows sources of the types apt, certificates and kernel with package, and releases by track.page; leave it out")
}
