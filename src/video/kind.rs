//! What an argument is: told by content first, by its name where the content is silent or not
//! there.

use super::y4m::MAGIC;
use crate::image::{DecodeOptions, probe};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What kind of video a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoKind {
    /// A YUV4MPEG2 stream.
    Y4m,
    /// An animated GIF, PNG or WebP.
    Animation,
    /// A container of another program's (mp4, mkv, webm, mov, avi, ..), which `ffmpeg` reads.
    Container,
    /// A directory of images, or a pattern of their names (`*`, `?`, `[..]`, `%04d`).
    Sequence,
    /// A single image, or what may be one.
    Still,
}

/// Endings of containers, for files whose content does not tell.
const CONTAINERS: [&str; 22] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "asf",
    "flv", "f4v", "ogv", "ogg", "3gp", "mxf", "vob", "h264", "hevc",
];

/// Whether a name ends like a container.
pub(super) fn is_container_name(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    CONTAINERS.contains(&ending.as_str())
}

/// What the path leads to. A file that cannot be read is judged by its name; opening it says what
/// is wrong.
pub fn kind(path: impl AsRef<Path>) -> VideoKind {
    let path = path.as_ref();
    if path.is_dir() {
        return VideoKind::Sequence;
    }
    let name = path.to_string_lossy();
    if !path.exists() && (crate::files::is_pattern(path) || super::sequence::is_numbered(path)) {
        return VideoKind::Sequence;
    }
    let mut head = Vec::new();
    // A pipe would be emptied by looking: its name has to do.
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        // A read that fails leaves the name to decide.
        let _ = file.take(64).read_to_end(&mut head);
    }
    if head.starts_with(MAGIC) {
        return VideoKind::Y4m;
    }
    if is_container(&head) {
        return VideoKind::Container;
    }
    if probe::animates(&head) {
        return match DecodeOptions::default()
            .read(path)
            .and_then(|bytes| probe::probe(&bytes, &name))
        {
            Ok(found) if found.frames > 1 => VideoKind::Animation,
            // Damaged ones too: reading them as images says what is wrong.
            _ => VideoKind::Still,
        };
    }
    match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("y4m")) {
        true => VideoKind::Y4m,
        // No image begins like this, and the name says video.
        false if is_container_name(path) && !probe::is_image(&head) => VideoKind::Container,
        false => VideoKind::Still,
    }
}

/// Whether a file begins like a container of video.
fn is_container(head: &[u8]) -> bool {
    let at =
        |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    // The same box begins still images, under brands of their own.
    let still = [b"avi", b"hei", b"hev", b"mif", b"msf", b"crx"].iter().any(|brand| at(8, *brand));
    (at(4, b"ftyp") && !still)
        || at(4, b"moov")
        || at(0, b"\x1aE\xdf\xa3")
        || (at(0, b"RIFF") && at(8, b"AVI "))
        || at(0, b"FLV\x01")
        || at(0, b"OggS")
        || at(0, b"\0\0\x01\xba")
        || at(0, b"\0\0\x01\xb3")
        || at(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_before_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            kind(path)
        };
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0";
        assert_eq!(file("a.png", b"YUV4MPEG2 W2 H2\n"), VideoKind::Y4m);
        assert_eq!(file("b.bin", b"\0\0\0\x18ftypisom"), VideoKind::Container);
        assert_eq!(file("c.mp4", png), VideoKind::Still, "an image whose name says video");
        assert_eq!(file("d.mp4", b"what ffmpeg may know"), VideoKind::Container);
        assert_eq!(
            file("e.mp4", b"\0\0\0\x18ftypavif"),
            VideoKind::Still,
            "an image, if none that is read"
        );
        assert_eq!(file("f.png", b"\0\0\0\x18ftypavif"), VideoKind::Still);
        assert_eq!(file("g.y4m", b""), VideoKind::Y4m);
        assert_eq!(kind(directory.path()), VideoKind::Sequence);
        assert_eq!(kind("none/such.mkv"), VideoKind::Container);
        assert_eq!(kind("none/such%03d.png"), VideoKind::Sequence);
        assert_eq!(kind("none/such.png"), VideoKind::Still);
    }
}
