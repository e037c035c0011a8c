//! One layer on its way in: verified chunks, decompressed, judged entry by entry, given to whoever places them.

use towline_contract::lanes::{LayerItem, LayerReader};
use towline_contract::manifest::Manifest;
use towline_contract::trust::Verified;

use super::PlaceError;
use super::decompress::Decompressor;

/// What is done with a layer's entries, once they keep to the rules.
pub(super) trait Placer {
    /// Places one item. `replace` tells whether the entry may take the place of an earlier layer's.
    fn item(&mut self, item: LayerItem<'_>, reader: &LayerReader) -> Result<(), PlaceError>;

    /// Takes the chunk as it is stored.
    fn stored(&mut self, _chunk: &[u8]) -> Result<(), PlaceError> {
        Ok(())
    }

    /// The layer is complete and correct.
    fn finish(&mut self) -> Result<(), PlaceError> {
        Ok(())
    }
}

/// Takes a layer's verified chunks in order.
pub struct LayerSink<'a> {
    layer: String,
    decompressor: Decompressor,
    reader: LayerReader,
    placer: Box<dyn Placer + 'a>,
}

impl<'a> LayerSink<'a> {
    pub(super) fn new(
        manifest: &Verified<Manifest>,
        replaceable: &[String],
        placer: Box<dyn Placer + 'a>,
    ) -> Result<Self, PlaceError> {
        let layer = manifest.target_name();
        let decompressor =
            Decompressor::new(manifest.compression).map_err(|what| PlaceError::Decompress {
                layer: layer.clone(),
                what,
            })?;
        Ok(Self {
            layer,
            decompressor,
            reader: LayerReader::new(manifest, replaceable),
            placer,
        })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// The layer may not hold what it holds, or it cannot be placed.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a verified chunk is used up here, and wiped if it is one that is"
    )]
    pub fn chunk(&mut self, chunk: Verified<impl AsRef<[u8]>>) -> Result<(), PlaceError> {
        let chunk = (*chunk).as_ref();
        let Self {
            layer,
            decompressor,
            reader,
            placer,
        } = self;
        placer.stored(chunk)?;
        let mut judge = |mut unpacked: &[u8]| -> Result<(), Fault> {
            while let Some(item) = reader
                .next(&mut unpacked)
                .map_err(|error| Fault::Place(error.into()))?
            {
                placer.item(item, reader).map_err(Fault::Place)?;
            }
            Ok(())
        };
        decompressor
            .push(chunk, &mut judge)
            .map_err(|fault| fault.of(layer))
    }

    /// Ends the layer: complete, and as large as its manifest says.
    ///
    /// # Errors
    /// It is not.
    pub fn finish(mut self) -> Result<(), PlaceError> {
        self.decompressor
            .finish()
            .map_err(|what| PlaceError::Decompress {
                layer: self.layer,
                what,
            })?;
        self.reader.finish()?;
        self.placer.finish()
    }
}

/// What can go wrong in the middle of a chunk.
enum Fault {
    Decompress(String),
    Place(PlaceError),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Decompress(what)
    }
}

impl Fault {
    fn of(self, layer: &str) -> PlaceError {
        match self {
            Self::Decompress(what) => PlaceError::Decompress {
                layer: layer.to_owned(),
                what,
            },
            Self::Place(error) => error,
        }
    }
}
