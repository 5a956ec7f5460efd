//! Without a window: a given number of frames in sequence, each with its own scores.

use crate::capture::Source;
use crate::options::Options;
use crate::signals;
use crate::view::View;
use atrous::engine::exec::Device;
use atrous::engine::tune::Tuning;
use atrous::live::Live;
use atrous::{DeviceChoice, Error, Model, Result, image};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub fn run(
    options: &Options,
    model: &Model,
    mut source: Box<dyn Source>,
    frames: usize,
) -> Result<()> {
    let device = Device::open(&options.device.parse::<DeviceChoice>()?)?;
    println!("device: {device}");
    if let Some(directory) = &options.save {
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "could not be created", e))?;
    }
    let size = crate::first_size(options, model, source.size());
    let live = Live::new(&device, model, source.size(), size, &Tuning::default())?;
    live.set_smoothing(options.smooth)?;
    if let Some(path) = &options.behind {
        live.set_background(&image::decode(path)?)?;
    }
    live.set_style(
        &View::new(&live, options.style, options.color, options.mirror, options.in_step)
            .live_style(&live),
    )?;
    let mut times = [Duration::ZERO; 2];
    let mut done = 0;
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    signals::on_stop(move || flag.store(true, Ordering::Relaxed));
    // An interrupt ends the loop, not the program, so that the saved frames and the statistics are
    // kept.
    while done < frames && !stopped.load(Ordering::Relaxed) {
        let started = Instant::now();
        let Some(pixels) = source.next()? else { break };
        let captured = Instant::now();
        live.set_frame(&pixels)?;
        live.segment()?;
        live.paint()?;
        // Reading back waits for all work on the device.
        let painted = live.painted()?;
        times = [times[0] + (captured - started), times[1] + captured.elapsed()];
        done += 1;
        if let Some(directory) = &options.save {
            painted.save(directory.join(format!("frame-{done:05}.png")))?;
        }
    }
    let ms_per_frame = |time: Duration| time.as_secs_f64() * 1e3 / done.max(1) as f64;
    println!(
        "{done} frames: capture {:.1} ms, upload to result {:.1} ms each",
        ms_per_frame(times[0]),
        ms_per_frame(times[1])
    );
    if done > 0 {
        let mut shares: Vec<(f32, String)> =
            live.shares()?.into_iter().zip(live.class_table().names.clone()).collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let visible = shares
            .iter()
            .filter(|s| s.0 >= 0.005)
            .map(|(share, name)| format!("{name} {:.1} %", 100.0 * share));
        println!("classes in the last frame: {}", visible.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrous::engine::models::mobilenet_v2::MobileNetV2;
    use atrous::engine::models::{Backbone, Config, random_weights};
    use atrous::engine::weights::dialects::NATIVE;
    use clap::Parser;

    #[test]
    fn frames_of_the_drawn_scene_are_saved() {
        let directory = tempfile::tempdir().unwrap();
        let save = directory.path().join("frames");
        let arguments = [
            "segment_webcam",
            "--weights",
            "none",
            "--source",
            "synthetic",
            "--resolution",
            "64x48",
            "--device",
            "cpu",
        ];
        let more_arguments = [
            "--size",
            "65",
            "--frames",
            "3",
            "--smooth",
            "0.5",
            "--style",
            "blur",
            "--save",
            save.to_str().unwrap(),
        ];
        let options = Options::parse_from(arguments.iter().chain(&more_arguments));
        let config =
            Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), 4);
        let weights = random_weights(&config, 1).unwrap();
        let (path, notes) = ("none".into(), Vec::new());
        let model = Model { config, weights, dialect: NATIVE, path, notes };
        let source = crate::capture::open(&options).unwrap();
        run(&options, &model, source, options.frames.unwrap()).unwrap();
        let saved: Vec<_> = (1..=3)
            .map(|i| image::decode(save.join(format!("frame-{i:05}.png"))).unwrap())
            .collect();
        assert!(saved.iter().all(|p| (p.width, p.height) == (64, 48)));
        assert!(saved[0].rgb != saved[1].rgb && saved[1].rgb != saved[2].rgb, "the scene moves");
        assert_eq!(std::fs::read_dir(&save).unwrap().count(), 3);
    }
}
