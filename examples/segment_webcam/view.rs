//! What is shown and how: the part of the program that keys change.

use atrous::live::{self, Background, Effect, Live};
use clap::ValueEnum;

/// A way to show the segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// The classes' colors alone.
    Mask,
    /// The classes' colors over the frame.
    Overlay,
    /// What is shown stands before the blurred frame.
    Blur,
    /// What is shown stands before one color.
    Color,
    /// What is shown stands before an image.
    Image,
}

const STYLES: [Style; 5] = [Style::Mask, Style::Overlay, Style::Blur, Style::Color, Style::Image];

/// The state behind the keys.
pub struct View {
    style: Style,
    /// One for each style.
    opacity: [f32; STYLES.len()],
    color: [u8; 3],
    pub mirror: bool,
    pub frozen: bool,
    /// Each frame is shown with its own scores.
    pub in_step: bool,
    pub help: bool,
    /// The class that space shows or hides.
    pub chosen: usize,
    pub names: Vec<String>,
    classes: Vec<([u8; 3], bool)>,
}

impl View {
    pub fn new(live: &Live, style: Style, color: [u8; 3], mirror: bool, in_step: bool) -> Self {
        let classes = live.style(Effect::Mask).classes;
        let opacity = STYLES.map(|s| live.style(effect(s, color)).opacity);
        // The first class that is shown: a background is none.
        let chosen = classes.iter().position(|c| c.1).unwrap_or(0);
        let names = live.table().names.clone();
        Self {
            style,
            opacity,
            color,
            mirror,
            frozen: false,
            in_step,
            help: false,
            chosen,
            names,
            classes,
        }
    }

    fn at(&self) -> usize {
        STYLES.iter().position(|s| *s == self.style).expect("invariant: all styles are listed")
    }

    /// The style `steps` further on, around the end.
    pub fn change_style(&mut self, steps: isize) {
        self.style =
            STYLES[(self.at() as isize + steps).rem_euclid(STYLES.len() as isize) as usize];
    }

    /// Changes the opacity of the style in use by a share.
    pub fn change_opacity(&mut self, by: f32) {
        let at = self.at();
        self.opacity[at] = (self.opacity[at] + by).clamp(0.0, 1.0);
    }

    /// Chooses the class `steps` further on, around the end.
    pub fn choose(&mut self, steps: isize) {
        self.chosen =
            (self.chosen as isize + steps).rem_euclid(self.classes.len() as isize) as usize;
    }

    /// Shows the chosen class, or hides it.
    pub fn toggle(&mut self) {
        self.classes[self.chosen].1 ^= true;
    }

    /// Shows the chosen class alone; where that is so already, all but the first, which is the
    /// background of most networks.
    pub fn toggle_all(&mut self) {
        let alone = self.classes.iter().enumerate().all(|(i, c)| c.1 == (i == self.chosen));
        let chosen = self.chosen;
        self.classes
            .iter_mut()
            .enumerate()
            .for_each(|(i, c)| c.1 = if alone { i > 0 } else { i == chosen });
    }

    pub fn is_shown(&self, class: usize) -> bool {
        self.classes[class].1
    }

    pub fn class_color(&self, class: usize) -> [u8; 3] {
        self.classes[class].0
    }

    pub fn painted(&self, live: &Live) -> live::Style {
        let mut style = live.style(effect(self.style, self.color));
        style.opacity = self.opacity[self.at()];
        style.mirror = self.mirror;
        style.classes.clone_from(&self.classes);
        style
    }

    /// Style, opacity and what else is not as usual, in words.
    pub fn describe(&self) -> String {
        let name =
            self.style.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let flag = |on: bool, text: &'static str| if on { text } else { "" };
        let opacity = (100.0 * self.opacity[self.at()]).round();
        let (mirrored, frozen, in_step) = (
            flag(self.mirror, ", mirrored"),
            flag(self.frozen, ", frozen"),
            flag(self.in_step, ", in step"),
        );
        format!("{name} {opacity} %{mirrored}{frozen}{in_step}")
    }
}

fn effect(style: Style, color: [u8; 3]) -> Effect {
    match style {
        Style::Mask => Effect::Mask,
        Style::Overlay => Effect::Overlay,
        Style::Blur => Effect::CutOut(Background::Frame),
        Style::Color => Effect::CutOut(Background::Color(color)),
        Style::Image => Effect::CutOut(Background::Image),
    }
}
