//! Help texts that list what the registries of the library hold.

use crate::data::DatasetLayout;
use crate::models::Backbone;
use crate::weights::dialects::DIALECTS;

/// Help of the directory of a data set.
pub(super) fn data_help() -> String {
    format!("Data set directory, in one of these layouts: {}", DatasetLayout::titles())
}

/// The names of backbones, separated by commas.
pub(super) fn backbones() -> String {
    let more = Backbone::families().filter_map(|family| family.more_names);
    Backbone::names().chain(more).collect::<Vec<_>>().join(", ")
}

/// The names of dialects, separated by commas.
pub(super) fn dialects() -> String {
    DIALECTS.iter().map(|dialect| dialect.name()).collect::<Vec<_>>().join(", ")
}

/// Help of the dialect of a weight file.
pub(super) fn dialect_help() -> String {
    format!("Naming convention of the weights, if it cannot be detected: {}", dialects())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents that list what the registries hold.
    const DOCUMENTS: [&str; 2] =
        [include_str!("../../README.md"), include_str!("../../docs/training.md")];

    #[test]
    fn the_documents_name_every_entry_of_the_registries() {
        let [readme, training] = DOCUMENTS;
        for dialect in DIALECTS {
            assert!(readme.contains(&format!("| `{}` |", dialect.name())), "{}", dialect.name());
        }
        for layout in ["PASCAL VOC", "Cityscapes", "ADE20K"] {
            assert!(data_help().contains(layout) && readme.contains(layout), "{layout}");
        }
        for family in Backbone::families() {
            let first = family.names[0];
            assert!(training.contains(first) && backbones().contains(first), "{first}");
        }
    }
}
