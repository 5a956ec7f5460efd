//! A generated, animated scene for machines without a camera.

use super::Source;
use atrous::Result;
use atrous::Size;

pub struct Scene {
    size: Size,
    number: u64,
}

impl Scene {
    pub fn new(size: Size) -> Self {
        Self { size, number: 0 }
    }

    /// Draws sky, ground, a house, a sun and a bouncing ball. The image depends only on the frame
    /// number.
    fn draw(&self) -> Vec<u32> {
        let (w, h) = (self.size.width as f32, self.size.height as f32);
        let t = self.number as f32 / 90.0;
        let (ball_x, ball_y, ball_r) = (
            w * (0.5 + 0.55 * (t * 2.0).sin()),
            h * (0.76 - 0.12 * (t * 9.0).sin().abs()),
            h * 0.13,
        );
        let (sun_x, sun_y, sun_r) =
            (w * (0.2 + 0.6 * (0.5 + 0.5 * (t * 0.7).cos())), h * 0.18, h * 0.07);
        let pixel = |x: f32, y: f32| {
            let within =
                |cx: f32, cy: f32, r: f32| ((x - cx).powi(2) + (y - cy).powi(2)).sqrt() / r;
            let ball = within(ball_x, ball_y, ball_r);
            if ball < 1.0 {
                // Lit from above, with a stripe that turns.
                let stripe = ((x - ball_x) / ball_r * 3.0 + t * 12.0).sin() > 0.3;
                let light =
                    1.0 - 0.6 * within(ball_x - 0.4 * ball_r, ball_y - 0.4 * ball_r, 1.8 * ball_r);
                return if stripe {
                    [240.0 * light, 240.0 * light, 235.0 * light]
                } else {
                    [220.0 * light, 40.0 * light, 30.0 * light]
                };
            }
            let (house_x, house_y) = ((x / w - 0.62) / 0.24, (y / h - 0.42) / 0.28);
            if (0.0..1.0).contains(&house_x) && (0.0..1.0).contains(&house_y) {
                let window = (0.2..0.4).contains(&house_y)
                    && ((0.15..0.35).contains(&house_x) || (0.65..0.85).contains(&house_x));
                return if window { [70.0, 90.0, 110.0] } else { [190.0, 160.0, 120.0] };
            }
            if within(sun_x, sun_y, sun_r) < 1.0 {
                return [255.0, 235.0, 150.0];
            }
            let down = y / h;
            if down < 0.62 {
                [110.0 + 120.0 * down, 160.0 + 90.0 * down, 235.0]
            } else {
                [70.0 + 40.0 * down, 130.0 - 30.0 * down, 50.0]
            }
        };
        let Size { width: columns, height: rows } = self.size;
        let pack = |[r, g, b]: [f32; 3]| u32::from_le_bytes([r as u8, g as u8, b as u8, 255]);
        (0..rows)
            .flat_map(|y| (0..columns).map(move |x| (x, y)))
            .map(|(x, y)| pack(pixel(x as f32 + 0.5, y as f32 + 0.5)))
            .collect()
    }
}

impl Source for Scene {
    fn size(&self) -> Size {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let pixels = self.draw();
        self.number += 1;
        Ok(Some(pixels))
    }

    fn name(&self) -> String {
        "synthetic scene".into()
    }
}
