//! Tests of whole cut-outs.

use super::refine::Pass;
use super::*;
use crate::geometry::Size;
use crate::image::BACKDROP;
use crate::image::pixels::mix;
use crate::random::SplitMix64;

fn scene() -> (Image, LabelMap) {
    let image = Image::new(Size::new(6, 3), vec![100; 54]).unwrap();
    (image, LabelMap::new(Size::new(6, 3), [0, 0, 15, 15, 15, 15].repeat(3)).unwrap())
}

fn cut_out<'a>(table: &'a ClassTable, keep: &'a [usize], edge: Edge) -> CutOut<'a> {
    CutOut { table, keep, edge, background: None, backdrop: BACKDROP }
}

#[test]
fn mismatches_are_refused() {
    let (image, labels) = scene();
    let other = LabelMap::new(Size::new(3, 6), vec![0; 18]).unwrap();
    let (voc, cityscapes) = (ClassTable::voc(), ClassTable::cityscapes());
    let draw = |edge, labels, p| cut_out(&voc, &[], edge).draw(image.clone(), labels, p, 8.0);
    assert!(draw(Edge::Hard, &other, None).is_err());
    assert!(draw(Edge::Soft, &labels, Some(vec![0.5; 3])).is_err());
    for edge in [Edge::Soft, Edge::Refined] {
        let error = draw(edge, &labels, None).unwrap_err().to_string();
        assert!(error.contains("needs the probabilities"), "{error}");
    }
    let error = cut_out(&cityscapes, &[], Edge::Hard).draw(image.clone(), &labels, None, 8.0);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("name the classes"), "{error}");
    assert!(foreground(&[0.5; 4], 3, &[0]).is_err() && foreground(&[0.5; 3], 3, &[3]).is_err());
}

#[test]
fn cut_outs_are_hard_by_labels_and_soft_by_probabilities() {
    let (image, labels) = scene();
    let table = ClassTable::voc();
    let alpha = |edge, keep: &[usize], p| {
        cut_out(&table, keep, edge).draw(image.clone(), &labels, p, 8.0).unwrap().alpha.unwrap()
    };
    assert_eq!(alpha(Edge::Hard, &[], None)[..6], [0, 0, 255, 255, 255, 255]);
    assert!(alpha(Edge::Hard, &[12], None).iter().all(|&a| a == 0));
    let p = [0.0, 0.2, 0.35, 0.5, 0.8, 1.0].repeat(3);
    assert_eq!(alpha(Edge::Soft, &[], Some(p))[..6], [0, 0, 40, 128, 255, 255]);
    assert_eq!(foreground(&[0.2, 0.3, 0.5, 0.9, 0.1, 0.0], 3, &[1, 2]).unwrap(), [0.8, 0.1]);
}

#[test]
fn a_cut_out_keeps_the_images_own_transparency_and_colors() {
    let (mut image, labels) = scene();
    let table = ClassTable::voc();
    for (alpha, tolerance) in [(255u8, 0), (200, 1), (100, 2), (40, 4)] {
        image.rgb = [20, 127, 250].map(|v| mix(v, 127, alpha)).repeat(18);
        image.alpha = Some(vec![alpha; 18]);
        let out = cut_out(&table, &[], Edge::Hard).draw(image.clone(), &labels, None, 8.0).unwrap();
        assert_eq!(out.alpha.unwrap()[..6], [0, 0, alpha, alpha, alpha, alpha]);
        assert_eq!(out.rgb[..6], [0; 6], "nothing remains of what was cut off");
        for (got, expected) in out.rgb[6..9].iter().zip([20u8, 127, 250]) {
            let difference = got.abs_diff(expected);
            assert!(difference <= tolerance, "alpha {alpha}: {got} instead of {expected}");
        }
    }
}

/// A bright disc on a dark ground, both with noise, and a probability whose border is blurred over a
/// cell of 16 pixels and off by five.
struct Disc {
    image: Image,
    labels: LabelMap,
    probability: Vec<f32>,
    inside: Vec<bool>,
}

const CELL: f32 = 16.0;

fn disc(size: Size) -> Disc {
    let mut random = SplitMix64(3);
    let (mut rgb, mut probability, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..size.pixels() {
        let (x, y) = ((at % size.width) as f32, (at / size.width) as f32);
        let (x, y) = (x - size.width as f32 / 2.0, y - size.height as f32 / 2.0);
        let is_inside = x.hypot(y) < 50.0;
        let base = if is_inside { [200.0, 170.0, 120.0] } else { [60.0, 80.0, 70.0] };
        rgb.extend(base.map(|v| (v + 20.0 * (random.unit() - 0.5)) as u8));
        probability.push(((50.0 - (x - 5.0).hypot(y)) / CELL + 0.5).clamp(0.001, 0.999));
        inside.push(is_inside);
    }
    let labels = probability.iter().map(|&p| if p < 0.5 { 0 } else { 15 }).collect();
    let labels = LabelMap::new(size, labels).unwrap();
    Disc { image: Image::new(size, rgb).unwrap(), labels, probability, inside }
}

#[test]
fn the_edge_moves_to_that_of_the_image_and_there_are_no_holes_or_speckles() {
    let scene = disc(Size::new(180, 150));
    let table = ClassTable::voc();
    let error = |edge| {
        let p = Some(scene.probability.clone());
        let out = cut_out(&table, &[], edge).draw(scene.image.clone(), &scene.labels, p, CELL);
        let alpha = out.unwrap().alpha.unwrap();
        let errors = alpha.iter().zip(&scene.inside);
        (errors.map(|(&a, &i)| u64::from(a.abs_diff(u8::from(i) * 255))).sum::<u64>() / 255, alpha)
    };
    let ((soft, _), (refined, alpha)) = (error(Edge::Soft), error(Edge::Refined));
    assert!(4 * refined < soft, "{refined} pixels are wrong, {soft} without refinement");
    for (at, (&alpha, &inside)) in alpha.iter().zip(&scene.inside).enumerate() {
        let (x, y) = ((at % 180) as f32 - 90.0, (at / 180) as f32 - 75.0);
        // The border of the probability is up to 5 pixels from that of the disc.
        if (x.hypot(y) - 50.0).abs() > 2.0 * CELL + 6.0 {
            assert_eq!(alpha, u8::from(inside) * 255, "at {at}");
        }
    }
}

#[test]
fn the_opacity_of_a_flat_image_follows_the_probability_as_it_was() {
    let mut scene = disc(Size::new(180, 150));
    scene.image.rgb.fill(90);
    let table = ClassTable::voc();
    let p = scene.probability.clone();
    let out =
        cut_out(&table, &[], Edge::Refined).draw(scene.image.clone(), &scene.labels, Some(p), CELL);
    let (out, p) = (out.unwrap(), &scene.probability);
    for ((alpha, p), rgb) in out.alpha.unwrap().into_iter().zip(p).zip(out.rgb.chunks(3)) {
        // The windows smooth the probability, which moves the border of a disc inwards a little.
        if (p - 0.5).abs() > 0.4 {
            assert_eq!(alpha >= 128, *p > 0.5, "{alpha} for {p}");
        }
        assert_eq!(rgb, [if alpha == 0 { 0 } else { 90 }; 3]);
    }
}

#[test]
fn strips_and_threads_do_not_change_a_bit() {
    let scene = disc(Size::new(97, 130));
    let value = |at: usize| scene.probability[at];
    let whole = Pass::new(scene.image.size(), 16);
    let expected = whole.alpha(&scene.image, value).unwrap();
    for strip in [1, 2, 7, 1000] {
        let pass = whole.with_strip(strip);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1 + strip % 3).build().unwrap();
        let alpha = pool.install(|| pass.alpha(&scene.image, value).unwrap());
        assert!(alpha == expected, "strips of {strip}");
    }
}

#[test]
fn a_background_shows_where_the_cut_out_is_transparent() {
    let scene = disc(Size::new(180, 150));
    let table = ClassTable::voc();
    let draw = |background| {
        let p = Some(scene.probability.clone());
        let cut_out = CutOut { background, ..cut_out(&table, &[], Edge::Refined) };
        cut_out.draw(scene.image.clone(), &scene.labels, p, CELL).unwrap()
    };
    let transparent = draw(None);
    let color = Background::color([255, 0, 255]);
    let on_color = draw(Some(&color));
    assert_eq!(on_color.alpha, None);
    // As the transparent cut-out over the color.
    let alpha = transparent.alpha.unwrap();
    let fronts = transparent.rgb.chunks_exact(3).zip(&alpha);
    let expected =
        fronts.flat_map(|(p, &a)| [(p[0], 255), (p[1], 0), (p[2], 255)].map(|(f, b)| mix(f, b, a)));
    assert!(expected.eq(on_color.rgb.iter().copied()));
    // Nothing of the bright disc is in the blurred ground.
    let blurred = draw(Some(&Background::blur()));
    for ((pixel, &alpha), at) in blurred.rgb.chunks_exact(3).zip(&alpha).zip(0..) {
        if alpha == 0 {
            assert!(pixel[0] <= 75, "{pixel:?} at {at}");
        }
    }
}

/// Sizes at which a grid has a cell or two, and windows reach over all of it.
#[test]
fn images_of_few_pixels_are_cut_out_too() {
    let table = ClassTable::voc();
    for (width, height) in [(1, 1), (1, 40), (40, 1), (3, 5), (9, 8)] {
        let size = Size::new(width, height);
        let pixels = size.pixels();
        for cell in [0.0, 1.0, 16.0, 1e9, f32::NAN] {
            let image = Image::new(size, vec![77; 3 * pixels]).unwrap();
            let labels = LabelMap::new(size, vec![15; pixels]).unwrap();
            let background = Background::blur();
            let cut_out =
                CutOut { background: Some(&background), ..cut_out(&table, &[], Edge::Refined) };
            let out = cut_out.draw(image, &labels, Some(vec![0.7; pixels]), cell).unwrap();
            assert_eq!(out.rgb, vec![77; 3 * pixels], "{size}");
        }
    }
}
