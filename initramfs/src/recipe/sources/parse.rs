//! From a source's table to the source.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{FileContent, FileSource, Input, Source, octal};
use crate::recipe::variables::{Unfilled, Variables};

/// The types, as messages list them.
const TYPES: &str = "apt, deb, rpm, kernel, tar, run, initrd, live-image, directory, program, certificates, file, links, directories";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFile {
    path: String,
    content: Option<String>,
    from: Option<Input>,
    copy: Option<String>,
    #[serde(default)]
    append: String,
    #[serde(default, deserialize_with = "octal")]
    mode: Option<u32>,
}

impl Source {
    /// Reads a source's table.
    pub(in crate::recipe) fn parse(
        table: Spanned<DeValue<'_>>,
        variables: Variables<'_>,
    ) -> Result<Self, Fault> {
        let span = table.span();
        let DeValue::Table(mut table) = table.into_inner() else {
            return Err("a source must be a table".to_owned().into());
        };
        let kind = table
            .remove("type")
            .ok_or_else(|| format!("`type` is missing; it is one of {TYPES}"))?;
        let at = Some(kind.span().start);
        let fault = |what| Fault { at, what };
        let kind = kind.get_ref().as_str();
        let kind = kind
            .ok_or_else(|| fault("`type` must be a string".into()))?
            .to_owned();
        let table = Spanned::new(span, table);
        let mut source = match kind.as_str() {
            "apt" => Self::Apt(fields(table)?),
            "deb" => Self::Deb(fields(table)?),
            "rpm" => Self::Rpm(fields(table)?),
            "kernel" => Self::Kernel(fields(table)?),
            "tar" => Self::Tar(fields(table)?),
            "run" => Self::Run(fields(table)?),
            "initrd" => Self::Initrd(fields(table)?),
            "live-image" => Self::LiveImage(fields(table)?),
            "directory" => Self::Directory(fields(table)?),
            "program" => Self::Program(fields(table)?),
            "certificates" => Self::Certificates(fields(table)?),
            "file" => Self::File(file(fields(table)?)?),
            "links" => Self::Links(fields(table)?),
            "directories" => Self::Directories(fields(table)?),
            other => return Err(fault(format!("type {other:?} is not one of {TYPES}"))),
        };
        source.fill(variables).map_err(|cause| cause.to_string())?;
        source.check()?;
        Ok(source)
    }

    /// Fills variables into paths of this machine, and into what is fetched.
    fn fill(&mut self, variables: Variables<'_>) -> Result<(), Unfilled> {
        match self {
            Self::Directory(source) => variables.fill_all([&mut source.path]),
            Self::Program(source) => {
                variables.fill_all(source.programs.iter_mut().chain(&mut source.root))
            }
            other => {
                let mut inputs = other.inputs_mut().into_iter();
                inputs.try_for_each(|input| input.fill(variables))
            }
        }
    }
}

/// What is wrong with a source, and where in the recipe's text, if not with all of it.
pub(in crate::recipe) struct Fault {
    pub(in crate::recipe) at: Option<usize>,
    pub(in crate::recipe) what: String,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { at: None, what }
    }
}

fn fields<T: DeserializeOwned>(table: Spanned<DeTable<'_>>) -> Result<T, Fault> {
    T::deserialize(toml::Deserializer::from(table)).map_err(|cause| Fault {
        at: cause.span().map(|span| span.start),
        what: cause.message().to_owned(),
    })
}

fn file(raw: RawFile) -> Result<FileSource, String> {
    let content = match (raw.content, raw.from, raw.copy) {
        (Some(text), None, None) => FileContent::Text(text),
        (None, Some(path), None) => FileContent::From(path),
        (None, None, Some(path)) => FileContent::Copy(path),
        _ => return Err("exactly one of `content`, `from` and `copy` must be there".into()),
    };
    Ok(FileSource {
        path: raw.path,
        content,
        append: raw.append,
        mode: raw.mode,
    })
}
