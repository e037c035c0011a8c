//! The stamp area of an image: found by its magic, read, overwritten in place.
//!
//! Works on every form of medium (ISO, stick, initrd, UKI) and needs neither root nor other programs. Nothing outside the
//! area is ever written, so its length and all other bytes of the image stay.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use towline_contract::stamp::{self, STAMP_BYTES, STAMP_MAGIC, Settings, StampError};

/// Most bytes searched from the start of an image: a medium is below 40 MiB, a stick it was written to may be far larger.
const SEARCH_BYTES_MAX: u64 = 256 << 20;

/// Bytes read at once while searching.
const WINDOW_BYTES: usize = 1 << 20;

/// Why an image cannot be stamped or read.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    /// The image cannot be opened, read or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is no area.
    #[error("{0} is no Towline medium: it has no stamp area in its first 256 MiB")]
    None(PathBuf),
    /// There are several areas: which one the machine would read is not known.
    #[error("{path} has more than one stamp area, at bytes {first} and {second}")]
    Several {
        /// The image.
        path: PathBuf,
        /// Offset of the first.
        first: u64,
        /// Offset of the second.
        second: u64,
    },
    /// The image ends inside the area.
    #[error("{0} is cut off inside its stamp area")]
    CutOff(PathBuf),
    /// The image ends before its own end: a copy or download that was interrupted.
    #[error("{path} is cut off: it has {found} bytes, and its own tables say {wanted}")]
    Short {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The least size that it should have, in bytes.
        wanted: u64,
    },
    /// What the area holds cannot be used, or does not fit.
    #[error("the stamp of {path} cannot be used")]
    Stamp {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        cause: StampError,
    },
}

/// An image whose only stamp area was found.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    offset: u64,
}

impl Image {
    /// Opens the image for reading.
    ///
    /// # Errors
    /// It cannot be read, or has no area, or several.
    pub fn open(path: &Path) -> Result<Self, AreaError> {
        Self::find(path, OpenOptions::new().read(true))
    }

    /// Opens the image for stamping.
    ///
    /// # Errors
    /// It cannot be read or written, or has no area, or several.
    pub fn open_to_stamp(path: &Path) -> Result<Self, AreaError> {
        Self::find(path, OpenOptions::new().read(true).write(true))
    }

    fn find(path: &Path, options: &OpenOptions) -> Result<Self, AreaError> {
        let failed = |what| {
            move |cause| AreaError::File {
                what,
                path: path.to_owned(),
                cause,
            }
        };
        let file = options.open(path).map_err(failed("open"))?;
        // Of a stick, too: its metadata say nothing of its size.
        let found = (&file).seek(SeekFrom::End(0)).map_err(failed("read"))?;
        (&file).rewind().map_err(failed("read"))?;
        let wanted = extent(&file).map_err(failed("read"))?;
        if found < wanted {
            return Err(AreaError::Short {
                path: path.to_owned(),
                found,
                wanted,
            });
        }
        let (first, second) = offsets(&file).map_err(failed("read"))?;
        match (first, second) {
            (None, _) => Err(AreaError::None(path.to_owned())),
            (Some(first), Some(second)) => Err(AreaError::Several {
                path: path.to_owned(),
                first,
                second,
            }),
            (Some(offset), None) => Ok(Self {
                path: path.to_owned(),
                file,
                offset,
            }),
        }
    }

    /// Offset of the area in the image, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The settings that are stamped; none when the area is cleared.
    ///
    /// # Errors
    /// The stamp is damaged: it is never taken for a cleared one.
    pub fn settings(&self) -> Result<Option<Settings>, AreaError> {
        let mut area = vec![0; STAMP_BYTES];
        self.file
            .read_exact_at(&mut area, self.offset)
            .map_err(|cause| self.area_failed("read", cause))?;
        stamp::decode(&area).map_err(|cause| self.stamp_failed(cause))
    }

    /// Replaces whatever is stamped by `settings`, and waits until they are on the disk or stick.
    ///
    /// # Errors
    /// They do not fit, or writing fails.
    pub fn stamp(&self, settings: &Settings) -> Result<(), AreaError> {
        let area = stamp::encode(settings).map_err(|cause| self.stamp_failed(cause))?;
        self.overwrite(&area)
    }

    /// Clears the area: the image is then as it was built.
    ///
    /// # Errors
    /// Writing fails.
    pub fn clear(&self) -> Result<(), AreaError> {
        self.overwrite(&stamp::cleared())
    }

    fn overwrite(&self, area: &[u8]) -> Result<(), AreaError> {
        // An image that ends inside the area must not grow.
        let mut there = vec![0; area.len()];
        self.file
            .read_exact_at(&mut there, self.offset)
            .map_err(|cause| self.area_failed("read", cause))?;
        self.file
            .write_all_at(area, self.offset)
            .and_then(|()| self.file.sync_all())
            .map_err(|cause| self.area_failed("write to", cause))
    }

    fn area_failed(&self, what: &'static str, cause: io::Error) -> AreaError {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => AreaError::CutOff(self.path.clone()),
            _ => AreaError::File {
                what,
                path: self.path.clone(),
                cause,
            },
        }
    }

    fn stamp_failed(&self, cause: StampError) -> AreaError {
        AreaError::Stamp {
            path: self.path.clone(),
            cause,
        }
    }
}

/// The size that the image says it has, in bytes: of its ISO 9660 volume (ECMA-119, 8.4: the primary descriptor in sector
/// 16 of 2048 bytes) or its GPT (UEFI, 5.3.2: the header in sector 1 of 512, with the place of its copy in the last
/// sector), which has the EFI partition behind the volume. 0 without both.
fn extent(file: &File) -> io::Result<u64> {
    let mut volume = [0; 2048];
    let mut table = [0; 512];
    let read = file
        .read_exact_at(&mut table, 512)
        .and_then(|()| file.read_exact_at(&mut volume, 16 * 2048));
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
        read => read?,
    }
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, b| (sum << 8) | u64::from(*b))
    };
    let mut extent = 0;
    if volume.starts_with(b"\x01CD001\x01") {
        extent = number(&volume[80..84]) * 2048;
    }
    if table.starts_with(b"EFI PART") {
        let sectors = number(&table[32..40]).saturating_add(1);
        extent = extent.max(sectors.saturating_mul(512));
    }
    Ok(extent)
}

/// Offsets of the first two magics.
fn offsets(file: &File) -> io::Result<(Option<u64>, Option<u64>)> {
    let finder = memchr::memmem::Finder::new(STAMP_MAGIC);
    let keep = STAMP_MAGIC.len() - 1;
    let mut window = Vec::with_capacity(WINDOW_BYTES + keep);
    let mut window_offset = 0;
    let mut first = None;
    loop {
        let read = file.take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
        for at in finder.find_iter(&window) {
            let offset = window_offset + at as u64;
            match first {
                None => first = Some(offset),
                Some(_) => return Ok((first, Some(offset))),
            }
        }
        let searched = window_offset + window.len() as u64;
        if read == 0 || searched >= SEARCH_BYTES_MAX {
            return Ok((first, None));
        }
        // A magic may lie across two windows; one that was found cannot be found again in fewer bytes than it has.
        let drop = window.len().saturating_sub(keep);
        window.drain(..drop);
        window_offset += drop as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn image(parts: &[&[u8]]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for part in parts {
            file.write_all(part).unwrap();
        }
        file
    }

    fn settings() -> Settings {
        Settings {
            servers: vec!["https://backup.example".into()],
            ..Settings::default()
        }
    }

    #[test]
    fn a_stamp_changes_the_area_alone_and_clearing_gives_the_built_image_back() {
        let file = image(&[&[7; 1000], &stamp::cleared(), &[9; 1000]]);
        let built = std::fs::read(file.path()).unwrap();
        let image = Image::open_to_stamp(file.path()).unwrap();
        assert_eq!(image.settings().unwrap(), None);
        image.stamp(&settings()).unwrap();
        let stamped = std::fs::read(file.path()).unwrap();
        assert_eq!(stamped.len(), built.len());
        assert_eq!(stamped[..1000], built[..1000]);
        assert_eq!(stamped[1000 + STAMP_BYTES..], built[1000 + STAMP_BYTES..]);
        assert_eq!(
            Image::open(file.path()).unwrap().settings().unwrap(),
            Some(settings())
        );
        image.stamp(&Settings::default()).unwrap();
        assert_eq!(
            image.settings().unwrap(),
            Some(Settings::default()),
            "nothing of the first stamp is left"
        );
        image.clear().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), built);
    }

    #[test]
    fn an_image_without_an_area_is_refused() {
        let file = image(&[&[7; 4096]]);
        assert!(matches!(Image::open(file.path()), Err(AreaError::None(_))));
    }

    #[test]
    fn an_image_with_two_areas_is_refused() {
        let file = image(&[&stamp::cleared(), &stamp::cleared()]);
        let refused = Image::open_to_stamp(file.path());
        assert!(
            matches!(
                refused,
                Err(AreaError::Several {
                    first: 0,
                    second: 65536,
                    ..
                })
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn an_image_cut_off_inside_its_area_is_refused_and_not_made_longer() {
        let file = image(&[&[7; 100], &stamp::cleared()[..5000]]);
        let image = Image::open_to_stamp(file.path()).unwrap();
        assert!(matches!(
            image.stamp(&settings()),
            Err(AreaError::CutOff(_))
        ));
        assert_eq!(file.as_file().metadata().unwrap().len(), 5100);
    }

    #[test]
    fn an_image_that_ends_before_its_volume_or_its_partitions_do_is_refused() {
        let mut head = vec![0; 32768 + 2048];
        head[32768..32775].copy_from_slice(b"\x01CD001\x01");
        let blocks = 60_u32;
        head[32768 + 80..32768 + 84].copy_from_slice(&blocks.to_le_bytes());
        let rest = |bytes: usize| vec![0; bytes - head.len() - STAMP_BYTES];
        let whole = image(&[&head, &stamp::cleared(), &rest(60 * 2048)]);
        assert!(Image::open(whole.path()).is_ok());
        let short = image(&[&head, &stamp::cleared(), &rest(60 * 2048 - 1)]);
        let found = Image::open_to_stamp(short.path());
        let (found, wanted) = match found {
            Err(AreaError::Short { found, wanted, .. }) => (found, wanted),
            other => panic!("{other:?}"),
        };
        assert_eq!((found, wanted), (60 * 2048 - 1, 60 * 2048));

        let mut with_gpt = head.clone();
        with_gpt[512..520].copy_from_slice(b"EFI PART");
        with_gpt[544..552].copy_from_slice(&299_u64.to_le_bytes());
        let whole = image(&[&with_gpt, &stamp::cleared(), &rest(300 * 512)]);
        assert!(Image::open(whole.path()).is_ok());
        let short = image(&[&with_gpt, &stamp::cleared(), &rest(60 * 2048)]);
        assert!(matches!(
            Image::open(short.path()),
            Err(AreaError::Short {
                wanted: 153_600,
                ..
            })
        ));
    }

    #[test]
    fn a_damaged_stamp_is_refused_and_can_be_cleared() {
        let mut area = stamp::encode(&settings()).unwrap();
        area[150] ^= 1;
        let file = image(&[&area]);
        let image = Image::open_to_stamp(file.path()).unwrap();
        assert!(matches!(image.settings(), Err(AreaError::Stamp { .. })));
        image.clear().unwrap();
        assert_eq!(image.settings().unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_area_is_found_wherever_it_lies(before in (WINDOW_BYTES - 200)..(WINDOW_BYTES + 200)) {
            let file = image(&[&vec![0; before], &stamp::cleared()]);
            prop_assert_eq!(Image::open(file.path()).unwrap().offset(), before as u64);
        }
    }
}
