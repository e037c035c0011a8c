//! What the fields of a source say together, and names of packages.

use super::{Input, KernelSource, Source};

impl Source {
    /// Refuses what could not be taken.
    pub(in crate::recipe) fn check(&self) -> Result<(), String> {
        self.inputs().into_iter().try_for_each(Input::check)?;
        match self {
            Self::Apt(source) if source.packages.is_empty() => {
                Err("`packages` is missing or empty".into())
            }
            Self::Apt(source) => {
                place_of_programs(&source.to, &source.programs)?;
                names(source.packages.iter().chain(&source.without))
            }
            Self::Deb(source) | Self::Rpm(source) if source.files.is_empty() => {
                Err("`files` is missing or empty".into())
            }
            Self::Deb(source) | Self::Rpm(source) => {
                place_of_programs(&source.to, &source.programs)
            }
            Self::Kernel(source) => kernel(source),
            Self::Certificates(source) if source.package.is_none() && source.files.is_empty() => {
                Err("neither `package` nor `files` says which".into())
            }
            Self::Certificates(source) => names(&source.package),
            _ => Ok(()),
        }
    }
}

/// Programs look for their libraries at paths of their own.
fn place_of_programs(to: &str, programs: &[String]) -> Result<(), String> {
    match to.is_empty() || programs.is_empty() {
        true => Ok(()),
        false => Err(
            "`programs` cannot go elsewhere by `to`; `private` gives them a folder of their own"
                .into(),
        ),
    }
}

/// Refuses what is no name of a Debian package (Debian policy 5.6.1) before it becomes an argument of apt.
fn names<'a>(packages: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let good = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(letter)
    };
    match packages.into_iter().find(|name| !good(name)) {
        Some(name) => Err(format!("{name:?} is no name of a package")),
        None => Ok(()),
    }
}

fn kernel(source: &KernelSource) -> Result<(), String> {
    let from = [
        source.package.is_some(),
        source.file.is_some(),
        source.initrd.is_some(),
        source.live_image.is_some(),
    ];
    if from.into_iter().filter(|is_there| *is_there).count() != 1 {
        return Err(
            "exactly one of `package`, `file`, `initrd` and `live-image` must be there".into(),
        );
    }
    let has_modules = source.initrd.is_some() || source.live_image.is_some();
    if source.image.is_some() != has_modules {
        return Err("`image` must be there together with `initrd` or `live-image`".into());
    }
    names(&source.package)
}
