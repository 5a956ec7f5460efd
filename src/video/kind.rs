//! Detecting the kind of a video: by content first, then by name.

use super::y4m::MAGIC;
use crate::image::{DecodeOptions, probe};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Kind of video at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoKind {
    /// A YUV4MPEG2 stream.
    Y4m,
    /// An animated GIF, PNG or WebP.
    Animation,
    /// A container (mp4, mkv, webm, mov, avi, ...) or an address (`https://`, `rtsp://`), decoded by
    /// `ffmpeg`.
    Container,
    /// A directory of images, or a pattern of file names (`*`, `?`, `[..]`, `%04d`).
    Sequence,
    /// A single image, or an unknown file.
    Still,
}

/// File extensions of containers, for files whose content is not recognized.
const CONTAINERS: [&str; 22] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "asf",
    "flv", "f4v", "ogv", "ogg", "3gp", "mxf", "vob", "h264", "hevc",
];

/// Returns whether a path has the extension of a container.
pub(super) fn is_container_name(path: &Path) -> bool {
    let extension =
        path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    CONTAINERS.contains(&extension.as_str())
}

/// Detects the kind of video at a path. A file that cannot be read is classified by name; opening
/// it reports the error.
pub fn kind(path: impl AsRef<Path>) -> VideoKind {
    let path = path.as_ref();
    if path.is_dir() {
        return VideoKind::Sequence;
    }
    if super::ffmpeg::is_url(path) {
        return VideoKind::Container;
    }
    let name = path.to_string_lossy();
    if !path.exists() && (crate::files::is_pattern(path) || super::sequence::is_numbered(path)) {
        return VideoKind::Sequence;
    }
    let mut head = Vec::new();
    // Reading a pipe would consume it, so only its name is used.
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        // If the read fails, the name decides.
        let _ = file.take(64).read_to_end(&mut head);
    }
    if head.starts_with(MAGIC) {
        return VideoKind::Y4m;
    }
    if is_container(&head) {
        return VideoKind::Container;
    }
    if probe::may_be_animated(&head) {
        return match DecodeOptions::default()
            .read(path)
            .and_then(|bytes| probe::probe(&bytes, &name))
        {
            Ok(probe) if probe.frames > 1 => VideoKind::Animation,
            // Corrupt files too: decoding them as images reports the error.
            _ => VideoKind::Still,
        };
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("y4m")) {
        VideoKind::Y4m
    } else if is_container_name(path) && !probe::is_image(&head) {
        VideoKind::Container
    } else {
        VideoKind::Still
    }
}

/// Returns whether a file begins like a video container.
fn is_container(head: &[u8]) -> bool {
    let at =
        |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    // Still image formats use the same box with other brands.
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
        assert_eq!(file("c.mp4", png), VideoKind::Still, "an image with a video extension");
        assert_eq!(file("d.mp4", b"what ffmpeg may know"), VideoKind::Container);
        assert_eq!(
            file("e.mp4", b"\0\0\0\x18ftypavif"),
            VideoKind::Still,
            "an image, although unsupported"
        );
        assert_eq!(file("f.png", b"\0\0\0\x18ftypavif"), VideoKind::Still);
        assert_eq!(file("g.y4m", b""), VideoKind::Y4m);
        assert_eq!(kind(directory.path()), VideoKind::Sequence);
        assert_eq!(kind("none/such.mkv"), VideoKind::Container);
        assert_eq!(kind("rtsp://127.0.0.1:9/camera%01d"), VideoKind::Container, "an address");
        assert_eq!(kind("none/such%03d.png"), VideoKind::Sequence);
        assert_eq!(kind("none/such.png"), VideoKind::Still);
    }
}
