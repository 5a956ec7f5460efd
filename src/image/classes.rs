//! Class tables of well-known data sets.

use super::colors::voc_color;
use super::palette::{ClassTable, IgnoredLabel};

/// Classes of PASCAL VOC 2012 (and torchvision's "COCO with VOC labels"), by number.
const VOC: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Cityscapes labels by number: name, color, and whether the label is trained and scored.
type Cityscapes = (&'static str, [u8; 3], bool);
const CITYSCAPES: [Cityscapes; 34] = [
    ("unlabeled", [0, 0, 0], false),
    ("ego vehicle", [0, 0, 0], false),
    ("rectification border", [0, 0, 0], false),
    ("out of roi", [0, 0, 0], false),
    ("static", [0, 0, 0], false),
    ("dynamic", [111, 74, 0], false),
    ("ground", [81, 0, 81], false),
    ("road", [128, 64, 128], true),
    ("sidewalk", [244, 35, 232], true),
    ("parking", [250, 170, 160], false),
    ("rail track", [230, 150, 140], false),
    ("building", [70, 70, 70], true),
    ("wall", [102, 102, 156], true),
    ("fence", [190, 153, 153], true),
    ("guard rail", [180, 165, 180], false),
    ("bridge", [150, 100, 100], false),
    ("tunnel", [150, 120, 90], false),
    ("pole", [153, 153, 153], true),
    ("polegroup", [153, 153, 153], false),
    ("traffic light", [250, 170, 30], true),
    ("traffic sign", [220, 220, 0], true),
    ("vegetation", [107, 142, 35], true),
    ("terrain", [152, 251, 152], true),
    ("sky", [70, 130, 180], true),
    ("person", [220, 20, 60], true),
    ("rider", [255, 0, 0], true),
    ("car", [0, 0, 142], true),
    ("truck", [0, 0, 70], true),
    ("bus", [0, 60, 100], true),
    ("caravan", [0, 0, 90], false),
    ("trailer", [0, 0, 110], false),
    ("train", [0, 80, 100], true),
    ("motorcycle", [0, 0, 230], true),
    ("bicycle", [119, 11, 32], true),
];

/// CamVid's eleven classes as used by SegNet.
const CAMVID: [(&str, [u8; 3]); 11] = [
    ("sky", [128, 128, 128]),
    ("building", [128, 0, 0]),
    ("pole", [192, 192, 128]),
    ("road", [128, 64, 128]),
    ("pavement", [60, 40, 222]),
    ("tree", [128, 128, 0]),
    ("sign_symbol", [192, 128, 128]),
    ("fence", [64, 64, 128]),
    ("car", [64, 0, 128]),
    ("pedestrian", [64, 64, 0]),
    ("bicyclist", [0, 128, 192]),
];

fn ignore(label: u16, name: &str, color: [u8; 3]) -> Vec<IgnoredLabel> {
    vec![IgnoredLabel { label, name: name.into(), color }]
}

impl ClassTable {
    /// Returns the 21 classes of PASCAL VOC; 255 is ignored. torchvision's networks, trained on
    /// COCO with VOC labels, use the same classes.
    pub fn voc() -> Self {
        Self {
            names: VOC.map(Into::into).into(),
            colors: (0..VOC.len()).map(voc_color).collect(),
            ignored: ignore(255, "ignore", voc_color(255)),
        }
    }

    /// Returns the 19 Cityscapes classes that are trained and scored, by train ID; 255 is ignored.
    pub fn cityscapes() -> Self {
        let (names, colors) =
            CITYSCAPES.iter().filter(|c| c.2).map(|c| (c.0.to_string(), c.1)).unzip();
        Self { names, colors, ignored: ignore(255, "ignore", [0, 0, 0]) }
    }

    /// Converts a label of Cityscapes' `labelIds` masks to its train ID: 255 for labels that are
    /// not scored. Values that are not Cityscapes labels are returned unchanged.
    pub fn cityscapes_training(label: u16) -> u16 {
        match CITYSCAPES.get(usize::from(label)) {
            None => label,
            Some((_, _, false)) => 255,
            Some(_) => CITYSCAPES[..usize::from(label)].iter().filter(|c| c.2).count() as u16,
        }
    }

    /// Returns all 34 Cityscapes labels by label ID, as in `labelIds` masks.
    pub fn cityscapes_full() -> Self {
        let (names, colors) = CITYSCAPES.iter().map(|c| (c.0.to_string(), c.1)).unzip();
        Self { names, colors, ignored: Vec::new() }
    }

    /// Returns the 11 classes of CamVid; 11 is unlabeled.
    pub fn camvid() -> Self {
        let (names, colors) = CAMVID.iter().map(|c| (c.0.to_string(), c.1)).unzip();
        Self { names, colors, ignored: ignore(11, "unlabelled", [0, 0, 0]) }
    }

    /// Returns the most likely table for a network of `n` classes: VOC for 21, Cityscapes for 19,
    /// background and foreground for 2, and [`ClassTable::generic`] for any other number.
    pub fn for_classes(n: usize) -> Self {
        match n {
            21 => Self::voc(),
            19 => Self::cityscapes(),
            2 => {
                let mut table = Self::generic(2);
                table.names = ["background", "foreground"].map(str::to_owned).to_vec();
                table
            }
            n => Self::generic(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_have_their_classes_in_place() {
        let voc = ClassTable::voc();
        assert_eq!((voc.len(), voc.background(), voc.find("Person")), (21, Some(0), Some(15)));
        assert_eq!(voc.palette()[3 * 255..], [224, 224, 192]);
        let (trained, full) = (ClassTable::cityscapes(), ClassTable::cityscapes_full());
        assert_eq!((trained.len(), full.len()), (19, 34));
        assert_eq!(
            (trained.find("car"), trained.find("bicycle"), full.find("car")),
            (Some(13), Some(18), Some(26))
        );
        assert_eq!(
            (trained.names[0].as_str(), trained.names[10].as_str(), trained.names[16].as_str()),
            ("road", "sky", "train")
        );
        let training =
            [0, 6, 7, 8, 9, 11, 26, 29, 31, 33, 34, 255].map(ClassTable::cityscapes_training);
        assert_eq!(training, [255, 255, 0, 1, 255, 2, 13, 255, 16, 18, 34, 255]);
        assert_eq!(
            (ClassTable::camvid().len(), ClassTable::camvid().ignored_values()),
            (11, vec![11])
        );
        for n in [1, 2, 19, 21, 150] {
            let table = ClassTable::for_classes(n);
            assert_eq!((table.len(), table.colors.len()), (n, n));
        }
    }
}
