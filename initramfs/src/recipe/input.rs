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
use super::variables::{Unfilled, VERSION_IN_TEXT, Variables, unfilled};

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
    /// The public half of the minisign key that signs it.
    #[serde(default)]
    pub minisign_key: Option<String>,
    /// Where its signature is; without this, at the same URL with `.minisig`.
    #[serde(default)]
    pub signature_url: Option<String>,
    /// Whether its signature must say that it is of the release; it must if this is absent.
    #[serde(default)]
    pub signed_name: Option<bool>,
    /// Most bytes it may have.
    #[serde(default)]
    pub bytes_max: Option<u64>,
    /// The release that it is of, once that is known; none of a file whose URL is always the same.
    #[serde(skip)]
    pub release: Option<Release>,
}

/// A release that a file is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// Whether the last part of the file's URL names that.
    pub is_in_name: bool,
}

/// What vouches for a fetched file.
pub enum Proof {
    /// This very content.
    Sha256(Digest),
    /// Any content that the key's owner signed.
    Minisign(PublicKey),
}

impl Input {
    /// Fills its variables.
    pub(super) fn fill(&mut self, variables: Variables<'_>) -> Result<(), Unfilled> {
        match self {
            Self::Beside(path) => variables.fill_all([path]),
            Self::Fetched(download) => {
                let urls = [Some(&mut download.url), download.signature_url.as_mut()];
                for url in urls.into_iter().flatten() {
                    *url = variables.fill_but_version(url)?;
                }
                let proofs = [&mut download.sha256, &mut download.minisign_key];
                variables.fill_all(proofs.into_iter().flatten())
            }
        }
    }

    /// Whether the recipe says all of what the file is, the release that its page names included.
    pub(crate) fn is_told(&self) -> bool {
        match self {
            Self::Beside(_) => false,
            Self::Fetched(download) => download.sha256.is_some() || download.release.is_some(),
        }
    }

    /// Refuses what could not be fetched or trusted, once its variables are filled.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Fetched(download) = self else {
            return Ok(());
        };
        let texts = [
            &download.sha256,
            &download.minisign_key,
            &download.signature_url,
        ];
        let texts = texts.into_iter().flatten().chain([&download.url]);
        if texts.into_iter().any(|text| unfilled(text).is_some()) {
            // Only asked for its variables, or for a page to say which version.
            return Ok(());
        }
        check_url(&download.url)?;
        download.check_signature()?;
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

    /// Whether it fetches a file of a release.
    pub(super) fn is_of_release(&self) -> bool {
        self.inputs().into_iter().any(|it| {
            matches!(
                it,
                Input::Fetched(Download {
                    release: Some(_),
                    ..
                })
            )
        })
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

    /// Where its signature is.
    #[must_use]
    pub fn signature_url(&self) -> String {
        let given = self.signature_url.clone();
        given.unwrap_or_else(|| format!("{}.minisig", self.url))
    }

    /// Fills in the version that a page names, if it has a place for that.
    pub(super) fn of_release(&mut self, version: &str) -> Result<(), String> {
        if !self.url.contains(VERSION_IN_TEXT) {
            return match &self.signature_url {
                Some(url) if url.contains(VERSION_IN_TEXT) => Err(format!(
                    "`signature-url` has {VERSION_IN_TEXT}, and `url` has not"
                )),
                _ => Ok(()),
            };
        }
        if self.sha256.is_some() || self.minisign_key.is_none() {
            return Err(format!(
                "`url` has {VERSION_IN_TEXT}, which track.page names: nobody knows the digest of a version that is still to come, \
                 so give the `minisign-key` of who signs it, and no `sha256`"
            ));
        }
        self.release = Some(Release {
            version: version.to_owned(),
            is_in_name: last_part(&self.url).contains(VERSION_IN_TEXT),
        });
        for url in std::iter::once(&mut self.url).chain(&mut self.signature_url) {
            *url = url.replace(VERSION_IN_TEXT, version);
        }
        Ok(())
    }

    /// Refuses what is said of a signature that nobody would look at.
    fn check_signature(&self) -> Result<(), String> {
        if self.signed_name.is_some() && self.release.is_none() {
            return Err(format!(
                "`signed-name` is of files whose `url` has the {VERSION_IN_TEXT} that track.page names"
            ));
        }
        let Some(url) = &self.signature_url else {
            return Ok(());
        };
        if self.minisign_key.is_none() {
            return Err("`signature-url` needs the `minisign-key` that signs there".into());
        }
        check_url(url)
    }

    /// The last part of its URL, as it is.
    #[must_use]
    pub fn last_part(&self) -> &str {
        last_part(&self.url)
    }

    /// The last part of its URL, as far as it is good for the name of a file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self.last_part();
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

fn last_part(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// Refuses a URL that programs would read differently, or that would show a password.
pub(super) fn check_url(url: &str) -> Result<(), String> {
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
