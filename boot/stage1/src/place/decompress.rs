//! Decompression of a layer's stored bytes as they arrive.
//!
//! As the kernel wants it, a layer is one zstd frame or one gzip member, followed by nothing but zeros up to a multiple of
//! four bytes. The output comes in pieces of bounded size, so that a bomb is stopped by the reader behind it.

use std::io::Write;

use flate2::write::GzDecoder;
use towline_contract::limits::{GZIP_FLAGS, GZIP_FLAGS_AT, ZSTD_WINDOW_LOG_MAX};
use towline_contract::manifest::Compression;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Largest piece of output, in bytes.
const OUTPUT_BYTES: usize = 128 << 10;
/// Stored bytes fed to gzip at a time; it expands them at most a thousandfold.
const GZIP_INPUT_BYTES: usize = 512;

/// Takes stored bytes, gives unpacked ones.
pub(super) struct Decompressor {
    form: Form,
    output: Vec<u8>,
    /// Stored bytes that were taken, as long as that matters: the gzip header's flags are among the first.
    taken: usize,
}

enum Form {
    None,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Zstd(Decoder<'static>),
    /// The frame has ended: only padding may come.
    Ended,
}

impl Decompressor {
    pub(super) fn new(compression: Compression) -> Result<Self, String> {
        let form = match compression {
            Compression::None => Form::None,
            Compression::Gzip => Form::Gzip(Box::new(GzDecoder::new(Vec::new()))),
            Compression::Zstd => {
                let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                decoder
                    .set_parameter(window)
                    .map_err(|error| error.to_string())?;
                Form::Zstd(decoder)
            }
        };
        Ok(Self {
            form,
            output: vec![0; OUTPUT_BYTES],
            taken: 0,
        })
    }

    /// Unpacks `stored` and gives the output to `take` piece by piece.
    pub(super) fn push<E: From<String>>(
        &mut self,
        mut stored: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match &mut self.form {
                Form::None => return take(stored),
                Form::Ended => {
                    return if stored.iter().all(|b| *b == 0) {
                        Ok(())
                    } else {
                        Err("there are bytes after its compressed frame"
                            .to_owned()
                            .into())
                    };
                }
                _ if stored.is_empty() => return Ok(()),
                Form::Gzip(decoder) => {
                    let (piece, _) = stored.split_at(stored.len().min(GZIP_INPUT_BYTES));
                    let flags = GZIP_FLAGS_AT.checked_sub(self.taken);
                    if let Some(flags) = flags.and_then(|at| piece.get(at))
                        && flags & !GZIP_FLAGS != 0
                    {
                        let what = "its gzip header has fields that Linux takes for data";
                        return Err(what.to_owned().into());
                    }
                    let used = decoder.write(piece).map_err(|error| error.to_string())?;
                    take(decoder.get_ref())?;
                    decoder.get_mut().clear();
                    stored = &stored[used..];
                    self.taken = self.taken.saturating_add(used);
                    if used == 0 {
                        // The member is complete: checks its length and checksum.
                        decoder.try_finish().map_err(|error| error.to_string())?;
                        self.form = Form::Ended;
                    }
                }
                Form::Zstd(decoder) => {
                    let mut input = InBuffer::around(stored);
                    let mut output = OutBuffer::around(self.output.as_mut_slice());
                    let hint = decoder
                        .run(&mut input, &mut output)
                        .map_err(|error| error.to_string())?;
                    let (used, written) = (input.pos(), output.pos());
                    stored = &stored[used..];
                    take(&self.output[..written])?;
                    if hint == 0 {
                        self.form = Form::Ended;
                    } else if written == self.output.len() {
                        // There may be more output without more input.
                        self.drain(take)?;
                    }
                }
            }
        }
    }

    /// Takes what the zstd decoder still holds of the input it has already taken.
    fn drain<E: From<String>>(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Form::Zstd(decoder) = &mut self.form {
            let mut output = OutBuffer::around(self.output.as_mut_slice());
            let hint = decoder
                .run(&mut InBuffer::around(&[]), &mut output)
                .map_err(|error| error.to_string())?;
            let written = output.pos();
            take(&self.output[..written])?;
            if hint == 0 {
                self.form = Form::Ended;
            }
            if written < self.output.len() {
                break;
            }
        }
        Ok(())
    }

    /// Ends the layer.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.form {
            Form::None | Form::Ended => Ok(()),
            // All output was taken already.
            Form::Gzip(mut decoder) => decoder.try_finish().map_err(|error| error.to_string()),
            Form::Zstd(_) => Err("its zstd frame is not complete".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(compression: Compression, stored: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let mut decompressor = Decompressor::new(compression)?;
        let mut all = Vec::new();
        for piece in stored.chunks(piece) {
            decompressor.push::<String>(piece, &mut |bytes| {
                all.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        decompressor.finish().map(|()| all)
    }

    fn example() -> Vec<u8> {
        (0..400_000_u32)
            .flat_map(|n| (n % 7 * n % 251).to_le_bytes())
            .collect()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_compression_gives_the_bytes_back_in_pieces_of_any_size() {
        let plain = example();
        for piece in [1000, 4096, 1 << 20] {
            for (compression, stored) in [
                (Compression::None, plain.clone()),
                (Compression::Gzip, [gzip(&plain), vec![0; 3]].concat()),
                (Compression::Zstd, [zstd(&plain), vec![0; 3]].concat()),
            ] {
                assert_eq!(
                    unpack(compression, &stored, piece).as_ref(),
                    Ok(&plain),
                    "{compression:?}"
                );
            }
        }
    }

    #[test]
    fn a_second_frame_is_refused() {
        for (compression, one) in [
            (Compression::Gzip, gzip(b"one")),
            (Compression::Zstd, zstd(b"one")),
        ] {
            let two = [one.clone(), one].concat();
            assert!(unpack(compression, &two, 7).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_off_is_refused() {
        for (compression, mut stored) in [
            (Compression::Gzip, gzip(b"one")),
            (Compression::Zstd, zstd(b"one")),
        ] {
            stored.truncate(stored.len() - 1);
            assert!(unpack(compression, &stored, 7).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn a_gzip_member_with_a_wrong_checksum_is_refused_padded_or_not() {
        for padding in [0, 3] {
            let mut stored = gzip(b"one");
            let checksum = stored.len() - 8;
            stored[checksum] ^= 1;
            stored.resize(stored.len() + padding, 0);
            assert!(unpack(Compression::Gzip, &stored, 7).is_err(), "{padding}");
        }
    }

    #[test]
    fn a_gzip_header_that_linux_reads_otherwise_is_refused() {
        let with = |flags: u8, fields: &[u8]| {
            let mut stored = gzip(b"one");
            stored[3] = flags;
            stored.splice(10..10, fields.iter().copied());
            stored
        };
        for (flags, fields) in [(1, b"".as_slice()), (8, b"name\0")] {
            let found = unpack(Compression::Gzip, &with(flags, fields), 1);
            assert_eq!(found.as_deref(), Ok(b"one".as_slice()));
        }
        for (flags, fields) in [
            (4, b"\x05\0extra".as_slice()),
            (16, b"comment\0"),
            (12, b"\x05\0extraname\0"),
        ] {
            let stored = with(flags, fields);
            let mut ordinary = flate2::read::GzDecoder::new(stored.as_slice());
            std::io::Read::read_to_end(&mut ordinary, &mut Vec::new()).unwrap();
            for piece in [1, 3, 4, 4096] {
                let refused = unpack(Compression::Gzip, &stored, piece).unwrap_err();
                assert!(refused.contains("Linux"), "{refused}");
            }
        }
    }

    #[test]
    fn a_zstd_window_larger_than_the_kernels_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&example()).unwrap();
        let stored = encoder.finish().unwrap();
        assert!(unpack(Compression::Zstd, &stored, 1 << 20).is_err());
    }
}
