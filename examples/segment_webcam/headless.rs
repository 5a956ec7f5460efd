//! Without a window: so many frames, one after the other, each with the scores of its own.

use crate::capture::Source;
use crate::options::Options;
use crate::view::View;
use atrous::exec::Device;
use atrous::live::Live;
use atrous::tune::Tuning;
use atrous::{DeviceChoice, Error, Model, Result, image};
use std::time::{Duration, Instant};

pub fn run(options: &Options, model: &Model, mut source: Box<dyn Source>, frames: usize) -> Result<()> {
    let device = Device::open(&options.device.parse::<DeviceChoice>()?)?;
    println!("device: {device}");
    if let Some(folder) = &options.save {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "could not be made", e))?;
    }
    let size = crate::first_size(options, model, source.size());
    let live = Live::new(&device, model, source.size(), size, &Tuning::default())?;
    live.set_smoothing(options.smooth)?;
    if let Some(path) = &options.behind {
        live.set_behind(&image::decode(path)?)?;
    }
    live.set_look(&View::new(&live, options.style, options.colour, options.mirror).look(&live))?;
    let mut times = [Duration::ZERO; 2];
    let mut done = 0;
    while done < frames {
        let started = Instant::now();
        let Some(pixels) = source.next()? else { break };
        let captured = Instant::now();
        live.set_frame(&pixels)?;
        live.segment()?;
        live.paint()?;
        // Reading it back waits for all of it.
        let painted = live.painted()?;
        times = [times[0] + (captured - started), times[1] + captured.elapsed()];
        done += 1;
        if let Some(folder) = &options.save {
            painted.save(folder.join(format!("frame-{done:05}.png")))?;
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e3 / done.max(1) as f64;
    println!("{done} frames: capture {:.1} ms, upload to picture {:.1} ms each", each(times[0]), each(times[1]));
    if done > 0 {
        let mut shares: Vec<(f32, String)> = live.shares()?.into_iter().zip(live.table().names.clone()).collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let seen = shares.iter().filter(|s| s.0 >= 0.005).map(|(share, name)| format!("{name} {:.1} %", 100.0 * share));
        println!("in the last one: {}", seen.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
