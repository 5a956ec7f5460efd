//! Segments one image: `cargo run --release --example segment -- photo.jpg deeplab.safetensors
//! overlay.png`.

use atrous::image::{Overlay, decode, legend, legend_table};
use atrous::{DeviceChoice, Model, Result, Segmenter};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photo, weights, output] = arguments.as_slice() else {
        eprintln!("usage: segment PHOTO WEIGHTS OUTPUT.png");
        std::process::exit(2);
    };
    let segmenter = Segmenter::new(Model::open(weights)?, &DeviceChoice::Auto)?;
    let image = decode(photo)?;
    let segmentation = segmenter.segment(&image, segmenter.default_size())?;

    let table = segmenter.model().class_table();
    println!("on {}: {:.0} ms", segmenter.device(), segmentation.network_time.as_secs_f64() * 1e3);
    print!("{}", legend_table(&legend(&segmentation.labels, &table), false));
    // The command line's overlay: bright colors, the same opacity.
    Overlay::default().draw(&image, &segmentation.labels, &table.vivid())?.save(output)
}
