//! What the command line says.

use crate::view::Style;
use atrous::image::SizeRule;
use clap::Parser;
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// Segments what a camera sees, in a window.
///
/// Everything from the upload of a frame to its presentation happens on the GPU. With --frames
/// there is no window: so many frames are segmented one after the other, and saved where --save
/// says.
///
/// Keys: arrows left and right change the style, up and down its opacity; comma and period choose a
/// class, space shows or hides it, A shows all or only the chosen one; M mirrors, F freezes, T
/// shows frames in step with the network, S saves a PNG, plus and minus change the size of the
/// network's input, H shows the keys, Q quits.
#[derive(Parser, Debug)]
#[command(name = "segment_webcam")]
pub struct Options {
    /// The network: safetensors or .pth of any known dialect
    #[arg(long, required_unless_present = "list_cameras", value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// camera, camera:N, synthetic (a drawn scene), an image or a video, or a directory of images
    /// that are shown in turn
    #[arg(long, default_value = "camera")]
    pub source: SourceChoice,
    /// Lists the cameras and ends
    #[arg(long)]
    pub list_cameras: bool,
    /// auto, gpu, cpu (without a window), vulkan:llvmpipe, or an index of `atrous devices`
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Size of the network's input: a long side such as 257, or native. Without it what the network
    /// was made for, 513 at most
    #[arg(long)]
    pub size: Option<SizeRule>,
    /// mask, overlay, blur, color or image
    #[arg(long, value_enum, default_value = "overlay")]
    pub style: Style,
    /// The image behind cut-outs of style `image`
    #[arg(long, value_name = "FILE")]
    pub behind: Option<PathBuf>,
    /// The color behind cut-outs of style `color`, as RRGGBB
    #[arg(long, value_name = "RRGGBB", default_value = "00b140", value_parser = color)]
    pub color: [u8; 3],
    /// How much of the earlier frames' probabilities is kept, 0 to below 1
    #[arg(long, default_value_t = 0.0)]
    pub smooth: f32,
    /// Shows each frame with its own scores, at the network's pace, and not the newest frame with
    /// the newest scores
    #[arg(long)]
    pub in_step: bool,
    /// Left and right exchanged
    #[arg(long)]
    pub mirror: bool,
    /// What the camera is asked for; images are scaled to fit into it
    #[arg(long, default_value = "640x480", value_parser = resolution)]
    pub resolution: (usize, usize),
    /// Frames a second of sources that are no camera. Without it a video's own, and 30 for images
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Milliseconds that the network may keep the device from the window at a time
    #[arg(long, default_value_t = 4.0, value_parser = rate)]
    pub slice: f64,
    /// Segments so many frames without a window
    #[arg(long, value_name = "N")]
    pub frames: Option<usize>,
    /// The directory for saved frames
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Takes the device away after so many frames of the window, to try that it is opened again
    #[arg(long, value_name = "N", hide = true)]
    pub lose_device: Option<u32>,
}

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChoice {
    /// The camera of this number in the list.
    Camera(usize),
    /// A drawn scene.
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

fn resolution(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides
        .filter(|(w, h)| (16..=4096).contains(w) && (16..=4096).contains(h))
        .ok_or("expected a size such as 640x480".into())
}

fn rate(text: &str) -> Result<f64, String> {
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
        assert!(color("1000000").is_err() && resolution("640").is_err() && rate("0").is_err());
    }
}
