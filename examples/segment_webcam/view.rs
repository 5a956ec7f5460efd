//! The display state that keys change.

use atrous::live::{self, Background, Effect, Live};
use clap::ValueEnum;

/// A way to show the segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Class colors only.
    Mask,
    /// Class colors over the frame.
    Overlay,
    /// The shown classes over the blurred frame.
    Blur,
    /// The shown classes over a solid color.
    Color,
    /// The shown classes over an image.
    Image,
}

const STYLES: [Style; 5] = [Style::Mask, Style::Overlay, Style::Blur, Style::Color, Style::Image];

/// The display state.
pub struct View {
    style: Style,
    /// Opacity of each style.
    opacity: [f32; STYLES.len()],
    color: [u8; 3],
    pub mirror: bool,
    pub frozen: bool,
    /// Whether each frame is shown with its own scores.
    pub in_step: bool,
    pub help: bool,
    /// The class that the space key shows or hides.
    pub selected: usize,
    pub names: Vec<String>,
    classes: Vec<([u8; 3], bool)>,
}

impl View {
    pub fn new(live: &Live, style: Style, color: [u8; 3], mirror: bool, in_step: bool) -> Self {
        let classes = live.style(Effect::Mask).classes;
        let opacity = STYLES.map(|s| live.style(effect(s, color)).opacity);
        // The first class that is shown, which excludes the background.
        let selected = classes.iter().position(|c| c.1).unwrap_or(0);
        let names = live.class_table().names.clone();
        Self {
            style,
            opacity,
            color,
            mirror,
            frozen: false,
            in_step,
            help: false,
            selected,
            names,
            classes,
        }
    }

    fn style_index(&self) -> usize {
        STYLES.iter().position(|s| *s == self.style).expect("invariant: all styles are listed")
    }

    /// Moves `steps` styles ahead, wrapping around.
    pub fn change_style(&mut self, steps: isize) {
        self.style = STYLES
            [(self.style_index() as isize + steps).rem_euclid(STYLES.len() as isize) as usize];
    }

    /// Changes the opacity of the current style.
    pub fn change_opacity(&mut self, delta: f32) {
        let index = self.style_index();
        self.opacity[index] = (self.opacity[index] + delta).clamp(0.0, 1.0);
    }

    /// Selects the class `steps` ahead, wrapping around.
    pub fn select(&mut self, steps: isize) {
        self.selected =
            (self.selected as isize + steps).rem_euclid(self.classes.len() as isize) as usize;
    }

    /// Shows or hides the selected class.
    pub fn toggle(&mut self) {
        self.classes[self.selected].1 ^= true;
    }

    /// Shows only the selected class. If that is already so, shows all but the first, which is the
    /// background of most networks.
    pub fn toggle_all(&mut self) {
        let alone = self.classes.iter().enumerate().all(|(i, c)| c.1 == (i == self.selected));
        let selected = self.selected;
        self.classes
            .iter_mut()
            .enumerate()
            .for_each(|(i, c)| c.1 = if alone { i > 0 } else { i == selected });
    }

    pub fn is_shown(&self, class: usize) -> bool {
        self.classes[class].1
    }

    pub fn class_color(&self, class: usize) -> [u8; 3] {
        self.classes[class].0
    }

    /// Returns the style for painting.
    pub fn live_style(&self, live: &Live) -> live::Style {
        let mut style = live.style(effect(self.style, self.color));
        style.opacity = self.opacity[self.style_index()];
        style.mirror = self.mirror;
        style.classes.clone_from(&self.classes);
        style
    }

    /// Describes the style, opacity and other non-default settings.
    pub fn describe(&self) -> String {
        let name =
            self.style.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let flag = |on: bool, text: &'static str| if on { text } else { "" };
        let opacity = (100.0 * self.opacity[self.style_index()]).round();
        let (mirrored, frozen, in_step) = (
            flag(self.mirror, ", mirrored"),
            flag(self.frozen, ", frozen"),
            flag(self.in_step, ", in sync"),
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
