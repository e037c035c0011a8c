//! How much work goes into compression.

use toml::Spanned;
use towline_contract::manifest::Compression;

use super::{Form, Place, Recipe, RecipeError};

/// Compression level when the recipe names none: small, and still minutes rather than hours for a kernel's modules.
const LEVEL: i32 = 15;

/// Highest level of zstd, and of gzip.
const LEVEL_MAX: (i32, i32) = (22, 9);

impl Recipe {
    /// Takes this level in place of the recipe's own.
    ///
    /// # Errors
    /// There is no such level.
    pub fn set_level(&mut self, level: i32) -> Result<(), String> {
        let max = level_max(self.form, self.compression);
        if !(1..=max).contains(&level) {
            return Err(format!("level {level} is not from 1 to {max}"));
        }
        self.level = level;
        Ok(())
    }
}

/// The level that is given, if there is such a one; else the default.
pub(super) fn level(
    given: Option<Spanned<i32>>,
    form: Form,
    compression: Option<Compression>,
    at: &Place<'_>,
) -> Result<i32, RecipeError> {
    let max = level_max(form, compression);
    match given {
        None => Ok(LEVEL.min(max)),
        Some(level) if (1..=max).contains(level.get_ref()) => Ok(level.into_inner()),
        Some(level) => Err(at.error(
            level.span().start,
            &format!("level {} is not from 1 to {max}", level.get_ref()),
        )),
    }
}

/// The highest level of what compresses the layer's files. Where the kernel decides that it is gzip, a higher one is gzip's highest.
fn level_max(form: Form, compression: Option<Compression>) -> i32 {
    let gzip = form == Form::Files && compression == Some(Compression::Gzip);
    if gzip { LEVEL_MAX.1 } else { LEVEL_MAX.0 }
}
