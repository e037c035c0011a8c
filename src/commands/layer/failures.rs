//! Why a layer is not built, and what to do.

use towline_initramfs::apt::AptError;
use towline_initramfs::assemble::SourceError;
use towline_initramfs::build::BuildError;
use towline_initramfs::fetch::FetchError;
use towline_initramfs::kernel::ReadsError;
use towline_initramfs::libraries::LibraryError;
use towline_initramfs::makeself::MakeselfError;
use towline_initramfs::recipe::{PageError, RecipeError};
use towline_initramfs::release::ReleaseError;

use crate::commands::distribution::other_than_debian_12;
use crate::exit::{Exit, Failure};

pub(in crate::commands) fn recipe_failure(error: RecipeError) -> Failure {
    let next = match &error {
        RecipeError::Set { .. } => "give it as it stands in the URL: --set version=1.2",
        _ => "docs/how-to/recipes.md explains every field",
    };
    Failure::new(Exit::Usage, error).next(next)
}

pub(in crate::commands) fn release_failure(error: ReleaseError) -> Failure {
    let (exit, next) = match &error {
        ReleaseError::Fetch { cause, .. } => match &**cause {
            FetchError::Status { status, .. } => (
                Exit::NotReachable,
                status_next(*status)
                    .unwrap_or("see where versions are named by now, and put that into track.page")
                    .to_owned(),
            ),
            FetchError::TooLarge { .. } => (
                Exit::Usage,
                "name a page that lists fewer, such as that of the newest release".to_owned(),
            ),
            other => fetch_failure(other),
        },
        ReleaseError::Page { cause, .. } => (
            Exit::Usage,
            match &**cause {
                PageError::None { .. } => "compare track.version with what the page has",
                PageError::Many { .. } => "have track.version match less, or name a page that lists fewer",
                PageError::Version { .. } => {
                    "have the group of track.version match nothing but versions, such as ([0-9][0-9.]*)"
                }
            }
            .to_owned(),
        ),
        ReleaseError::Recipe(_) => (
            Exit::Usage,
            "docs/how-to/recipes.md explains every field".to_owned(),
        ),
    };
    Failure::new(exit, error).next(next)
}

pub(in crate::commands) fn build_failure(error: BuildError) -> Failure {
    let (exit, next) = match &error {
        BuildError::Source { cause, .. } => source_failure(cause),
        BuildError::Missing(_) => (
            Exit::No,
            "add the packages that have them, or exclude the files that need them".into(),
        ),
        BuildError::ForKernel(error) => (Exit::Usage, for_kernel_next(error).into()),
        BuildError::Unread { instead, .. } => (Exit::Usage, instead.clone()),
        BuildError::Recipe { .. } | BuildError::Manifest(_) => (Exit::Usage, String::new()),
        _ => (Exit::Internal, String::new()),
    };
    let failure = Failure::new(exit, error);
    if next.is_empty() {
        failure
    } else {
        failure.next(next)
    }
}

fn for_kernel_next(error: &ReadsError) -> &'static str {
    match error {
        ReadsError::Unknown { .. } => {
            "name its configuration instead (boot/config-RELEASE), or build the kernel layer again with --for-kernel and that file"
        }
        _ => {
            "name a kernel layer, with its manifest beside it, or the kernel's configuration (boot/config-RELEASE)"
        }
    }
}

fn source_failure(error: &SourceError) -> (Exit, String) {
    match error {
        SourceError::Apt(error) => apt_failure(error),
        SourceError::Fetch(error) => fetch_failure(error),
        SourceError::Makeself(error) => (Exit::Usage, makeself_next(error).into()),
        SourceError::Library(LibraryError::Missing(_)) => (
            Exit::No,
            "add the packages that have them to the recipe".into(),
        ),
        _ => (Exit::Usage, String::new()),
    }
}

/// What to do about an answer that says nothing of the URL; none of any other.
fn status_next(status: u16) -> Option<&'static str> {
    match status {
        408 | 429 | 500.. => Some("that server cannot answer now: try again later"),
        401 | 403 | 407 => Some(
            "that server, or the proxy, does not let this machine have it: if it counts what is asked for, as GitHub's API \
             does, try again later; if it wants a login, name a place that everybody may read",
        ),
        _ => None,
    }
}

/// The exit code of a failure to fetch a file, and the next step.
fn fetch_failure(error: &FetchError) -> (Exit, String) {
    let (exit, next) = match error {
        FetchError::Unreachable { .. } | FetchError::Stopped { .. } => (
            Exit::NotReachable,
            "check the network (and https_proxy, if there is a proxy), then try again",
        ),
        FetchError::Late { .. } => (
            Exit::NotReachable,
            "see why it is so slow, and try again later; by hand it may take longer: towline layer build, towline publish",
        ),
        FetchError::Status { status, .. } => (
            Exit::NotReachable,
            status_next(*status).unwrap_or(
            "check the `url` in the recipe; of a release that a page names, whether its makers have put it there already, or \
             track.version takes for one what is none"),
        ),
        FetchError::TooLarge { .. } => (
            Exit::NotTrusted,
            "if it is the right file, raise `bytes-max` in the recipe",
        ),
        FetchError::Digest { .. } => (
            Exit::NotTrusted,
            "compare the digest with what its makers say; when they made a new version, put that into the recipe",
        ),
        FetchError::Signature { .. } => (
            Exit::NotTrusted,
            "compare the key with what its makers say, and look whether they sign this very file",
        ),
        FetchError::Unnamed { .. } => (
            Exit::NotTrusted,
            "see whether an older file lies there under a new name; if its makers never sign names, and you take that risk: `signed-name = false` beside the `minisign-key`",
        ),
        FetchError::Authorities(_) => (
            Exit::Usage,
            "install ca-certificates, or name a file with certificates in SSL_CERT_FILE",
        ),
        FetchError::File { .. } => (Exit::Internal, "choose another folder with --cache"),
        FetchError::Proof(_) => (Exit::Usage, ""),
    };
    (exit, next.to_owned())
}

fn makeself_next(error: &MakeselfError) -> &'static str {
    match error {
        MakeselfError::Other { .. } | MakeselfError::Form { .. } => {
            "carry it whole, and run it on the target: a source of type \"file\" with `path`, `from` and mode \"0755\", or the \
             agent's `install`"
        }
        MakeselfError::Size { .. } | MakeselfError::Sum { .. } => "fetch the file again",
        MakeselfError::Read { .. } | MakeselfError::Tar { .. } => "",
    }
}

/// The exit code of a failure to get packages, and the next step.
pub(in crate::commands) fn apt_failure(error: &AptError) -> (Exit, String) {
    let (exit, next) = match error {
        AptError::NoLists => (Exit::Usage, "run `apt-get update` as root, then try again"),
        AptError::Download { .. } => (
            Exit::NotReachable,
            "check the network; when the archive has newer versions, run `apt-get update` as root",
        ),
        AptError::Update(talk) if talk.contains("signed") || talk.contains("signature") => (
            Exit::NotTrusted,
            "see the archive's key and Signed-By in this machine's apt sources; nothing was changed",
        ),
        AptError::Update(talk) if talk.contains("is expired") => (
            Exit::NotTrusted,
            "see why the mirror stands still; of an archive that is meant to, as a snapshot, say [check-valid-until=no] in this machine's apt sources; nothing was changed",
        ),
        AptError::Update(_) => (
            Exit::NotReachable,
            "check the network and this machine's apt sources, then run this again; nothing was changed",
        ),
        AptError::Busy { .. } => (
            Exit::No,
            "see which program has that file open (fuser FILE), wait for it or end it, and run this again; or choose another folder with --cache",
        ),
        AptError::Digest { .. } => (Exit::NotTrusted, "try again, or use another mirror"),
        AptError::File { .. } => (Exit::Internal, "choose another folder with --cache"),
        AptError::Unresolved { .. } | AptError::NoKernel { .. } => {
            if let Some(other) = other_than_debian_12() {
                let next = format!(
                    "the medium and the ready recipes are made of Debian 12's packages, and this machine has those of \
                     {other}: build on a Debian 12 machine or in a container of it"
                );
                return (Exit::Usage, next);
            }
            (
                Exit::Usage,
                "check the names; with old package lists, run `apt-get update` as root",
            )
        }
        _ => (Exit::Usage, ""),
    };
    (exit, next.to_owned())
}
