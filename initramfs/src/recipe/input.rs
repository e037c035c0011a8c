//! Where the file of a source is: beside the recipe, or somewhere to be fetched from.
//!
//! Wherever a recipe names a file it may give a table instead, `{ url = "…", sha256 = "…" }`. So every source can be fetched,
//! also one with several files, and none has fields of its own for it.

use std::fmt;

use minisign_verify::PublicKey;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use towline_contract::Digest;
use towline_contract::limits::{LAYER_STORED_BYTES_MAX, URL_BYTES_MAX};

use super::sources::{FileContent, FileSource, Source};
use super::variables::unfilled;

/// Most bytes of a fetched file when the recipe does not say: installers of agents have a few hundred million.
const FETCHED_BYTES_DEFAULT: u64 = 1 << 30;

/// Most bytes of a URL that go into the name of a file: file systems allow 255.
const FILE_NAME_BYTES_MAX: usize = 100;

/// A file that a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Path relative to the recipe.
    Beside(String),
    /// To be fetched.
    Fetched(Download),
}

/// A file to be fetched, and what vouches for it: exactly one of a digest and a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Download {
    /// Where it is, by `http://` or `https://`.
    pub url: String,
    /// Its SHA-256.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The public half of the minisign key whose signature lies beside it, at the same URL with `.minisig`.
    #[serde(default)]
    pub minisign_key: Option<String>,
    /// Most bytes it may have.
    #[serde(default)]
    pub bytes_max: Option<u64>,
}

/// What vouches for a fetched file.
pub enum Proof {
    /// This very content.
    Sha256(Digest),
    /// Any content that the key's owner signed.
    Minisign(PublicKey),
}

impl Input {
    /// The texts that may have variables.
    pub(super) fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Beside(path) => vec![path],
            Self::Fetched(download) => {
                let proofs = [&mut download.sha256, &mut download.minisign_key];
                let proofs = proofs.into_iter().flatten();
                std::iter::once(&mut download.url).chain(proofs).collect()
            }
        }
    }

    /// Refuses what could not be fetched or trusted, once its variables are filled.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Fetched(download) = self else {
            return Ok(());
        };
        let texts = [&download.sha256, &download.minisign_key];
        let texts = texts.into_iter().flatten().chain([&download.url]);
        if texts.into_iter().any(|text| unfilled(text).is_some()) {
            // Only asked for its variables.
            return Ok(());
        }
        check_url(&download.url)?;
        download.proof()?;
        match download.bytes_max() {
            1..=LAYER_STORED_BYTES_MAX => Ok(()),
            other => Err(format!(
                "`bytes-max` is {other}, and must be from 1 to {LAYER_STORED_BYTES_MAX}"
            )),
        }
    }
}

impl Source {
    /// The files that it reads.
    #[must_use]
    pub fn inputs(&self) -> Vec<&Input> {
        match self {
            Self::Deb(source) | Self::Rpm(source) => source.files.iter().collect(),
            Self::Certificates(source) => source.files.iter().collect(),
            Self::Kernel(source) => {
                let inputs = [
                    &source.file,
                    &source.image,
                    &source.initrd,
                    &source.live_image,
                ];
                inputs.into_iter().flatten().collect()
            }
            Self::Tar(source) | Self::Run(source) => vec![&source.file],
            Self::Initrd(source) | Self::LiveImage(source) => vec![&source.file],
            Self::File(FileSource {
                content: FileContent::From(input),
                ..
            }) => vec![input],
            _ => Vec::new(),
        }
    }

    pub(super) fn inputs_mut(&mut self) -> Vec<&mut Input> {
        match self {
            Self::Deb(source) | Self::Rpm(source) => source.files.iter_mut().collect(),
            Self::Certificates(source) => source.files.iter_mut().collect(),
            Self::Kernel(source) => {
                let inputs = [
                    &mut source.file,
                    &mut source.image,
                    &mut source.initrd,
                    &mut source.live_image,
                ];
                inputs.into_iter().flatten().collect()
            }
            Self::Tar(source) | Self::Run(source) => vec![&mut source.file],
            Self::Initrd(source) | Self::LiveImage(source) => vec![&mut source.file],
            Self::File(FileSource {
                content: FileContent::From(input),
                ..
            }) => vec![input],
            _ => Vec::new(),
        }
    }
}

impl Download {
    /// Most bytes it may have.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.unwrap_or(FETCHED_BYTES_DEFAULT)
    }

    /// The last part of its URL, as far as it is good for the name of a file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let good = |c: &char| c.is_ascii_alphanumeric() || "._+-~".contains(*c);
        name.chars()
            .filter(good)
            .take(FILE_NAME_BYTES_MAX)
            .collect()
    }

    /// What vouches for it.
    ///
    /// # Errors
    /// Nothing does, or two things, or one that cannot be read, in words.
    pub fn proof(&self) -> Result<Proof, String> {
        match (&self.sha256, &self.minisign_key) {
            (Some(digest), None) => digest
                .parse()
                .map(Proof::Sha256)
                .map_err(|cause| format!("`sha256`: {cause}")),
            (None, Some(key)) => {
                PublicKey::from_base64(key)
                    .map(Proof::Minisign)
                    .map_err(|cause| {
                        format!(
                            "`minisign-key` {key:?} is no public key of minisign, the second line of minisign.pub: {cause}"
                        )
                    })
            }
            (None, None) => Err(format!(
                "nothing vouches for {}: give its `sha256`, or the `minisign-key` of who signs it",
                self.url
            )),
            (Some(_), Some(_)) => Err(
                "give `sha256` or `minisign-key`, not both: a digest names one file, whoever signed it"
                    .into(),
            ),
        }
    }
}

/// Refuses a URL that programs would read differently, or that would show a password.
fn check_url(url: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`url` {url:?} {why}"));
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return wrong("does not begin with https:// or http://");
    };
    if url.len() > URL_BYTES_MAX {
        return wrong(&format!("has more than {URL_BYTES_MAX} bytes"));
    }
    if url.chars().any(|c| !c.is_ascii_graphic()) {
        return wrong("has characters that a URL cannot have");
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return wrong("names no host");
    }
    if url.contains('#') {
        return wrong("has a fragment, which no server sees");
    }
    if host.contains('@') {
        return wrong("has a user: recipes are no place for passwords");
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrTable;
        impl<'de> Visitor<'de> for PathOrTable {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a table with `url` and `sha256` or `minisign-key`")
            }

            fn visit_str<E>(self, path: &str) -> Result<Input, E> {
                Ok(Input::Beside(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input, A::Error> {
                Download::deserialize(MapAccessDeserializer::new(map)).map(Input::Fetched)
            }
        }
        deserializer.deserialize_any(PathOrTable)
    }
}
