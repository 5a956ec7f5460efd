//! Command line options.

use crate::view::Style;
use atrous::Size;
use atrous::image::SizeRule;
use clap::Parser;
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// Segment camera frames live in a window
///
/// Everything from the upload of a frame to its presentation runs on the GPU. With --frames there
/// is no window: that many frames are segmented in sequence and saved to the directory given by
/// --save.
///
/// Keys: the left and right arrows change the style, up and down its opacity; comma and period
/// select a class, space shows or hides it, A shows only the selected class or all; M mirrors, F
/// freezes, T shows frames in sync with the network, S saves a PNG, plus and minus change the
/// network's input size, H shows the keys, Q quits.
#[derive(Parser, Debug)]
#[command(name = "segment_webcam")]
pub struct Options {
    /// Weight file of the network: safetensors or .pth of any known dialect
    #[arg(long, required_unless_present = "list_cameras", value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Source of frames: camera, camera:N, synthetic (a generated scene), an image, a video, or a
    /// directory of images
    #[arg(long, default_value = "camera")]
    pub source: SourceChoice,
    /// List the cameras and exit
    #[arg(long)]
    pub list_cameras: bool,
    /// Device: auto, gpu, cpu (only without a window), vulkan:llvmpipe, or an index from `atrous
    /// devices`
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Network input size: a long side such as 257, or native. The default is the network's own, at
    /// most 513
    #[arg(long)]
    pub size: Option<SizeRule>,
    /// Style: mask, overlay, blur, color or image
    #[arg(long, value_enum, default_value = "overlay")]
    pub style: Style,
    /// Background image of style `image`
    #[arg(long, value_name = "FILE")]
    pub behind: Option<PathBuf>,
    /// Background color of style `color`, as RRGGBB
    #[arg(long, value_name = "RRGGBB", default_value = "00b140", value_parser = color)]
    pub color: [u8; 3],
    /// Weight of the previous frames' probabilities, from 0 (no smoothing) to below 1
    #[arg(long, default_value_t = 0.0)]
    pub smooth: f32,
    /// Show each frame with its own scores, at the network's speed, instead of the latest frame
    /// with the latest scores
    #[arg(long)]
    pub in_step: bool,
    /// Mirror the image horizontally
    #[arg(long)]
    pub mirror: bool,
    /// Requested camera resolution; images are scaled to fit into it
    #[arg(long, default_value = "640x480", value_parser = resolution)]
    pub resolution: Size,
    /// Frames per second of sources other than cameras. The default is the video's own, and 30 for
    /// images
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Maximum milliseconds that the network may occupy the device without a break
    #[arg(long, default_value_t = 4.0, value_parser = positive)]
    pub slice: f64,
    /// Segment N frames without a window
    #[arg(long, value_name = "N")]
    pub frames: Option<usize>,
    /// Directory for saved frames
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Destroy the device after N presented frames, to test that it is reopened
    #[arg(long, value_name = "N", hide = true)]
    pub lose_device: Option<u32>,
}

/// Source of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChoice {
    /// The camera with this index in the list.
    Camera(usize),
    /// A generated scene.
    Synthetic,
    /// An image, an animation, or a directory.
    Path(PathBuf),
}

impl FromStr for SourceChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix("camera:").map(str::parse)) {
            ("camera", _) => Self::Camera(0),
            (_, Some(Ok(n))) => Self::Camera(n),
            ("synthetic", _) => Self::Synthetic,
            _ => Self::Path(text.into()),
        })
    }
}

fn color(text: &str) -> Result<[u8; 3], String> {
    let value = u32::from_str_radix(text.trim_start_matches('#'), 16).ok().filter(|v| *v < 1 << 24);
    let [_, r, g, b] = value.ok_or("expected six hexadecimal digits such as 00b140")?.to_be_bytes();
    Ok([r, g, b])
}

fn resolution(text: &str) -> Result<Size, String> {
    let sides =
        text.split_once('x').and_then(|(w, h)| Some(Size::new(w.parse().ok()?, h.parse().ok()?)));
    sides
        .filter(|size| (16..=4096).contains(&size.width) && (16..=4096).contains(&size.height))
        .ok_or("expected a size such as 640x480".into())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|v| (0.01..=1000.0).contains(v))
        .ok_or("expected a number from 0.01 to 1000".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent_and_sources_are_read() {
        Options::command().debug_assert();
        for (text, choice) in [
            ("camera", SourceChoice::Camera(0)),
            ("camera:2", SourceChoice::Camera(2)),
            ("synthetic", SourceChoice::Synthetic),
            ("street/", SourceChoice::Path("street/".into())),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        assert_eq!(color("00b140"), Ok([0, 177, 64]));
        assert!(color("1000000").is_err() && resolution("640").is_err() && positive("0").is_err());
    }
}
