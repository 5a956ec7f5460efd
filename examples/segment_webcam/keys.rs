//! Key bindings.

use winit::keyboard::{Key, NamedKey};

/// The action of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    Style(isize),
    Opacity(f32),
    Select(isize),
    Toggle,
    ToggleAll,
    Mirror,
    Freeze,
    Step,
    Save,
    Size(isize),
    Help,
    Quit,
}

/// The keys and their actions, for the help.
pub const HELP: [&str; 12] = [
    "left, right  style",
    "up, down     opacity",
    ", .          select a class",
    "space        show or hide it",
    "A            show only it, or all",
    "M            mirror",
    "F            freeze",
    "T            show frames in sync with the network",
    "S            save a PNG",
    "- +          network input size",
    "H            this help",
    "Q, escape    quit",
];

pub fn action(key: &Key) -> Option<Action> {
    Some(match key {
        Key::Named(NamedKey::ArrowRight) => Action::Style(1),
        Key::Named(NamedKey::ArrowLeft) => Action::Style(-1),
        Key::Named(NamedKey::ArrowUp) => Action::Opacity(0.05),
        Key::Named(NamedKey::ArrowDown) => Action::Opacity(-0.05),
        Key::Named(NamedKey::Space) => Action::Toggle,
        Key::Named(NamedKey::Escape) => Action::Quit,
        Key::Named(NamedKey::F1) => Action::Help,
        Key::Character(text) => match text.to_lowercase().as_str() {
            "." | ">" => Action::Select(1),
            "," | "<" => Action::Select(-1),
            " " => Action::Toggle,
            "a" => Action::ToggleAll,
            "m" => Action::Mirror,
            "f" => Action::Freeze,
            "t" => Action::Step,
            "s" => Action::Save,
            "+" | "=" => Action::Size(1),
            "-" | "_" => Action::Size(-1),
            "h" | "?" => Action::Help,
            "q" => Action::Quit,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_work_in_both_cases() {
        let key = |text: &str| Key::Character(text.into());
        assert_eq!(
            (action(&key("q")), action(&key("Q"))),
            (Some(Action::Quit), Some(Action::Quit))
        );
        assert_eq!(action(&Key::Named(NamedKey::ArrowLeft)), Some(Action::Style(-1)));
        assert_eq!(action(&key("x")), None);
    }
}
