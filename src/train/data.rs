//! The pictures of a run: those it trains on and those it is scored on.

use super::folder::Origin;
use super::recipe::Recipe;
use crate::data::{self, Listing, Pair};
use crate::error::{Result, error};
use crate::image::ClassTable;

/// Training and validation pictures with their classes.
pub(super) struct Sets {
    pub training: Vec<Pair>,
    pub validation: Vec<Pair>,
    pub table: ClassTable,
}

impl Sets {
    /// Opens a data set as the recipe says: its two parts, or one of which a share is held out.
    pub(super) fn open(origin: &Origin, recipe: &Recipe) -> Result<Self> {
        let (root, how) = (&origin.data, &recipe.data);
        let parts = data::parts(root)?;
        let (training, validation) = if parts.is_empty() {
            data::open(root, None)?.hold_out(how.hold_out, recipe.seed.into())?
        } else {
            let training = data::open(root, Some(&how.part))?;
            match data::open(root, Some(&how.validation)) {
                Ok(validation) => (training, validation),
                Err(_) if !is_named(&parts, &how.validation) => training.hold_out(how.hold_out, recipe.seed.into())?,
                Err(e) => return Err(e),
            }
        };
        let table = origin.classes.clone().or_else(|| training.classes.clone());
        let table = table.ok_or_else(|| {
            error!(Data, "does not say which classes it has")
                .file(root)
                .advice("put a classes.txt beside the pictures (number, name, colour), or give `--class-table` or `--classes`")
        })?;
        let pairs = |listing: Listing| listing.pairs;
        Ok(Self { training: pairs(training), validation: pairs(validation), table })
    }
}

/// Whether a part has this name, or the longer one that stands for it.
fn is_named(parts: &[String], name: &str) -> bool {
    parts.iter().any(|p| p == name || (name == "val" && p == "validation"))
}
